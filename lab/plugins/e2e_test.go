//go:build e2e

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/plugins/sshtest"
	lab "github.com/tinyrack-net/infrastructure/lab/pulumi"
)

// secretText is what the command reads on stdin; it must show up nowhere.
const secretText = "planted-canary-5f2c"

const program = `package main

import (
	"strconv"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		get := func(key string) string {
			value, _ := ctx.GetConfig("e2e:" + key)
			return value
		}
		secret := func(key string) pulumi.StringOutput {
			return pulumi.ToSecret(pulumi.String(get(key))).(pulumi.StringOutput)
		}
		port, err := strconv.ParseFloat(get("port"), 64)
		if err != nil {
			return err
		}
		password, err := random.NewRandomPassword(ctx, "password", &random.RandomPasswordArgs{Length: pulumi.Int(24)})
		if err != nil {
			return err
		}
		command, err := remote.NewCommand(ctx, "touch", &remote.CommandArgs{
			Connection: remote.ConnectionArgs{
				Host:           pulumi.String("127.0.0.1"),
				Port:           pulumi.Float64(port),
				User:           pulumi.String("root"),
				PrivateKey:     secret("key"),
				HostKey:        pulumi.String(get("hostKey")),
				DialErrorLimit: pulumi.Int(1),
			},
			Create:                 pulumi.Sprintf("cat > '%s'; echo made", get("file")),
			Delete:                 pulumi.Sprintf("rm '%s'", get("file")),
			Stdin:                  secret("text"),
			AddPreviousOutputInEnv: pulumi.Bool(false),
		})
		if err != nil {
			return err
		}
		ctx.Export("said", command.Stdout)
		ctx.Export("password", password.Result)
		return nil
	})
}
`

// site is a Pulumi project of its own, with the doubles installed.
type site struct {
	t    *testing.T
	cli  string
	dir  string
	env  []string
	file string
	ssh  *sshtest.Server
}

func newSite(t *testing.T) *site {
	t.Helper()
	pulumi := os.Getenv("PULUMI_BIN")
	if pulumi == "" {
		t.Fatal("PULUMI_BIN is not set: it must be the path of the Pulumi CLI that the doubles are tried with")
	}
	root := t.TempDir()
	s := &site{
		t: t, dir: filepath.Join(root, "project"), file: filepath.Join(root, "made-by-the-command"), ssh: sshtest.Start(t),
		// A copy: the language host is looked for beside the CLI itself, behind all links.
		cli: filepath.Join(root, "bin", "pulumi"),
	}
	home := filepath.Join(root, "home")
	s.env = append(os.Environ(),
		"PULUMI_HOME="+home, "PULUMI_BACKEND_URL=file://"+filepath.Join(root, "state"),
		"PULUMI_CONFIG_PASSPHRASE=test", "PULUMI_SKIP_UPDATE_CHECK=true", "PULUMI_IGNORE_AMBIENT_PLUGINS=true",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true", "NO_COLOR=1",
	)
	for _, dir := range []string{s.dir, filepath.Dir(s.cli), filepath.Join(root, "state")} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	text, err := os.ReadFile(pulumi)
	must(t, err)
	must(t, os.WriteFile(s.cli, text, 0o700))

	doubles := filepath.Join(root, "bin", "plugins")
	build := exec.Command("go", "build", "-o", doubles, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the doubles: %v\n%s", err, out)
	}
	must(t, os.Symlink(doubles, filepath.Join(root, "bin", "pulumi-language-go")))
	versions, err := lab.Versions(filepath.Join("..", "..", "go.mod"))
	must(t, err)
	for name, version := range versions {
		dir := filepath.Join(home, "plugins", "resource-"+name+"-"+version)
		must(t, os.MkdirAll(dir, 0o700))
		must(t, os.Symlink(doubles, filepath.Join(dir, "pulumi-resource-"+name)))
	}

	// The program's module has the versions of the real one.
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		must(t, err)
		s.write(
			name,
			strings.Replace(string(text), "module github.com/tinyrack-net/infrastructure\n", "module example.org/e2e\n", 1),
		)
	}
	s.write("main.go", program)
	s.write("Pulumi.yaml", "name: e2e\nruntime:\n  name: go\n  options:\n    buildTarget: bin/e2e\n")
	s.pulumi("stack", "init", "test")
	s.pulumi("config", "set", "port", fmt.Sprint(s.ssh.Port))
	s.pulumi("config", "set", "file", s.file)
	s.pulumi("config", "set", "hostKey", strings.TrimSpace(s.ssh.HostKey))
	s.pulumi("config", "set", "--secret", "text", secretText)
	set := s.command("config", "set", "--secret", "key")
	set.Stdin = strings.NewReader(s.ssh.PrivateKey)
	if out, err := set.CombinedOutput(); err != nil {
		t.Fatalf("set the key: %v\n%s", err, out)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) write(name, text string) {
	s.t.Helper()
	must(s.t, os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
}

func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.cli, append(args, "--non-interactive")...)
	cmd.Dir, cmd.Env = s.dir, s.env
	return cmd
}

// pulumi runs the CLI and returns what it prints.
func (s *site) pulumi(args ...string) string {
	s.t.Helper()
	start := time.Now()
	out, err := s.command(args...).CombinedOutput()
	s.t.Logf("pulumi %s: %.1f s", strings.Join(args, " "), time.Since(start).Seconds())
	if err != nil {
		s.t.Fatalf("pulumi %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if bytes.Contains(out, []byte(secretText)) {
		s.t.Errorf("pulumi %s prints the secret:\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

func TestWithTheRealCLI(t *testing.T) {
	s := newSite(t)

	preview := s.pulumi("preview")
	if runs := s.ssh.Runs(); len(runs) != 0 {
		t.Fatalf("a preview ran %q", runs)
	}
	if !strings.Contains(preview, "3 to create") {
		t.Errorf("preview:\n%s", preview)
	}

	s.pulumi("up", "--yes", "--skip-preview")
	made, err := os.ReadFile(s.file)
	must(t, err)
	if string(made) != secretText {
		t.Errorf("the command read %q on stdin", made)
	}
	before := s.outputs()
	if before["said"] != "made" || len(before["password"]) != 24 {
		t.Errorf("outputs: said %q, password of %d characters", before["said"], len(before["password"]))
	}
	if state := s.pulumi("stack", "export"); strings.Contains(state, before["password"]) ||
		strings.Contains(state, "OPENSSH PRIVATE KEY") {
		t.Error("the state holds a secret in clear")
	}

	s.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")
	s.pulumi("preview", "--expect-no-changes")
	s.pulumi("refresh", "--yes", "--expect-no-changes")
	if after := s.outputs(); after["password"] != before["password"] {
		t.Error("a second up made another password")
	}

	s.write("main.go", strings.Replace(program, "echo made", "echo again", 1))
	if out := s.pulumi("up", "--yes", "--skip-preview"); !strings.Contains(out, "1 updated") ||
		s.outputs()["said"] != "again" {
		t.Errorf("a changed command was not run again:\n%s", out)
	}

	s.pulumi("destroy", "--yes", "--skip-preview")
	if _, err := os.Stat(s.file); err == nil {
		t.Error("destroy did not run the command's delete")
	}
	if runs := s.ssh.Runs(); len(runs) != 3 {
		t.Errorf("runs: %q, want create, create again, delete", runs)
	}
}

// TestErrorsReachTheUser pins what a user sees of a failing program.
func TestErrorsReachTheUser(t *testing.T) {
	s := newSite(t)
	cases := map[string]struct{ program, want string }{
		"a compile error": {"package main\n\nfunc main() { nonsense }\n", "undefined: nonsense"},
		"a failing command": {
			strings.Replace(program, "echo made", "echo broken >&2; exit 7", 1), "broken",
		},
		"no host key": {
			strings.Replace(program, "HostKey:        pulumi.String(get(\"hostKey\")),", "", 1), "connection.hostKey is missing",
		},
	}
	for name, c := range cases {
		s.write("main.go", c.program)
		out, err := s.command("up", "--yes", "--skip-preview").CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v, want %q in:\n%s", name, err, c.want, out)
		}
	}
}

// TestNothingOutlivesTheEngine kills the engine in the middle of an update.
func TestNothingOutlivesTheEngine(t *testing.T) {
	s := newSite(t)
	s.write("main.go", strings.Replace(program, "cat > '%s'; echo made", "touch '%s'; sleep 600", 1))
	cmd := s.command("up", "--yes", "--skip-preview")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	wait(t, 2*time.Minute, "the command to start", func() bool { return len(s.ssh.Runs()) == 1 })
	// Everything that was started is an executable of this installation or project.
	if running := processesOf(t, filepath.Dir(s.dir)); len(running) < 5 {
		t.Errorf("running %q, want at least the CLI, the language host, the program and two plugins", running)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()
	wait(t, 15*time.Second, "the plugins and the program to end", func() bool {
		return len(processesOf(t, filepath.Dir(s.dir))) == 0
	})
	wait(t, 15*time.Second, "the SSH connection to close", func() bool { return s.ssh.Open() == 0 })
}

func wait(t *testing.T, atMost time.Duration, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(atMost); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", atMost, what)
		}
	}
}

// processesOf lists the commands of processes whose executable is under root.
func processesOf(t *testing.T, root string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	must(t, err)
	var found []string
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, root) {
			found = append(found, path)
		}
	}
	return found
}

func (s *site) outputs() map[string]string {
	s.t.Helper()
	cmd := s.command("stack", "output", "--json", "--show-secrets")
	out, err := cmd.Output()
	must(s.t, err)
	var values map[string]string
	must(s.t, json.Unmarshal(out, &values))
	return values
}
