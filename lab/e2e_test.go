//go:build e2e

// The tests behind this tag drive a real lab through the commands a person uses, in the order of their files. Each
// leaves the lab up and as it was, but the last, which takes it down.
package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// command is `lab NAME` as a process of its own, in a session of its own.
func command(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("go", "run", ".", name)
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func succeed(t *testing.T, name string) {
	t.Helper()
	out, err := command(t, name).CombinedOutput()
	if err != nil {
		t.Fatalf("lab %s: %v\n%s", name, err, out)
	}
}

// running is the lab that the commands made.
func running(t *testing.T) *lab {
	t.Helper()
	at, err := layout.Find()
	if err != nil {
		t.Fatal(err)
	}
	l, err := open(at)
	if err != nil {
		t.Fatal(err)
	}
	l.stack.Out = io.Discard
	return l
}

// theMachine is the lab's first.
var theMachine = layout.Machines[0]

// changes are the operations of the last run, by kind, without what stayed the same.
func changes(t *testing.T) map[string]int {
	t.Helper()
	spans, err := running(t).stack.Spans()
	if err != nil || len(spans) == 0 {
		t.Fatalf("no events of the last run: %v", err)
	}
	found := map[string]int{}
	for _, s := range spans {
		if s.Op != "same" && !strings.Contains(s.URN, "pulumi:pulumi:Stack") {
			found[s.Op+" "+s.Name()]++
		}
	}
	return found
}
