package programs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestCommand(t *testing.T) {
	cmd := command(t.Context(), layout.Layout{Checkout: "/checkout", Cache: "/cache"})
	want := "/checkout/lab: go build -buildvcs=false -trimpath -ldflags=-s -w -o /cache/own/ " +
		". ./plugins ./cmd/flannel ./cmd/pause"
	if got := cmd.Dir + ": " + strings.Join(cmd.Args, " "); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if !slices.Contains(cmd.Env, "CGO_ENABLED=0") {
		t.Error("a pod's program would need a C library")
	}
}

// Two packages of one name would overwrite each other, and one that is gone fails the whole build.
func TestPackages(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages {
		if seen[filepath.Base(p)] {
			t.Errorf("%s: its program's name is taken", p)
		}
		seen[filepath.Base(p)] = true
		files, err := filepath.Glob(filepath.Join("..", p, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: no such package", p)
			continue
		}
		if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), "package main") {
			t.Errorf("%s is no program (%v)", p, err)
		}
	}
}
