// Package programs builds the lab's own programs: the lab itself, the plugin doubles, and what the pods need.
package programs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// Packages of the lab's module. A program has the name of its folder; that of the module's root is called lab.
var (
	// forHost are built with the flags of `go run` and `go test`: most of what they are made of is compiled by then.
	forHost = []string{".", "./plugins"}
	// forPods are the same in every checkout, and so are the images made of them.
	forPods = []string{"./cmd/flannel", "./cmd/pause"}
)

// Dir is where the built programs are.
func Dir(l layout.Layout) string { return filepath.Join(l.Cache, "own") }

// Build builds all of them and returns their folder. Go's own cache makes a second build short.
func Build(ctx context.Context, l layout.Layout) (string, error) {
	if err := os.MkdirAll(Dir(l), 0o755); err != nil {
		return "", err
	}
	for _, cmd := range commands(ctx, l) {
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the lab's own programs: %w:\n%s", err, strings.TrimSpace(string(out)))
		}
	}
	return Dir(l), nil
}

func commands(ctx context.Context, l layout.Layout) []*exec.Cmd {
	build := func(args ...string) *exec.Cmd {
		args = append([]string{"build", "-buildvcs=false", "-ldflags=-s -w", "-o", Dir(l) + "/"}, args...)
		cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed packages
		cmd.Dir = filepath.Join(l.Checkout, "lab")
		return cmd
	}
	host, pods := build(forHost...), build(append([]string{"-trimpath"}, forPods...)...)
	pods.Env = append(os.Environ(), "CGO_ENABLED=0") // a pod has no C library
	return []*exec.Cmd{host, pods}
}
