package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestHarmless(t *testing.T) {
	for text, want := range map[string]string{
		"lab: preview":                       "lab: preview",
		"\nci: a:\n  b\n":                    "\nci: a:\n  b\n",
		"::error::x":                         "| ::error::x",
		"a\n \t::stop-commands::x\nb":        "a\n|   ::stop-commands::x\nb",
		"\u00a0::x\n\u200b::x\n\x1b[1m::x":   "| \u00a0::x\n| ::x\n| ::x",
		"a\r::x":                             "a::x",
		"\r::x":                              "| ::x",
		"a ##[error]x ##vso[task.x]":         "a ## [error]x ## vso[task.x]",
		"#\u200b#[x":                         "## [x",
		"\x00a\x1b]0;title\a\u202eb\x85\xff": "a]0;titleb\uFFFD",
	} {
		if got := harmless(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// What a run tells of a change, errors too, holds no command.
func TestNothingSaidIsACommand(t *testing.T) {
	s := newSite(t)
	s.want(1, []string{"of one stack"}, "apply")
	s.want(1, []string{"| ::error::x"}, "preview", "--base", "none\n::error::x")
	s.want(1, []string{"## [error]x"}, "preview", "--state", "a\n##[error]x")
	s.file("Pulumi.a\n::error::x.yaml", "")
	s.want(1, []string{`"a\n::error::x" is no name of a stack`}, "preview")
	for line := range strings.Lines(s.stdout + s.stderr) {
		if strings.HasPrefix(strings.TrimSpace(line), "::") {
			t.Errorf("a command: %q", line)
		}
	}
}

// TestRemove is of what a program leaves in its folder: such that its owner may not look into, and a path that is
// longer than any that the system takes.
func TestRemove(t *testing.T) {
	if os.Geteuid() == 0 { // who may look into everything
		if err := syscall.Setreuid(-1, 65534); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setreuid(-1, 0); err != nil {
				t.Fatal(err)
			}
		}()
	}
	dir, err := os.MkdirTemp("", "remove")
	if err != nil {
		t.Fatal(err)
	}
	outside, err := os.MkdirTemp("", "outside")
	if err != nil {
		t.Fatal(err)
	}
	stays := filepath.Join(outside, "stays")
	if err := errors.Join(os.Mkdir(stays, 0o500), os.Chmod(outside, 0o500)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, folder := range []string{"a/b/c", strings.Repeat(strings.Repeat("d", 200)+"/", 30) + "e"} {
		if err := root.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := root.WriteFile(folder+"/file", nil, 0o400); err != nil {
			t.Fatal(err)
		}
		if err := root.Symlink(outside, folder+"/link"); err != nil {
			t.Fatal(err)
		}
		for ; folder != "."; folder = filepath.Dir(folder) {
			if err := root.Chmod(folder, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove(dir)
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("it stays: %v", err)
	}
	if info, err := os.Stat(outside); err != nil || info.Mode().Perm() != 0o500 {
		t.Errorf("a link is followed: %v, %v", info, err)
	}
	if said := saidBy(t, func() { remove(stays) }); !strings.Contains(said, stays+" stays: ") {
		t.Errorf("what cannot be removed is told as %q", said)
	}
	if err := errors.Join(os.Chmod(outside, 0o700), os.RemoveAll(outside)); err != nil {
		t.Error(err)
	}
}

// saidBy is what do prints to standard error.
func saidBy(t *testing.T, do func()) string {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stderr
	os.Stderr = write
	do()
	os.Stderr = before
	write.Close()
	text := make([]byte, 4096)
	n, _ := read.Read(text)
	return string(text[:n])
}
