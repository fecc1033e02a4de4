package programs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestCommands(t *testing.T) {
	var got []string
	for _, cmd := range commands(t.Context(), layout.Layout{Checkout: "/checkout", Cache: "/cache"}) {
		got = append(got, cmd.Dir+": "+strings.Join(cmd.Args, " "))
		if strings.Contains(got[len(got)-1], "pause") && !slices.Contains(cmd.Env, "CGO_ENABLED=0") {
			t.Error("a pod's program would need a C library")
		}
	}
	want := []string{
		"/checkout/lab: go build -buildvcs=false -ldflags=-s -w -o /cache/own/ . ./plugins",
		"/checkout/lab: go build -buildvcs=false -ldflags=-s -w -o /cache/own/ -trimpath ./cmd/flannel ./cmd/pause",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Two packages of one name would overwrite each other, and one that is gone fails the whole build.
func TestPackages(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range slices.Concat(forHost, forPods) {
		if seen[filepath.Base(p)] {
			t.Errorf("%s: its program's name is taken", p)
		}
		seen[filepath.Base(p)] = true
		files, err := filepath.Glob(filepath.Join("..", p, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s: no such package", p)
			continue
		}
		if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), "package main") {
			t.Errorf("%s is no program (%v)", p, err)
		}
	}
}
