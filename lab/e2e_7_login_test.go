//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// The resources of the lab's first machine that these tests run again: nothing of the settings changes, so that an up
// alone would not look.
const (
	preflight = "preflight-tinyrack-check"
	join      = "machine-tinyrack-join"
	key       = "tailnet-key-tinyrack"
)

// again is an up that makes these anew.
func again(l *lab, names ...string) func(context.Context) error {
	return func(ctx context.Context) error { return l.stack.Replace(ctx, names...) }
}

func mustAgain(t *testing.T, l *lab, names ...string) {
	t.Helper()
	out := output(l)
	if err := l.stack.Replace(t.Context(), names...); err != nil {
		t.Fatalf("%v: %v\n%s", names, err, out)
	}
}

// nothingToDo ends a test: the stack is as wanted, and the machine alone has its name.
func nothingToDo(t *testing.T, l *lab) {
	t.Helper()
	out := output(l)
	if err := l.stack.PreviewUnchanged(t.Context()); err != nil {
		t.Errorf("an up has something to do: %v\n%s", err, out)
	}
	onMachine(t, l, "true") // by its name
	names := 0
	for _, d := range tailnetNow(t).Objects.Devices {
		if d.Hostname == first(l).Name || d.Name == first(l).FQDN() {
			names++
		}
	}
	if names != 1 {
		t.Errorf("%d devices are called %s", names, first(l).Name)
	}
}

// deviceIsOff waits for the machine's former self: a name is taken only from a device that is certain to be off.
func deviceIsOff(t *testing.T, l *lab) {
	t.Helper()
	eventually(t, time.Minute, "the former device is off", func() error {
		for _, d := range tailnetNow(t).Objects.Devices {
			if d.Name == first(l).FQDN() && d.ConnectedToControl {
				return errors.New("it is connected")
			}
		}
		return nil
	})
}

// TestAForeignTailnet finds the machine in somebody else's tailnet, of another control server.
func TestAForeignTailnet(t *testing.T) {
	l := running(t)
	before := lookWithoutLogin(t, l)
	foreign := *headscale.New(l.Layout, headscaleProgram(t, l))
	foreign.Dir, foreign.Domain, foreign.Port, foreign.STUNPort = l.Path("foreign"), "foreign.test", "8444", "3479"
	runner := process.Runner{Dir: filepath.Join(foreign.Dir, "run"), Logs: filepath.Join(foreign.Dir, "logs")}
	t.Cleanup(func() {
		if err := errors.Join(foreign.Stop(context.Background(), runner), os.RemoveAll(foreign.Dir)); err != nil {
			t.Error(err)
		}
	})
	if err := foreign.Start(t.Context(), runner); err != nil {
		t.Fatal(err)
	}
	control, err := foreign.Client()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := control.DeviceKey(t.Context(), "stranger@foreign.test")
	if err != nil {
		t.Fatal(err)
	}
	publicly(t, l, "tailscale logout && tailscale up --reset --accept-dns=false --timeout=30s --hostname=tinyrack "+
		"--login-server="+foreign.URL()+" --auth-key="+stranger)
	says := []string{
		"joined through the login server " + foreign.URL(), "as tinyrack.foreign.test, not to " + layout.TailnetDomain,
		"log it out (tailscale logout", "nothing was changed",
	}
	refused(t, l, again(l, preflight), says...)
	refused(t, l, again(l, join), says[:3]...)
	unchanged(t, "the machine is in a foreign tailnet", before, lookWithoutLogin(t, l))
	// As the refusal says, in a session that does not come over the tailnet.
	publicly(t, l, "tailscale logout")
	mustAgain(t, l, preflight, key)
	unchanged(t, "the machine left the foreign tailnet", before, lookWithoutLogin(t, l))
	nothingToDo(t, l)
}

// headscaleProgram is the one that runs.
func headscaleProgram(t *testing.T, l *lab) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.Run(), headscale.Name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var record struct{ Args []string }
	if err := json.Unmarshal(text, &record); err != nil || len(record.Args) == 0 {
		t.Fatalf("what headscale runs as: %v", err)
	}
	return record.Args[0]
}

// TestATakenName gives the machine's name to another device, while the machine is called something else.
func TestATakenName(t *testing.T) {
	l := running(t)
	before := look(t, l)
	fleet := tailnetDevices(t, l)
	namesake := machine.Device{
		Name: "tinyrack-namesake", Hostname: first(l).Name, Address: "10.77.0.35", User: member.User,
	}
	stop := func() {
		if err := fleet.Stop(context.Background(), namesake); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	publicly(t, l, "tailscale set --hostname=elsewhere")
	called(t, l, "elsewhere")
	if err := fleet.Start(t.Context(), namesake); err != nil {
		t.Fatal(err)
	}
	refused(t, l, again(l, join), "the name tinyrack is taken in the tailnet, so this machine became tinyrack-1.",
		"remove it in the admin console (Machines) and run again")
	refused(t, l, again(l, key), "the name "+first(l).FQDN()+" is taken by device", member.User,
		"remove or rename that one in the admin console")
	stop()
	upOrFail(t, l)
	unchanged(t, "its name was taken", before, look(t, l))
	nothingToDo(t, l)
}

// TestAnAdministratorsName renames the machine's device in the admin console, which wins over what a machine calls
// itself.
func TestAnAdministratorsName(t *testing.T) {
	l := running(t)
	before := look(t, l)
	rename := func(name string) {
		t.Helper()
		answer, status := tailscaleAPI(t, l)(http.MethodPost, "/device/"+deviceID(t, l)+"/name", `{"name":"`+name+`"}`)
		if status != http.StatusOK {
			t.Fatalf("renaming the device: %s", answer)
		}
		called(t, l, name)
	}
	rename("elsewhere")
	refused(t, l, again(l, join), "an administrator's name for a device wins: rename the device to tinyrack in the admin "+
		"console (Machines)")
	rename(first(l).Name)
	mustAgain(t, l, join)
	unchanged(t, "its device was renamed", before, look(t, l))
	nothingToDo(t, l)
}

// deviceID is the machine's device, which has its public name or not.
func deviceID(t *testing.T, l *lab) string {
	t.Helper()
	var self struct{ Self struct{ ID string } }
	text := publicly(t, l, "tailscale status --json --peers=false")
	if err := json.Unmarshal([]byte(text), &self); err != nil || self.Self.ID == "" {
		t.Fatalf("the machine's device: %v\n%s", err, text)
	}
	return self.Self.ID
}

// called waits until the machine knows that it is called so in the tailnet.
func called(t *testing.T, l *lab, name string) {
	t.Helper()
	eventually(t, time.Minute, "the machine is called "+name, func() error {
		if now := login(t, l); !strings.Contains(now, `"DNSName": "`+name+`.`) {
			return errors.New(now)
		}
		return nil
	})
}

// TestAnotherHostname changes the host name by hand, on the machine, as a rebuilt image or a person does; and then the
// host's name in the settings, which would make it another machine.
func TestAnotherHostname(t *testing.T) {
	l := running(t)
	before := look(t, l)
	rename := func(name string) {
		t.Helper()
		publicly(t, l, "hostnamectl set-hostname "+name+" && systemctl restart tailscaled")
		called(t, l, first(l).Name)
	}
	t.Run("on the machine", func(t *testing.T) {
		t.Cleanup(func() { rename(first(l).Name) })
		rename("elsewhere")
		mustAgain(t, l, preflight, join)
		unchanged(t, "the machine has another host name", before, look(t, l))
	})
	t.Run("in the settings", func(t *testing.T) {
		putBack := change(t, l, func(config map[string]map[string]any) {
			hosts := config["tinyrack:hosts"]
			hosts["elsewhere"] = hosts["tinyrack"]
			delete(hosts, "tinyrack")
			config["tinyrack:cluster"]["firstServer"] = "elsewhere"
		})
		refused(t, l, l.stack.Up, "the node on this machine is called tinyrack, the settings call it elsewhere",
			"name the host tinyrack in hosts", "nothing was changed")
		putBack()
		unchanged(t, "the host was renamed in the settings", before, look(t, l))
		upOrFail(t, l)
		unchanged(t, "the name was put back", before, look(t, l))
	})
	nothingToDo(t, l)
}

// What the settings name outside the machine is looked for before anything is changed: a folder in git that was never
// pushed, and buckets for copies that nobody made or reaches.
func TestAPlaceThatIsNotThere(t *testing.T) {
	l := running(t)
	before := look(t, l)
	const branch = "e2e-empty"
	clone := filepath.Join(t.TempDir(), "clone")
	runGit(t, l, "clone", "--quiet", layout.GitURL, clone)
	runGit(t, l, "-C", clone, "checkout", "--quiet", "--orphan", branch)
	runGit(t, l, "-C", clone, "rm", "--quiet", "-r", "--cached", ".")
	runGit(t, l, "-C", clone, "commit", "--quiet", "--allow-empty", "--message", "nothing")
	runGit(t, l, "-C", clone, "push", "--quiet", layout.GitURL, "HEAD:"+branch)
	t.Cleanup(func() { runGit(t, l, "-C", clone, "push", "--quiet", layout.GitURL, ":"+branch) })

	putBack := change(t, l, func(config map[string]map[string]any) { config["tinyrack:flux"]["branch"] = branch })
	refused(t, l, l.stack.Up, "flux.path: branch "+branch+" of "+layout.GitURL+" has no ./clusters/lab")
	putBack()
	putBack = change(t, l, func(config map[string]map[string]any) {
		config["tinyrack:cluster"]["snapshots"].(map[string]any)["bucket"] = "nobody-made-it"
		config["tinyrack:backups"]["region"] = "elsewhere"
	})
	refused(t, l, l.stack.Up, "cluster.snapshots: http://"+layout.S3Addr+" has no bucket nobody-made-it",
		"backups: http://"+layout.S3Addr+" expects another region than elsewhere", "2 problem(s)", "nothing was changed")
	putBack()
	unchanged(t, "places were named that are not there", before, look(t, l))
	upOrFail(t, l)
	nothingToDo(t, l)
}
