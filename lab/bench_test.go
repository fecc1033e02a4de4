package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestBenchWithoutALab(t *testing.T) {
	at := layout.Layout{State: t.TempDir(), Checkout: t.TempDir()}
	module := "module x\n\nrequire github.com/pulumi/pulumi-random/sdk/v4 v4.21.0\n"
	if err := os.WriteFile(filepath.Join(at.Checkout, "go.mod"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := bench(t.Context(), at); err == nil || !strings.Contains(err.Error(), "no lab is up") {
		t.Errorf("got %v", err)
	}
	if files, err := os.ReadDir(at.State); err != nil || len(files) > 0 {
		t.Errorf("it made %v (%v)", files, err)
	}
}
