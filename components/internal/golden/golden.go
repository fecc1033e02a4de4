// Package golden compares generated text with files kept beside the tests.
package golden

import (
	"os"
	"path/filepath"
	"testing"
)

// Check fails the test when got differs from testdata/<name>. With
// UPDATE_GOLDEN=1 in the environment it writes the file instead; review the
// change like any other.
func Check(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run the test once with UPDATE_GOLDEN=1", err)
	}
	if got != string(want) {
		t.Errorf("%s differs.\n--- got\n%s\n--- want\n%s", path, got, want)
	}
}
