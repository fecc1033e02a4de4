//go:build e2e

package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/programs"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// TestADeadServer loses the only server with its disk, and puts a bare one with another host key in its place. By its
// settings and one command the site is back, with what was written before: docs/runbooks/restore-databases.md.
func TestADeadServer(t *testing.T) {
	l := running(t)
	const text = "before the server died"
	w := write(t, text)
	was := incarnation(t, l)
	copied(t, l, "e2e-dead")
	dumped(t, l, was)
	set := anotherServer(t, l)

	restore(t, l, "apps", was, was+1)
	out := output(l)
	started := time.Now()
	if err := l.stack.Rebuild(t.Context(), "**TailnetKey::*"+first(l).Name); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("from a bare server: %s", time.Since(started).Round(100*time.Millisecond))
	kubeconfig, err := l.stack.Output(t.Context(), "kubeconfig")
	if err != nil {
		t.Fatal(err)
	}
	if err := kubectl.Install(l.Layout, set.K3s, kubeconfig); err != nil {
		t.Fatal(err)
	}
	w.isThere(t, 2*time.Minute, text)
	restore(t, l, "none", was, was+1)
	upOrFail(t, l)
	nothingToDo(t, l)
}

// anotherServer throws the first machine away and boots a fresh one, which the settings know by its host key.
func anotherServer(t *testing.T, l *lab) *artifacts.Set {
	t.Helper()
	cache, err := artifacts.Open(l.Cache)
	if err != nil {
		t.Fatal(err)
	}
	built := func(context.Context) (string, error) { return programs.Dir(l.Layout), nil }
	set, err := cache.Build(t.Context(), progress.New(os.Stderr), built)
	if err != nil {
		t.Fatal(err)
	}
	if err := machine.New(l.Layout, first(l)).Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := machine.MakeNetwork(t.Context(), l.Layout); err != nil { // and the record by which `down` finds it
		t.Fatal(err)
	}
	delete(l.secrets.HostKeys, first(l).Name)
	if err := machine.Start(t.Context(), l.Layout, []layout.Machine{first(l)}, set, l.secrets); err != nil {
		t.Fatal(err)
	}
	key, err := secret.PublicKey(l.secrets.HostKeys[first(l).Name])
	if err != nil {
		t.Fatal(err)
	}
	changeForGood(t, l, func(config map[string]map[string]any) {
		config["tinyrack:hosts"][first(l).Name].(map[string]any)["hostKey"] = key
	})
	deviceIsOff(t, l)
	return set
}
