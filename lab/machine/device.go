package machine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
)

// Device is one more machine of the tailnet: a network namespace on the lab's bridge with a real tailscaled of its own.
type Device struct {
	// Name is its network namespace and its process for the runner, and its host name unless Hostname is set.
	Name     string
	Hostname string
	// Address is its own of 10.77.0.0/24; it has the IPv6 address that goes with it, too.
	Address string
	// User is the login of the person whose device it is; one with Tags has none.
	User string
	Tags []string
}

// Operator is the computer of the person who runs the program and may do everything.
var Operator = Device{Name: layout.Operator, Address: layout.OperatorIP, User: "admin@" + layout.Zone}

// link is the host's end of the device's interface.
func (d Device) link() string { return "trlab-d" + d.Address[strings.LastIndex(d.Address, ".")+1:] }

// Devices starts devices and ends them. All that they keep is in Dir; nothing of the host's own network or files is
// changed.
type Devices struct {
	Dir    string
	Runner process.Runner
	// Program is tailscaled and tailscale: see artifacts.TailscaleProgram.
	Program string
	// LoginServer is the control server, CA the file with the authority of its certificate, Domain the suffix of the
	// tailnet's names.
	LoginServer, CA, Domain string
	// Tailnet makes keys for the devices and forgets those that are gone.
	Tailnet Tailnet
}

// Tailnet is what Devices asks of the control server.
type Tailnet interface {
	// DeviceKey returns a key for a device of this person, or of nobody with these tags. Secret.
	DeviceKey(ctx context.Context, login string, tags ...string) (string, error)
	// DeleteNode takes a node that is not there for deleted.
	DeleteNode(ctx context.Context, id string) error
}

func (d *Devices) path(name, file string) string { return filepath.Join(d.Dir, name, file) }

// Start makes the device's network, starts its tailscaled and joins the tailnet. A device that is there already is left
// as it is, and one that was killed goes on as the node that it was.
func (d *Devices) Start(ctx context.Context, device Device) error {
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("%w: no device can join the tailnet: load the kernel module tun (modprobe tun)", err)
	}
	text, err := json.Marshal(device)
	if err != nil {
		return err
	}
	// First of all, so that an interrupted start is found.
	if err := errors.Join(os.MkdirAll(d.path(device.Name, "bin"), 0o700),
		os.WriteFile(d.path(device.Name, deviceFile), text, 0o600)); err != nil {
		return err
	}
	if err := makeSteps(ctx, leg(device.Name, device.link(), public(device.Address))); err != nil {
		return err
	}
	// ip netns exec shows this file as /etc/resolv.conf. Only the tailnet's names resolve; the lab's services are known
	// by address.
	resolver := filepath.Join(netnsDir(device.Name), "resolv.conf")
	names := "nameserver 100.100.100.100\nsearch " + d.Domain + "\noptions timeout:1 attempts:2\n"
	if err := errors.Join(os.MkdirAll(netnsDir(device.Name), 0o755),
		os.WriteFile(resolver, []byte(names), 0o644)); err != nil { //nolint:gosec // as the real one
		return err
	}
	for _, program := range []string{"tailscale", "tailscaled"} {
		at := d.path(device.Name, "bin/"+program)
		_ = os.Remove(at)
		if err := os.Symlink(artifacts.TailscaleProgram(d.Program, program), at); err != nil {
			return err
		}
	}
	if err := d.Runner.Start(ctx, process.Spec{
		Name: device.Name, Args: d.daemon(device.Name),
		Env:   []string{"SSL_CERT_FILE=" + d.CA, "TS_LOGS_DIR=" + d.path(device.Name, ""), noLogs},
		Ready: func(ctx context.Context) error { _, err := d.status(ctx, device.Name); return err },
	}); err != nil {
		return err
	}
	return d.join(ctx, device)
}

// deviceFile says in a device's folder what device it is.
const deviceFile = "device.json"

func netnsDir(name string) string { return filepath.Join("/etc/netns", name) }

// daemon is the command line of the device's tailscaled. It sees the host's /etc read-only, whatever it thinks of its
// resolv.conf, and no D-Bus, by which it would tell the host's resolver.
func (d *Devices) daemon(name string) []string {
	return []string{
		"ip", "netns", "exec", name, "sh", "-euc",
		`mount --bind /etc /etc && mount -o remount,bind,ro /etc && {
			[ ! -d /run/dbus ] || mount -t tmpfs tmpfs /run/dbus
		} && exec "$@"`, "sh",
		d.path(name, "bin/tailscaled"), "--statedir=" + d.path(name, ""), "--socket=" + d.path(name, "sock"),
		"--tun=tailscale0", "--port=41641",
	}
}

// joinTimeout bounds the wait for a device's first answer from the control server.
const joinTimeout = 30 * time.Second

// join waits until the device is in the tailnet, and gives it a key when it says that it needs one: a device whose
// daemon was killed comes back by itself.
func (d *Devices) join(ctx context.Context, device Device) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	for {
		now, err := d.status(ctx, device.Name)
		switch {
		case err == nil && now.BackendState == "Running" && len(now.Self.TailscaleIPs) > 0:
			return nil
		case err == nil && now.BackendState == "NeedsLogin":
			if err := d.up(ctx, device); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("device %s is not in the tailnet after %s, its state is %q: %w: see %s", device.Name,
				joinTimeout, now.BackendState,
				cmp.Or(err, ctx.Err()), d.Runner.LogPath(device.Name))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *Devices) up(ctx context.Context, device Device) error {
	key, err := d.Tailnet.DeviceKey(ctx, device.User, device.Tags...)
	if err != nil {
		return fmt.Errorf("device %s: %w", device.Name, err)
	}
	file := d.path(device.Name, "key")
	defer os.Remove(file)
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		return err
	}
	// No DNS of the host's is touched: see resolv.conf above.
	if out, err := d.Tailscale(ctx, device.Name, "up", "--reset", "--accept-dns=false", "--timeout=20s",
		"--hostname="+cmp.Or(device.Hostname, device.Name), "--login-server="+d.LoginServer,
		"--auth-key=file:"+file).CombinedOutput(); err != nil {
		return fmt.Errorf("device %s did not join the tailnet: %w: %s: see %s", device.Name, err,
			strings.TrimSpace(string(out)),
			d.Runner.LogPath(device.Name))
	}
	return nil
}

// Status is the part of `tailscale status --json` that the lab looks at.
type Status struct {
	BackendState   string
	CurrentTailnet struct{ Name, MagicDNSSuffix string }
	Self           struct {
		ID, DNSName  string
		TailscaleIPs []string
		Tags         []string
		UserID       int64
	}
}

func (d *Devices) status(ctx context.Context, name string) (Status, error) {
	var now Status
	out, err := d.Tailscale(ctx, name, "status", "--json", "--peers=false").Output()
	if err != nil {
		return now, fmt.Errorf("tailscale status of %s: %w", name, err)
	}
	return now, json.Unmarshal(out, &now)
}

// Status returns what the device says of itself.
func (d *Devices) Status(ctx context.Context, device Device) (Status, error) {
	return d.status(ctx, device.Name)
}

// Tailscale is the tailscale command of a device.
func (d *Devices) Tailscale(ctx context.Context, name string, args ...string) *exec.Cmd {
	return Exec(ctx, name, append([]string{d.path(name, "bin/tailscale"), "--socket=" + d.path(name, "sock")},
		args...)...)
}

// Exec is a command as it runs on a device: in its network, with its name resolution.
func Exec(ctx context.Context, name string, args ...string) *exec.Cmd {
	command := append([]string{"netns", "exec", name}, args...)
	return exec.CommandContext(ctx, "ip", command...) //nolint:gosec // the caller's own command
}

// Stop ends the device and removes all that Start made, the node in the tailnet included. What an interrupted Start or
// Stop left is removed too.
func (d *Devices) Stop(ctx context.Context, device Device) error {
	var forgotten error
	if now, err := d.status(ctx, device.Name); err == nil && now.BackendState == "Running" && now.Self.ID != "" {
		forgotten = d.Tailnet.DeleteNode(ctx, now.Self.ID)
	}
	return errors.Join(forgotten, d.remove(ctx, device))
}

// Remove removes every device that was started and not stopped. The tailnet is not told: it goes the same way.
func (d *Devices) Remove(ctx context.Context) error {
	found, err := filepath.Glob(d.path("*", deviceFile))
	errs := []error{err}
	for _, file := range found {
		var device Device
		text, err := os.ReadFile(file) //nolint:gosec // our own file
		if err == nil {
			err = json.Unmarshal(text, &device)
		}
		if err == nil {
			err = d.remove(ctx, device)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (d *Devices) remove(ctx context.Context, device Device) error {
	if err := errors.Join(d.Runner.Stop(ctx, device.Name), removeLeg(ctx, device.Name, device.link()),
		os.RemoveAll(netnsDir(device.Name))); err != nil {
		return err // its file stays, and so it is found again
	}
	_ = os.Remove(filepath.Dir(netnsDir(device.Name))) // stays when others have something in it
	return os.RemoveAll(filepath.Join(d.Dir, device.Name))
}
