package pulumi

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The argument lists of every command that is run.

func (s *Stack) initArgs(dir string) []string {
	return []string{"stack", "init", s.Name, "--cwd", dir, "--non-interactive"}
}

func (s *Stack) upArgs() []string { return s.programArgs("up", "--skip-preview", "--yes") }

func (s *Stack) replaceArgs(names []string) []string {
	args := s.upArgs()
	for _, name := range names {
		if !strings.Contains(name, "::") {
			name = "**::" + name
		}
		args = append(args, "--replace", name)
	}
	return args
}

func (s *Stack) unprotectArgs() []string {
	return []string{"state", "unprotect", "--all", "--yes", "--stack", s.Name, "--cwd", s.Checkout, "--non-interactive"}
}

func (s *Stack) destroyArgs() []string { return s.programArgs("destroy", "--skip-preview", "--yes") }

func (s *Stack) previewArgs(flags ...string) []string { return s.programArgs("preview", flags...) }

func (s *Stack) refreshArgs() []string {
	return s.programArgs("refresh", "--yes", "--skip-preview", "--expect-no-changes", "--clear-pending-creates")
}

func (s *Stack) programArgs(verb string, flags ...string) []string {
	args := append([]string{verb}, flags...)
	return append(args, "--stack", s.Name, "--config-file", s.Config(), "--cwd", s.Checkout,
		"--non-interactive", "--color", "never", "--suppress-outputs", "--event-log", s.events())
}

func (s *Stack) cancelArgs() []string {
	return []string{"cancel", "--yes", "--stack", s.Name, "--cwd", s.Checkout, "--non-interactive"}
}

func (s *Stack) outputArgs() []string {
	return []string{
		"stack", "output", "--json", "--show-secrets", "--stack", s.Name, "--cwd", s.Checkout, "--non-interactive",
	}
}

func (s *Stack) exportArgs() []string {
	return []string{"stack", "export", "--show-secrets", "--stack", s.Name, "--cwd", s.Checkout, "--non-interactive"}
}

func (s *Stack) importArgs(file string) []string {
	return []string{"stack", "import", "--file", file, "--stack", s.Name, "--cwd", s.Checkout, "--non-interactive"}
}

func (s *Stack) setSecretArgs(name string) []string {
	return []string{
		"config", "set", "--secret", s.Project + ":" + name, "--stack", s.Name, "--config-file", s.Config(),
		"--cwd", s.Checkout, "--non-interactive",
	}
}

// NoNetwork is the network of a command that must reach nothing.
var NoNetwork = []string{
	"unshare", "--user", "--map-root-user", "--net", "sh", "-ec", `ip link set lo up; exec "$@"`, "sh",
}

// command is the Pulumi command in an environment that knows no other backend, home or passphrase than the stack's own.
// It is told once, and politely, to stop when ctx ends, and it dies with this process.
func (s *Stack) command(ctx context.Context, args []string) *exec.Cmd {
	line := slices.Concat(s.Network, []string{s.Command()}, args)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...) //nolint:gosec // our own program
	cmd.Dir = s.Checkout
	cmd.Env = s.environment(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Minute
	return cmd
}

// environment is the caller's, but of its Pulumi settings none: a passphrase or backend of theirs would be taken first.
func (s *Stack) environment(callers []string) []string {
	env := slices.DeleteFunc(slices.Clone(callers), func(v string) bool {
		return strings.HasPrefix(v, "PULUMI_") || strings.HasPrefix(v, "PATH=")
	})
	path := ""
	for _, v := range callers {
		if value, found := strings.CutPrefix(v, "PATH="); found {
			path = value
		}
	}
	return append(env,
		"PATH="+s.path("bin")+":"+path, "PULUMI_HOME="+s.path("home"), "PULUMI_BACKEND_URL="+s.BackendURL(),
		"PULUMI_CONFIG_PASSPHRASE_FILE="+s.path("passphrase"), "PULUMI_SKIP_UPDATE_CHECK=true",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true", "GOWORK=off",
		"PULUMI_DEBUG_COMMANDS=true", // knows --event-log
	)
}

// quietly runs a command whose output nobody wants unless it fails.
func (s *Stack) quietly(ctx context.Context, args []string) error {
	return s.quietlyFrom(ctx, nil, args)
}

// quietlyFrom is quietly with a standard input.
func (s *Stack) quietlyFrom(ctx context.Context, in io.Reader, args []string) error {
	var last tail
	if err := s.runFrom(ctx, in, &last, args); err != nil {
		return fmt.Errorf("%w:\n%s", err, last.text)
	}
	return nil
}

func (s *Stack) run(ctx context.Context, out io.Writer, args []string) error {
	return s.runFrom(ctx, nil, out, args)
}

func (s *Stack) runFrom(ctx context.Context, in io.Reader, out io.Writer, args []string) error {
	runtime.LockOSThread() // the death signal is tied to the thread that starts the command
	defer runtime.UnlockOSThread()
	cmd := s.command(ctx, args)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pulumi %s: %w", args[0], err)
	}
	return nil
}

// tail keeps the last of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-8<<10):]
	return len(p), nil
}
