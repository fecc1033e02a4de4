package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTableIsAsPinned compares docs/versions.md with the checkout. UPDATE_GOLDEN=1 writes it anew, but not in CI: there
// nothing would be compared.
func TestTableIsAsPinned(t *testing.T) {
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if os.Getenv("CI") != "" {
			t.Fatal("UPDATE_GOLDEN is set in CI: nothing would be compared: unset it")
		}
		if err := writeTable(root); err != nil {
			t.Fatal(err)
		}
	}
	want, err := table(root)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(read(t, filepath.Join(root, tableFile)), tableStart)
	drawn, _, _ := strings.Cut(rest, tableEnd)
	for line := range strings.Lines(want) {
		if !strings.Contains(drawn, line) {
			t.Errorf("%s lacks (UPDATE_GOLDEN=1 writes it): %s", tableFile, line)
		}
	}
	for line := range strings.Lines(drawn) {
		if !strings.Contains(want, line) {
			t.Errorf("%s has, and nothing pins it so (UPDATE_GOLDEN=1 takes it out): %s", tableFile, line)
		}
	}
}
