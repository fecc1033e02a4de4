package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// clean takes the cache and the built program, and nothing else of the checkout. Where down is refused it takes
// nothing.
func TestClean(t *testing.T) {
	at := layout.Layout{
		State:    filepath.Join(t.TempDir(), "none"),
		Cache:    filepath.Join(t.TempDir(), "cache"),
		Checkout: t.TempDir(),
	}
	source := filepath.Join(at.Checkout, "main.go")
	made := []string{filepath.Join(at.Cache, "done", "k3s"), filepath.Join(at.Checkout, ".bin", "tinyrack")}
	for _, path := range append(made, source) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := clean(t.Context(), at)
	if root := os.Geteuid() == 0; root != (err == nil) {
		t.Fatalf("as root %v: %v", root, err)
	}
	for _, path := range made {
		if _, statErr := os.Stat(path); (statErr != nil) != (err == nil) {
			t.Errorf("%s: %v after %v", path, statErr, err)
		}
	}
	if _, err := os.Stat(source); err != nil {
		t.Error(err)
	}
}
