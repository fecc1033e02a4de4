// Package engine runs the Pulumi command line for a stack and reads what it says: what a preview plans, what the
// state and the settings hold.
package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tinyrack-net/infrastructure/ci/bounded"
	"github.com/tinyrack-net/infrastructure/ci/changes"
)

// Engine is a Pulumi command line with a program.
type Engine struct {
	// Command is the path of the command line; its plugins and language host are where it finds them.
	Command string
	// Project is the folder with Pulumi.yaml, as the command line sees it.
	Project string
	// Dir is the folder that the command is started in, where it is not Project. Optional.
	Dir string
	// Env is the environment, whole.
	Env []string
	// Wrap is put in front of every command. Optional.
	Wrap []string
	// Patience is how long a command may last. Optional: an up lasts as long as it lasts.
	Patience time.Duration
}

// Find is the command line in PATH, with the caller's environment.
func Find(project string) (*Engine, error) {
	command, err := exec.LookPath("pulumi")
	if err != nil {
		return nil, errors.New("pulumi is not in PATH: nothing can be previewed or applied: install the version that " +
			"go.mod names for github.com/pulumi/pulumi/sdk/v3")
	}
	return &Engine{Command: command, Project: project, Env: append(os.Environ(), "PULUMI_SKIP_UPDATE_CHECK=true",
		// The same packages in another folder are compiled once.
		"GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -trimpath"), "CGO_ENABLED=0", "GOWORK=off")}, nil
}

// Digest is what a preview says.
type Digest struct {
	Steps       []Step
	Diagnostics []Diagnostic
}

// Diagnostic is a message of the program, of a plugin or of the engine.
type Diagnostic struct {
	Message   string `json:"message"`
	Severity  string `json:"severity"` // info, info#err (what the program prints as an error), warning, error
	Ephemeral bool   `json:"ephemeral"`
}

// Step is what happens to one resource. A replacement has several.
type Step struct {
	Op   string    `json:"op"`
	URN  string    `json:"urn"`
	Type string    `json:"type"`
	Old  *Resource `json:"old"`
	New  *Resource `json:"new"`
	// Diffs are the properties that differ, Keys those of them that need a replacement.
	Diffs []string `json:"diffs"`
	Keys  []string `json:"keys"`
}

// Resource is one resource before or after a step. A secret in it is an object that says so, without the value.
type Resource struct {
	Protect bool           `json:"protect"`
	Inputs  map[string]any `json:"inputs"`
}

// Preview is what an up would do. One that fails returns what was said until then, too.
func (e *Engine) Preview(ctx context.Context, stack string, flags ...string) (*Digest, error) {
	// Events know what is secret; the digest that is printed without this shows the same word in the place of all.
	with := *e
	with.Env = append(slices.Clone(e.Env), "PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true")
	out, runErr := with.stack(ctx, stack, append([]string{"preview", "--json"}, flags...)...)
	digest, err := readEvents(out)
	if err != nil && runErr == nil {
		return nil, fmt.Errorf("pulumi preview of %s: %w", stack, err)
	}
	if runErr == nil {
		return digest, nil
	}
	// One that was ended says nothing of that itself.
	if ended := bounded.Ended(""); errors.As(runErr, &ended) {
		return digest, runErr
	}
	var said []string
	for _, d := range digest.Diagnostics {
		if d.Severity == "error" || d.Severity == "info#err" {
			said = append(said, strings.TrimSpace(d.Message))
		}
	}
	if len(said) > 0 {
		runErr = errors.New(last(strings.Join(said, "\n")))
	}
	return digest, runErr
}

// readEvents reads what the engine prints, an event a line. What is read until a line that is none is returned, too.
// The last but one says that there is no more to come: no events are no preview without changes.
func readEvents(text string) (*Digest, error) {
	digest, ended := &Digest{}, false
	for line := range strings.Lines(text) {
		var event struct {
			Pre *struct {
				Metadata Step `json:"metadata"`
			} `json:"resourcePreEvent"`
			Diagnostic *Diagnostic `json:"diagnosticEvent"`
			Summary    *struct{}   `json:"summaryEvent"`
		}
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			return digest, errors.New("what it printed are no events: is it of another version than go.mod names?")
		}
		ended = ended || event.Summary != nil
		switch {
		case event.Pre != nil:
			digest.Steps = append(digest.Steps, event.Pre.Metadata)
		case event.Diagnostic != nil && !event.Diagnostic.Ephemeral:
			digest.Diagnostics = append(digest.Diagnostics, *event.Diagnostic)
		}
	}
	if !ended {
		return digest, errors.New("its events end without a summary: what else changes is not known: run it again")
	}
	return digest, nil
}

// Up does what a preview shows. What it prints goes to out; the end of it is the reason in an error.
func (e *Engine) Up(ctx context.Context, stack string, out io.Writer, flags ...string) error {
	args := append([]string{"up", "--yes", "--skip-preview", "--color", "never", "--suppress-outputs"}, flags...)
	said := &bounded.Tail{}
	cmd := e.command(ctx, e.args(stack, args...))
	out = io.MultiWriter(out, said)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("pulumi up: %w:\n%s", err, last(said.String()))
	}
	return nil
}

// Export is the stack's state, JSON, with secrets in clear.
func (e *Engine) Export(ctx context.Context, stack string) (string, error) {
	return e.stack(ctx, stack, "stack", "export", "--show-secrets")
}

// Import puts a state in the place of the stack's, from a file that holds no real secret.
func (e *Engine) Import(ctx context.Context, stack, file string) error {
	_, err := e.stack(ctx, stack, "stack", "import", "--file", file)
	return err
}

// Init makes the stack in an empty backend.
func (e *Engine) Init(ctx context.Context, stack string) error {
	_, err := e.stack(ctx, stack, "stack", "init")
	return err
}

// Value is a setting.
type Value struct {
	Value  string `json:"value"`
	Secret bool   `json:"secret"`
}

// Secrets are the secret settings of a stack in clear, by name with the project's prefix.
func (e *Engine) Secrets(ctx context.Context, stack string) (map[string]string, error) {
	out, err := e.stack(ctx, stack, "config", "--show-secrets", "--json")
	if err != nil {
		return nil, err
	}
	values := map[string]Value{}
	if err := json.Unmarshal([]byte(out), &values); err != nil {
		return nil, fmt.Errorf("pulumi config of %s: what it printed is no JSON", stack)
	}
	secrets := map[string]string{}
	for name, value := range values {
		if value.Secret {
			secrets[name] = value.Value
		}
	}
	return secrets, nil
}

// SetPublicSecrets writes settings that the program wants to be secret, and that are none: placeholders. They are
// arguments of a command, which everybody can read.
func (e *Engine) SetPublicSecrets(ctx context.Context, stack string, values map[string]string) error {
	if len(values) == 0 {
		return nil
	}
	args := []string{"config", "set-all"}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		args = append(args, "--secret", name+"="+values[name])
	}
	_, err := e.stack(ctx, stack, args...)
	return err
}

func (e *Engine) args(stack string, args ...string) []string {
	return append(args, "--stack", stack, "--cwd", e.Project, "--non-interactive")
}

// stack runs a command on a stack. Its error has what it said of its failure, and not what it printed until then: that
// may be secrets in clear.
func (e *Engine) stack(ctx context.Context, stack string, args ...string) (string, error) {
	out, said, err := bounded.Run(ctx, e.Patience, func(ctx context.Context) *exec.Cmd {
		return e.command(ctx, e.args(stack, args...))
	})
	if err != nil {
		err = fmt.Errorf("pulumi %s: %w: %s", args[0], err, last(said))
	}
	return out, err
}

// last is the end of a text: what a command says of its failure.
func last(text string) string {
	text = strings.TrimSpace(text)
	return strings.ToValidUTF8(text[max(0, len(text)-4<<10):], "")
}

func (e *Engine) command(ctx context.Context, args []string) *exec.Cmd {
	line := append(append([]string{}, e.Wrap...), append([]string{e.Command}, args...)...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...) //nolint:gosec // the caller's own program
	cmd.Dir, cmd.Env = cmp.Or(e.Dir, e.Project), e.Env
	// Told once, and politely, to stop: the terminal's own signal must not reach it too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Minute
	return cmd
}

// mostStacks is how many stacks there may be: each is a checkout and a preview, and a file of no bytes makes one.
const mostStacks = 50

// stackName is what Pulumi takes as the name of a stack.
var stackName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// Stacks are the stacks whose settings are in a folder.
func Stacks(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "Pulumi.*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) > mostStacks {
		return nil, fmt.Errorf("there are %d files Pulumi.*.yaml, and at most %d stacks are previewed: remove those of no "+
			"stack", len(files), mostStacks)
	}
	var names []string
	for _, file := range files {
		name := changes.Stack(filepath.Base(file))
		if !stackName.MatchString(name) {
			return nil, fmt.Errorf("the file %q: %q is no name of a stack: nothing is previewed: use letters, digits, _, . "+
				"and -, at most 100", filepath.Base(file), name)
		}
		names = append(names, name)
	}
	return names, nil
}
