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

// packages of the lab's module. A program has the name of its folder; that of the module's root is called lab. The last
// two run in pods.
var packages = []string{".", "./plugins", "./cmd/flannel", "./cmd/pause"}

// Dir is where the built programs are.
func Dir(l layout.Layout) string { return filepath.Join(l.Cache, "own") }

// Build builds all of them and returns their folder. Go's own cache makes a second build short.
func Build(ctx context.Context, l layout.Layout) (string, error) {
	if err := os.MkdirAll(Dir(l), 0o755); err != nil {
		return "", err
	}
	cmd := command(ctx, l)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the lab's own programs: %w:\n%s", err, strings.TrimSpace(string(out)))
	}
	return Dir(l), nil
}

// command compiles with the Makefile's flags, so that most of it is compiled by then: without the checkout's folder in
// them, for images are the same in every checkout, and without the C library, which a pod has not.
func command(ctx context.Context, l layout.Layout) *exec.Cmd {
	args := append([]string{"build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", Dir(l) + "/"}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed packages
	cmd.Dir = filepath.Join(l.Checkout, "lab")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}
