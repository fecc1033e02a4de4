package tailscale

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ruleset decides who may open a connection to what.
type ruleset struct {
	policy *policy
	rules  []rule
	nodes  []Node
}

// rule admits connections from any source to any destination at any port.
type rule struct {
	src []string
	dst []target
}

type target struct {
	host  string
	ports []portRange
}

// portRange is a range of ports of one protocol, "" for TCP, UDP and SCTP.
type portRange struct {
	proto       string
	first, last int
}

// principal is one end of a connection in a test: a user's device, a tagged one or
// an address, which may be that of a device.
type principal struct {
	user    string
	tags    []string
	address netip.Addr
}

func (p *policy) compile(nodes []Node) (*ruleset, error) {
	set := &ruleset{policy: p, nodes: nodes}
	for i, acl := range p.ACLs {
		compiled := rule{src: acl.Src}
		for _, dst := range acl.Dst {
			host, ports, err := splitPorts(dst)
			if err != nil {
				return nil, badPolicy("acls[%d].dst: %v", i, err)
			}
			for j := range ports {
				ports[j].proto = acl.Proto
			}
			compiled.dst = append(compiled.dst, target{host: host, ports: ports})
		}
		set.rules = append(set.rules, compiled)
	}
	for i, grant := range p.Grants {
		ports := []portRange{}
		for _, text := range grant.IP {
			proto, list, found := strings.Cut(text, ":")
			if !found {
				proto, list = "", text
			}
			parsed, err := parsePorts(list)
			if err != nil {
				return nil, badPolicy("grants[%d].ip: %q: %v", i, text, err)
			}
			for _, one := range parsed {
				one.proto = proto
				ports = append(ports, one)
			}
		}
		compiled := rule{src: grant.Src}
		for _, dst := range grant.Dst {
			compiled.dst = append(compiled.dst, target{host: dst, ports: ports})
		}
		set.rules = append(set.rules, compiled)
	}
	return set, nil
}

// splitPorts cuts "host:ports" at its last colon.
func splitPorts(text string) (string, []portRange, error) {
	colon := strings.LastIndex(text, ":")
	if colon < 1 {
		return "", nil, fmt.Errorf("%q: want host:ports", text)
	}
	ports, err := parsePorts(text[colon+1:])
	if err != nil {
		return "", nil, fmt.Errorf("%q: %w", text, err)
	}
	return text[:colon], ports, nil
}

// cgnat is the range that tailnet addresses come from.
var cgnat = netip.MustParsePrefix("100.64.0.0/10")

// parsePorts reads "*", "22", "80-90" or a comma-separated list of these.
func parsePorts(text string) ([]portRange, error) {
	if text == "*" {
		return []portRange{{first: 0, last: 65535}}, nil
	}
	var ports []portRange
	for _, part := range strings.Split(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		if !isRange {
			high = low
		}
		first, err := strconv.ParseUint(low, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port %q is not a number from 0 to 65535", low)
		}
		last, err := strconv.ParseUint(high, 10, 16)
		if err != nil || last < first {
			return nil, fmt.Errorf("port range %q is not one", part)
		}
		ports = append(ports, portRange{first: int(first), last: int(last)})
	}
	return ports, nil
}

// protocols maps numbers to names; rules may use either.
var protocols = map[string]string{"1": "icmp", "6": "tcp", "17": "udp", "132": "sctp"}

func protocol(name string) string {
	if known, ok := protocols[name]; ok {
		return known
	}
	return name
}

func (r portRange) admits(proto string, port int) bool {
	wanted := protocol(r.proto)
	return (wanted == "" || wanted == proto) && r.first <= port && port <= r.last
}

// allows is the answer to one test: may src open a connection to dst?
func (set *ruleset) allows(src, dst principal, proto string, port int) bool {
	for _, rule := range set.rules {
		if !slices.ContainsFunc(rule.src, func(selector string) bool { return set.matches(selector, src, src) }) {
			continue
		}
		for _, target := range rule.dst {
			if set.matches(target.host, dst, src) &&
				slices.ContainsFunc(target.ports, func(ports portRange) bool { return ports.admits(proto, port) }) {
				return true
			}
		}
	}
	return false
}

// matches is true when a selector of a rule covers a principal; peer is the source
// of the connection, which autogroup:self refers to.
func (set *ruleset) matches(selector string, who, peer principal) bool {
	switch selector {
	case "*":
		return true
	case "autogroup:member", "autogroup:members":
		return who.user != ""
	case "autogroup:tagged":
		return len(who.tags) > 0
	case "autogroup:self":
		return who.user != "" && who.user == peer.user
	case "autogroup:internet":
		return who.address.IsValid() && len(who.tags) == 0 && !who.address.IsPrivate() && !cgnat.Contains(who.address)
	case "autogroup:danger-all":
		return true
	}
	switch set.policy.kind(selector) {
	case "user":
		return who.user != "" && (who.user == selector || strings.HasSuffix(selector, "@") &&
			strings.HasPrefix(who.user, selector))
	case "group":
		return who.user != "" && slices.Contains(set.policy.Groups[selector], who.user)
	case "tag":
		return slices.Contains(who.tags, selector)
	case "host", "address":
		prefix, err := parsePrefix(set.address(selector))
		return err == nil && who.address.IsValid() && prefix.Contains(who.address)
	}
	return false // roles such as autogroup:admin: the emulator knows no users
}

// address resolves a name of the policy's hosts.
func (set *ruleset) address(selector string) string {
	if address, ok := set.policy.Hosts[selector]; ok {
		return address
	}
	return selector
}

// principals turns the name in a test into the devices that it stands for.
func (set *ruleset) principals(name string) ([]principal, error) {
	if err := set.policy.known("tests", name, "user", "group", "tag", "address", "host"); err != nil {
		return nil, err
	}
	switch set.policy.kind(name) {
	case "user":
		return []principal{{user: name}}, nil
	case "group":
		var members []principal
		for _, member := range set.policy.Groups[name] {
			members = append(members, principal{user: member})
		}
		return members, nil
	case "tag":
		return []principal{{tags: []string{name}}}, nil
	}
	prefix, err := parsePrefix(set.address(name))
	if err != nil {
		return nil, badPolicy("tests: %q is not an address", name)
	}
	found := principal{address: prefix.Addr()}
	for _, n := range set.nodes {
		if slices.Contains(n.Addresses, found.address.String()) {
			found.tags, found.user = n.Tags, n.User
		}
	}
	return []principal{found}, nil
}
