package command

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// runHere runs text on this machine: in the project's directory, which is where the engine starts a plugin, and with
// the plugin's environment.
func runHere(
	ctx context.Context, client *engine.Client, urn resource.URN, in, previous schema.Values, text string,
) (schema.Values, error) {
	line := in.Strings("interpreter")
	if len(line) == 0 {
		line = []string{"/bin/sh", "-c"}
	}
	line = append(line, text)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...) //nolint:gosec // the program's own command
	cmd.Dir = in.String("dir")
	cmd.Env = os.Environ()
	for key, value := range in.Object("environment") {
		cmd.Env = append(cmd.Env, key+"="+fmt.Sprint(value))
	}
	if in.Bool("addPreviousOutputInEnv") {
		for _, stream := range []string{"stdout", "stderr"} {
			if value := previous.String(stream); value != "" {
				cmd.Env = append(cmd.Env, "PULUMI_COMMAND_"+strings.ToUpper(stream)+"="+value)
			}
		}
	}
	cmd.Stdin = strings.NewReader(in.String("stdin"))
	output := newOutput(ctx, client, urn, in)
	cmd.Stdout, cmd.Stderr = output.out, output.errs
	// A cancelled command ends with all that it started.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return output.end(ctx, cmd.Run(), text)
}
