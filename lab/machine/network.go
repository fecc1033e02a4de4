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
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// Bridge is the public side: 10.77.0.0/24 and fd77:0:0:1::/64. The addresses of the tailnet are tailscaled's, inside
// the namespaces.
const Bridge = "trlab0"

// public are the addresses on the public side of what has this IPv4 address there.
func public(ipv4 string) []string { return []string{ipv4, layout.PublicIPv6(ipv4)} }

// network is the network of the public side in which the address is.
func network(address string) netip.Prefix {
	addr := netip.MustParseAddr(address)
	if addr.Is4() {
		return netip.PrefixFrom(addr, 24).Masked()
	}
	return netip.PrefixFrom(addr, 64).Masked()
}

// machineLink is the host's end of the interface of the machine with the public address.
func machineLink(address string) string {
	return "trlab-m" + address[strings.LastIndex(address, ".")+1:]
}

// step makes one thing of a network; it is skipped when its probe succeeds, so that an interrupted run goes on.
type step struct{ probe, make string }

// hostEnd is the public side with the host's addresses on it, leg a namespace with its one interface, eth0, on it.
func hostEnd() []step {
	return slices.Concat(addressed("", Bridge, public(layout.HostIP)), []step{{"", "link set " + Bridge + " up"}})
}

func leg(namespace, link string, addresses []string) []step {
	in := "-n " + namespace + " "
	steps := slices.Concat([]step{
		{"netns exec " + namespace + " true", "netns add " + namespace},
		{"link show " + link, "link add " + link + " type veth peer name eth0 netns " + namespace},
		{"", "link set " + link + " master " + Bridge + " up"},
	}, addressed(in, "eth0", addresses), []step{
		{"", in + "link set lo up"},
		{"", in + "link set eth0 up"},
	})
	for _, address := range addresses {
		for _, gateway := range public(layout.HostIP) {
			if network(gateway) == network(address) {
				steps = append(steps, step{"", in + "route replace default via " + gateway})
			}
		}
	}
	return steps
}

// addressed gives addresses to an interface.
func addressed(in, link string, addresses []string) []step {
	var steps []step
	for _, address := range addresses {
		add := fmt.Sprintf("%saddr replace %s/%d dev %s", in, address, network(address).Bits(), link)
		if strings.Contains(address, ":") {
			add += " nodad" // nobody else has it, and until that is looked up it cannot be used
		}
		steps = append(steps, step{"", add})
	}
	return steps
}

// MakeNetwork makes the bridge, or completes what an interrupted run left. Machines and devices make their own legs.
func MakeNetwork(ctx context.Context, l layout.Layout) error {
	if err := foreignNetwork(); err != nil {
		return err
	}
	if err := record(l); err != nil {
		return err
	}
	if err := makeSteps(ctx, []step{{"link show " + Bridge, "link add " + Bridge + " type bridge"}}); err != nil {
		return err
	}
	if err := enableIPv6("/proc/sys/net/ipv6/conf/" + Bridge + "/disable_ipv6"); err != nil {
		return err
	}
	return makeSteps(ctx, hostEnd())
}

// enableIPv6 gives an interface IPv6 on a host that has it switched off for new ones.
func enableIPv6(setting string) error {
	text, err := os.ReadFile(setting) //nolint:gosec // the kernel's file
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New("this host's kernel has no IPv6: the public side of the lab's machines would lack half of what " +
			"strangers can try: boot it without ipv6.disable=1")
	case err != nil || strings.TrimSpace(string(text)) == "0":
		return err
	}
	return os.WriteFile(setting, []byte("0"), 0o644) //nolint:gosec // the kernel's file
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

// RemoveNetwork removes what MakeNetwork made but the machines' own, which goes with them, and a stranger whose test
// did not come to its end.
func RemoveNetwork(ctx context.Context) error {
	return errors.Join(RemoveStranger(ctx), removeLink(ctx, Bridge))
}

// removeLeg removes a namespace and its interface, with both ends.
func removeLeg(ctx context.Context, namespace, link string) error {
	err := removeLink(ctx, link)
	if _, statErr := os.Stat("/run/netns/" + namespace); statErr == nil {
		err = errors.Join(err, ip(ctx, "netns delete "+namespace))
	}
	return err
}

// Stranger is a computer on the public side that is in no tailnet and that no rule of any machine admits: the network
// namespace from which tests look.
const Stranger = "tinyrack-stranger"

const strangerIP, strangerLink = "10.77.0.66", "trlab-s66"

// AddStranger makes the stranger, or completes it.
func AddStranger(ctx context.Context) error {
	return makeSteps(ctx, leg(Stranger, strangerLink, public(strangerIP)))
}

// RemoveStranger removes what AddStranger made.
func RemoveStranger(ctx context.Context) error { return removeLeg(ctx, Stranger, strangerLink) }

func removeLink(ctx context.Context, link string) error {
	if ip(ctx, "link show "+link) == nil {
		return ip(ctx, "link delete "+link)
	}
	return nil // it is gone
}

// foreignNetwork refuses to shadow a network that this host already talks to.
func foreignNetwork() error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, link := range links {
		if link.Name == Bridge {
			continue
		}
		list, err := link.Addrs()
		if err != nil {
			continue
		}
		if err := overlap(link.Name, list); err != nil {
			return err
		}
	}
	return nil
}

func overlap(link string, list []net.Addr) error {
	for _, a := range list {
		other, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		for _, own := range public(layout.HostIP) {
			if network(own).Overlaps(other) {
				return fmt.Errorf("interface %s has %s, which overlaps the lab's network %s: the lab would cut off what is "+
					"there: take that interface down while the lab runs", link, other, network(own))
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
