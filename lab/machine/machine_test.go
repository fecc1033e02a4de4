package machine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// second is a machine that is not the lab's own, so that a constant in the place of its value shows.
var second = layout.Machine{Name: "second", IPv4: "10.77.0.11", Roles: []string{"agent"}}

func lab() layout.Layout { return layout.Layout{State: "/state"} }

func TestSupervisor(t *testing.T) {
	m := New(lab(), second)
	const nspawn = "systemd-nspawn --quiet --directory=/state/machines/second/root --machine=tinyrack-lab-second --boot " +
		"--keep-unit --register=no --console=pipe --network-namespace-path=/run/netns/tinyrack-lab-second " +
		"--resolv-conf=off --timezone=off --link-journal=no " +
		"--capability=all --system-call-filter=@keyring bpf @mount @pkey perf_event_open " +
		"--bind=/dev/kmsg --bind=/dev/net/tun --bind-ro=/state/images:/opt/images"
	const writable = "SYSTEMD_NSPAWN_API_VFS_WRITABLE=1"
	for name, test := range map[string]struct {
		hierarchies        []string
		unified, resources bool
		args               string
		env                []string
	}{
		"version 2": {
			[]string{"/cg"},
			true, true,
			"sh -euc echo $$ > /cg/tinyrack-lab-second/cgroup.procs\nexec \"$@\" sh " + nspawn,
			[]string{writable},
		},
		"version 1, limits of the host's": {
			[]string{"/cg/cpu", "/cg/memory"},
			false, false,
			"sh -euc echo $$ > /cg/cpu/tinyrack-lab-second/cgroup.procs\n" +
				"echo $$ > /cg/memory/tinyrack-lab-second/cgroup.procs\nexec \"$@\" sh " + nspawn +
				" --drop-capability=CAP_SYS_RESOURCE",
			[]string{writable, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0"},
		},
	} {
		spec := m.spec(test.hierarchies, test.unified, test.resources)
		if got := strings.Join(spec.Args, " "); got != test.args {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.args)
		}
		if !slices.Equal(spec.Env, test.env) || spec.Name != "machine-second" {
			t.Errorf("%s: %s with %q, want %q", name, spec.Name, spec.Env, test.env)
		}
	}
}

func TestUnpack(t *testing.T) {
	m := New(lab(), second)
	m.Artifacts = &artifacts.Set{RootFS: "/rootfs"}
	want := "tar -xf /rootfs/rootfs.tar -C /state/machines/second/root --numeric-owner --exclude=./dev/*"
	if got := strings.Join(m.unpack(t.Context()).Args, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// One root filesystem becomes the machine that was asked for, and only once.
func TestPersonalise(t *testing.T) {
	m := New(layout.Layout{State: t.TempDir()}, second)
	m.HostKey, m.AuthorizedKey = []byte("host key"), "ssh-ed25519 A\n"
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.Artifacts = &artifacts.Set{Flannel: program, Tailscale: program, ContainerdConfig: program}
	for _, stale := range []string{"etc/ssh/ssh_host_rsa_key", "etc/apt/sources.list.d/debian.sources"} {
		path := filepath.Join(m.root(), stale)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // an interrupted run begins again
		if err := m.personalise(); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"etc/hostname":                   "second\n",
		"etc/hosts":                      "127.0.0.1 localhost\n127.0.1.1 second\n",
		"etc/resolv.conf":                "nameserver 10.77.0.1\noptions timeout:1 attempts:1\n",
		"etc/apt/sources.list":           "deb [trusted=yes] http://10.77.0.1:7703/debs ./\n",
		"etc/ssh/ssh_host_ed25519_key":   "host key",
		"root/.ssh/authorized_keys":      "ssh-ed25519 A\n",
		"etc/ssh/sshd_config.d/lab.conf": sshdConfig,
	} {
		if got, err := os.ReadFile(filepath.Join(m.root(), path)); err != nil || string(got) != want {
			t.Errorf("%s holds %q (%v), want %q", path, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(m.root(), "var/lib/rancher")); err == nil {
		t.Error("the bare machine has a part of k3s")
	}
	if info, err := os.Stat(filepath.Join(m.root(), "etc/ssh/ssh_host_ed25519_key")); err != nil ||
		info.Mode().Perm() != 0o600 {
		t.Errorf("the host key has mode %v, %v", info.Mode(), err)
	}
	for _, gone := range []string{"etc/ssh/ssh_host_rsa_key", "etc/apt/sources.list.d"} {
		if _, err := os.Stat(filepath.Join(m.root(), gone)); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
}
