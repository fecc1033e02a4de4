package repository

import (
	"errors"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// clone is a repository with one commit, and a bare one that it came from.
func clone(t *testing.T) (r *Repository, remote string) {
	t.Helper()
	remote, dir := filepath.Join(t.TempDir(), "remote.git"), t.TempDir()
	run(t, dir, "init", "--quiet", "--bare", "--initial-branch=main", remote)
	run(t, dir, "init", "--quiet", "--initial-branch=main")
	run(t, dir, "remote", "add", "origin", remote)
	r, err := Open(t.Context(), dir, "origin", "")
	if err != nil {
		t.Fatal(err)
	}
	r.change(t, "one", "first")
	run(t, dir, "push", "--quiet", "origin", "main")
	return r, remote
}

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// change commits a file, and returns the commit.
func (r *Repository) change(t *testing.T, name, text string) string {
	t.Helper()
	write(t, filepath.Join(r.Dir, name), text)
	run(t, r.Dir, "add", "--all")
	run(t, r.Dir, "commit", "--quiet", "--message", name)
	return run(t, r.Dir, "rev-parse", "HEAD")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	r, _ := clone(t)
	below := filepath.Join(r.Dir, "below")
	write(t, filepath.Join(below, "file"), "")
	if found, err := Open(t.Context(), below, "origin", ""); err != nil || found.Dir != r.Dir {
		t.Errorf("from below it is %v, %v", found, err)
	}
	if _, err := Open(t.Context(), t.TempDir(), "origin", ""); err == nil {
		t.Error("any folder is a clone")
	}
}

func TestTheTokenIsInNoArgument(t *testing.T) {
	r := &Repository{Dir: t.TempDir(), Token: "canary", server: "https://127.0.0.1:1/"}
	if env := strings.Join(r.Env(), "\n"); strings.Contains(env, "canary") ||
		!strings.Contains(env, "=Authorization: Basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5\n") {
		t.Errorf("git's environment is %s", env)
	}
	_, err := r.Git(t.Context(), "ls-remote", "https://me:p@ss-canary@127.0.0.1:1/x.git")
	if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("got %v", err)
	}
}

// gitServer serves a folder of repositories over HTTP and notes the logins of all requests.
func gitServer(t *testing.T, folder string) (address string, logins *[]string) {
	t.Helper()
	logins = &[]string{}
	handler := &cgi.Handler{
		Path: filepath.Join(run(t, folder, "--exec-path"), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + folder, "GIT_HTTP_EXPORT_ALL=1"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*logins = append(*logins, strings.Join(r.Header.Values("Authorization"), " and "))
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, logins
}

// TestTheTokenIsForOneServer: neither where another remote is, nor where a server redirects to, is it told.
func TestTheTokenIsForOneServer(t *testing.T) {
	const login = "Basic eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5"
	other, remote := clone(t)
	address, logins := gitServer(t, filepath.Dir(remote))
	// What the caller has set stays, but for a login.
	t.Setenv("GIT_CONFIG_COUNT", "2")
	t.Setenv("GIT_CONFIG_KEY_0", "caller.setting")
	t.Setenv("GIT_CONFIG_VALUE_0", "stays")
	t.Setenv("GIT_CONFIG_KEY_1", "http."+address+"/.extraHeader")
	t.Setenv("GIT_CONFIG_VALUE_1", "Authorization: Basic caller")
	open := func(remote string) *Repository {
		t.Helper()
		r, err := Open(t.Context(), other.Dir, remote, "canary")
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	run(t, other.Dir, "remote", "set-url", "origin", address+"/remote.git")
	r := open("origin")
	if _, found, err := r.Fetch(t.Context(), "refs/heads/main"); err != nil || !found {
		t.Errorf("%v, %v", found, err)
	}
	if len(*logins) < 2 || slices.ContainsFunc(*logins, func(got string) bool { return got != login }) {
		t.Errorf("its own server is told %q", *logins)
	}
	if got, err := r.Git(t.Context(), "config", "caller.setting"); err != nil || got != "stays" {
		t.Errorf("the caller's setting is %q, %v", got, err)
	}
	*logins = nil
	moved := httptest.NewServer(http.RedirectHandler(address+"/remote.git/info/refs?service=git-upload-pack",
		http.StatusMovedPermanently))
	t.Cleanup(moved.Close)
	_, _, err := open(moved.URL+"/remote.git").Fetch(t.Context(), "refs/heads/main")
	if err == nil || !strings.Contains(err.Error(), "git remote set-url") || len(*logins) > 0 {
		t.Errorf("%v, and another server is told %q", err, *logins)
	}
	t.Setenv("GIT_CONFIG_COUNT", "0")
	if _, err := r.Git(t.Context(), "ls-remote", address+"/remote.git"); err != nil {
		t.Error(err)
	}
	if _, err := open("https://127.0.0.1:1/x").Git(t.Context(), "ls-remote", address+"/remote.git"); err != nil ||
		(*logins)[len(*logins)-1] != "" {
		t.Errorf("%v, and the server of another remote is told %q", err, *logins)
	}
	for remote, want := range map[string]string{
		"http://git.example.org/x.git": "plain HTTP", "http://me:secret@10.77.0.1:3000/x": "plain HTTP",
		"http://127.0.0.1.example.org/x": "plain HTTP",
	} {
		_, err := Open(t.Context(), other.Dir, remote, "canary")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", remote, err)
		}
		if _, err := Open(t.Context(), other.Dir, remote, ""); err != nil {
			t.Errorf("%s without a token: %v", remote, err)
		}
	}
	for remote, want := range map[string]string{
		"https://me@git.example.org:3000/a/b.git": "https://git.example.org:3000/", "http://[::1]:80/a": "http://[::1]:80/",
		"http://localhost/a": "http://localhost/", "git@github.com:a/b.git": "", "ssh://git@github.com/a/b.git": "",
		other.Dir: "", "none": "",
	} {
		if got := open(remote).server; got != want {
			t.Errorf("%s: the token is for %q, want %q", remote, got, want)
		}
	}
}

func TestFetch(t *testing.T) {
	r, remote := clone(t)
	other, _ := clone(t)
	want := other.change(t, "proposed", "")
	run(t, other.Dir, "push", "--quiet", remote, "+HEAD:refs/pull/7/head")
	if got, found, err := r.Fetch(t.Context(), "refs/pull/7/head"); err != nil || !found || got != want {
		t.Errorf("%s, %v, %v", got, found, err)
	}
	if _, err := r.Commit(t.Context(), want); err != nil {
		t.Errorf("it is not there: %v", err)
	}
	if _, found, err := r.Fetch(t.Context(), "refs/pull/8/head"); err != nil || found {
		t.Errorf("one that is not there: %v, %v", found, err)
	}
	// One whose name ends so is another.
	head := run(t, r.Dir, "rev-parse", "HEAD")
	run(t, other.Dir, "push", "--quiet", remote, "+"+want+":refs/heads/a/refs/heads/main")
	if got, found, err := r.Fetch(t.Context(), "refs/heads/main"); err != nil || !found || got != head {
		t.Errorf("main is %s, %v, %v, want %s", got, found, err, head)
	}
	run(t, remote, "update-ref", "-d", "refs/heads/main")
	if got, found, err := r.Fetch(t.Context(), "refs/heads/main"); err != nil || found {
		t.Errorf("a branch that is gone is %s, %v, %v", got, found, err)
	}
	if err := os.RemoveAll(remote); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Fetch(t.Context(), "refs/pull/7/head"); err == nil {
		t.Error("a remote that is gone has no such ref")
	}
}

func TestChanged(t *testing.T) {
	r, _ := clone(t)
	base := run(t, r.Dir, "rev-parse", "HEAD")
	run(t, r.Dir, "mv", "one", "moved to")
	head := r.change(t, "ünï\ncode", "")
	got, err := r.Changed(t.Context(), base, head)
	slices.Sort(got)
	if want := []string{"moved to", "one", "ünï\ncode"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// What is not committed is in a snapshot, what git ignores is not unless it is committed, and the clone stays as it is.
func TestSnapshot(t *testing.T) {
	r, _ := clone(t)
	r.change(t, "committed", "")
	base := r.change(t, ".gitignore", "ignored\ncommitted\n")
	write(t, filepath.Join(r.Dir, "one"), "second")
	write(t, filepath.Join(r.Dir, "new"), "")
	write(t, filepath.Join(r.Dir, "ignored"), "")
	before := run(t, r.Dir, "status", "--porcelain")
	commit, err := r.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.Changed(t.Context(), base, commit)
	if slices.Sort(got); err != nil || !slices.Equal(got, []string{"new", "one"}) {
		t.Errorf("%q, %v", got, err)
	}
	if after := run(t, r.Dir, "status", "--porcelain"); after != before || run(t, r.Dir, "rev-parse", "HEAD") != base {
		t.Errorf("the clone was\n%s\nand is\n%s", before, after)
	}
}

func TestMerge(t *testing.T) {
	r, _ := clone(t)
	common := run(t, r.Dir, "rev-parse", "HEAD")
	head := r.change(t, "mine", "text")
	if got, err := r.Merge(t.Context(), common, head); err != nil || got != head {
		t.Errorf("what has all of its base is merged anew: %s, %v", got, err)
	}
	run(t, r.Dir, "checkout", "--quiet", common)
	base := r.change(t, "theirs", "")
	merged, err := r.Merge(t.Context(), base, head)
	if err != nil {
		t.Fatal(err)
	}
	// What was merged meanwhile is no part of the change.
	if got, err := r.Changed(t.Context(), base, merged); err != nil || !slices.Equal(got, []string{"mine"}) {
		t.Errorf("%q, %v", got, err)
	}
	run(t, r.Dir, "checkout", "--quiet", common)
	conflict := r.change(t, "mine", "another")
	if _, err := r.Merge(t.Context(), conflict, head); err == nil || !strings.Contains(err.Error(), "conflicts") {
		t.Errorf("a conflict: %v", err)
	}
	run(t, r.Dir, "checkout", "--quiet", "--orphan", "stranger")
	stranger := r.change(t, "stranger", "")
	if _, err := r.Merge(t.Context(), base, stranger); err == nil || !strings.Contains(err.Error(), "fetch-depth") {
		t.Errorf("no common commit: %v", err)
	}
}

// A published branch has one commit, whatever it had before.
func TestPublish(t *testing.T) {
	r, remote := clone(t)
	before := run(t, r.Dir, "status", "--porcelain")
	for _, text := range []string{"one", "two"} {
		if err := r.Publish(t.Context(), "published/lab", "state.json", "state", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got := run(t, remote, "show", "published/lab:state.json"); got != text {
			t.Errorf("published is %s", got)
		}
	}
	if got := run(t, remote, "rev-list", "--count", "published/lab"); got != "1" {
		t.Errorf("it has %s commits", got)
	}
	if got := run(t, remote, "ls-tree", "--name-only", "-r", "published/lab"); got != "state.json" {
		t.Errorf("it holds %s", got)
	}
	if run(t, r.Dir, "status", "--porcelain") != before {
		t.Error("the clone is another")
	}
}

// TestPublishTriesAgain has a remote that takes no push for a while, and one that never does.
func TestPublishTriesAgain(t *testing.T) {
	r, remote := clone(t)
	r.patience = time.Millisecond
	tries := filepath.Join(t.TempDir(), "tries")
	takes := func(from string) {
		t.Helper()
		hook := "#!/bin/sh\necho >> " + tries + "\n[ \"$(wc -l < " + tries + ")\" -ge " + from + " ]\n"
		path := filepath.Join(remote, "hooks", "pre-receive")
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(hook), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	takes("3")
	if err := r.Publish(t.Context(), "published/lab", "state.json", "state", []byte("one")); err != nil {
		t.Error(err)
	}
	if got := run(t, remote, "show", "published/lab:state.json"); got != "one" {
		t.Errorf("published is %s", got)
	}
	takes("1000")
	if err := os.Remove(tries); err != nil {
		t.Fatal(err)
	}
	err := r.Publish(t.Context(), "published/lab", "state.json", "state", []byte("two"))
	if err == nil || !strings.Contains(err.Error(), "pre-receive hook declined") {
		t.Errorf("a remote that refuses: %v", err)
	}
	if text, _ := os.ReadFile(tries); len(text) != 4 {
		t.Errorf("%d tries", len(text))
	}
}
