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
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// Machine is one of the lab's hosts. Its packages and programs are bare: what the program is to install is not there,
// but for tailscale, which the lab has no package of.
type Machine struct {
	// Host is its name, its addresses and its network namespace.
	Host layout.Machine
	// Dir is the folder of its disk, which is gone with Remove.
	Dir       string
	Runner    process.Runner
	Artifacts *artifacts.Set
	// Images is the folder with the image tarballs that the machine's k3s imports.
	Images string
	// HostKey is the private SSH host key, AuthorizedKey the public key that may log in as root.
	HostKey       []byte
	AuthorizedKey string
	// CA is the lab's certificate authority, PEM, which the machine's tailscaled trusts.
	CA     string
	caFile string
	// PackageSource is the address of the apt repository.
	PackageSource string
}

// New returns a machine of the lab. What is started needs more: see prepare.
func New(l layout.Layout, m layout.Machine) *Machine {
	return &Machine{
		Host: m, Dir: l.Machine(m), Runner: process.New(l), Images: l.Images(), caFile: l.CA(),
		PackageSource: "http://" + layout.ArtifactsAddr + "/debs",
	}
}

// prepare gives the machine what it is installed from.
func (m *Machine) prepare(set *artifacts.Set, secrets *secret.Secrets) error {
	authorized, err := secret.PublicKey(secrets.MachineKey)
	if err != nil {
		return err
	}
	hostKey, err := secrets.HostKey(m.Host.Name)
	if err != nil {
		return err
	}
	m.Artifacts, m.HostKey, m.AuthorizedKey = set, []byte(hostKey), authorized+"\n"
	ca, err := os.ReadFile(m.caFile)
	if err != nil {
		return err
	}
	m.CA = string(ca)
	return nil
}

// Start installs machines from the artifacts, once, and boots them, side by side.
func Start(
	ctx context.Context, l layout.Layout, machines []layout.Machine, set *artifacts.Set, secrets *secret.Secrets,
) error {
	errs := make([]error, len(machines))
	var group sync.WaitGroup
	for i, host := range machines {
		m := New(l, host)
		if errs[i] = m.prepare(set, secrets); errs[i] != nil {
			continue
		}
		group.Go(func() {
			if errs[i] = m.Install(ctx); errs[i] == nil {
				errs[i] = m.Boot(ctx)
			}
			if errs[i] != nil {
				errs[i] = fmt.Errorf("machine %s: %w", host.Name, errs[i])
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (m *Machine) root() string { return filepath.Join(m.Dir, "root") }

// Install unpacks the root filesystem and what makes this machine itself: keys, name, package source. A machine that
// was installed completely is left as it is.
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
	if out, err := m.unpack(ctx).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack the root filesystem: %w: %s", err, out)
	}
	if err := m.personalise(); err != nil {
		return err
	}
	return os.WriteFile(complete, nil, 0o600)
}

// unpack is the command that unpacks the root filesystem.
func (m *Machine) unpack(ctx context.Context) *exec.Cmd {
	archive := filepath.Join(m.Artifacts.RootFS, "rootfs.tar")
	args := []string{"-xf", archive, "-C", m.root(), "--numeric-owner", "--exclude=./dev/*"}
	return exec.CommandContext(ctx, "tar", args...) //nolint:gosec // our own artifact
}

// Boot switches the machine on and waits for its SSH server. One that is off gets a new network namespace and new
// control groups: rules, interfaces and groups of its former life are gone, as they are with a kernel of its own. A
// kubelet looks for three seconds at each group of a container that it does not know, before it starts anything.
func (m *Machine) Boot(ctx context.Context) error {
	modules()
	if link := machineLink(m.Host.IPv4); !m.Runner.Running(m.Host.Process()) {
		if err := errors.Join(removeCgroups(m.Host.Namespace()), removeLeg(ctx, m.Host.Namespace(), link)); err != nil {
			return err
		}
		if err := makeSteps(ctx, leg(m.Host.Namespace(), link, public(m.Host.IPv4))); err != nil {
			return err
		}
	}
	if err := makeCgroups(m.Host.Namespace()); err != nil {
		return err
	}
	return m.Runner.Start(ctx, m.spec(hierarchies(), unified(), capable(unix.CAP_SYS_RESOURCE)))
}

// spec is the machine's supervisor. It enters the machine's control groups below the hierarchies; unified says whether
// the host has only the second version of them, and resources whether it may raise limits.
func (m *Machine) spec(hierarchies []string, unified, resources bool) process.Spec {
	args := append(enterCgroups(m.Host.Namespace(), hierarchies),
		"systemd-nspawn", "--quiet", "--directory="+m.root(), "--machine="+m.Host.Namespace(), "--boot", "--keep-unit",
		"--register=no", "--console=pipe", "--network-namespace-path=/run/netns/"+m.Host.Namespace(), "--resolv-conf=off",
		"--timezone=off",
		"--link-journal=no", "--capability=all", "--system-call-filter=@keyring bpf @mount @pkey perf_event_open",
		"--bind=/dev/kmsg", "--bind=/dev/net/tun", "--bind-ro="+m.Images+":/opt/images",
	)
	if !resources {
		args = append(args, "--drop-capability=CAP_SYS_RESOURCE")
	}
	env := []string{"SYSTEMD_NSPAWN_API_VFS_WRITABLE=1"}
	if !unified {
		env = append(env, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0")
	}
	return process.Spec{Name: m.Host.Process(), Args: args, Env: env, Ready: m.sshReady}
}

// Remove switches the machine off and removes its network and its disk, and its record with it.
func (m *Machine) Remove(ctx context.Context) error {
	if err := m.Halt(ctx); err != nil {
		return err
	}
	if err := errors.Join(unmountBelow(m.Dir), removeCgroups(m.Host.Namespace()),
		removeLeg(ctx, m.Host.Namespace(), machineLink(m.Host.IPv4))); err != nil {
		return err // its record stays, and so it is found again
	}
	return os.RemoveAll(m.Dir)
}

// Halt cuts the machine's power: its disk is thrown away, so nothing is worth an orderly shutdown.
func (m *Machine) Halt(ctx context.Context) error {
	if pid := m.Runner.PID(m.Host.Process()); pid != 0 {
		killTree(pid)
	}
	return m.Runner.Stop(ctx, m.Host.Process())
}

// sshReady asks from inside the machine's network: from outside its firewall may refuse everybody.
func (m *Machine) sshReady(ctx context.Context) error {
	return Inside(m.Host.Namespace(), func() error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", "127.0.0.1:22")
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
	})
}

// modules loads, where the host has them apart, the kernel modules that a machine of its own would load by itself.
func modules() {
	for _, m := range []string{
		"overlay", "br_netfilter", "vxlan", "nf_tables", "ip_tables", "iptable_nat", "iptable_filter", "xt_comment", "ip_set",
	} {
		// A module that is built in is no error to care for.
		_ = exec.Command("modprobe", "--quiet", m).Run() //nolint:gosec,noctx // a fixed list
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
