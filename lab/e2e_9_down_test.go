//go:build e2e

package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
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

// TestInterruptedUpsConverge loses the answer to each creation in the clouds, as a kill or a dead network does between
// the request and the note in the state, and kills the first `up` without warning at a random moment. `up` is run until
// it converges: nothing is there twice, and no hand was needed. Kills at every boundary are `make kills`.
func TestInterruptedUpsConverge(t *testing.T) {
	succeed(t, "down")
	failures := 0
	for ; ; failures++ {
		var printed bytes.Buffer
		cmd := command(t, "up")
		cmd.Stdout, cmd.Stderr = &printed, &printed
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if failures == 0 { // before the program comes to the clouds
			for _, path := range []string{"/cfd_tunnel", "/access/policies", "/access/apps"} {
				arm(t, layout.CloudflareAddr, cloudflare.Prefix+"/accounts/"+cloudflare.DefaultAccountID+path)
			}
			arm(t, layout.CloudflareAddr, cloudflare.Prefix+"/zones/"+cloudflare.DefaultZoneID+"/dns_records")
			arm(t, layout.TailscaleAddr, "/api/v2/tailnet/"+layout.Tailnet+"/acl")
			arm(t, layout.TailscaleAddr, "/api/v2/tailnet/"+layout.Tailnet+"/keys")
			moment := time.Duration(rand.Int64N(int64(75 * time.Second)))
			t.Logf("killed after %s, unless it has ended by then", moment.Round(time.Second))
			kill := time.AfterFunc(moment, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
			err := cmd.Wait()
			kill.Stop()
			if err == nil {
				t.Error("it converged although no answer came")
			}
			continue
		}
		if err := cmd.Wait(); err == nil {
			break
		}
		if failures > 8 {
			t.Fatalf("up does not converge:\n%s", printed.String())
		}
	}
	for _, addr := range []string{layout.CloudflareAddr, layout.TailscaleAddr} {
		var left struct {
			Faults []any `json:"faults"`
		}
		fetch(t, http.MethodGet, "http://"+addr+"/lab/faults", &left)
		if len(left.Faults) > 0 {
			t.Errorf("%s: answers that were never lost: %v", addr, left.Faults)
		}
	}
	t.Logf("%d runs failed before the one that converged", failures)
	nothingTwice(t)
	upChangesNothing(t)
}

// nothingTwice counts what the clouds hold.
func nothingTwice(t *testing.T) {
	t.Helper()
	for addr, want := range map[string]string{
		layout.CloudflareAddr: `{"accessApplications":1,"accessPolicies":1,"dnsRecords":4,"tunnelConfigs":1,"tunnels":1}`,
		layout.TailscaleAddr:  `{"devices":2,"keys":1,"policies":1,"validKeys":0}`,
	} {
		if got, err := clouds.State(t.Context(), addr); err != nil || string(got) != want {
			t.Errorf("%s holds %s (%v), want %s", addr, got, err, want)
		}
	}
}

// arm makes an emulated cloud lose its answer to the next creation at the path. It waits until the cloud is up.
func arm(t *testing.T, addr, path string) {
	t.Helper()
	body := `{"kind":"lost-answer","method":"POST","path":"` + path + `"}`
	for started := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Post("http://"+addr+"/lab/faults", "application/json", strings.NewReader(body))
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusCreated {
				return
			}
			err = errors.New(response.Status)
		}
		if time.Since(started) > time.Minute {
			t.Fatalf("arm %s: %v", path, err)
		}
	}
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
