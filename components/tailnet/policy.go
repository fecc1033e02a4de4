package tailnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
)

// Policy says who may reach the machines over the tailnet. Whatever it does not
// allow is denied.
type Policy struct {
	// Admins log in to the tailnet with these addresses. They alone reach the
	// machines' SSH and Kubernetes API.
	Admins []string
	// MachineTag is the tag of the machines, such as "tag:k3s".
	MachineTag string
	// APIPort is the port of the Kubernetes API, usually 6443.
	APIPort int
	// Routes are the subnets a machine may advertise without further approval,
	// and that the admins reach through it. Optional.
	Routes []netip.Prefix
	// ExitNode lets the machines be the admins' way to the internet without
	// further approval. Optional.
	ExitNode bool
}

const (
	sshPort = 22
	admins  = "group:admins"
)

// IPv4Range and IPv6Range are where Tailscale takes its addresses from, on every
// tailnet: https://tailscale.com/kb/1015/100.x-addresses
var (
	IPv4Range = netip.MustParsePrefix("100.64.0.0/10")
	IPv6Range = netip.MustParsePrefix("fd7a:115c:a1e0::/48")
)

var machineTag = regexp.MustCompile(`^tag:[a-zA-Z][a-zA-Z0-9-]*$`)

// Validate returns everything that is wrong with the policy, joined. Each line
// reads "key: value: consequence: fix".
func (p Policy) Validate() error {
	var problems []error
	refuse := func(format string, values ...any) {
		problems = append(problems, fmt.Errorf(format, values...))
	}
	if len(p.Admins) == 0 {
		refuse("admins: empty: nobody could reach the machines any more: list at least your own login")
	}
	for i, admin := range p.Admins {
		if address, err := mail.ParseAddress(admin); err != nil || address.Address != admin {
			refuse("admins[%d]: %q is not a login of the tailnet: Tailscale would refuse the policy: write it as name@domain", i, admin)
		}
		if slices.Contains(p.Admins[:i], admin) {
			refuse("admins[%d]: %q is listed twice: removing it once would leave the access open: remove one of them", i, admin)
		}
	}
	if !machineTag.MatchString(p.MachineTag) {
		refuse("machineTag: %q is not a tag: Tailscale would refuse the policy: write tag:<letters, digits and dashes>", p.MachineTag)
	}
	switch {
	case p.APIPort < 1 || p.APIPort > 65535:
		refuse("apiPort: %d is not a port: the Kubernetes API could not be reached: set it to the API's port, usually 6443", p.APIPort)
	case p.APIPort == sshPort:
		refuse("apiPort: %d is the port of SSH: the Kubernetes API could not be reached: set it to the API's port, usually 6443", p.APIPort)
	}
	for i, route := range p.Routes {
		switch {
		case !route.IsValid() || route != route.Masked():
			refuse("routes[%d]: %v is not a subnet: Tailscale would refuse the policy: write its first address and length, such as 10.0.0.0/24", i, route)
		case route.Bits() == 0:
			refuse("routes[%d]: %v is the whole internet: it would be approved as a subnet: ask for the exit node instead", i, route)
		case route.Overlaps(IPv4Range) || route.Overlaps(IPv6Range):
			refuse("routes[%d]: %v holds addresses of the tailnet itself: the admins would reach every port of its machines: name a subnet behind a machine", i, route)
		}
		if slices.Contains(p.Routes[:i], route) {
			refuse("routes[%d]: %v is listed twice: removing it once would leave it approved: remove one of them", i, route)
		}
	}
	return errors.Join(problems...)
}

// The sections of a policy file, in the order they are written:
// https://tailscale.com/kb/1337/policy-syntax
type (
	document struct {
		Groups        map[string][]string `json:"groups"`
		TagOwners     map[string][]string `json:"tagOwners"`
		ACLs          []acl               `json:"acls"`
		AutoApprovers *autoApprovers      `json:"autoApprovers,omitempty"`
		Tests         []test              `json:"tests"`
	}
	acl struct {
		Action string   `json:"action"`
		Src    []string `json:"src"`
		Proto  string   `json:"proto,omitempty"`
		Dst    []string `json:"dst"`
	}
	autoApprovers struct {
		Routes   map[string][]string `json:"routes,omitempty"`
		ExitNode []string            `json:"exitNode,omitempty"`
	}
	test struct {
		Src    string   `json:"src"`
		Proto  string   `json:"proto,omitempty"`
		Accept []string `json:"accept,omitempty"`
		Deny   []string `json:"deny,omitempty"`
	}
)

const header = `// Managed by Pulumi: change it there, a change made here is lost.
// Only admins reach the machines, and there only SSH and the Kubernetes API.
`

// HuJSON returns the policy file: the same text for the same policy. The tests
// in it are run by Tailscale, which refuses a policy that fails them.
func (p Policy) HuJSON() (string, error) {
	text := bytes.NewBufferString(header)
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(p.document()); err != nil {
		return "", fmt.Errorf("policy: %w", err)
	}
	return text.String(), nil
}

func (p Policy) document() document {
	tag := []string{p.MachineTag}
	doc := document{
		Groups: map[string][]string{admins: p.Admins},
		// Owners may put the tag on a machine; the OAuth client that makes the
		// join key must hold the tag itself.
		TagOwners: map[string][]string{p.MachineTag: {admins}},
		ACLs: []acl{{
			Action: "accept",
			Src:    []string{admins},
			Proto:  "tcp",
			Dst:    []string{fmt.Sprintf("%s:%d,%d", p.MachineTag, sshPort, p.APIPort)},
		}},
		Tests: p.tests(),
	}
	if len(p.Routes) > 0 || p.ExitNode {
		doc.AutoApprovers = &autoApprovers{Routes: map[string][]string{}}
	}
	for _, route := range p.Routes {
		doc.AutoApprovers.Routes[route.String()] = tag
		doc.ACLs = append(doc.ACLs, acl{Action: "accept", Src: []string{admins}, Dst: []string{route.String() + ":*"}})
	}
	if p.ExitNode {
		doc.AutoApprovers.ExitNode = tag
		doc.ACLs = append(doc.ACLs, acl{Action: "accept", Src: []string{admins}, Dst: []string{"autogroup:internet:*"}})
	}
	return doc
}

// tests returns what has to stay true however the policy grows: each admin
// reaches the two ports and no other, and the machines do not reach each other's.
func (p Policy) tests() []test {
	on := func(ports ...int) []string {
		var targets []string
		for _, port := range ports {
			targets = append(targets, p.MachineTag+":"+strconv.Itoa(port))
		}
		return targets
	}
	// HTTP and HTTPS, etcd and the kubelet.
	closed := slices.DeleteFunc([]int{80, 443, 2379, 10250}, func(port int) bool { return port == p.APIPort })

	var tests []test
	for _, admin := range p.Admins {
		tests = append(tests,
			test{Src: admin, Proto: "tcp", Accept: on(sshPort, p.APIPort), Deny: on(closed...)},
			test{Src: admin, Proto: "udp", Deny: on(sshPort, p.APIPort)},
		)
	}
	return append(tests, test{Src: p.MachineTag, Proto: "tcp", Deny: on(sshPort, p.APIPort)})
}
