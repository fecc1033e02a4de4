package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
)

// A bare machine has tailscale as its Debian package leaves it, and trusts the lab's authority.
func TestTailscaleOnTheMachine(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("both in one"), 0o600); err != nil {
		t.Fatal(err)
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
	for range 2 {
		if err := m.personalise(); err != nil {
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
	for _, path := range []string{"usr/sbin/tailscaled", "usr/bin/tailscale"} {
		if info, err := os.Stat(filepath.Join(m.root(), path)); read(path) != "both in one" || err != nil ||
			info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v %v", path, info, err)
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
	if environment["PORT"] != "41641" || !filepath.IsAbs(environment["SSL_CERT_FILE"]) ||
		read(environment["SSL_CERT_FILE"]) != "the lab's authority" {
		t.Errorf("environment: %v", environment)
	}
}

func TestDevicesDoNotShareALink(t *testing.T) {
	a, b := Device{Address: "10.77.0.2"}, Device{Address: "10.77.0.22"}
	if a.link() == b.link() || a.link() != "trlab-d2" {
		t.Errorf("%s and %s", a.link(), b.link())
	}
}
