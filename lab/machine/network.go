// Package machine is the lab's bare Linux host: a Debian that boots its own systemd in a network namespace of its own, with a
// public leg and a tailnet leg, and nothing on it of what the program is to install.
package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
)

// The lab's addresses. The public side is 10.77.0.0/24; the tailnet side takes a piece of Tailscale's own range.
const (
	Name      = "tinyrack-lab" // also the network namespace
	Bridge    = "trlab0"
	HostIP    = "10.77.0.1"  // the host's end of the public side: the "internet" that the machine sees
	Address   = "10.77.0.10" // the machine's public address
	tailnetIP = "100.64.0.1" // the operator's own device in the tailnet

	publicLeg  = "trlab-eth0"
	tailnetLeg = "trlab-ts0"
)

// network is what has to exist, in order; every line is skipped when its probe succeeds, so that an interrupted run goes on.
var network = []struct{ probe, make string }{
	{"link show " + Bridge, "link add " + Bridge + " type bridge"},
	{"", "addr replace " + HostIP + "/24 dev " + Bridge},
	{"", "link set " + Bridge + " up"},
	{"netns exec " + Name + " true", "netns add " + Name},
	{"link show " + publicLeg, "link add " + publicLeg + " type veth peer name eth0 netns " + Name},
	{"", "link set " + publicLeg + " master " + Bridge + " up"},
	{"", "-n " + Name + " addr replace " + Address + "/24 dev eth0"},
	{"", "-n " + Name + " link set lo up"},
	{"", "-n " + Name + " link set eth0 up"},
	{"", "-n " + Name + " route replace default via " + HostIP},
	{"link show " + tailnetLeg, "link add " + tailnetLeg + " type veth peer name tailscale0 netns " + Name},
	{"", "addr replace " + tailnetIP + "/24 dev " + tailnetLeg},
	{"", "link set " + tailnetLeg + " up"},
}

// MakeNetwork makes the namespace, the bridge and the two legs, or completes what an interrupted run left.
func MakeNetwork(ctx context.Context) error {
	if err := foreignNetwork(); err != nil {
		return err
	}
	for _, step := range network {
		if step.probe != "" && ip(ctx, step.probe) == nil {
			continue
		}
		if err := ip(ctx, step.make); err != nil {
			return err
		}
	}
	return nil
}

// RemoveNetwork removes all that MakeNetwork made. The peers of the legs go with them.
func RemoveNetwork(ctx context.Context) error {
	var errs []error
	for _, link := range []string{publicLeg, tailnetLeg, Bridge} {
		if ip(ctx, "link show "+link) == nil {
			errs = append(errs, ip(ctx, "link delete "+link))
		}
	}
	if _, err := os.Stat("/run/netns/" + Name); err == nil {
		errs = append(errs, ip(ctx, "netns delete "+Name))
	}
	return errors.Join(errs...)
}

// foreignNetwork refuses to shadow a network that this host already talks to.
func foreignNetwork() error {
	addrs, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range addrs {
		if i.Name == Bridge || i.Name == tailnetLeg {
			continue
		}
		list, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range list {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && (n.Contains(net.ParseIP(HostIP)) || n.Contains(net.ParseIP(tailnetIP))) {
				return fmt.Errorf("interface %s has %s, which overlaps the lab's networks 10.77.0.0/24 and 100.64.0.0/24: "+
					"the lab would cut off what is there: take that interface down while the lab runs", i.Name, n)
			}
		}
	}
	return nil
}

func ip(ctx context.Context, args string) error {
	out, err := exec.CommandContext(ctx, "ip", strings.Fields(args)...).CombinedOutput() //nolint:gosec // fixed commands
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", args, err, strings.TrimSpace(string(out)))
	}
	return nil
}
