package machine

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
)

// A bare machine has tailscale as its Debian package leaves it, and trusts the lab's authority.
func TestTailscaleOnTheMachine(t *testing.T) {
	dir := t.TempDir()
	program, two := filepath.Join(dir, "program"), filepath.Join(dir, "two")
	if err := os.Mkdir(two, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{
		program:                          "both in one",
		filepath.Join(two, "tailscaled"): "the daemon", filepath.Join(two, "tailscale"): "the command",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := &Machine{Dir: dir, CA: "the lab's authority", Artifacts: &artifacts.Set{
		Tailscale: program, Flannel: program,
		ContainerdConfig: program,
	}}
	for _, d := range []string{"etc", "usr/sbin"} {
		if err := os.MkdirAll(filepath.Join(m.root(), d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	read := func(path string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(m.root(), path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// An interrupted run begins again, and by then the programs may come from elsewhere.
	for _, from := range []string{two, two, program, program, two} {
		m.Artifacts.Tailscale = from
		if err := m.personalise(); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{"usr/sbin/tailscaled": "the daemon", "usr/bin/tailscale": "the command"} {
			if from == program {
				want = "both in one"
			}
			info, err := os.Stat(filepath.Join(m.root(), path))
			if got := read(path); got != want || err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s of %s: %q %v %v", path, filepath.Base(from), got, info, err)
			}
		}
	}
	unit := "etc/systemd/system/multi-user.target.wants/tailscaled.service"
	if to, err := os.Readlink(filepath.Join(m.root(), unit)); err != nil ||
		!strings.Contains(read(to), "EnvironmentFile=/etc/default/tailscaled\n") {
		t.Errorf("the unit is not enabled, or has no environment file: %s %v", to, err)
	}
	environment := map[string]string{}
	for line := range strings.Lines(read("etc/default/tailscaled")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		environment[name] = strings.Trim(value, `"`)
	}
	if environment["PORT"] != "41641" || environment["TS_NO_LOGS_NO_SUPPORT"] != "true" ||
		!filepath.IsAbs(environment["SSL_CERT_FILE"]) ||
		read(environment["SSL_CERT_FILE"]) != "the lab's authority" {
		t.Errorf("environment: %v", environment)
	}
}

// TestWhatADeviceSeesOfTheHost runs the daemon's command line with a mount namespace of its own for the network's.
func TestWhatADeviceSeesOfTheHost(t *testing.T) {
	dir := t.TempDir()
	const look = "#!/bin/sh\nls -A /run/dbus 2>&1; touch /etc/tinyrack-lab-test 2>&1 || :\n"
	devices := &Devices{Dir: dir}
	daemon := devices.path("device", "bin/tailscaled")
	if err := errors.Join(os.MkdirAll(filepath.Dir(daemon), 0o700),
		os.WriteFile(daemon, []byte(look), 0o700)); err != nil {
		t.Fatal(err)
	}
	line := devices.daemon("device")
	if want := []string{"ip", "netns", "exec", "device"}; !slices.Equal(line[:4], want) {
		t.Fatalf("got %q", line)
	}
	// A bus of the host's there has to be, for one that is not there shows nothing.
	script := `mount -t tmpfs tmpfs /run && mkdir -p /run/dbus && : >/run/dbus/system_bus_socket && exec "$@"`
	unshared := append([]string{"--mount", "--map-root-user", "sh", "-euc", script, "sh"}, line[4:]...)
	out, err := exec.CommandContext(t.Context(), "unshare", unshared...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := string(out); strings.Contains(got, "bus") || !strings.Contains(got, "Read-only file system") {
		t.Errorf("it saw %q", got)
	}
}

func TestDevicesDoNotShareALink(t *testing.T) {
	a, b := Device{Address: "10.77.0.2"}, Device{Address: "10.77.0.22"}
	if a.link() == b.link() || a.link() != "trlab-d2" {
		t.Errorf("%s and %s", a.link(), b.link())
	}
}
