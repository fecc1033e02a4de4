package repository

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestWorktree(t *testing.T) {
	r, _ := clone(t)
	write(t, filepath.Join(r.Dir, "folder", "file"), "text")
	trees := t.TempDir()
	outside := filepath.Join(filepath.Dir(trees), "outside")
	write(t, outside, "")
	for name, to := range map[string]string{
		"inside": "folder/file", "folder/up": "../one", "absolute": "/etc/passwd", "out": "../../etc/passwd",
		"folder/out": "../../one", "itself": ".", "a": ".", "b": ".", "nowhere": "missing",
		// Inside as long as the folder is open here.
		"open": "/proc/self/fd/" + strconv.Itoa(int(opened(t).Fd())),
		// Inside by its letters, outside by the links a and b.
		"through": "a/b/../../" + filepath.Base(outside),
	} {
		if err := os.Symlink(to, filepath.Join(r.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	// Attributes that would hide a file, or show it otherwise than Flux reads it.
	write(t, filepath.Join(r.Dir, ".gitattributes"), "hidden export-ignore\nother text eol=crlf\nother export-subst\n")
	write(t, filepath.Join(r.Dir, "hidden"), "")
	write(t, filepath.Join(r.Dir, "other"), "one\n$Format:%H$\n")
	write(t, filepath.Join(r.Dir, "program"), "")
	if err := os.Chmod(filepath.Join(r.Dir, "program"), 0o755); err != nil {
		t.Fatal(err)
	}
	commit := r.change(t, "last", "")
	tree, err := r.Worktree(t.Context(), commit, trees)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"one": true, "folder/file": true, "inside": true, "folder/up": true, "itself": true, "last": true,
		"hidden": true, "absolute": false, "out": false, "folder/out": false, ".git": false,
		"through": false, "nowhere": false, "open": false,
	} {
		if _, err := os.Lstat(filepath.Join(tree, name)); (err == nil) != want {
			t.Errorf("%s: there: %v", name, err == nil)
		}
	}
	if text, err := os.ReadFile(filepath.Join(tree, "other")); err != nil || string(text) != "one\n$Format:%H$\n" {
		t.Errorf("another file than in git: %q, %v", text, err)
	}
	if info, err := os.Stat(filepath.Join(tree, "program")); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("a program is none: %v", err)
	}
}

// opened is a folder that is open until the end of a test.
func opened(t *testing.T) *os.File {
	t.Helper()
	folder, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = folder.Close() })
	return folder
}

// Links that lead through one another can take hours to follow.
func TestLinksAreFollowedForAWhile(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Symlink(".", "one"); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	entries := []entry{{mode: link, name: "one"}}
	if err := removeLinksOut(ended, root, entries); !errors.Is(err, context.Canceled) {
		t.Errorf("it goes on after its end: %v", err)
	}
	if err := removeLinksOut(t.Context(), root, entries); err != nil {
		t.Error(err)
	}
}

// object writes one that git itself would not make.
func (r *Repository) object(t *testing.T, kind string, content []byte) string {
	t.Helper()
	cmd := exec.Command("git", "hash-object", "-t", kind, "-w", "--stdin", "--literally")
	cmd.Dir, cmd.Stdin = r.Dir, bytes.NewReader(content)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// crafted is a tree of these entries, in this order: mode, name and object each.
func (r *Repository) crafted(t *testing.T, entries ...[3]string) string {
	t.Helper()
	var content []byte
	for _, e := range entries {
		raw, err := hex.DecodeString(e[2])
		if err != nil {
			t.Fatal(err)
		}
		content = append(append(content, e[0]+" "+e[1]+"\x00"...), raw...)
	}
	return r.object(t, "tree", content)
}

// propose makes a commit of a tree that has all of its base.
func (r *Repository) propose(t *testing.T, tree string) (base, head string) {
	t.Helper()
	base = run(t, r.Dir, "rev-parse", "HEAD")
	return base, run(t, r.Dir, "commit-tree", "-m", "crafted", "-p", base, tree)
}

// TestCraftedTrees are commits that git does not make: no file outside the folder is written by them, and neither what
// is merged nor what is fetched may be one.
func TestCraftedTrees(t *testing.T) {
	r, remote := clone(t)
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	write(t, victim, "good")
	toFolder, toFile := r.object(t, "blob", []byte(outside)), r.object(t, "blob", []byte(victim))
	evil := r.object(t, "blob", []byte("evil"))
	folder := r.crafted(t, [3]string{"100644", "new", evil}, [3]string{"100644", "victim", evil})
	other := r.crafted(t, [3]string{"100644", "other", evil})
	for name, test := range map[string]struct {
		tree [][3]string
		want string
	}{
		"a link and a folder":    {[][3]string{{link, "a", toFolder}, {"40000", "a", folder}}, `"a" twice`},
		"a folder and a link":    {[][3]string{{"40000", "a", folder}, {link, "a", toFolder}}, `"a" twice`},
		"a link and a file":      {[][3]string{{link, "b", toFile}, {"100644", "b", evil}}, `"b" twice`},
		"a submodule and a file": {[][3]string{{"160000", "b", evil}, {"100644", "b", evil}}, `"b" twice`},
		"two folders":            {[][3]string{{"40000", "a", folder}, {"40000", "a", other}}, `"a" twice`},
		"a folder by its path":   {[][3]string{{link, "a", toFolder}, {"100644", "a/victim", evil}}, "file exists"},
		"up":                     {[][3]string{{"100644", "../victim", evil}}, `"../victim", a name that git forbids`},
		"a folder up":            {[][3]string{{"40000", "..", folder}}, `"..", a name that git forbids`},
		"this folder":            {[][3]string{{"40000", ".", folder}}, `".", a name that git forbids`},
		"absolute":               {[][3]string{{"100644", victim, evil}}, "a name that git forbids"},
		"git's own":              {[][3]string{{"40000", ".GIT", folder}}, `".GIT", a name that git forbids`},
		"a file that is gone":    {[][3]string{{"100644", "a", strings.Repeat("1", 40)}}, `"a" is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			base, head := r.propose(t, r.crafted(t, test.tree...))
			_, err := r.Worktree(t.Context(), head, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
			if _, err := r.Merge(t.Context(), base, head); err == nil && test.want != "file exists" {
				t.Error("it is merged")
			}
			if text, _ := os.ReadFile(victim); string(text) != "good" {
				t.Errorf("outside there is %q", text)
			}
			if files, _ := os.ReadDir(outside); len(files) != 1 {
				t.Errorf("outside there are %v", files)
			}
			if test.want == `"a" is missing` {
				return // git does not push it
			}
			run(t, r.Dir, "push", "--quiet", remote, "+"+head+":refs/pull/7/head")
			fresh, _ := clone(t)
			fresh.Remote = remote
			_, _, err = fresh.Fetch(t.Context(), "refs/pull/7/head")
			if err == nil || !strings.Contains(err.Error(), "none that git makes") {
				t.Errorf("fetched: %v", err)
			}
		})
	}
}

// TestPlaceFollowsNoLink writes where a link is, whatever was listed.
func TestPlaceFollowsNoLink(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "victim"), "good")
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, e := range []entry{{link, "", "folder"}, {link, "", "file"}} {
		to := map[string]string{"folder": outside, "file": filepath.Join(outside, "victim")}[e.name]
		if err := place(root, e, []byte(to)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"folder/victim", "folder/new", "file"} {
		if err := place(root, entry{"100644", "", name}, []byte("evil")); err == nil {
			t.Errorf("%s is written", name)
		}
	}
	if text, _ := os.ReadFile(filepath.Join(outside, "victim")); string(text) != "good" {
		t.Errorf("outside there is %q", text)
	}
}

// TestAnOldHistoryIsFetched has what old programs wrote: it is no harm, and nobody can change it.
func TestAnOldHistoryIsFetched(t *testing.T) {
	r, remote := clone(t)
	tree := r.crafted(t, [3]string{"100664", "file", r.object(t, "blob", []byte("old"))},
		[3]string{"040000", "folder", r.crafted(t)})
	for name, who := range map[string]string{
		"no space before the address": "a<a@b> 1 +0000", "no address": "a 1 +0000", "no name": "<a@b> 1 +0000",
		"an odd zone": "a <a@b> 1 +051800", "a padded date": "a <a@b> 01 +0000", "a date too far": "a <a@b> " +
			strings.Repeat("9", 30) + " +0000", "a bracket": "a> <a@b> 1 +0000",
	} {
		commit := r.object(t, "commit", []byte("tree "+tree+"\nauthor "+who+"\ncommitter a <a@b> 1 +0000\n\nold\n"))
		run(t, r.Dir, "push", "--quiet", remote, "+"+commit+":refs/heads/old")
		fresh, _ := clone(t)
		fresh.Remote = remote
		if got, found, err := fresh.Fetch(t.Context(), "refs/heads/old"); err != nil || !found || got != commit {
			t.Errorf("%s: %s, %v, %v", name, got, found, err)
			continue
		}
		folder, err := fresh.Worktree(t.Context(), commit, t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := os.ReadFile(filepath.Join(folder, "file")); err != nil || string(text) != "old" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// TestLargeTrees are some objects that are named very often.
func TestLargeTrees(t *testing.T) {
	r, _ := clone(t)
	times := func(count int, mode, object string) string {
		var entries [][3]string
		for i := range count {
			entries = append(entries, [3]string{mode, fmt.Sprintf("%05d", i), object})
		}
		return r.crafted(t, entries...)
	}
	empty, large := r.object(t, "blob", nil), r.object(t, "blob", make([]byte, 1<<20))
	bomb, hollow := times(10, "100644", empty), r.crafted(t)
	for range 9 {
		bomb, hollow = times(10, "40000", bomb), times(10, "40000", hollow)
	}
	for name, test := range map[string]struct{ tree, want string }{
		"files":            {times(mostFiles+1, "100644", empty), "more than 20000 files and folders"},
		"files in folders": {bomb, "more than 20000 files and folders"},
		"folders alone":    {hollow, "more than 20000 files and folders"},
		"bytes":            {times(513, "100644", large), "537919488 bytes and more, and at most 536870912"},
		"a name of a megabyte": {
			r.crafted(t, [3]string{"100644", strings.Repeat("a", 1<<20), empty}), "a name of more than 65536 bytes",
		},
	} {
		base, head := r.propose(t, test.tree)
		if _, err := r.Merge(t.Context(), base, head); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s are merged: %v", name, err)
		}
		dir := t.TempDir()
		if _, err := r.Worktree(t.Context(), head, dir); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if written, _ := os.ReadDir(dir); len(written) > 0 {
			t.Errorf("%s are written", name)
		}
	}
	for name, tree := range map[string]string{
		"files": times(mostFiles, "100644", empty), "bytes": times(512, "100644", large),
	} {
		base, head := r.propose(t, tree)
		if _, err := r.Merge(t.Context(), base, head); err != nil {
			t.Errorf("as many %s as there may be: %v", name, err)
		}
	}
}
