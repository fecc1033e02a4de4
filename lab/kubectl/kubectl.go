// Package kubectl asks the lab's cluster, with the administrator's access that the stack exports.
package kubectl

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// Install puts the cluster's own kubectl, which is k3s under another name, and the kubeconfig where Run and people find
// them. A k3s that upstream released unpacks itself first: it is told to do so in the lab's folder, not in the host's.
func Install(l layout.Layout, k3s, kubeconfig string) error {
	program := l.Path("kubectl", "kubectl")
	script := fmt.Sprintf("#!/bin/sh\nK3S_DATA_DIR='%s' exec '%s' \"$@\"\n", filepath.Dir(program), program)
	return errors.Join(
		file.Link(program, k3s),
		file.Write(l.Kubectl(), []byte(script), 0o755),
		file.Write(l.Kubeconfig(), []byte(strings.TrimSpace(kubeconfig)+"\n"), 0o600),
	)
}

// Run returns what the command prints.
func Run(ctx context.Context, l layout.Layout, args ...string) (string, error) {
	cmd := command(ctx, l, args)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// Line is kubectl with the administrator's access, on the device from which the cluster is reached.
func Line(l layout.Layout) []string {
	return layout.OnOperator(l.Kubectl(), "--kubeconfig="+l.Kubeconfig())
}

func command(ctx context.Context, l layout.Layout, args []string) *exec.Cmd {
	line := slices.Concat(Line(l), []string{"--request-timeout=20s"}, args)
	return exec.CommandContext(ctx, line[0], line[1:]...) //nolint:gosec // our own program
}
