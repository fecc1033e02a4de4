//go:build e2e

// The tests behind this tag drive a real lab through the commands a person uses, in the order of their files. Each
// leaves the lab up and as it was, but the last, which takes it down.
package main

import (
	"context"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// goFlags are the Makefile's: what is compiled already is not compiled again.
const goFlags = "-buildvcs=false -trimpath"

// command is `lab NAME` as a process of its own, in a session of its own.
func command(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("go", "run", ".", name)
	cmd.Env = append(os.Environ(), "GOFLAGS="+goFlags)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func succeed(t *testing.T, name string) {
	t.Helper()
	out, err := command(t, name).CombinedOutput()
	if err != nil {
		t.Fatalf("lab %s: %v\n%s", name, err, out)
	}
}

// running is the lab that the commands made.
func running(t *testing.T) *lab {
	t.Helper()
	at, err := layout.Find()
	if err != nil {
		t.Fatal(err)
	}
	l, err := open(at)
	if err != nil {
		t.Fatal(err)
	}
	l.stack.Out = io.Discard
	return l
}

// upChangesNothing runs one more `lab up`.
func upChangesNothing(t *testing.T) {
	t.Helper()
	succeed(t, "up")
	if changed := changes(t); len(changed) > 0 {
		t.Errorf("up changed %v", changed)
	}
}

// upOrFail brings the stack up with the settings as they are in its configuration.
func upOrFail(t *testing.T, l *lab) {
	t.Helper()
	out := output(l)
	if err := l.stack.Up(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// refused runs what must fail, and say all of this. It returns what was said, in lines of any length.
func refused(t *testing.T, l *lab, run func(context.Context) error, says ...string) (said string) {
	t.Helper()
	started := time.Now()
	out := output(l)
	err := run(t.Context())
	if err == nil {
		t.Fatalf("it is not refused:\n%s", out)
	}
	t.Logf("refused after %s: %v", time.Since(started).Round(100*time.Millisecond), err)
	// A script's own lines have blanks in front.
	said = strings.Join(strings.Fields(out.String()), " ")
	for _, text := range says {
		if !strings.Contains(said, text) {
			t.Errorf("the refusal does not say %q:\n%s", text, out)
		}
	}
	return said
}

// change edits the stack's settings. They are put back by the function that it returns, at the latest when the test
// ends.
func change(t *testing.T, l *lab, edit func(config map[string]map[string]any)) (putBack func()) {
	t.Helper()
	before := changeForGood(t, l, edit)
	putBack = func() {
		if err := os.WriteFile(l.stack.Config(), before, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(putBack)
	return putBack
}

// changeForGood edits the stack's settings, and returns what they were.
func changeForGood(t *testing.T, l *lab, edit func(config map[string]map[string]any)) (before []byte) {
	t.Helper()
	before, err := os.ReadFile(l.stack.Config())
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := yaml.Unmarshal(before, &whole); err != nil {
		t.Fatal(err)
	}
	config, _ := whole["config"].(map[string]any)
	settings := map[string]map[string]any{}
	for name, value := range config {
		if value, isObject := value.(map[string]any); isObject {
			settings[name] = value
		}
	}
	maps.DeleteFunc(config, func(name string, _ any) bool { return settings[name] != nil })
	edit(settings)
	for name, value := range settings {
		config[name] = value
	}
	after, err := yaml.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(l.stack.Config(), after, 0o600); err != nil {
		t.Fatal(err)
	}
	return before
}

// output takes what the stack prints.
func output(l *lab) *strings.Builder {
	var out strings.Builder
	l.stack.Out = &out
	return &out
}

// ssh runs a command on the machine, over the tailnet as the program does.
func ssh(ctx context.Context, l *lab, command string) (string, error) {
	return sshTo(ctx, l, layout.OnOperator(), first(l), first(l).FQDN(), command)
}

// sshTo is ssh to a machine by one of its names, in the network that the line enters.
func sshTo(
	ctx context.Context, l *lab, network []string, to layout.Machine, name, command string,
) (string, error) {
	host, err := secret.PublicKey(l.secrets.HostKeys[to.Name])
	if err != nil {
		return "", err
	}
	known := l.Path("known_hosts-" + to.Name)
	if err := file.Write(known, []byte(name+" "+host+"\n"), 0o600); err != nil {
		return "", err
	}
	line := append(network, "ssh", "-q", "-i", l.MachineKey(), "-o", "UserKnownHostsFile="+known,
		"-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5", "root@"+name, command)
	out, err := exec.CommandContext(ctx, line[0], line[1:]...).CombinedOutput()
	return string(out), err
}

// on is a command that must succeed on a machine.
func on(t *testing.T, l *lab, m layout.Machine, command string) string {
	t.Helper()
	out, err := sshTo(t.Context(), l, layout.OnOperator(), m, m.FQDN(), command)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", m.Name, command, err, out)
	}
	return strings.TrimSpace(out)
}

// onMachine is on for the first machine.
func onMachine(t *testing.T, l *lab, command string) string {
	t.Helper()
	return on(t, l, first(l), command)
}

// kube is kubectl that must succeed.
func kube(t *testing.T, l *lab, args ...string) string {
	t.Helper()
	out, err := kubectl.Run(t.Context(), l.Layout, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// eventually asks until the answer is no error.
func eventually(t *testing.T, within time.Duration, what string, ask func() error) {
	t.Helper()
	started := time.Now()
	for {
		err := ask()
		if err == nil {
			t.Logf("%s after %s", what, time.Since(started).Round(100*time.Millisecond))
			return
		}
		if time.Since(started) > within {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// first is the lab's first machine.
func first(l *lab) layout.Machine { return l.Machines[0] }

// changes are the operations of the last run, by kind, without what stayed the same.
func changes(t *testing.T) map[string]int {
	t.Helper()
	spans, err := running(t).stack.Spans()
	if err != nil || len(spans) == 0 {
		t.Fatalf("no events of the last run: %v", err)
	}
	found := map[string]int{}
	for _, s := range spans {
		if s.Op != "same" && !strings.Contains(s.URN, "pulumi:pulumi:Stack") {
			found[s.Op+" "+s.Name()]++
		}
	}
	return found
}
