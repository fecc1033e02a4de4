// Package remotetest runs a component's real script text below a temporary root directory, with fake commands in front
// of the system's.
package remotetest

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
)

// Host is a pretended remote machine: a root directory, a directory of fake
// commands and the log they write.
type Host struct {
	t *testing.T
	// Root stands for / in the scripts.
	Root string
	bin  string
	log  string
}

// Result is what one run of a script left behind.
type Result struct {
	Code   int
	Stdout string
	Stderr string
	// Calls are the fake commands that ran, in order, one line each.
	Calls []string
}

// New returns an empty host. Only basic text and file commands of the real
// machine are within reach of its scripts; everything else must be faked.
func New(t *testing.T) *Host {
	t.Helper()
	if _, err := basic(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &Host{t: t, Root: filepath.Join(dir, "root"), bin: filepath.Join(dir, "bin"), log: filepath.Join(dir, "calls")}
	for _, d := range []string{h.Root, h.bin} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The lock of the scripts is there before the first of them, as /run is.
	h.Write("/run/tinyrack/lock", "")
	h.Fake("sleep", "") // scripts poll; tests do not wait
	return h
}

// basic returns a directory of the basic commands. Every host has the same: some
// hundred hosts with links of their own take longer than what runs on them. It
// lies beside the test's program, which go test removes with all around it.
var basic = sync.OnceValues(func() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Dir(program), "commands-")
	if err != nil {
		return "", err
	}
	for _, name := range []string{
		"awk", "base64", "basename", "cat", "chmod", "cmp", "cp", "cut", "date", "dirname", "env", "find", "grep",
		"flock", "head", "install", "ln", "ls", "mkdir", "mktemp", "mv", "printf", "rm", "rmdir", "sed", "sh", "sha256sum",
		"sort", "stat",
		"tail", "test", "touch", "tr", "true", "false", "uniq", "wc",
	} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			return "", err
		}
	}
	return dir, nil
})

// path is where the host's scripts find commands.
func (h *Host) path() string {
	dir, _ := basic() // New has seen the error
	return h.bin + ":" + dir
}

// Bin is the directory of the host's fake commands.
func (h *Host) Bin() string { return h.bin }

// Fake puts a command on the host. Its call is logged, then body runs as POSIX
// sh with $ROOT set.
func (h *Host) Fake(name, body string) {
	h.t.Helper()
	path := filepath.Join(h.bin, name)
	text := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"%s $*\" >>%q\n%s\n", name, h.log, body)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

// Remove takes a fake command off the host.
func (h *Host) Remove(name string) {
	h.t.Helper()
	if err := os.Remove(filepath.Join(h.bin, name)); err != nil {
		h.t.Fatal(err)
	}
}

// Write puts a file below Root.
func (h *Host) Write(path, content string) {
	h.t.Helper()
	full := filepath.Join(h.Root, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// Read returns a file below Root, or "" when there is none.
func (h *Host) Read(path string) string {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.Root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

// Mode returns the permission bits of a file below Root.
func (h *Host) Mode(path string) fs.FileMode {
	h.t.Helper()
	info, err := os.Stat(filepath.Join(h.Root, path))
	if err != nil {
		h.t.Fatal(err)
	}
	return info.Mode().Perm()
}

// Run runs a rendered script with the host's commands only.
func (h *Host) Run(text, stdin string) Result {
	h.t.Helper()
	_ = os.Remove(h.log)
	cmd := exec.Command("sh", "-c", text)
	cmd.Env = []string{"ROOT=" + h.Root, "PATH=" + h.path(), "TMPDIR=" + h.t.TempDir()}
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	calls, err := os.ReadFile(h.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.t.Fatal(err)
	}
	return Result{
		Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String(),
		Calls: strings.FieldsFunc(string(calls), func(r rune) bool { return r == '\n' }),
	}
}

// Files returns every file below Root as one line of path, mode, modification
// time and content: two equal answers mean that nothing was even rewritten.
func (h *Host) Files() string {
	h.t.Helper()
	return h.list(func(path string, info fs.FileInfo, data []byte) string {
		if info.IsDir() {
			return ""
		}
		return fmt.Sprintf("%s %s %d %q", filepath.Join(h.Root, path), info.Mode(), info.ModTime().UnixNano(), data)
	})
}

// State returns every file and folder below Root as one line of path, mode and
// content: a script does the same on two hosts of one state and equal commands.
func (h *Host) State() string {
	h.t.Helper()
	return h.list(func(path string, info fs.FileInfo, data []byte) string {
		return fmt.Sprintf("%s %s %q", path, info.Mode(), data)
	})
}

// list returns the lines of what is below Root, without the empty ones.
func (h *Host) list(line func(path string, info fs.FileInfo, data []byte) string) string {
	h.t.Helper()
	var lines []string
	err := filepath.WalkDir(h.Root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var data []byte
		if info.Mode().IsRegular() {
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		below, err := filepath.Rel(h.Root, path)
		if text := line(below, info, data); text != "" {
			lines = append(lines, text)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// Called reports whether a call starting with prefix was made.
func (r Result) Called(prefix string) bool {
	for _, c := range r.Calls {
		if strings.HasPrefix(c, prefix) {
			return true
		}
	}
	return false
}

// NoSecret fails the test when secret, in any of the forms it travels in, is in
// what the script printed or in the arguments of a command it ran.
func (r Result) NoSecret(t *testing.T, secret string) {
	t.Helper()
	seen := r.Stdout + r.Stderr + strings.Join(r.Calls, "\n")
	for _, form := range []string{
		secret, url.QueryEscape(secret),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
	} {
		if strings.Contains(seen, form) {
			t.Errorf("the script leaks a secret as %q", form)
		}
	}
}

// ShellCheck lints a rendered script, so that unset header variables and the
// shared functions are seen as they run.
func ShellCheck(t *testing.T, text string) {
	t.Helper()
	path, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Fatal("shellcheck is not installed: apt-get install shellcheck")
	}
	cmd := exec.Command(path, "--shell=sh", "--exclude=SC2317,SC2034", "-")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
}
