// Package golden compares generated text with files kept beside the tests.
package golden

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
)

// Check fails the test when got differs from testdata/<name>. With UPDATE_GOLDEN=1 in the environment it writes the
// file instead; review the change like any other. Where CI is set nothing is ever written: there a test that writes
// what it should compare would hide every failure.
//
// files is the folder testdata, embedded: Go's test cache knows an embedded file by its content, and one that a test
// opens by its time, which is another in each checkout.
func Check(t *testing.T, files fs.FS, name, got string) {
	t.Helper()
	file := path.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if os.Getenv("CI") != "" {
			t.Fatal("UPDATE_GOLDEN is set in CI: nothing would be compared: unset it")
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := fs.ReadFile(files, file)
	if err != nil {
		t.Fatalf("%v: run the test once with UPDATE_GOLDEN=1", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (UPDATE_GOLDEN=1 writes it):\n%s", file, difference(string(want), got))
	}
}

// difference shows the first lines that differ, with what stands before them.
func difference(want, got string) string {
	const before, after = 3, 12
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	at := 0
	for at < len(w) && at < len(g) && w[at] == g[at] {
		at++
	}
	var out strings.Builder
	show := func(mark string, lines []string, from, to int) {
		for i := max(0, from); i < min(to, len(lines)); i++ {
			out.WriteString(mark + lines[i] + "\n")
		}
	}
	show("  ", w, at-before, at)
	show("- ", w, at, at+after)
	show("+ ", g, at, at+after)
	return out.String()
}
