package file

import (
	"os"
	"path/filepath"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := Write(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWriteReplacesTheWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	write(t, path, "a long first text")
	write(t, path, "short")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 || read(t, path) != "short" {
		t.Errorf("%q, mode %v, %v", read(t, path), info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left beside it: %v", left)
	}
}

func TestLink(t *testing.T) {
	at := filepath.Join(t.TempDir(), "deep", "link")
	for _, to := range []string{"/one", "/one", "/two"} {
		if err := Link(at, to); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(at); err != nil || got != to {
			t.Errorf("leads to %s (%v), want %s", got, err, to)
		}
	}
}

func TestMirror(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	write(t, filepath.Join(from, "a"), "one")
	write(t, filepath.Join(from, "sub", "b"), "two")
	for range 2 { // the second changes nothing
		if err := Mirror(from, to); err != nil {
			t.Fatal(err)
		}
		if read(t, filepath.Join(to, "a")) != "one" || read(t, filepath.Join(to, "sub", "b")) != "two" {
			t.Error("the copy differs")
		}
	}
	write(t, filepath.Join(from, "a"), "another text")
	if err := Mirror(from, to); err != nil || read(t, filepath.Join(to, "a")) != "another text" {
		t.Errorf("a changed file was not mirrored: %q, %v", read(t, filepath.Join(to, "a")), err)
	}
	if err := Mirror(filepath.Join(from, "a"), filepath.Join(to, "x", "single")); err != nil {
		t.Error(err)
	}
	if read(t, filepath.Join(to, "x", "single")) != "another text" {
		t.Error("a single file was not mirrored")
	}
	if err := Mirror(filepath.Join(from, "none"), to); err == nil {
		t.Error("a missing source is no error")
	}
}
