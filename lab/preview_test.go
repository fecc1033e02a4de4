package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

func TestPreviewIsOfEveryStack(t *testing.T) {
	got := names(previewTasks(layout.Layout{}, nil, []string{"acme", "lab"}, pulumi.Plugins{}))
	if want := []string{"pulumi and its plugins", "program", "preview acme", "preview lab"}; !slices.Equal(got, want) {
		t.Errorf("steps %q, want %q", got, want)
	}
	// Of a checkout without a stack nothing is built.
	at := layout.Layout{Checkout: t.TempDir(), Cache: t.TempDir()}
	if err := previewStacks(t.Context(), at); err == nil {
		t.Error("nothing was previewed, and that is no error")
	}
	if err := os.WriteFile(at.Checkout+"/Pulumi.acme.yaml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := previewStacks(t.Context(), at, "nobody"); err == nil || !strings.Contains(err.Error(), "name one of acme") {
		t.Errorf("a stack that is not there: %v", err)
	}
}
