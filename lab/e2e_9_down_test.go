//go:build e2e

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/clouds"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
)

// TestDestroyGivesEverythingBack destroys the stack on a machine that stays, and brings it up there once more, with
// what was written before.
func TestDestroyGivesEverythingBack(t *testing.T) {
	l := running(t)
	before := tailnetNow(t).Objects.DNS
	config, err := os.ReadFile(l.stack.Config())
	if err != nil {
		t.Fatal(err)
	}
	if states := stateFile(t, l); !strings.Contains(states, `"protect":true`) {
		t.Error("nothing is protected")
	}
	const text = "before the end"
	w := write(t, text)
	now := incarnation(t, l)
	copied(t, l, "e2e-end")
	dumped(t, l, now)
	// As a person does it: the configuration, then an up.
	open := bytes.Replace(config, []byte("config:\n"), []byte("config:\n  tinyrack:protect: false\n"), 1)
	if err := os.WriteFile(l.stack.Config(), open, 0o600); err != nil {
		t.Fatal(err)
	}
	out := output(l)
	if err := l.stack.Up(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if states := stateFile(t, l); strings.Contains(states, `"protect":true`) {
		t.Error("an up with protect: false leaves something protected")
	}
	started := time.Now()
	if err := l.stack.Destroy(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("destroy: %s", time.Since(started).Round(100*time.Millisecond))
	givenBack(t, l, before)
	// What is left of the site is git, its settings with their secrets, and the copies: with these it comes back.
	if err := os.WriteFile(l.stack.Config(), config, 0o600); err != nil {
		t.Fatal(err)
	}
	restore(t, l, "apps", now, now+1)
	started = time.Now()
	if err := l.stack.Up(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("restored: %s", time.Since(started).Round(100*time.Millisecond))
	w.isThere(t, 2*time.Minute, text)
	nothingToDo(t, l)
}

// givenBack looks for what a destroy left in the clouds, in the tailnet, whose DNS was before, and on the machine.
func givenBack(t *testing.T, l *lab, before tailnetDNS) {
	t.Helper()
	if err := clouds.Empty(t.Context()); err != nil {
		t.Error(err)
	}
	if after := tailnetNow(t).Objects; after.DNS != before || len(after.Devices) != 1 {
		t.Errorf("the tailnet is %+v, its DNS was %+v", after, before)
	}
	// From a stranger's side: the firewall is gone, too.
	left, err := sshTo(t.Context(), l, nil, first(l), first(l).IPv4, "ls -d /etc/tinyrack /var/lib/tinyrack "+
		"/etc/rancher/k3s /var/lib/rancher/k3s/server /usr/local/bin/k3s-uninstall.sh 2>/dev/null; "+
		"nft list tables | grep tinyrack; "+
		"systemctl is-active k3s tinyrack-firewall-watch | grep -w active; "+
		"tailscale status --json --peers=false | grep '\"BackendState\": \"Running\"'; true")
	if err != nil || strings.TrimSpace(left) != "" {
		t.Errorf("left on the machine (%v):\n%s", err, left)
	}
}

func stateFile(t *testing.T, l *lab) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(l.stack.Backend(), ".pulumi", "stacks", "*", "lab.json"))
	if err != nil || len(found) != 1 {
		t.Fatalf("state: %v, %v", found, err)
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDownLeavesNothing(t *testing.T) {
	l := running(t)
	succeed(t, "down")
	for _, path := range []string{
		l.State, "/run/netns/" + first(l).Namespace(), "/run/netns/" + layout.Operator, "/etc/netns/" + layout.Operator,
		"/sys/class/net/" + machine.Bridge,
	} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + first(l).Namespace()); len(groups) > 0 {
		t.Errorf("control groups are left: %v", groups)
	}
	for _, file := range []string{"/proc/self/mounts"} {
		if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte("tinyrack-lab")) {
			t.Errorf("a mount is left (%v):\n%s", err, text)
		}
	}
	seen := map[string]bool{}
	sampleArguments(seen)
	for line := range seen {
		if strings.Contains(line, l.State+"/") || strings.Contains(line, "k3s server") {
			t.Errorf("a process is left: %s", line)
		}
	}
}
