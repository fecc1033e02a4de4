// Package kubectl asks the lab's cluster, with the administrator's access that the stack exports.
package kubectl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// Install puts the cluster's own kubectl, which is k3s under another name, and the kubeconfig where Run and people find
// them.
func Install(l layout.Layout, k3s, kubeconfig string) error {
	return errors.Join(
		file.Link(l.Kubectl(), k3s),
		file.Write(l.Kubeconfig(), []byte(strings.TrimSpace(kubeconfig)+"\n"), 0o600),
	)
}

// shown are the questions whose answers Show prints.
var shown = []string{
	"get nodes",
	"get kustomizations.kustomize.toolkit.fluxcd.io,helmreleases.helm.toolkit.fluxcd.io --all-namespaces",
	"get pods --all-namespaces",
}

// Show prints the cluster's nodes, what Flux applies, and the pods.
func Show(ctx context.Context, l layout.Layout, out io.Writer) error {
	var errs []error
	for _, question := range shown {
		answer, err := Run(ctx, l, strings.Fields(question)...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(out, answer)
	}
	return errors.Join(errs...)
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
