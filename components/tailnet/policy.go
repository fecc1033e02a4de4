package tailnet

import (
	"bytes"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tailscale/hujson"
)

// Role is what a host does in the site. Each role has a tag, which says what the host may reach and be reached by.
type Role string

// The roles a host can have.
const (
	Server  Role = "server"  // runs the Kubernetes API, and pods
	Agent   Role = "agent"   // runs pods
	Storage Role = "storage" // keeps backups, over S3
)

// Admins stands in a Grant for the people who administer the site.
const Admins Role = "admins"

// Roles returns every role, in the order of the policy.
func Roles() []Role { return []Role{Server, Agent, Storage} }

// StoragePorts are where a storage host serves S3: behind TLS, and on the usual port of an S3 server.
func StoragePorts() []int { return []int{443, 9000} }

// Host is one machine of the site, as the tailnet sees it.
type Host struct {
	// Name is its name in the tailnet.
	Name string
	// Roles are what it does. Its tags are theirs, and what its tags may reach adds up.
	Roles []Role
	// SSHPort is where its sshd listens.
	SSHPort int
}

// Policy says who may reach the hosts over the tailnet. What it does not grant is denied: traffic between the hosts, of
// k3s for example, does not take the tailnet but the hosts' own addresses.
type Policy struct {
	// Admins log in to the tailnet with these addresses. They alone reach the hosts' SSH and the Kubernetes API.
	Admins []string
	// ManagerTag owns the tags of the roles, such as "tag:tinyrack". The OAuth client holds it, and may so make keys with
	// the tag of any role.
	ManagerTag string
	// Hosts are the site's machines.
	Hosts []Host
	// APIPort is the port of the Kubernetes API, usually 6443.
	APIPort int
	// Rest is the HuJSON of the rest of a person's tailnet: their groups, rules, tests and so on. Optional.
	Rest []byte
	// RestName is the file that Rest comes from, for messages.
	RestName string
}

// Grant lets one side open TCP connections to the other.
type Grant struct {
	// From is a role, or Admins.
	From Role
	// To is a role: a policy cannot name hosts, whose addresses are unknown until they have joined.
	To    Role
	Ports []int
}

// IPv4Range and IPv6Range are where Tailscale takes its addresses from, on every tailnet:
// https://tailscale.com/kb/1015/100.x-addresses
var (
	IPv4Range = netip.MustParsePrefix("100.64.0.0/10")
	IPv6Range = netip.MustParsePrefix("fd7a:115c:a1e0::/48")
)

// Tag is the tag of the hosts of a role.
func (p Policy) Tag(role Role) string { return p.ManagerTag + "-" + string(role) }

// Tags are the tags of a host, in the order of the roles.
func (p Policy) Tags(h Host) []string {
	var tags []string
	for _, role := range Roles() {
		if slices.Contains(h.Roles, role) {
			tags = append(tags, p.Tag(role))
		}
	}
	return tags
}

// roleTags are the tags of all roles, used or not.
func (p Policy) roleTags() []string { return p.Tags(Host{Roles: Roles()}) }

// group is the admins' group. It is named after the manager's tag, so that a person's own group:admins stays theirs.
func (p Policy) group() string {
	return "group:" + strings.TrimPrefix(p.ManagerTag, "tag:") + "-admins"
}

// Grants are what the policy allows, derived from the roles.
//
// SSH is granted on every port that some host uses, to all roles, even to one that no host has any more: a host that
// leaves the list is undone over SSH after the policy was updated, and would be out of reach by then if its role left
// the policy with it. Only a port that no other host uses does; so a host's port is changed to that of another first.
func (p Policy) Grants() []Grant {
	var ssh []int
	has := map[Role]bool{}
	for _, host := range p.Hosts {
		ssh = append(ssh, host.SSHPort)
		for _, role := range host.Roles {
			has[role] = true
		}
	}
	var grants []Grant
	for _, role := range Roles() {
		ports := ssh
		if role == Server {
			ports = append(slices.Clone(ssh), p.APIPort)
		}
		grants = append(grants, Grant{From: Admins, To: role, Ports: sorted(ports)})
	}
	for _, role := range []Role{Server, Agent} {
		if has[role] && has[Storage] {
			grants = append(grants, Grant{From: role, To: Storage, Ports: sorted(StoragePorts())})
		}
	}
	return slices.DeleteFunc(grants, func(g Grant) bool { return len(g.Ports) == 0 })
}

func sorted(ports []int) []int { return slices.Compact(slices.Sorted(slices.Values(ports))) }

// maxTag bounds a tag with its role. Tailscale publishes no limit; a DNS label's is taken by every control server.
const maxTag = 63

var tagForm = regexp.MustCompile(`^tag:[a-z]([a-z0-9-]*[a-z0-9])?$`)

// Validate returns everything that is wrong with the policy but its hosts, joined. Each line reads "key: value:
// consequence: fix". ValidateHost does the hosts.
func (p Policy) Validate() error {
	var problems []error
	refuse := func(format string, values ...any) { problems = append(problems, fmt.Errorf(format, values...)) }
	if len(p.Admins) == 0 {
		refuse("admins: empty: nobody could reach the machines any more: list at least your own login")
	}
	for i, admin := range p.Admins {
		if address, err := mail.ParseAddress(admin); err != nil || address.Address != admin {
			refuse("admins[%d]: %q is not a login of the tailnet: Tailscale would refuse the policy: "+
				"write it as name@domain", i, admin)
		}
		if slices.ContainsFunc(p.Admins[:i], func(other string) bool { return strings.EqualFold(other, admin) }) {
			refuse("admins[%d]: %q is listed twice: removing it once would leave the access open: remove one of them",
				i, admin)
		}
	}
	switch longest := p.Tag(Storage); {
	case !tagForm.MatchString(p.ManagerTag):
		refuse("managerTag: %q is not a tag: Tailscale would refuse the policy: "+
			"write tag:<lower-case letters, digits and dashes>", p.ManagerTag)
	case len(longest) > maxTag:
		refuse("managerTag: %q is too long: %s would have %d characters, at most %d are safe: choose a shorter one",
			p.ManagerTag, longest, len(longest), maxTag)
	}
	if p.APIPort < 1 || p.APIPort > 65535 {
		refuse("apiPort: %d is not a port: the Kubernetes API could not be reached: set it to the API's port, usually 6443",
			p.APIPort)
	}
	if _, err := p.parseRest(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// ValidateHost returns everything that is wrong with a host, joined. The keys are relative to the host's own settings.
func (p Policy) ValidateHost(h Host) error {
	var problems []error
	refuse := func(format string, values ...any) { problems = append(problems, fmt.Errorf(format, values...)) }
	if len(h.Roles) == 0 {
		refuse("roles: empty: nothing would be set up on the machine, and nobody could reach it: "+
			"list what it does: %s, %s or %s", Server, Agent, Storage)
	}
	for i, role := range h.Roles {
		if !slices.Contains(Roles(), role) {
			refuse("roles[%d]: %q is not a role: the machine would have no tag, and nobody could reach it: write %s, %s or %s",
				i, role, Server, Agent, Storage)
		}
		if slices.Contains(h.Roles[:i], role) {
			refuse("roles[%d]: %q is listed twice: removing it once would change nothing: remove one of them", i, role)
		}
	}
	if slices.Contains(h.Roles, Server) && slices.Contains(h.Roles, Agent) {
		refuse("roles: both %s and %s: k3s runs once on a machine: keep %s, which runs pods as well", Server, Agent, Server)
	}
	// Whether it is a port at all remote.Host says.
	if h.SSHPort == p.APIPort && slices.Contains(h.Roles, Server) {
		refuse("port: %d is the port of the Kubernetes API: one of the two could not start: move sshd to another port",
			h.SSHPort)
	}
	return errors.Join(problems...)
}

// The sections of a policy file: https://tailscale.com/kb/1337/policy-syntax
type (
	grant struct {
		Src []string `json:"src"`
		Dst []string `json:"dst"`
		IP  []string `json:"ip"`
	}
	test struct {
		Src    string   `json:"src"`
		Proto  string   `json:"proto"`
		Accept []string `json:"accept,omitempty"`
		Deny   []string `json:"deny,omitempty"`
	}
)

// HuJSON returns the policy file: the same text for the same policy. The tests in it are run by Tailscale, which
// refuses a policy that fails them.
func (p Policy) HuJSON() (string, error) {
	rest, err := p.parseRest()
	if err != nil {
		return "", err
	}
	owners := object{{p.ManagerTag, raw([]string{p.group()})}}
	for _, tag := range p.roleTags() {
		owners = append(owners, member{tag, raw([]string{p.ManagerTag})})
	}
	ours := object{
		{"groups", raw(object{{p.group(), raw(p.Admins)}})},
		{"tagOwners", raw(owners)},
		{"grants", raw(p.rules())},
		// An absent list can mean "everything is allowed".
		{"acls", raw([]any{})},
		{"tests", raw(p.tests())},
	}
	text := bytes.NewBufferString("// Managed by Pulumi: change it there, a change made here is lost.\n" +
		"// The admins reach SSH and the Kubernetes API, k3s reaches the storage, nothing else reaches the hosts.\n")
	if len(rest.sections) > 0 {
		fmt.Fprintf(text, "// The rest of the tailnet comes from %s; its comments are not kept.\n", p.restName())
	}
	formatted, err := hujson.Format(raw(rest.merge(ours)))
	if err != nil {
		return "", fmt.Errorf("policy: %w", err)
	}
	return text.String() + string(formatted), nil
}

// rules are the grants in the terms of the policy file.
func (p Policy) rules() []grant {
	var rules []grant
	for _, g := range p.Grants() {
		from := p.group()
		if g.From != Admins {
			from = p.Tag(g.From)
		}
		rule := grant{Src: []string{from}, Dst: []string{p.Tag(g.To)}}
		for _, port := range g.Ports {
			rule.IP = append(rule.IP, "tcp:"+strconv.Itoa(port))
		}
		rules = append(rules, rule)
	}
	return rules
}

// closed are the ports that are tried besides the granted ones: SSH, HTTP and HTTPS, etcd, the Kubernetes API, S3 and
// the kubelet.
var closed = []int{22, 80, 443, 2379, 6443, 9000, 10250}

// tests returns what has to stay true however the policy grows: for each admin and each role, to each role, every grant
// is accepted and everything else is denied.
func (p Policy) tests() []test {
	grants := p.Grants()
	ports := slices.Clone(closed)
	for _, g := range grants {
		ports = append(ports, g.Ports...)
	}
	ports = sorted(ports)
	granted := func(from, to Role, port int) bool {
		return slices.ContainsFunc(grants, func(g Grant) bool {
			return g.From == from && g.To == to && slices.Contains(g.Ports, port)
		})
	}
	var tests []test
	add := func(src string, from Role) {
		tcp, udp := test{Src: src, Proto: "tcp"}, test{Src: src, Proto: "udp"}
		for _, to := range Roles() {
			for _, port := range ports {
				target := p.Tag(to) + ":" + strconv.Itoa(port)
				if granted(from, to, port) {
					tcp.Accept = append(tcp.Accept, target)
				} else {
					tcp.Deny = append(tcp.Deny, target)
				}
				udp.Deny = append(udp.Deny, target)
			}
		}
		tests = append(tests, tcp, udp)
	}
	for _, admin := range p.Admins {
		add(admin, Admins)
	}
	for _, role := range Roles() {
		add(p.Tag(role), role)
	}
	return tests
}
