package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/process"
)

// Machine is the lab's host. Its disk lies in Dir and is gone with Remove.
type Machine struct {
	Dir       string
	Runner    process.Runner
	Artifacts *artifacts.Set
	// Images is the folder with the image tarballs that the machine's k3s imports.
	Images string
	// HostKey is the private SSH host key, AuthorizedKey the public key that may log in as root.
	HostKey       []byte
	AuthorizedKey string
	// CA is the lab's certificate authority, PEM, which the machine's tailscaled trusts.
	CA string
	// PackageSource is the address of the apt repository.
	PackageSource string
}

// unit is the name of the machine's process for the runner.
const unit = "machine"

func (m *Machine) root() string { return filepath.Join(m.Dir, "root") }

// Running tells whether the machine is switched on.
func (m *Machine) Running() bool { return m.Runner.Running(unit) }

// Install unpacks the root filesystem and what makes this machine itself: keys, name, package source. A machine that was
// installed completely is left as it is.
func (m *Machine) Install(ctx context.Context) error {
	complete := filepath.Join(m.Dir, "installed")
	if _, err := os.Stat(complete); err == nil {
		return nil
	}
	if err := os.RemoveAll(m.root()); err != nil {
		return err
	}
	if err := os.MkdirAll(m.root(), 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "tar", "-xf", filepath.Join(m.Artifacts.RootFS, "rootfs.tar"), "-C", m.root(), "--numeric-owner", "--exclude=./dev/*").CombinedOutput() //nolint:gosec // our own artifact
	if err != nil {
		return fmt.Errorf("unpack the root filesystem: %w: %s", err, out)
	}
	if err := m.personalise(); err != nil {
		return err
	}
	return os.WriteFile(complete, nil, 0o600)
}

// Boot switches the machine on and waits for its SSH server.
func (m *Machine) Boot(ctx context.Context) error {
	modules()
	if err := makeCgroups(); err != nil {
		return err
	}
	args := []string{
		"systemd-nspawn", "--quiet", "--directory=" + m.root(), "--machine=" + Name, "--boot", "--keep-unit", "--register=no", "--console=pipe",
		"--network-namespace-path=/run/netns/" + Name, "--resolv-conf=off", "--timezone=off", "--link-journal=no",
		"--capability=all", "--system-call-filter=@keyring bpf @mount @pkey perf_event_open",
		"--bind=/dev/kmsg", "--bind=/dev/net/tun", "--bind-ro=" + m.Images + ":/opt/images",
	}
	env := []string{"SYSTEMD_NSPAWN_API_VFS_WRITABLE=1"}
	if !unified() {
		env = append(env, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0")
	}
	if !capable(unix.CAP_SYS_RESOURCE) {
		args = append(args, "--drop-capability=CAP_SYS_RESOURCE")
	}
	args = append(enterCgroups(), args...)
	return m.Runner.Start(ctx, process.Spec{Name: unit, Args: args, Env: env, Ready: sshReady})
}

// Remove switches the machine off and deletes its disk.
func (m *Machine) Remove(ctx context.Context) error {
	if err := m.Halt(ctx); err != nil {
		return err
	}
	if err := unmountBelow(m.Dir); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(m.Dir), removeCgroups())
}

// Halt cuts the machine's power: its disk is thrown away, so nothing is worth an orderly shutdown.
func (m *Machine) Halt(ctx context.Context) error {
	if pid := m.Runner.PID(unit); pid != 0 {
		killTree(pid)
	}
	return m.Runner.Stop(ctx, unit)
}

func sshReady(ctx context.Context) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(Address, "22"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	banner := make([]byte, 4)
	if _, err := conn.Read(banner); err != nil || string(banner) != "SSH-" {
		return errors.New("no SSH server answers yet")
	}
	return nil
}

// modules loads, where the host has them apart, the kernel modules that a machine of its own would load by itself.
func modules() {
	for _, m := range []string{"overlay", "br_netfilter", "vxlan", "nf_tables", "ip_tables", "iptable_nat", "iptable_filter", "xt_comment", "ip_set"} {
		_ = exec.Command("modprobe", "--quiet", m).Run() //nolint:gosec,noctx // a fixed list; a built-in module is no error to care for
	}
}

func capable(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[capability/32].Permitted&(1<<(capability%32)) != 0
}

// killTree kills a process and all its descendants.
func killTree(pid int) {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	for _, c := range strings.Fields(string(children)) {
		var child int
		if _, err := fmt.Sscan(c, &child); err == nil {
			killTree(child)
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// unmountBelow detaches every mount that is left below dir.
func unmountBelow(dir string) error {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	var errs []error
	lines := strings.Split(string(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if f := strings.Fields(lines[i]); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			errs = append(errs, syscall.Unmount(f[1], syscall.MNT_DETACH))
		}
	}
	return errors.Join(errs...)
}
