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

// TestOtherSites: with a third site in the checkout the table and the tests are as without.
func TestOtherSites(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"lab", "production", "acme"} {
		if err := os.WriteFile(filepath.Join(dir, "Pulumi."+name+".yaml"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ofAnother, err := otherSites(dir)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]bool{
		"Pulumi.acme.yaml": true, "apps/acme/kustomization.yaml": true, "infrastructure/configs/acme/sub/one.yaml": true,
		"Pulumi.lab.yaml": false, "Pulumi.yaml": false, "apps/production/kustomization.yaml": false,
		"infrastructure/configs/base/flux/acme.yaml": false, "lab/artifacts/catalog.go": false, "main.go": false,
	} {
		if got := ofAnother(file); got != want {
			t.Errorf("%s: %t", file, got)
		}
	}
}
