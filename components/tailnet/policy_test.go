package tailnet

import (
	"embed"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tailscale/hujson"

	"github.com/tinyrack-net/infrastructure/internal/golden"
)

//go:embed testdata
var testdata embed.FS

// valid returns a policy that nothing is wrong with: one server.
func valid() Policy {
	return Policy{
		Admins:     []string{"alice@example.org", "bob@github"},
		ManagerTag: "tag:tinyrack",
		Hosts:      []Host{{Name: "site", Roles: []Role{Server}, SSHPort: 22}},
		APIPort:    6443,
	}
}

// full returns a policy with every role, another port of SSH and the rest of a person's tailnet.
func full() Policy {
	policy := valid()
	policy.APIPort = 16443
	policy.Hosts = []Host{
		{Name: "one", Roles: []Role{Server}, SSHPort: 22},
		{Name: "two", Roles: []Role{Agent}, SSHPort: 2222},
		{Name: "nas", Roles: []Role{Storage}, SSHPort: 22},
	}
	policy.RestName = "tailnet/production.hujson"
	policy.Rest = []byte(`// A person's own tailnet.
{
	"Groups": {"group:admins": ["alice@example.org"], /* them */ "group:family": ["mum@example.org"],},
	"hosts": {"printer": "100.101.102.103", "lan": "192.168.7.0/24"},
	"tagOwners": {"tag:nas": ["group:admins"], "tag:ci": ["tag:tinyrack"]},
	"grants": [
		{"src": ["*"], "dst": ["autogroup:self", "autogroup:internet", "printer", "lan", "ipset:far"], "ip": ["*"]},
		{"src": ["tag:tinyrack-server"], "dst": ["tag:nas"], "ip": ["tcp:2049"],
			"app": {"example.com/cap/<a&b>": [{"n": 1.50}]}},
	],
	"ACLs": [{"action": "accept", "src": ["group:family"],
		"dst": ["tag:nas:445,80", "[2001:db8::1]:22", "192.168.7.9:*"]}],
	"ssh": [{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["root"]}],
	"nodeAttrs": [{"target": ["autogroup:member"], "attr": ["funnel"]}, {"target": ["*"], "attr": ["nextdns:abc"]}],
	"ipsets": {"ipset:far": ["add 10.1.0.0/16", "remove 100.64.0.0/10", "add host:lan"]},
	"postures": {"posture:mac": ["node:os == 'macos'"]},
	"autoApprovers": {"routes": {"192.168.7.0/24": ["tag:nas"]}, "exitNode": ["autogroup:admin"]},
	"tests": [{"src": "mum@example.org", "accept": ["tag:nas:445"]}],
	"sshTests": [],
	"randomizeClientPort": true,
	"derpMap": {"OmitDefaultRegions": false},
	"acls_of_tomorrow": null,
}
`)
	return policy
}

func TestHuJSON(t *testing.T) {
	for name, policy := range map[string]Policy{"policy.hujson": valid(), "policy-full.hujson": full()} {
		t.Run(name, func(t *testing.T) {
			text, err := policy.HuJSON()
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, testdata, name, text)
			for range 20 {
				if again, _ := policy.HuJSON(); again != text {
					t.Fatalf("one policy has two texts:\n%s\n%s", text, again)
				}
			}
		})
	}
}

func TestGrants(t *testing.T) {
	host := func(port int, roles ...Role) Host { return Host{Name: "h", Roles: roles, SSHPort: port} }
	for name, test := range map[string]struct {
		hosts []Host
		want  string
	}{
		"none": {nil, "[{admins server [6443]}]"},
		"one server": {
			[]Host{host(22, Server)},
			"[{admins server [22 6443]} {admins agent [22]} {admins storage [22]}]",
		},
		"another port": {
			[]Host{host(2222, Server)},
			"[{admins server [2222 6443]} {admins agent [2222]} {admins storage [2222]}]",
		},
		"two of a port": {
			[]Host{host(22, Server), host(22, Agent)},
			"[{admins server [22 6443]} {admins agent [22]} {admins storage [22]}]",
		},
		"storage alone": {
			[]Host{host(22, Storage)},
			"[{admins server [22 6443]} {admins agent [22]} {admins storage [22]}]",
		},
		"server storage": {
			[]Host{host(22, Server, Storage)},
			"[{admins server [22 6443]} {admins agent [22]} {admins storage [22]} {server storage [443 9000]}]",
		},
		"all": {
			[]Host{host(22, Server), host(2222, Agent), host(22, Storage)},
			"[{admins server [22 2222 6443]} {admins agent [22 2222]} {admins storage [22 2222]} " +
				"{server storage [443 9000]} {agent storage [443 9000]}]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(Policy{Hosts: test.hosts, APIPort: 6443}.Grants()); got != test.want {
				t.Errorf("grants are\n%s, want\n%s", got, test.want)
			}
		})
	}
}

func TestTags(t *testing.T) {
	got := valid().Tags(Host{Roles: []Role{Storage, Server}})
	if want := []string{"tag:tinyrack-server", "tag:tinyrack-storage"}; !slices.Equal(got, want) {
		t.Errorf("tags are %q, want %q", got, want)
	}
}

// document is a policy as Tailscale reads it.
type document struct {
	Groups    map[string][]string
	TagOwners map[string][]string
	Grants    []grant
	Tests     []test
}

func parse(t *testing.T, policy Policy) (doc document) {
	t.Helper()
	text, err := policy.HuJSON()
	if err != nil {
		t.Fatal(err)
	}
	standard, err := hujson.Standardize([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(standard, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// failures runs the tests inside a policy against its rules.
func failures(doc document) (found []string) {
	for _, test := range doc.Tests {
		for want, targets := range map[bool][]string{true: test.Accept, false: test.Deny} {
			for _, target := range targets {
				if allows(doc, test.Src, test.Proto, target) != want {
					found = append(found, fmt.Sprintf("%s → %s over %s: want %t", test.Src, target, test.Proto, want))
				}
			}
		}
	}
	return found
}

func allows(doc document, from, proto, target string) bool {
	colon := strings.LastIndex(target, ":")
	host, port := target[:colon], target[colon+1:]
	return slices.ContainsFunc(doc.Grants, func(rule grant) bool {
		return slices.ContainsFunc(rule.Src, func(src string) bool {
			return src == "*" || src == from || slices.Contains(doc.Groups[src], from)
		}) && slices.ContainsFunc(rule.Dst, func(dst string) bool { return dst == "*" || dst == host }) &&
			slices.ContainsFunc(rule.IP, func(ip string) bool {
				return slices.Contains([]string{"*", port, proto + ":*", proto + ":" + port}, ip)
			})
	})
}

func everyRole() Policy {
	policy := full()
	policy.Rest = nil
	return policy
}

func TestPolicyPassesItsTests(t *testing.T) {
	for name, policy := range map[string]Policy{"one": valid(), "all": everyRole()} {
		if found := failures(parse(t, policy)); len(found) != 0 {
			t.Errorf("%s: %q", name, found)
		}
	}
}

// Every source, protocol and target that can be named is in the tests, on the side the grants say.
func TestMatrixIsWhole(t *testing.T) {
	policy := everyRole()
	doc := parse(t, policy)
	for _, src := range []string{
		"alice@example.org", "bob@github", "tag:tinyrack-server", "tag:tinyrack-agent", "tag:tinyrack-storage",
	} {
		for _, proto := range []string{"tcp", "udp"} {
			for _, role := range []string{"server", "agent", "storage"} {
				for _, port := range []int{22, 80, 443, 2222, 2379, 6443, 9000, 10250, 16443} {
					target := "tag:tinyrack-" + role + ":" + strconv.Itoa(port)
					isAdmin, isNode := !strings.HasPrefix(src, "tag:"), src == "tag:tinyrack-server" || src == "tag:tinyrack-agent"
					want := proto == "tcp" && (isAdmin && (port == 22 || port == 2222 || port == 16443 && role == "server") ||
						isNode && role == "storage" && (port == 443 || port == 9000))
					var accepted, denied int
					for _, test := range doc.Tests {
						if test.Src == src && test.Proto == proto {
							accepted += count(test.Accept, target)
							denied += count(test.Deny, target)
						}
					}
					if want != (accepted == 1) || want != (denied == 0) || accepted+denied != 1 {
						t.Errorf("%s → %s over %s: accepted %d times and denied %d times, want accepted: %t",
							src, target, proto, accepted, denied, want)
					}
				}
			}
		}
	}
}

func count(list []string, wanted string) (n int) {
	for _, one := range list {
		if one == wanted {
			n++
		}
	}
	return n
}

func TestPolicyTestsNoticeMistakes(t *testing.T) {
	const group = "group:tinyrack-admins"
	for name, change := range map[string]func(*document){
		"all ports open":      func(d *document) { d.Grants[0].IP = []string{"tcp:*"} },
		"all protocols open":  func(d *document) { d.Grants[0].IP = []string{"22", "2222", "16443"} },
		"everybody let in":    func(d *document) { d.Grants[0].Src = []string{"*"} },
		"agents let in":       func(d *document) { d.Grants[0].Src = append(d.Grants[0].Src, "tag:tinyrack-agent") },
		"API closed":          func(d *document) { d.Grants[0].IP = []string{"tcp:22", "tcp:2222"} },
		"SSH closed":          func(d *document) { d.Grants[1].IP = []string{"tcp:2222"} },
		"API of agents open":  func(d *document) { d.Grants[1].IP = append(d.Grants[1].IP, "tcp:16443") },
		"S3 closed":           func(d *document) { d.Grants[3].IP = []string{"tcp:443"} },
		"S3 of servers open":  func(d *document) { d.Grants[3].Dst = append(d.Grants[3].Dst, "tag:tinyrack-server") },
		"storage reaches out": func(d *document) { d.Grants[3].Src = append(d.Grants[3].Src, "tag:tinyrack-storage") },
		"an admin shut out":   func(d *document) { d.Groups[group] = d.Groups[group][:1] },
		"a rule opening more": func(d *document) {
			d.Grants = append(d.Grants, grant{[]string{group}, []string{"*"}, []string{"*"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			doc := parse(t, everyRole())
			change(&doc)
			if len(failures(doc)) == 0 {
				t.Error("the tests in the policy still pass")
			}
		})
	}
}

// The OAuth client holds the manager's tag alone; its keys have the roles' tags because that tag owns them.
func TestManagerOwnsTheRoles(t *testing.T) {
	want := map[string][]string{
		"tag:tinyrack":         {"group:tinyrack-admins"},
		"tag:tinyrack-server":  {"tag:tinyrack"},
		"tag:tinyrack-agent":   {"tag:tinyrack"},
		"tag:tinyrack-storage": {"tag:tinyrack"},
	}
	if got := parse(t, valid()).TagOwners; !reflect.DeepEqual(got, want) {
		t.Errorf("owners are %v, want %v", got, want)
	}
}

// refused fails the test unless err is one line that starts with want and has a consequence and a fix.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), want) ||
		strings.Count(err.Error(), ": ") < 3 && strings.Count(strings.TrimPrefix(err.Error(), want), ": ") < 2 {
		t.Errorf("problems are\n%v\nwant exactly one starting with\n%s\nwith a consequence and a fix", err, want)
	}
}

func TestValidate(t *testing.T) {
	for _, policy := range []Policy{valid(), full()} {
		if err := policy.Validate(); err != nil {
			t.Error(err)
		}
	}
	for name, test := range map[string]struct {
		change func(*Policy)
		want   string
	}{
		"no admins":         {func(p *Policy) { p.Admins = nil }, "admins: empty"},
		"admin":             {func(p *Policy) { p.Admins[1] = "bob" }, `admins[1]: "bob" is not a login`},
		"admin with a name": {func(p *Policy) { p.Admins[1] = "Bob <bob@example.org>" }, "admins[1]:"},
		"group as admin":    {func(p *Policy) { p.Admins[1] = "autogroup:member" }, "admins[1]:"},
		"duplicate admin": {
			func(p *Policy) { p.Admins[1] = p.Admins[0] },
			`admins[1]: "alice@example.org" is listed twice`,
		},
		"the same in capitals": {
			func(p *Policy) { p.Admins[1] = "Alice@example.org" },
			`admins[1]: "Alice@example.org" is listed twice`,
		},
		"no tag": {func(p *Policy) { p.ManagerTag = "" }, `managerTag: "" is not a tag`},
		"tag without prefix": {
			func(p *Policy) { p.ManagerTag = "tinyrack" },
			`managerTag: "tinyrack" is not a tag`,
		},
		"tag with a port": {
			func(p *Policy) { p.ManagerTag = "tag:x:*" },
			`managerTag: "tag:x:*" is not a tag`,
		},
		"tag in capitals": {
			func(p *Policy) { p.ManagerTag = "tag:Tinyrack" },
			`managerTag: "tag:Tinyrack" is not a tag`,
		},
		"tag with a dash": {
			func(p *Policy) { p.ManagerTag = "tag:tinyrack-" },
			`managerTag: "tag:tinyrack-" is not a tag`,
		},
		"long tag": {
			func(p *Policy) { p.ManagerTag = "tag:" + strings.Repeat("t", 52) },
			`managerTag: "tag:` + strings.Repeat("t", 52) + `" is too long`,
		},
		"port":          {func(p *Policy) { p.APIPort = 0 }, "apiPort: 0 is not a port"},
		"port too high": {func(p *Policy) { p.APIPort = 65536 }, "apiPort: 65536 is not a port"},
		"rest":          {func(p *Policy) { p.Rest = []byte("[]") }, "policyFile: the policy file: not an object"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := valid()
			test.change(&policy)
			refused(t, policy.Validate(), test.want)
		})
	}
	for name, change := range map[string]func(*Policy){
		"the longest tag":  func(p *Policy) { p.ManagerTag = "tag:" + strings.Repeat("t", 51) }, // with "-storage" 63
		"the lowest port":  func(p *Policy) { p.APIPort = 1 },
		"the highest port": func(p *Policy) { p.APIPort = 65535 },
	} {
		policy := valid()
		change(&policy)
		if err := policy.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (Policy{}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("an empty policy has the problems %v, want three", err)
	}
}

func TestValidateHost(t *testing.T) {
	for name, test := range map[string]struct {
		host Host
		want string
	}{
		"no role": {Host{SSHPort: 22}, "roles: empty"},
		"unknown role": {
			Host{Roles: []Role{Server, "master"}, SSHPort: 22},
			`roles[1]: "master" is not a role`,
		},
		"role twice": {
			Host{Roles: []Role{Server, Server}, SSHPort: 22},
			`roles[1]: "server" is listed twice`,
		},
		"server and agent": {Host{Roles: []Role{Server, Agent}, SSHPort: 22}, "roles: both server and agent"},
		"port of the API": {
			Host{Roles: []Role{Server}, SSHPort: 6443},
			"port: 6443 is the port of the Kubernetes API",
		},
	} {
		t.Run(name, func(t *testing.T) { refused(t, valid().ValidateHost(test.host), test.want) })
	}
	for _, host := range append(full().Hosts, Host{Roles: []Role{Agent, Storage}, SSHPort: 6443}) {
		if err := valid().ValidateHost(host); err != nil {
			t.Error(err)
		}
	}
}
