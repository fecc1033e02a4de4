//go:build e2e && growth

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// TestDocumentation runs the shell blocks of the documents as a person does who has the lab's site: on the operator's
// device, each in a clone and a home of its own. Those that are not run say why, in the table.
func TestDocumentation(t *testing.T) {
	l := running(t)
	r := newReader(t, l)
	for _, d := range documented {
		for _, b := range d.blocks {
			if b.isRun() {
				t.Run(d.name+": "+b.title(), func(t *testing.T) { r.follow(t, b) })
			}
		}
	}
	// As it was: what blocks set in their clones is in no settings of the lab.
	succeed(t, "up")
	upChangesNothing(t)
}

// reader is a person on the operator's device who does what documents say.
type reader struct {
	*ci
	programs string
	hidden   map[string]string // the secrets of the site, by what they are
}

func newReader(t *testing.T, l *lab) *reader {
	t.Helper()
	r := &reader{ci: &ci{l: l, dir: t.TempDir()}, programs: t.TempDir(), hidden: everySecret(t, l)}
	cache, err := artifacts.Open(l.Cache)
	if err != nil {
		t.Fatal(err)
	}
	kubeseal, err := cache.Kubeseal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	host, err := secret.PublicKey(l.secrets.HostKeys[first(l).Name])
	if err != nil {
		t.Fatal(err)
	}
	// In the place of the settings, the key and the known hosts that a person has in ~/.ssh, which is not looked for in
	// HOME.
	known := filepath.Join(r.programs, "known_hosts")
	wrapper := fmt.Sprintf("#!/bin/sh\nexec '%s' -i '%s' -o 'UserKnownHostsFile=%s' -o StrictHostKeyChecking=yes "+
		"-o LogLevel=ERROR -o ConnectTimeout=10 \"$@\"\n", ssh, l.MachineKey(), known)
	if err := errors.Join(
		file.Link(filepath.Join(r.programs, "kubeseal"), kubeseal),
		file.Link(filepath.Join(r.programs, "kubectl"), l.Kubectl()),
		file.Write(known, []byte(first(l).FQDN()+" "+host+"\n"), 0o600),
		file.Write(filepath.Join(r.programs, "ssh"), []byte(wrapper), 0o755),
	); err != nil {
		t.Fatal(err)
	}
	// A new site's tree is checked where there is no network: what that needs is looked for before.
	modules := exec.Command("go", "-C", filepath.Join(l.Checkout, "gitops"), "list", "-deps", "-test", "./...")
	if out, err := modules.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return r
}

// has is what a person has in the environment, with this home.
func (r *reader) has(t *testing.T, home string) map[string]string {
	t.Helper()
	// What a login notes down is forgotten; plugins are those of the lab.
	pulumi := filepath.Join(home, ".pulumi")
	err := os.Mkdir(pulumi, 0o700)
	if err == nil {
		err = os.Symlink(filepath.Join(r.l.stack.Dir, "home", "plugins"), filepath.Join(pulumi, "plugins"))
	}
	if err != nil {
		t.Fatal(err)
	}
	env := r.secrets()
	maps.Copy(env, map[string]string{
		"HOME": home, "XDG_CACHE_HOME": filepath.Dir(r.l.Cache),
		"PATH":       r.programs + ":" + filepath.Dir(r.l.stack.Command()) + ":" + os.Getenv("PATH"),
		"KUBECONFIG": r.l.Kubeconfig(), "PULUMI_HOME": pulumi,
		// Nobody is there to say yes.
		"PULUMI_SKIP_CONFIRMATIONS": "true", "PULUMI_SKIP_UPDATE_CHECK": "true",
		"GOFLAGS": goFlags, "GOWORK": "off", "CGO_ENABLED": "0",
	})
	return env
}

// follow runs a block and looks at what it says it does.
func (r *reader) follow(t *testing.T, b block) {
	t.Helper()
	dir, env := r.checkout(t, nil), r.has(t, t.TempDir())
	run := func(script, stdin string) outcome {
		line := []string{"sh", "-euc", script}
		if b.console {
			line, stdin = []string{"ssh", "root@" + first(r.l).FQDN(), "sh", "-eu"}, script
		}
		cmd := r.command(t, dir, env, line...)
		cmd.Stdin = strings.NewReader(stdin)
		result := outcomeOf(t, b.title(), cmd)
		result.out = r.hide(result.out)
		return result
	}
	if b.undo != "" {
		defer func() {
			if undone := run(b.undo, ""); undone.code != 0 {
				t.Errorf("it is not undone: %d:\n%s", undone.code, undone.out)
			}
		}()
	}
	result := run(b.script(r.l.Layout), r.reveal(b.stdin))
	t.Logf("%s", result.took.Round(100*time.Millisecond))
	shown := result.out[max(0, len(result.out)-16<<10):]
	if result.code != b.code {
		t.Fatalf("it ended with %d, not %d:\n%s", result.code, b.code, shown)
	}
	if b.same && !nothingChanged(result.out) {
		t.Errorf("it changes something:\n%s", shown)
	}
	for _, text := range b.says {
		if !strings.Contains(result.out, text) {
			t.Errorf("it does not say %q:\n%s", text, shown)
		}
	}
}

// hide puts the names of secrets, in brackets, in the place of the secrets.
func (r *reader) hide(text string) string {
	for name, value := range r.hidden {
		text = strings.ReplaceAll(text, value, "["+name+"]")
	}
	return text
}

// reveal is the reverse of hide.
func (r *reader) reveal(text string) string {
	for name, value := range r.hidden {
		text = strings.ReplaceAll(text, "["+name+"]", value)
	}
	return text
}
