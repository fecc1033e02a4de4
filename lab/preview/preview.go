// Package preview previews stacks as a pull request would: with throw-away secrets, an empty state, and in a network
// namespace that reaches nothing at all.
package preview

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
	"github.com/tinyrack-net/infrastructure/lab/secret"
	"github.com/tinyrack-net/infrastructure/lab/settings"
)

// BuildProgram compiles the program. It may have to download modules, so it is done outside the namespace.
func BuildProgram(ctx context.Context, checkout string) error {
	if out, err := build(ctx, checkout).CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w:\n%s", err, out)
	}
	return nil
}

func build(ctx context.Context, checkout string) *exec.Cmd {
	// Where buildTarget in Pulumi.yaml has it.
	at := filepath.Join(checkout, ".bin", layout.Project)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", at, ".") //nolint:gosec // fixed
	cmd.Dir = checkout
	return cmd
}

// Stack previews one stack with the Pulumi command and the plugins. It fails when the preview plans nothing or shows a
// secret.
func Stack(ctx context.Context, checkout, name, command string, plugins pulumi.Plugins) error {
	dir, err := os.MkdirTemp("", "preview")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var out strings.Builder
	stack := &pulumi.Stack{
		Project: layout.Project, Name: name, Dir: dir, Checkout: checkout, Out: &out,
		Network: pulumi.NoNetwork,
	}
	if err := stack.Install(command, plugins); err != nil {
		return err
	}
	filled, err := settings.ThrowAway(stack, dir)
	if err != nil {
		return err
	}
	if err := errors.Join(stack.Configure(secret.Token(8), filled), stack.Init(ctx)); err != nil {
		return err
	}
	if err := stack.Preview(ctx); err != nil {
		return fmt.Errorf("%w:\n%s", err, out.String())
	}
	return judge(name, out.String(), filled.Secrets)
}

// judge says what is wrong with what a preview printed.
func judge(name, printed string, secrets map[string]string) error {
	if !strings.Contains(printed, " to create") {
		return fmt.Errorf("the preview of %s plans nothing:\n%s", name, printed)
	}
	if !strings.Contains(printed, "stack "+name+" is this site:") {
		return fmt.Errorf("the preview of %s does not say what site it is:\n%s", name, printed)
	}
	for _, value := range secrets {
		if strings.Contains(printed, value) {
			return fmt.Errorf("the preview of %s prints a secret", name)
		}
	}
	return nil
}
