package machine

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Firewall is what the machine admits besides its own connections: everything on
// the tailnet interface, the cluster's own traffic, and SSH from the bootstrap
// sources.
type Firewall struct {
	// BootstrapSources are the CIDRs or addresses that may reach SSH on the
	// public side. Empty once the machine is managed over the tailnet.
	BootstrapSources []string
	// SSHPort is the port BootstrapSources may reach. Zero means 22.
	SSHPort int
	// PodCIDR and ServiceCIDR are the cluster's networks; they must pass
	// (k3s-io/k3s#6240).
	PodCIDR     string
	ServiceCIDR string
	// TailnetInterface is the interface everything is admitted on. Empty means
	// tailscale0.
	TailnetInterface string
}

var interfaceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

func (f Firewall) withDefaults() Firewall {
	f.SSHPort = cmp.Or(f.SSHPort, 22)
	f.TailnetInterface = cmp.Or(f.TailnetInterface, "tailscale0")
	return f
}

// Validate returns every problem with the firewall.
func (f Firewall) Validate() error {
	f = f.withDefaults()
	var problems []error
	for _, s := range f.BootstrapSources {
		if p, err := parseSource(s); err != nil {
			problems = append(problems, fmt.Errorf("firewall.bootstrapSources: %q: not an address or CIDR: the firewall would not load: use a form like 203.0.113.7/32", s))
		} else if p.Bits() == 0 {
			problems = append(problems, fmt.Errorf("firewall.bootstrapSources: %q: the whole Internet: SSH would be open to everybody: name the addresses you work from", s))
		}
	}
	pod, podErr := netip.ParsePrefix(f.PodCIDR)
	if podErr != nil {
		problems = append(problems, fmt.Errorf("firewall.podCIDR: %q: not a CIDR: pods could not reach the machine: use a form like 10.55.0.0/16", f.PodCIDR))
	}
	service, serviceErr := netip.ParsePrefix(f.ServiceCIDR)
	if serviceErr != nil {
		problems = append(problems, fmt.Errorf("firewall.serviceCIDR: %q: not a CIDR: Services could not reach the machine: use a form like 10.56.0.0/16", f.ServiceCIDR))
	}
	if podErr == nil && serviceErr == nil && pod.Overlaps(service) {
		problems = append(problems, fmt.Errorf("firewall: pod network %s and service network %s overlap: addresses would be ambiguous: choose separate networks", pod, service))
	}
	if f.SSHPort < 1 || f.SSHPort > 65535 {
		problems = append(problems, fmt.Errorf("firewall.sshPort: %d: not a port: use 1 to 65535", f.SSHPort))
	}
	if !interfaceName.MatchString(f.TailnetInterface) {
		problems = append(problems, fmt.Errorf("firewall.tailnetInterface: %q: not an interface name: the tailnet would be shut out: use tailscale0", f.TailnetInterface))
	}
	return errors.Join(problems...)
}

// Ruleset returns the text of the nftables table inet tinyrack. Loading it
// replaces that table in one transaction and touches no other: kube-proxy and
// flannel have theirs.
//
// The input chain guards the machine's own sockets. Ports of Services are
// rewritten before any input chain sees them (k3s-io/k3s#8348); the forward chain
// stops those. Both run shortly before the usual filter priority, and a packet
// accepted here is still subject to the other tables.
func (f Firewall) Ruleset() (string, error) {
	if err := f.Validate(); err != nil {
		return "", err
	}
	f = f.withDefaults()
	four, six := splitSources(f.BootstrapSources)
	return strings.NewReplacer(
		"@TAILNET@", f.TailnetInterface,
		"@SSH_PORT@", fmt.Sprint(f.SSHPort),
		"@BOOTSTRAP4@", setElements(four),
		"@BOOTSTRAP6@", setElements(six),
		"@CLUSTER@", f.clusterRules(),
	).Replace(rulesetText), nil
}

const rulesetText = `# Managed by the tinyrack stack; changes by hand are lost.
table inet tinyrack
delete table inet tinyrack
table inet tinyrack {
	# Who may reach SSH from the public side.
	set bootstrap4 {
		type ipv4_addr
		flags interval
		@BOOTSTRAP4@
	}
	set bootstrap6 {
		type ipv6_addr
		flags interval
		@BOOTSTRAP6@
	}

	# Interfaces no stranger can send on.
	chain trusted {
		iifname { "lo", "@TAILNET@" } accept
		# The cluster's networks count only on the cluster's interfaces: anybody can
		# write such a source address.
		@CLUSTER@
	}

	chain input {
		type filter hook input priority filter - 10; policy drop;
		ct state established,related accept
		jump trusted
		# Neighbour discovery and router advertisements never leave the link.
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, nd-redirect } ip6 hoplimit 255 accept
		icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } ip6 saddr fe80::/10 accept
		ct state invalid drop
		# Path MTU discovery and errors of flows that are no longer tracked.
		icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
		icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
		# Answers to a DHCP client are sent to a broadcast or multicast request, so
		# they match no tracked flow.
		udp sport 67 udp dport 68 accept
		ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
		ip saddr @bootstrap4 tcp dport @SSH_PORT@ accept
		ip6 saddr @bootstrap6 tcp dport @SSH_PORT@ accept
	}

	chain forward {
		type filter hook forward priority filter - 10; policy drop;
		ct state established,related accept
		jump trusted
	}
}`

// clusterRules admits the cluster's networks on the interfaces k3s' flannel uses.
// A wildcard is not allowed inside a set on every kernel in use, hence one line
// for each.
func (f Firewall) clusterRules() string {
	var rules []string
	for _, network := range []string{f.PodCIDR, f.ServiceCIDR} {
		p := netip.MustParsePrefix(network).Masked()
		family := "ip"
		if p.Addr().Is6() {
			family = "ip6"
		}
		for _, name := range []string{"cni0", "flannel*"} {
			rules = append(rules, fmt.Sprintf("iifname %q %s saddr %s accept", name, family, p))
		}
	}
	return strings.Join(rules, "\n\t\t")
}

// setElements returns the elements line of a set. An empty set has none.
func setElements(prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return "# none"
	}
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return "elements = { " + strings.Join(words, ", ") + " }"
}

// splitSources returns the sources of each family, sorted, without those that
// another one contains: nft refuses overlapping intervals.
func splitSources(sources []string) (four, six []netip.Prefix) {
	var all []netip.Prefix
	for _, s := range sources {
		if p, err := parseSource(s); err == nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var last netip.Prefix
	for _, p := range all {
		if last.IsValid() && last.Overlaps(p) {
			continue // sorted: the wider one comes first
		}
		last = p
		if p.Addr().Is4() {
			four = append(four, p)
		} else {
			six = append(six, p)
		}
	}
	return four, six
}

// parseSource reads a CIDR, or an address as the CIDR of just itself.
func parseSource(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return p.Masked(), nil
}
