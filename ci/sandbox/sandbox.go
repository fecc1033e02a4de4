// Package sandbox runs code that nobody has read yet: the program of a proposed change, with the Pulumi command line,
// in a box that holds the change, a state without secrets, and programs. It has no network, no other process, no file
// of this machine beyond programs and Go's modules, and an environment of its own. What it may leak is what it was
// given.
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tinyrack-net/infrastructure/ci/engine"
)

// Where things are in the box.
const (
	root  = "/box"
	tree  = root + "/tree"
	home  = root + "/home"
	state = root + "/state"
	// program is the compiled program, below the tree: the language host takes it from Pulumi.yaml.
	program = ".program"
)

// Box makes engines that run in a box.
type Box struct {
	// Dir is a folder for what the boxes write.
	Dir string
	// bwrap, pulumi and plugins are paths on this machine.
	bwrap, pulumi string
	// plugins are the files of the engine's plugins by their path below its home.
	plugins map[string]string
	// goroot and modules are Go's own folders.
	goroot, modules string
}

// New finds the programs of a box. dir takes what the boxes write, and is the caller's to remove.
func New(ctx context.Context, dir string) (*Box, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("a change that nobody trusts is previewed in a sandbox of Linux (bubblewrap): on this " +
			"system it cannot be had: preview against the real state, or on Linux")
	}
	b := &Box{Dir: dir}
	var problems []error
	find := func(name, fix string) string {
		path, err := exec.LookPath(name)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s is not in PATH: nothing can be previewed: %s", name, fix))
			return ""
		}
		return path
	}
	b.bwrap = find("bwrap", "install bubblewrap")
	b.pulumi = find("pulumi", "install the version that go.mod names for github.com/pulumi/pulumi/sdk/v3")
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	var err error
	if b.bwrap, err = sealed(b.bwrap); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w: the program cannot be built: install Go", err)
	}
	b.goroot, b.modules, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	if b.plugins, err = plugins(os.Getenv("PULUMI_HOME")); err != nil {
		return nil, err
	}
	return b, nil
}

// plugins are the installed ones, links resolved.
func plugins(pulumiHome string) (map[string]string, error) {
	if pulumiHome == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		pulumiHome = filepath.Join(user, ".pulumi")
	}
	files, err := filepath.Glob(filepath.Join(pulumiHome, "plugins", "resource-*", "*"))
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, file := range files {
		path, err := filepath.EvalSymlinks(file)
		if err != nil {
			return nil, err
		}
		below, err := filepath.Rel(pulumiHome, file)
		if err != nil {
			return nil, err
		}
		found[below] = path
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s/plugins holds no plugin: the box has no network to get one: run `pulumi install` in the "+
			"checkout", pulumiHome)
	}
	return found, nil
}

// Engine builds the program of a commit, in folder, and returns an engine in a box of its own. The tree is the box's
// from now on.
func (b *Box) Engine(ctx context.Context, folder string) (*engine.Engine, error) {
	if err := b.build(ctx, folder); err != nil {
		return nil, err
	}
	if err := useProgram(filepath.Join(folder, "Pulumi.yaml")); err != nil {
		return nil, err
	}
	own, err := os.MkdirTemp(b.Dir, "box")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"home", "state"} {
		if err := os.Mkdir(filepath.Join(own, name), 0o700); err != nil {
			return nil, err
		}
	}
	wrap, err := b.wrap(folder, own)
	if err != nil {
		return nil, err
	}
	// bwrap is the first process in its box, whose own environment everybody there can read: it has none.
	return &engine.Engine{
		Command: root + "/bin/pulumi", Project: tree, Dir: folder, Wrap: wrap, Env: []string{},
	}, nil
}

// bare is a box with nothing in it but programs and libraries of the distribution, which keeps no secret there. Folders
// and files are bound into it. Where root makes it, what runs in it would have every capability, and with these could
// mount what is bound read-only anew, to write: it has none.
func (b *Box) bare() []string {
	return []string{
		b.bwrap, "--unshare-all", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv",
		"--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
		"--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
		"--symlink", "usr/lib64", "/lib64",
	}
}

// Self runs this program in a box that holds these folders, read-only, as /box/0, /box/1 and so on, and returns what it
// prints.
func (b *Box) Self(ctx context.Context, verb string, folders ...string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	line := append(b.bare(), "--ro-bind", self, root+"/self")
	args := []string{"--", root + "/self", verb}
	for i, folder := range folders {
		at := fmt.Sprintf("%s/%d", root, i)
		line = append(line, "--ro-bind", folder, at)
		args = append(args, at)
	}
	line = append(line, args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...) //nolint:gosec // ours
	cmd.Env = []string{}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("in the sandbox: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// wrap is the box of an engine: everything in it is named here.
func (b *Box) wrap(folder, own string) ([]string, error) {
	line := append(b.bare(),
		"--ro-bind", b.goroot, root+"/go", "--ro-bind", b.modules, root+"/modules",
		"--bind", folder, tree, "--bind", filepath.Join(own, "home"), home, "--bind", filepath.Join(own, "state"), state,
		// Pulumi would log every property that it passes on: it goes on without, a third sooner.
		"--ro-bind", "/dev/null", home+"/logs",
	)
	for _, name := range []string{"pulumi", "pulumi-language-go"} {
		path, err := filepath.EvalSymlinks(filepath.Join(filepath.Dir(b.pulumi), name))
		if err != nil {
			return nil, fmt.Errorf("%s is not beside pulumi: %w: the program cannot be run: install Pulumi whole", name, err)
		}
		line = append(line, "--ro-bind", path, root+"/bin/"+name)
	}
	for below, path := range b.plugins {
		line = append(line, "--ro-bind", path, home+"/"+below)
	}
	for _, v := range [][2]string{
		{"PATH", root + "/bin:" + root + "/go/bin:/usr/bin:/bin"},
		{"HOME", home},
		{"USER", "nobody"},
		{"PULUMI_HOME", home},
		{"PULUMI_BACKEND_URL", "file://" + state},
		{"PULUMI_CONFIG_PASSPHRASE", "published"},
		{"PULUMI_SKIP_UPDATE_CHECK", "true"},
		{"PULUMI_ENABLE_STREAMING_JSON_PREVIEW", "true"},
		{"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION", "true"},
		{"GOROOT", root + "/go"},
		{"GOMODCACHE", root + "/modules"},
		{"GOPROXY", "off"},
		{"GOFLAGS", "-mod=readonly"},
		{"GOWORK", "off"},
		{"GOTOOLCHAIN", "local"},
		{"CGO_ENABLED", "0"},
	} {
		line = append(line, "--setenv", v[0], v[1])
	}
	return append(line, "--chdir", tree, "--"), nil
}

// build compiles the program outside the box, where Go's caches are: compiling runs no code of what is compiled. The
// module may name no folder outside the tree, whose files the program could then carry in.
func (b *Box) build(ctx context.Context, folder string) error {
	out, err := b.tool(ctx, folder, "mod", "edit", "-json")
	if err != nil {
		return fmt.Errorf("read go.mod: %w", err)
	}
	var mod struct {
		Replace []struct {
			New struct{ Path, Version string }
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		return fmt.Errorf("read go.mod: %w", err)
	}
	for _, r := range mod.Replace {
		if r.New.Version == "" && !filepath.IsLocal(r.New.Path) {
			return fmt.Errorf("go.mod: replaces a module with %s: a change may not take files from outside itself: name a "+
				"version", r.New.Path)
		}
	}
	if _, err := b.tool(ctx, folder, "build", "-trimpath", "-o", program, "."); err != nil {
		return fmt.Errorf("build the program: %w", err)
	}
	return nil
}

func (b *Box) tool(ctx context.Context, folder string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed commands
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly -buildvcs=false", "GOWORK=off",
		"GOTOOLCHAIN=local")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w:\n%s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// useProgram has a Pulumi.yaml name the compiled program, whatever it named.
func useProgram(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // in the box's own tree
	if err != nil {
		return err
	}
	var project struct {
		Name string `yaml:"name"`
	}
	if err := yaml.Unmarshal(text, &project); err != nil || project.Name == "" {
		return fmt.Errorf("%s: names no project: there is nothing to preview", filepath.Base(path))
	}
	text, err = yaml.Marshal(map[string]any{
		"name":    project.Name,
		"runtime": map[string]any{"name": "go", "options": map[string]string{"binary": program}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
