package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	for _, m := range layout.Machines {
		needed = append(needed, m.Process())
	}
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
