// Package sandbox runs code that nobody has read yet: the program of a proposed change, with the Pulumi command line,
// in a box that holds the change, a state without secrets, and programs. It has no network, no other process, no file
// of this machine beyond programs, and an environment of its own. What it may leak is what it was given. It is compiled
// in such a box as well, which has Go's modules, too.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tinyrack-net/infrastructure/ci/bounded"
	"github.com/tinyrack-net/infrastructure/ci/engine"
)

// Where things are in the box.
const (
	root  = "/box"
	tree  = root + "/tree"
	home  = root + "/home"
	state = root + "/state"
	work  = root + "/work"
	// program is the compiled program, below the tree: the language host takes it from Pulumi.yaml.
	program = ".program"
)

// patience is how long a command in a box may last. The longest compiles a new version of Pulumi's SDKs, which takes
// minutes.
const patience = 15 * time.Minute

// memory is how much a box may write to its /tmp, in bytes: the one folder of it that is memory, and can be written to.
const memory = "268435456"

// limits are set in a box, by the shell, before anything of a change runs: none of them takes a right that a runner may
// not have. Files of 1 GiB, no dumps of memory, 4096 open files, 8 GiB of memory for each process, and 8192 processes
// and threads, which Linux counts for everybody but root. Where less is allowed already, it stays with that.
const limits = `ulimit -c 0
ulimit -f 2097152 2>/dev/null
ulimit -n 4096 2>/dev/null
ulimit -d 8388608 2>/dev/null
ulimit -u 8192 2>/dev/null || ulimit -p 8192 2>/dev/null # as bash calls it, and as the others do
exec "$@"`

// Box makes engines that run in a box.
type Box struct {
	// Dir is a folder for what the boxes write.
	Dir string
	// bwrap, pulumi and plugins are paths on this machine.
	bwrap, pulumi string
	// plugins are the files of the engine's plugins by their path below its home.
	plugins map[string]string
	// goroot and modules are Go's own folders, cache what was compiled of the checkout's program.
	goroot, modules, cache string
	// command is Go's own: the one in PATH may only have chosen it.
	command string
	// checkout is the folder of that program, which is trusted as this program is; the current one where it is empty.
	checkout string
	compile  sync.Once
	// fetching is the environment of Go outside of a box.
	fetching []string
	// size limits the memory of a box's /tmp, where this bwrap can.
	size []string
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
	if err := b.findGo(ctx); err != nil {
		return nil, err
	}
	// Before bwrap 0.7 the kernel's own limit is what there is: half of the memory.
	if help, err := exec.CommandContext(ctx, b.bwrap, "--help").Output(); err != nil { //nolint:gosec // found in PATH
		return nil, fmt.Errorf("bwrap --help: %w: nothing can be previewed: install bubblewrap anew", err)
	} else if strings.Contains(string(help), "--size ") {
		b.size = []string{"--size", memory}
	}
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

// findGo asks Go for its folders, and for where modules come from.
func (b *Box) findGo(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "-json", "GOROOT", "GOMODCACHE", "GOCACHE", "GOPROXY", "GOSUMDB",
		"GONOSUMDB").Output()
	if err != nil {
		return fmt.Errorf("go env: %w: the program cannot be built: install Go", err)
	}
	var env struct{ GOROOT, GOMODCACHE, GOCACHE, GOPROXY, GOSUMDB, GONOSUMDB string }
	if err := json.Unmarshal(out, &env); err != nil {
		return fmt.Errorf("go env: %w: the program cannot be built: install Go", err)
	}
	b.goroot, b.modules, b.command = env.GOROOT, env.GOMODCACHE, filepath.Join(env.GOROOT, "bin", "go")
	// Below Go's own, which CI systems keep from run to run, and which Go removes nothing else from.
	b.cache = filepath.Join(env.GOCACHE, "previews")
	b.fetching = append(goEnv(b.goroot, b.modules, b.cache),
		"GOPROXY="+proxies(env.GOPROXY), "GONOPROXY=none", "GOSUMDB="+env.GOSUMDB, "GONOSUMDB="+env.GONOSUMDB, "GOVCS=*:off")
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR",
	} {
		if value, ok := os.LookupEnv(name); ok {
			b.fetching = append(b.fetching, name+"="+value)
		}
	}
	return nil
}

// goEnv is what Go is told in a box and outside. What is compiled here is the same in both, so that the one can take it
// from the other: no folder's name is in it, and a person's own settings of Go (GOENV) are not.
func goEnv(goroot, modules, cache string) []string {
	return []string{
		"GOROOT=" + goroot, "GOMODCACHE=" + modules, "GOCACHE=" + cache, "GOENV=off", "GOWORK=off", "GOTOOLCHAIN=local",
		"GOFLAGS=-mod=readonly -buildvcs=false -trimpath", "CGO_ENABLED=0",
	}
}

// proxies are the servers of a GOPROXY. Without them Go would ask any address that a change names, and run git and its
// like on what that says: then there are the modules that this machine has.
func proxies(list string) string {
	var servers []string
	for _, server := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == '|' }) {
		if server = strings.TrimSpace(server); server != "direct" && server != "" {
			servers = append(servers, server)
		}
	}
	if len(servers) == 0 {
		return "off"
	}
	return strings.Join(servers, ",")
}

// Engine builds the program of a commit, in folder, and returns an engine in a box of its own. The tree is the box's
// from now on.
func (b *Box) Engine(ctx context.Context, folder string) (*engine.Engine, error) {
	if err := useProgram(folder); err != nil {
		return nil, err
	}
	if err := b.build(ctx, folder); err != nil {
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
		Command: root + "/bin/pulumi", Project: tree, Dir: folder, Wrap: wrap, Env: []string{}, Patience: patience,
	}, nil
}

// line is the beginning of a command in a box with nothing in it but programs and libraries of the distribution, which
// keeps no secret there, and what else is named. Where root makes it, what runs in it would have every capability, and
// with these could mount what is bound read-only anew, to write: it has none.
func (b *Box) line(inside ...string) []string {
	line := []string{
		b.bwrap, "--unshare-all", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv",
		"--proc", "/proc", "--dev", "/dev",
	}
	line = append(append(line, b.size...), "--tmpfs", "/tmp",
		"--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
		"--symlink", "usr/lib64", "/lib64")
	line = append(line, inside...)
	// The kernel's settings are root's, who needs no capability to write them: bwrap covers them for others alone. The
	// other two are memory, as /tmp is, and have no limit.
	line = append(line, "--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/")
	return append(line, "--", "/bin/sh", "-c", limits, "sh")
}

// Self runs this program in a box that holds these folders, read-only, as /box/0, /box/1 and so on, and returns what it
// prints.
func (b *Box) Self(ctx context.Context, verb string, folders ...string) ([]byte, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	inside := []string{"--ro-bind", self, root + "/self"}
	args := []string{root + "/self", verb}
	for i, folder := range folders {
		at := fmt.Sprintf("%s/%d", root, i)
		inside = append(inside, "--ro-bind", folder, at)
		args = append(args, at)
	}
	out, said, err := run(ctx, "", []string{}, append(b.line(inside...), args...))
	if err != nil {
		return nil, fmt.Errorf("in the sandbox: %w: %s", err, strings.TrimSpace(said))
	}
	return []byte(out), nil
}

func run(ctx context.Context, folder string, env, line []string) (out, said string, err error) {
	return bounded.Run(ctx, patience, func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, line[0], line[1:]...) //nolint:gosec // ours
		cmd.Dir, cmd.Env = folder, env
		return cmd
	})
}

// wrap is the box of an engine: everything in it is named here.
func (b *Box) wrap(folder, own string) ([]string, error) {
	// The language host wants a go, and does without modules: what of them the program needs is compiled into it.
	goroot, line := b.goInside()
	line = append(line,
		"--bind", folder, tree, "--bind", filepath.Join(own, "home"), home, "--bind", filepath.Join(own, "state"), state,
		// Pulumi would log every property that it passes on: it goes on without, a third sooner.
		"--ro-bind", "/dev/null", home+"/logs", "--chdir", tree)
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
	env := append(goEnv(goroot, home+"/modules", home+"/cache"), "GOPROXY=off",
		"PATH="+root+"/bin:"+goroot+"/bin:/usr/bin:/bin", "HOME="+home, "USER=nobody", "PULUMI_HOME="+home,
		"PULUMI_BACKEND_URL=file://"+state, "PULUMI_CONFIG_PASSPHRASE=published", "PULUMI_SKIP_UPDATE_CHECK=true",
		"PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true", "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true")
	return b.line(append(line, setenv(env)...)...), nil
}

// goInside is where Go is in a box, and what puts it there. A distribution's own is below /usr, where every box has it,
// and is made of links that lead nowhere from another place.
func (b *Box) goInside() (goroot string, bind []string) {
	if strings.HasPrefix(b.goroot, "/usr/") {
		return b.goroot, nil
	}
	return root + "/go", []string{"--ro-bind", b.goroot, root + "/go"}
}

func setenv(env []string) []string {
	var line []string
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		line = append(line, "--setenv", name, value)
	}
	return line
}

// build compiles the program in a box of its own: it runs no code of what is compiled, but Go's assembler opens any
// file that a change's source includes, and shows it in its errors. Outside, Go gets the modules, and sees go.mod and
// go.sum.
//
// Pulumi's SDKs take minutes to compile. What the box may read of them, and not write to, is what was compiled outside,
// of the checkout's program, into a folder of its own, which takes a gigabyte: Go's usual one holds what else was
// compiled here, and what tests printed. So no change can leave anything there for the next; what it alone has is
// compiled at each preview. Go goes on where it cannot write to its cache.
func (b *Box) build(ctx context.Context, folder string) error {
	own, err := os.MkdirTemp(b.Dir, "build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(own)
	files, temporary := filepath.Join(own, "modules"), filepath.Join(own, "work")
	for _, dir := range []string{files, temporary} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if err := b.modFiles(ctx, folder, files); err != nil {
		return err
	}
	// The modules that this machine has may be enough, on one without a network: it is told when they are not.
	_, fetchErr := b.goOutside(ctx, files, "mod", "download")
	if err := b.compileCheckout(ctx); err != nil {
		return err
	}
	goroot, inside := b.goInside()
	env := append(goEnv(goroot, root+"/modules", root+"/cache"), "GOPROXY=off", "GOTMPDIR="+work, "HOME="+work,
		"PATH="+goroot+"/bin:/usr/bin:/bin",
		// Go's index of modules is the one thing that it insists on writing to the cache; it reads the modules instead.
		"GODEBUG=goindex=0")
	inside = append(inside,
		"--ro-bind", b.modules, root+"/modules", "--ro-bind", b.cache, root+"/cache",
		"--bind", folder, tree, "--bind", temporary, work, "--chdir", tree)
	line := b.line(append(inside, setenv(env)...)...)
	_, said, err := run(ctx, folder, []string{}, append(line, "go", "build", "-o", program, "."))
	if err != nil {
		err = fmt.Errorf("build the program: %w:\n%s", err, strings.TrimSpace(said))
		return errors.Join(err, fetchErr)
	}
	return nil
}

// modFiles puts into a folder what Go has to see of a change to get its modules. The module may name no folder outside
// the tree, whose files the program could then carry in.
func (b *Box) modFiles(ctx context.Context, folder, to string) error {
	change, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer change.Close()
	take := func(name string) error {
		text, err := change.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), text, 0o600)
	}
	if err := take("go.mod"); err != nil {
		return fmt.Errorf("read go.mod: %w", err)
	}
	if err := take("go.sum"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read go.sum: %w", err)
	}
	out, err := b.goOutside(ctx, to, "mod", "edit", "-json")
	if err != nil {
		return fmt.Errorf("read go.mod: %w", err)
	}
	var mod struct {
		Replace []struct {
			New struct{ Path, Version string }
		}
	}
	if err := json.Unmarshal([]byte(out), &mod); err != nil {
		return fmt.Errorf("read go.mod: %w", err)
	}
	for _, r := range mod.Replace {
		if r.New.Version != "" {
			continue
		}
		if !filepath.IsLocal(r.New.Path) {
			return fmt.Errorf("go.mod: replaces a module with %s: a change may not take files from outside itself: name a "+
				"version", r.New.Path)
		}
		if err := take(filepath.Join(r.New.Path, "go.mod")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read go.mod of %s: %w", r.New.Path, err)
		}
	}
	return nil
}

// compileCheckout compiles the program of the checkout for the boxes to come, once.
func (b *Box) compileCheckout(ctx context.Context) error {
	var err error
	b.compile.Do(func() {
		// Where it cannot be compiled, a change that repairs it can be previewed still: it takes longer.
		_, _ = b.goOutside(ctx, b.checkout, "list", "-export", "-f", "{{.ImportPath}}", ".")
		// As Go makes them: in the box it cannot.
		for i := range 256 {
			err = errors.Join(err, os.MkdirAll(filepath.Join(b.cache, fmt.Sprintf("%02x", i)), 0o700))
		}
		err = errors.Join(err, os.MkdirAll(b.modules, 0o755))
	})
	return err
}

// goOutside runs Go outside of a box, without this program's environment, which may hold secrets.
func (b *Box) goOutside(ctx context.Context, folder string, args ...string) (string, error) {
	out, said, err := run(ctx, folder, b.fetching, append([]string{b.command}, args...))
	if err != nil {
		return "", fmt.Errorf("go %s %s: %w:\n%s", args[0], args[1], err, strings.TrimSpace(said))
	}
	return out, nil
}

// useProgram has the Pulumi.yaml of a folder name the compiled program, whatever it named.
func useProgram(folder string) error {
	const name = "Pulumi.yaml"
	change, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer change.Close()
	text, err := change.ReadFile(name)
	if err != nil {
		return err
	}
	var project struct {
		Name string `yaml:"name"`
	}
	if err := yaml.Unmarshal(text, &project); err != nil || project.Name == "" {
		return fmt.Errorf("%s: names no project: there is nothing to preview", name)
	}
	text, err = yaml.Marshal(map[string]any{
		"name":    project.Name,
		"runtime": map[string]any{"name": "go", "options": map[string]string{"binary": program}},
	})
	if err != nil {
		return err
	}
	return change.WriteFile(name, text, 0o600)
}
