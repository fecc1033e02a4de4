package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
)

const project = "tinyrack"

// plugins are the providers that the program uses, in the versions that its go.mod pins.
var plugins = map[string]string{"kubernetes": "v4.32.0", "command": "v1.2.1", "random": "v4.21.0", "cloudflare": "v6.17.0", "tailscale": "v0.29.0"}

// stack is one Pulumi stack in a file backend of the lab's own.
type stack struct {
	name     string // lab, production
	dir      string // backend, plugins, configuration
	checkout string
	pulumi   string
	out      io.Writer
	isolated bool // run in a network namespace that reaches nothing
}

func (k *stack) path(elem ...string) string {
	return filepath.Join(append([]string{k.dir}, elem...)...)
}

// install lays out the Pulumi home: the command, the language host beside it, and the plugins where official ones would be.
func (k *stack) install(set *artifacts.Set) error { return k.lay(set.Pulumi, set.Plugins) }

func (k *stack) lay(pulumi, doubles string) error {
	k.pulumi = k.path("bin", "pulumi")
	links := map[string]string{k.pulumi: pulumi, k.path("bin", "pulumi-language-go"): doubles}
	for name := range plugins {
		links[k.path("home", "plugins", pluginPath(name))] = cmp.Or(official(name), doubles)
	}
	if err := os.MkdirAll(k.path("backend"), 0o700); err != nil {
		return err
	}
	for at, to := range links {
		if now, err := os.Readlink(at); err == nil && now == to {
			continue
		}
		_ = os.Remove(at)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(to, at)); err != nil {
			return err
		}
	}
	return nil
}

// officialPlugins names a folder in which official plugins lie the way `pulumi plugin install` lays them: ~/.pulumi/plugins, for one.
const officialPlugins = "TINYRACK_LAB_PLUGINS"

// pluginPath is where a plugin lies below a folder of plugins.
func pluginPath(name string) string {
	return filepath.Join("resource-"+name+"-"+plugins[name], "pulumi-resource-"+name)
}

// official returns the path of an official plugin, or nothing when the lab is to use its double.
func official(name string) string {
	dir := os.Getenv(officialPlugins)
	if dir == "" {
		return ""
	}
	path := filepath.Join(dir, pluginPath(name))
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// pluginKinds says of each plugin which kind is used.
func pluginKinds() string {
	kinds := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(plugins)) {
		kind := "double"
		if official(name) != "" {
			kind = "official"
		}
		kinds[kind] = append(kinds[kind], name)
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, kind+" "+strings.Join(kinds[kind], ", "))
	}
	return strings.Join(parts, "; ")
}

// configure writes the stack's configuration: the committed file, with plain facts set at their paths and secrets encrypted with the
// passphrase. Paths are dotted: cloudflare.accountId.
func (k *stack) configure(passphrase string, facts map[string]any, secrets map[string]string) error {
	text, err := os.ReadFile(filepath.Join(k.checkout, "Pulumi."+k.name+".yaml"))
	if err != nil {
		return err
	}
	var doc struct {
		Salt   string         `json:"encryptionsalt,omitempty"`
		Config map[string]any `json:"config"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return err
	}
	for path, value := range facts {
		setPath(doc.Config, strings.Split(project+":"+path, "."), value)
	}
	salt := []byte(token(4))
	crypter := config.NewSymmetricCrypterFromPassphrase(passphrase, salt)
	encrypt := func(s string) (string, error) { return crypter.EncryptValue(context.Background(), s) }
	check, err := encrypt("pulumi")
	if err != nil {
		return err
	}
	doc.Salt = "v1:" + base64.StdEncoding.EncodeToString(salt) + ":" + check
	for name, value := range secrets {
		secure, err := encrypt(value)
		if err != nil {
			return err
		}
		doc.Config[project+":"+name] = map[string]string{"secure": secure}
	}
	out, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	return errors.Join(writeFile(k.path("passphrase"), []byte(passphrase), 0o600), writeFile(k.config(), out, 0o600))
}

// setPath sets a value in nested maps, making those that are missing.
func setPath(m map[string]any, path []string, value any) {
	for ; len(path) > 1; path = path[1:] {
		child, ok := m[path[0]].(map[string]any)
		if !ok {
			child = map[string]any{}
			m[path[0]] = child
		}
		m = child
	}
	m[path[0]] = value
}

func (k *stack) config() string { return k.path("Pulumi." + k.name + ".yaml") }

// init makes the stack in the backend, in a folder apart so that the committed configuration stays as it is.
func (k *stack) init(ctx context.Context) error {
	if found, _ := filepath.Glob(k.path("backend", ".pulumi", "stacks", "*", k.name+".json")); len(found) > 0 {
		return nil
	}
	dir, err := os.MkdirTemp(k.dir, "init")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "Pulumi.yaml"), []byte("name: "+project+"\nruntime: go\n"), 0o600); err != nil {
		return err
	}
	return k.run(ctx, io.Discard, "stack", "init", k.name, "--cwd", dir, "--non-interactive")
}

// program runs the program with the stack's configuration: up, preview, refresh or destroy.
func (k *stack) program(ctx context.Context, args ...string) error {
	if err := k.unlock(ctx); err != nil {
		return err
	}
	log, err := os.OpenFile(k.path("pulumi.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	return k.run(ctx, &display{out: k.out, log: log}, append(args, "--stack", k.name, "--config-file", k.config(), "--cwd", k.checkout,
		"--non-interactive", "--color", "never", "--suppress-outputs", "--event-log", k.events())...)
}

// unlock drops the lock of a run that was killed. The lab's own lock shows that no other run is under way.
func (k *stack) unlock(ctx context.Context) error {
	found, err := filepath.Glob(k.path("backend", ".pulumi", "locks", "*", "*", "*", "*.json"))
	if err != nil || len(found) == 0 {
		return err
	}
	return k.run(ctx, io.Discard, "cancel", "--yes", "--stack", k.name, "--cwd", k.checkout, "--non-interactive")
}

// outputs returns the stack's outputs, secrets in clear.
func (k *stack) outputs(ctx context.Context) (map[string]any, error) {
	var buf strings.Builder
	if err := k.run(ctx, &buf, "stack", "output", "--json", "--show-secrets", "--stack", k.name, "--cwd", k.checkout, "--non-interactive"); err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal([]byte(buf.String()), &out)
}

// run runs the Pulumi command in an environment that knows no other backend, home or passphrase. It is told once, and politely, to
// stop when ctx ends, and it dies with this process.
func (k *stack) run(ctx context.Context, out io.Writer, args ...string) error {
	runtime.LockOSThread() // the death signal is tied to the thread that starts the command
	defer runtime.UnlockOSThread()
	command := append([]string{k.pulumi}, args...)
	if k.isolated {
		command = append([]string{"unshare", "--user", "--map-root-user", "--net", "sh", "-ec", `ip link set lo up; exec "$@"`, "sh"}, command...)
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // our own program
	cmd.Dir = k.checkout
	// Of the caller's Pulumi settings none: a passphrase or backend of theirs would be taken first.
	own := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PULUMI_") })
	cmd.Env = append(own,
		"PATH="+k.path("bin")+":"+os.Getenv("PATH"), "PULUMI_HOME="+k.path("home"), "PULUMI_BACKEND_URL=file://"+k.path("backend"),
		"PULUMI_CONFIG_PASSPHRASE_FILE="+k.path("passphrase"), "PULUMI_SKIP_UPDATE_CHECK=true",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true", "GOWORK=off",
		"PULUMI_DEBUG_COMMANDS=true", // knows --event-log
	)
	var tail tail
	cmd.Stdout, cmd.Stderr = io.MultiWriter(out, &tail), io.MultiWriter(out, &tail)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Minute
	if err := cmd.Run(); err != nil {
		if out == io.Discard {
			return fmt.Errorf("pulumi %s: %w:\n%s", args[0], err, tail.text)
		}
		return fmt.Errorf("pulumi %s: %w", args[0], err)
	}
	return nil
}

func (k *stack) events() string { return k.path("events.json") }

// span is the time one resource took in the last run.
type span struct {
	urn        string
	op         string
	start, end time.Time
}

// spans reads what the last run did, and when, from the engine's events.
func (k *stack) spans() ([]span, error) {
	f, err := os.Open(k.events())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var spans []span
	began := map[string]time.Time{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e struct {
			Timestamp        int64
			ResourcePreEvent *struct {
				Metadata struct{ Op, URN string }
			} `json:"resourcePreEvent"`
			ResOutputsEvent *struct {
				Metadata struct{ Op, URN string }
			} `json:"resOutputsEvent"`
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		at := time.Unix(e.Timestamp, 0)
		switch {
		case e.ResourcePreEvent != nil:
			began[e.ResourcePreEvent.Metadata.URN] = at
		case e.ResOutputsEvent != nil:
			m := e.ResOutputsEvent.Metadata
			spans = append(spans, span{m.URN, m.Op, began[m.URN], at})
		}
	}
	return spans, lines.Err()
}

// tail keeps the last of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-8<<10):]
	return len(p), nil
}
