package machine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// cniPlugins are Debian's, put where k3s looks for them: beside host-local in the path.
var cniPlugins = []string{"bridge", "host-local", "loopback", "portmap", "bandwidth", "firewall"}

// cgroupsUnit makes the control groups writable, which the machine's supervisor mounts read-only on a host with the
// first version.
const cgroupsUnit = `[Unit]
Description=Writable control groups
DefaultDependencies=no
Before=sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do mount -o remount,bind,rw "$d" 2>/dev/null || true; done'

[Install]
WantedBy=sysinit.target
`

const sshdConfig = `HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
PermitRootLogin prohibit-password
UseDNS no
`

// k3sDropIn puts what the lab has instead of a registry and of a kernel of its own into k3s' folder at each of its
// starts: uninstalling k3s removes the whole folder.
const k3sDropIn = `[Unit]
Wants=lab-unpack.service

[Service]
ExecStartPre=/bin/sh -euc 'mkdir -p /var/lib/rancher/k3s/agent; cd /var/lib/rancher/k3s/agent; \
	ln -sfn /opt/images images; [ ! -f ` + containerdConfig + ` ] || { \
	mkdir -p etc/containerd; cp ` + containerdConfig + ` etc/containerd/config.toml.tmpl; }'
`

// unpackUnit unpacks the large images while the cluster starts. What comes from a registry is unpacked as it comes; what
// k3s imports, when the first container is made of it, and Ghost would wait 18 s for that.
const unpackUnit = `[Unit]
Description=Unpacked images
After=k3s.service k3s-agent.service

[Service]
Type=oneshot
Nice=10
Environment=CONTAINERD_ADDRESS=/run/k3s/containerd/containerd.sock CONTAINERD_NAMESPACE=k8s.io
ExecStart=-/usr/local/sbin/lab-unpack
`

// unpackScript waits for the first container, before which everything is imported.
const unpackScript = `#!/bin/sh
i=0
until ctr containers ls -q | grep -q . || [ $i = 120 ]; do
	i=$((i + 1))
	sleep 1
done
ctr images ls | awk '$5 == "MiB" && $4 > 200 { print $4, $3 }' | sort -rnu | while read -r size digest; do
	ctr snapshots unpack "$digest"
done
`

const containerdConfig = "/etc/lab/containerd.toml.tmpl"

type entry struct {
	path, text string
	mode       os.FileMode
}

// personalise writes what makes a freshly unpacked Debian this machine.
func (m *Machine) personalise() error {
	files := []entry{
		{"etc/hostname", m.Host.Name + "\n", 0o644},
		{"etc/hosts", "127.0.0.1 localhost\n127.0.1.1 " + m.Host.Name + "\n", 0o644},
		// Nothing answers there, and at once: the lab has no name server.
		{"etc/resolv.conf", "nameserver " + layout.HostIP + "\noptions timeout:1 attempts:1\n", 0o644},
		{"etc/apt/sources.list", "deb [trusted=yes] " + m.PackageSource + " ./\n", 0o644},
		{"etc/ssh/ssh_host_ed25519_key", string(m.HostKey), 0o600},
		{"etc/ssh/sshd_config.d/lab.conf", sshdConfig, 0o644},
		{"root/.ssh/authorized_keys", m.AuthorizedKey, 0o600},
		{"etc/systemd/system/lab-cgroups.service", cgroupsUnit, 0o644},
		{"etc/systemd/system/lab-unpack.service", unpackUnit, 0o644},
		{"usr/local/sbin/lab-unpack", unpackScript, 0o755},
		{"usr/lib/systemd/system/k3s.service.d/lab.conf", k3sDropIn, 0o644},
		{"usr/lib/systemd/system/k3s-agent.service.d/lab.conf", k3sDropIn, 0o644},
	}
	files = append(files, tailscaleFiles(m.CA)...)
	// The sources that the root filesystem was made from are out of the machine's reach.
	if err := os.RemoveAll(filepath.Join(m.root(), "etc/apt/sources.list.d")); err != nil {
		return err
	}
	stale, err := filepath.Glob(filepath.Join(m.root(), "etc/ssh/ssh_host_*"))
	if err != nil {
		return err
	}
	for _, path := range stale {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for _, f := range files {
		path := filepath.Join(m.root(), f.path)
		_ = os.Remove(path)
		err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(f.text), f.mode))
		if err != nil {
			return err
		}
	}
	links := map[string]string{
		"etc/systemd/system/sysinit.target.wants/lab-cgroups.service": "/etc/systemd/system/lab-cgroups.service",
		// Only the shim of Debian's containerd is wanted; k3s starts its own.
		"etc/systemd/system/containerd.service":     "/dev/null",
		"etc/systemd/system/systemd-logind.service": "/dev/null",
		// The host makes the network; a manager of its own would wait two minutes for what it is not to configure.
		"etc/systemd/system/systemd-networkd.service":             "/dev/null",
		"etc/systemd/system/systemd-networkd.socket":              "/dev/null",
		"etc/systemd/system/systemd-networkd-wait-online.service": "/dev/null",
		"usr/local/bin/containerd":                                "k3s",
	}
	maps.Copy(links, tailscaleLinks)
	for _, p := range cniPlugins {
		links["usr/local/bin/"+p] = "/usr/lib/cni/" + p
	}
	daemon := artifacts.TailscaleProgram(m.Artifacts.Tailscale, "tailscaled")
	copies := map[string]string{"usr/local/bin/flannel": m.Artifacts.Flannel, tailscaleDaemon: daemon}
	if command := artifacts.TailscaleProgram(m.Artifacts.Tailscale, "tailscale"); command != daemon {
		copies[tailscaleCommand] = command
	} else {
		links[tailscaleCommand] = "../sbin/tailscaled"
	}
	for at, to := range links {
		path := filepath.Join(m.root(), at)
		_ = os.Remove(path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(to, path)); err != nil {
			return err
		}
	}
	if !capable(unix.CAP_SYS_RESOURCE) {
		copies[containerdConfig] = m.Artifacts.ContainerdConfig
	}
	for at, from := range copies {
		text, err := os.ReadFile(from) //nolint:gosec // our own artifact
		if err != nil {
			return err
		}
		path := filepath.Join(m.root(), at)
		// It may be a link of a former run, through which another file would be written.
		_ = os.Remove(path)
		err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o755)) //nolint:gosec // programs
		if err != nil {
			return err
		}
	}
	machineID := filepath.Join(m.root(), "etc", "machine-id")
	if err := os.WriteFile(machineID, []byte("uninitialized\n"), 0o444); err != nil { //nolint:gosec // as systemd wants it
		return fmt.Errorf("machine id: %w", err)
	}
	return nil
}
