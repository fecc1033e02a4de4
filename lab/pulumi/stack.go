// Package pulumi runs the program's stacks with the Pulumi command line, each in a file backend of its own:
// configuration, plugins, commands and what the engine says of a run. It knows no stack's settings and starts nothing
// else.
package pulumi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/file"
)

// Stack is one stack of the program.
type Stack struct {
	// Project is the name in the checkout's Pulumi.yaml, Name the stack's.
	Project, Name string
	// Dir holds the backend, the command, its plugins and the configuration.
	Dir string
	// Checkout is the folder of the program, with the stack's committed configuration.
	Checkout string
	// Settings is a file in the place of the committed configuration. Optional.
	Settings string
	// Out takes what a person sees of a run.
	Out io.Writer
	// Network is put in front of every command and runs it in another network than this process': NoNetwork, or that of a
	// device. Optional.
	Network []string
}

func (s *Stack) path(elem ...string) string {
	return filepath.Join(append([]string{s.Dir}, elem...)...)
}

// Command is the path of the Pulumi command line, once it is installed.
func (s *Stack) Command() string { return s.path("bin", "pulumi") }

// Config is the stack's configuration file, with what the committed one leaves out. It holds secrets, encrypted.
func (s *Stack) Config() string { return s.path("Pulumi." + s.Name + ".yaml") }

// committed is the file that the configuration is made from.
func (s *Stack) committed() string {
	return cmp.Or(s.Settings, filepath.Join(s.Checkout, "Pulumi."+s.Name+".yaml"))
}

// Backend is the folder with the stack's state.
func (s *Stack) Backend() string { return s.path("backend") }

// BackendURL is how Pulumi is told of it. Without metadata=skip each write of the state is followed by one of a file
// beside it that is not atomic: a run that is killed in between leaves an empty one, and every command after it fails
// with "failed to load checkpoint: EOF".
func (s *Stack) BackendURL() string { return "file://" + s.Backend() + "?metadata=skip" }

// Exists tells whether the backend holds anything.
func (s *Stack) Exists() bool {
	_, err := os.Stat(s.path("backend", ".pulumi"))
	return err == nil
}

func (s *Stack) events() string { return s.path("events.json") }

// Install links the command line, the Go language host beside it, and the plugins where official ones would be.
func (s *Stack) Install(command string, plugins Plugins) error {
	if err := os.MkdirAll(s.Backend(), 0o700); err != nil {
		return err
	}
	links := map[string]string{s.Command(): command, s.path("bin", languageHost): plugins.Doubles}
	for name := range plugins.Versions {
		links[s.path("home", "plugins", plugins.place(name))] = plugins.find(name)
	}
	for at, to := range links {
		if err := file.Link(at, to); err != nil {
			return err
		}
	}
	// A file in the place of the folder in which Pulumi logs every property that it passes on, secrets under the stack's
	// key among them. It goes on without, and a preview takes two fifths less; there is no setting.
	logs := s.path("home", "logs")
	if info, err := os.Stat(logs); err == nil && info.Mode().IsRegular() {
		return nil
	}
	return errors.Join(os.RemoveAll(logs), file.Write(logs, nil, 0o400))
}

// Init makes the stack in the backend, once. It is made in a folder apart, so that the committed configuration stays as
// it is.
func (s *Stack) Init(ctx context.Context) error {
	if found, _ := filepath.Glob(s.path("backend", ".pulumi", "stacks", "*", s.Name+".json")); len(found) > 0 {
		return nil
	}
	dir, err := os.MkdirTemp(s.Dir, "init")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	project := "name: " + s.Project + "\nruntime: go\n"
	if err := os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), []byte(project), 0o600); err != nil {
		return err
	}
	return s.quietly(ctx, s.initArgs(dir))
}

// Up makes what is missing and changes what differs.
func (s *Stack) Up(ctx context.Context) error { return s.program(ctx, s.upArgs()) }

// Replace is an Up that makes the resources of these names anew, or those of these patterns of URNs.
func (s *Stack) Replace(ctx context.Context, names ...string) error {
	return s.program(ctx, s.replaceArgs(names))
}

// Rebuild is a Replace for a stack whose cluster is gone for good with its servers: a refresh drops what was in it from
// the state before, so that all of it is made anew.
func (s *Stack) Rebuild(ctx context.Context, names ...string) error {
	gone := *s
	gone.Network = append(slices.Clone(s.Network), "env", "PULUMI_K8S_DELETE_UNREACHABLE=true")
	return gone.program(ctx, append(s.replaceArgs(names), "--refresh"))
}

// Destroy removes everything that the stack made, protected or not. A person has to say that in the configuration, with
// an Up; here the state is told, since what is half built or broken could not be brought up before it is removed.
func (s *Stack) Destroy(ctx context.Context) error {
	if err := errors.Join(s.unlock(ctx), s.quietly(ctx, s.unprotectArgs())); err != nil {
		return err
	}
	return s.program(ctx, s.destroyArgs())
}

// Preview shows what Up would do, and changes nothing.
func (s *Stack) Preview(ctx context.Context) error { return s.program(ctx, s.previewArgs()) }

// PreviewUnchanged is a Preview that fails when Up would do anything.
func (s *Stack) PreviewUnchanged(ctx context.Context) error {
	return s.program(ctx, s.previewArgs("--expect-no-changes"))
}

// RefreshUnchanged looks at everything that the stack made, and fails where it is not as it was left. What the state
// still notes of creations that a kill cut short is dropped: once an Up has come to its end nothing of them is left.
func (s *Stack) RefreshUnchanged(ctx context.Context) error { return s.program(ctx, s.refreshArgs()) }

// Outputs returns the stack's outputs, secrets in clear.
func (s *Stack) Outputs(ctx context.Context) (map[string]any, error) {
	var text strings.Builder
	if err := s.run(ctx, &text, s.outputArgs()); err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal([]byte(text.String()), &out)
}

// Output returns one output, a text, in clear.
func (s *Stack) Output(ctx context.Context, name string) (string, error) {
	outputs, err := s.Outputs(ctx)
	if err != nil {
		return "", err
	}
	text, ok := outputs[name].(string)
	if !ok {
		return "", fmt.Errorf("the stack exports no %s, only %s", name, strings.Join(slices.Sorted(maps.Keys(outputs)), ", "))
	}
	return text, nil
}

// Export returns the stack's state, JSON with all secrets in clear.
func (s *Stack) Export(ctx context.Context) (string, error) {
	var text strings.Builder
	if err := s.run(ctx, &text, s.exportArgs()); err != nil {
		return "", fmt.Errorf("%w:\n%.2000s", err, text.String())
	}
	return text.String(), nil
}

// Import puts a state of Export in the place of the stack's.
func (s *Stack) Import(ctx context.Context, state string) error {
	if err := s.unlock(ctx); err != nil {
		return err
	}
	path := s.path("import.json")
	defer os.Remove(path)
	if err := os.WriteFile(path, []byte(state), 0o600); err != nil {
		return err
	}
	return s.quietly(ctx, s.importArgs(path))
}

// SetSecret writes a secret into the stack's configuration.
func (s *Stack) SetSecret(ctx context.Context, name, value string) error {
	return s.quietlyFrom(ctx, strings.NewReader(value), s.setSecretArgs(name))
}

// program runs the program with the stack's configuration.
func (s *Stack) program(ctx context.Context, args []string) error {
	if err := s.unlock(ctx); err != nil {
		return err
	}
	log, err := os.OpenFile(s.path("pulumi.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	return s.run(ctx, &display{out: s.Out, log: log}, args)
}

// unlock drops the lock of a run that was killed. The lab's own lock shows that no other run is under way.
func (s *Stack) unlock(ctx context.Context) error {
	found, err := filepath.Glob(s.path("backend", ".pulumi", "locks", "*", "*", "*", "*.json"))
	if err != nil || len(found) == 0 {
		return err
	}
	return s.quietly(ctx, s.cancelArgs())
}
