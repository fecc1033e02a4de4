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

// packages of the lab's module. A program has the name of its folder; that of the module's root is called lab.
var packages = []string{".", "./plugins", "./cmd/flannel", "./cmd/pause"}

// Dir is where the built programs are.
func Dir(l layout.Layout) string { return filepath.Join(l.Cache, "own") }

// Build builds all of them and returns their folder. Go's own cache makes a second build short.
func Build(ctx context.Context, l layout.Layout) (string, error) {
	if err := os.MkdirAll(Dir(l), 0o755); err != nil {
		return "", err
	}
	if out, err := command(ctx, l).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the lab's own programs: %w:\n%s", err, strings.TrimSpace(string(out)))
	}
	return Dir(l), nil
}

func command(ctx context.Context, l layout.Layout) *exec.Cmd {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", Dir(l) + "/"}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed packages
	cmd.Dir = filepath.Join(l.Checkout, "lab")
	// A pod has no C library.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd
}
