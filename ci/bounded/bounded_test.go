package bounded

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shell is a command that says in a file when it has ended on its own.
func shell(t *testing.T, script string) func(context.Context) *exec.Cmd {
	t.Helper()
	return func(ctx context.Context) *exec.Cmd { return exec.CommandContext(ctx, "/bin/sh", "-c", script) }
}

func TestRun(t *testing.T) {
	out, said, err := Run(t.Context(), time.Minute, shell(t, "echo out; echo err >&2"))
	if out != "out\n" || said != "err\n" || err != nil {
		t.Errorf("%q, %q, %v", out, said, err)
	}
	_, said, err = Run(t.Context(), 0, shell(t, "echo why >&2; exit 3"))
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || said != "why\n" {
		t.Errorf("%q, %v", said, err)
	}
}

// What prints or lasts without end is ended, though it wants to go on.
func TestWhatHasNoEndIsEnded(t *testing.T) {
	for name, test := range map[string]struct {
		script, want string
		patience     time.Duration
	}{
		"prints":              {"trap '' PIPE; while :; do head -c 1000000 /dev/zero; done", "more than 64 MiB", time.Minute},
		"prints and is done":  {"trap '' PIPE; head -c 70000000 /dev/zero; exit 0", "more than 64 MiB", time.Minute},
		"lasts":               {"exec sleep 60", "longer than 100ms", 100 * time.Millisecond},
		"lasts, and says why": {"echo why >&2; exec sleep 60", "longer than 100ms", 100 * time.Millisecond},
	} {
		began := time.Now()
		out, _, err := Run(t.Context(), test.patience, shell(t, test.script))
		var ended Ended
		if !errors.As(err, &ended) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		if len(out) > most || time.Since(began) > 50*time.Second {
			t.Errorf("%s: %d bytes, after %s", name, len(out), time.Since(began))
		}
	}
}

// The caller's own end is no fault of the command.
func TestTheCallerEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	started := filepath.Join(t.TempDir(), "started")
	go func() {
		for {
			if _, err := os.Stat(started); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	_, _, err := Run(ctx, time.Minute, shell(t, "touch "+started+"; exec sleep 60"))
	var ended Ended
	if err == nil || errors.As(err, &ended) {
		t.Errorf("got %v", err)
	}
}

func TestTail(t *testing.T) {
	var tail Tail
	for range 300 {
		_, _ = tail.Write(bytes.Repeat([]byte("a"), 1000))
	}
	_, _ = tail.Write([]byte("because"))
	if got := tail.String(); len(got) != told || !strings.HasSuffix(got, "because") || cap(tail.text) > 4*told {
		t.Errorf("%d bytes of %d", len(got), cap(tail.text))
	}
	_, _ = tail.Write([]byte(strings.Repeat("b", 3*told) + "end"))
	if got := tail.String(); len(got) != told || !strings.HasSuffix(got, "bend") || cap(tail.text) > 4*told {
		t.Errorf("%d bytes of %d", len(got), cap(tail.text))
	}
}
