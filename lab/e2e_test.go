//go:build e2e

// The tests behind this tag drive a real lab through the commands a person uses, in the order of their files. Each leaves the lab up and as it was,
// but the last, which takes it down.
package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
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

func open(t *testing.T) *lab {
	t.Helper()
	dir, err := checkout()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{state: newState(dir)}
	if l.secrets, err = l.state.secrets(); err != nil {
		t.Fatal(err)
	}
	l.runner = l.state.runner()
	l.stack = &stack{name: "lab", dir: l.path("pulumi"), checkout: dir, out: io.Discard}
	l.stack.pulumi = l.stack.path("bin", "pulumi")
	return l
}

// changes are the operations of the last run, by kind, without what stayed the same.
func (l *lab) changes(t *testing.T) map[string]int {
	t.Helper()
	spans, err := l.stack.spans()
	if err != nil || len(spans) == 0 {
		t.Fatalf("no events of the last run: %v", err)
	}
	found := map[string]int{}
	for _, s := range spans {
		if s.op != "same" && !strings.Contains(s.urn, "pulumi:pulumi:Stack") {
			found[s.op+" "+s.urn[strings.LastIndex(s.urn, "::")+2:]]++
		}
	}
	return found
}
