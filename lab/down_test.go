package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
)

// Without a lab there is nothing to do, and nothing is made. Nobody but root may try.
func TestDownWithoutALab(t *testing.T) {
	at := layout.Layout{State: filepath.Join(t.TempDir(), "none"), Checkout: t.TempDir()}
	err := down(t.Context(), at)
	switch {
	case os.Geteuid() == 0 && err != nil:
		t.Error(err)
	case os.Geteuid() != 0 && (err == nil || !strings.HasPrefix(err.Error(), "not root: ")):
		t.Errorf("not root: %v", err)
	}
	if _, err := os.Stat(at.State); err == nil {
		t.Error("down made a lab")
	}
}

// A stack is destroyed step by step only while everything runs that its resources are in.
func TestDestroyableWhileAllRuns(t *testing.T) {
	at := layout.Layout{State: t.TempDir()}
	runner := process.New(at)
	needed := []string{layout.HeadscaleProcess, layout.CloudsProcess, layout.Operator}
	// Of the machines those count that were made.
	at.Machines = []layout.Machine{{Name: "planned", IPv4: "10.77.0.12"}}
	made := layout.Machine{Name: "made", IPv4: "10.77.0.11"}
	text, err := json.Marshal(made)
	if err == nil {
		err = file.Write(at.Record(made), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	needed = append(needed, made.Process())
	for _, name := range needed {
		spec := process.Spec{
			Name: name, Args: []string{"sleep", "60"}, Ready: func(context.Context) error { return nil },
		}
		start := func() {
			if err := runner.Start(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
		}
		start()
		t.Cleanup(func() { _ = runner.Stop(context.Background(), name) })
		defer func() {
			if err := runner.Stop(t.Context(), name); err != nil || destroyable(at) {
				t.Errorf("without %s (%v)", name, err)
			}
			start()
		}()
	}
	if !destroyable(at) {
		t.Error("all runs")
	}
}
