// Package machine is the lab's bare Linux host: a Debian that boots its own systemd in a network namespace of its own,
// with one public leg, and nothing on it of what the program is to install. Beside it are the other devices of the
// tailnet: a person's computer is one.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// Bridge is the public side: 10.77.0.0/24. The addresses of the tailnet are tailscaled's, inside the namespaces.
const Bridge = "trlab0"

// machineLink is the host's end of the interface of the machine with the public address.
func machineLink(address string) string {
	return "trlab-m" + address[strings.LastIndex(address, ".")+1:]
}

// step makes one thing of a network; it is skipped when its probe succeeds, so that an interrupted run goes on.
type step struct{ probe, make string }

// bridge is the public side, leg a namespace with its one interface, eth0, on it.
var bridge = []step{
	{"link show " + Bridge, "link add " + Bridge + " type bridge"},
	{"", "addr replace " + layout.HostIP + "/24 dev " + Bridge},
	{"", "link set " + Bridge + " up"},
}

func leg(namespace, link, address string) []step {
	return []step{
		{"netns exec " + namespace + " true", "netns add " + namespace},
		{"link show " + link, "link add " + link + " type veth peer name eth0 netns " + namespace},
		{"", "link set " + link + " master " + Bridge + " up"},
		{"", "-n " + namespace + " addr replace " + address + "/24 dev eth0"},
		{"", "-n " + namespace + " link set lo up"},
		{"", "-n " + namespace + " link set eth0 up"},
		{"", "-n " + namespace + " route replace default via " + layout.HostIP},
	}
}

// MakeNetwork makes the bridge, and the namespaces of the machines, or completes what an interrupted run left.
func MakeNetwork(ctx context.Context, l layout.Layout) error {
	if err := foreignNetwork(); err != nil {
		return err
	}
	if err := record(l); err != nil {
		return err
	}
	steps := slices.Clone(bridge)
	for _, m := range slices.Concat(l.Machines, l.Left()) {
		steps = append(steps, leg(m.Namespace(), machineLink(m.IPv4), m.IPv4)...)
	}
	return makeSteps(ctx, steps)
}

// record writes down each machine before anything of it is made, so that it is found again, whatever becomes of the
// settings.
func record(l layout.Layout) error {
	made := l.Made()
	for _, m := range l.Machines {
		for _, other := range made {
			if other.Name == m.Name && other.IPv4 != m.IPv4 || other.Name != m.Name && other.IPv4 == m.IPv4 {
				return fmt.Errorf("host %s cannot have the address %s: the lab's machine %s has %s: take that host out of the "+
					"settings, run make up, and add the other after it", m.Name, m.IPv4, other.Name, other.IPv4)
			}
		}
	}
	for _, m := range l.Machines {
		text, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := file.Write(l.Record(m), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func makeSteps(ctx context.Context, steps []step) error {
	for _, step := range steps {
		if step.probe != "" && ip(ctx, step.probe) == nil {
			continue
		}
		if err := ip(ctx, step.make); err != nil {
			return err
		}
	}
	return nil
}

// RemoveNetwork removes what MakeNetwork made but the machines' own, which goes with them.
func RemoveNetwork(ctx context.Context) error { return removeLink(ctx, Bridge) }

// removeLeg removes a namespace and its interface, with both ends.
func removeLeg(ctx context.Context, namespace, link string) error {
	err := removeLink(ctx, link)
	if _, statErr := os.Stat("/run/netns/" + namespace); statErr == nil {
		err = errors.Join(err, ip(ctx, "netns delete "+namespace))
	}
	return err
}

// AddStranger puts a computer that is in no tailnet on the public side: a namespace with an address of 10.77.0.0/24.
func AddStranger(ctx context.Context, namespace, address string) error {
	return makeSteps(ctx, leg(namespace, strangerLink(address), address))
}

// RemoveStranger removes what AddStranger made.
func RemoveStranger(ctx context.Context, namespace, address string) error {
	return removeLeg(ctx, namespace, strangerLink(address))
}

func strangerLink(address string) string {
	return "trlab-s" + address[strings.LastIndex(address, ".")+1:]
}

func removeLink(ctx context.Context, link string) error {
	if ip(ctx, "link show "+link) == nil {
		return ip(ctx, "link delete "+link)
	}
	return nil // it is gone
}

// foreignNetwork refuses to shadow a network that this host already talks to.
func foreignNetwork() error {
	addrs, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range addrs {
		if i.Name == Bridge {
			continue
		}
		list, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range list {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.Contains(net.ParseIP(layout.HostIP)) {
				return fmt.Errorf("interface %s has %s, which overlaps the lab's network 10.77.0.0/24: "+
					"the lab would cut off what is there: take that interface down while the lab runs", i.Name, n)
			}
		}
	}
	return nil
}

func ip(ctx context.Context, args string) error {
	cmd := exec.CommandContext(ctx, "ip", strings.Fields(args)...) //nolint:gosec // fixed commands
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, strings.TrimSpace(string(out)))
	}
	return nil
}
