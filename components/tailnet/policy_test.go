package tailnet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tailscale/hujson"

	"github.com/tinyrack-net/infrastructure/internal/golden"
)

// valid returns a policy that nothing is wrong with.
func valid() Policy {
	return Policy{
		Admins:     []string{"alice@example.org", "bob@github"},
		MachineTag: "tag:k3s",
		APIPort:    6443,
	}
}

// full returns a policy with everything optional asked for.
func full() Policy {
	policy := valid()
	policy.Routes = []netip.Prefix{netip.MustParsePrefix("192.168.7.0/24"), netip.MustParsePrefix("10.0.0.0/16")}
	policy.ExitNode = true
	return policy
}

func TestHuJSON(t *testing.T) {
	for name, policy := range map[string]Policy{"policy.hujson": valid(), "policy-full.hujson": full()} {
		t.Run(name, func(t *testing.T) {
			text, err := policy.HuJSON()
			if err != nil {
				t.Fatal(err)
			}
			golden.Check(t, name, text)
			for range 20 {
				if again, _ := policy.HuJSON(); again != text {
					t.Fatalf("one policy has two texts:\n%s\n%s", text, again)
				}
			}
		})
	}
}

func TestPolicyPassesItsOwnTests(t *testing.T) {
	for name, change := range map[string]func(*Policy){
		"plain":             func(*Policy) {},
		"routes, exit node": func(p *Policy) { *p = full() },
		"API on 443":        func(p *Policy) { p.APIPort = 443 },
	} {
		t.Run(name, func(t *testing.T) {
			policy := valid()
			change(&policy)
			doc := parse(t, policy)
			if len(doc.Tests) != 2*len(policy.Admins)+1 {
				t.Errorf("%d tests, want two for each admin and one for the machines", len(doc.Tests))
			}
			for _, failure := range failures(doc) {
				t.Error(failure)
			}
		})
	}
}

// The tests inside the policy are worth something only if a looser or a stricter
// policy fails them.
func TestPolicyTestsNoticeMistakes(t *testing.T) {
	for name, change := range map[string]func(*document){
		"all ports open":      func(d *document) { d.ACLs[0].Dst = []string{"tag:k3s:*"} },
		"all protocols open":  func(d *document) { d.ACLs[0].Proto = "" },
		"everybody let in":    func(d *document) { d.ACLs[0].Src = []string{"*"} },
		"machines let in":     func(d *document) { d.ACLs[0].Src = append(d.ACLs[0].Src, "tag:k3s") },
		"API closed":          func(d *document) { d.ACLs[0].Dst = []string{"tag:k3s:22"} },
		"SSH closed":          func(d *document) { d.ACLs[0].Dst = []string{"tag:k3s:6443"} },
		"an admin shut out":   func(d *document) { d.Groups[admins] = d.Groups[admins][:1] },
		"a rule opening more": func(d *document) { d.ACLs = append(d.ACLs, acl{Src: []string{admins}, Dst: []string{"*:*"}}) },
	} {
		t.Run(name, func(t *testing.T) {
			doc := parse(t, valid())
			change(&doc)
			if len(failures(doc)) == 0 {
				t.Error("the tests in the policy still pass")
			}
		})
	}
}

func TestAutoApproversOnlyIfAsked(t *testing.T) {
	if approvers := parse(t, valid()).AutoApprovers; approvers != nil {
		t.Errorf("nothing was asked for, %+v is approved", approvers)
	}
	policy := valid()
	policy.ExitNode = true
	if approvers := parse(t, policy).AutoApprovers; len(approvers.Routes) != 0 || !slices.Equal(approvers.ExitNode, []string{"tag:k3s"}) {
		t.Errorf("the exit node was asked for, %+v is approved", approvers)
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
		"no admins":            {func(p *Policy) { p.Admins = nil }, "admins: empty"},
		"admin":                {func(p *Policy) { p.Admins[1] = "bob" }, `admins[1]: "bob" is not a login`},
		"admin with a name":    {func(p *Policy) { p.Admins[1] = "Bob <bob@example.org>" }, "admins[1]:"},
		"group as admin":       {func(p *Policy) { p.Admins[1] = "autogroup:member" }, "admins[1]:"},
		"duplicate admin":      {func(p *Policy) { p.Admins[1] = p.Admins[0] }, `admins[1]: "alice@example.org" is listed twice`},
		"no tag":               {func(p *Policy) { p.MachineTag = "" }, `machineTag: "" is not a tag`},
		"tag without prefix":   {func(p *Policy) { p.MachineTag = "k3s" }, `machineTag: "k3s" is not a tag`},
		"tag with a port":      {func(p *Policy) { p.MachineTag = "tag:k3s:*" }, `machineTag: "tag:k3s:*" is not a tag`},
		"port":                 {func(p *Policy) { p.APIPort = 0 }, "apiPort: 0 is not a port"},
		"port too high":        {func(p *Policy) { p.APIPort = 65536 }, "apiPort: 65536 is not a port"},
		"port of SSH":          {func(p *Policy) { p.APIPort = 22 }, "apiPort: 22 is the port of SSH"},
		"no route":             {func(p *Policy) { p.Routes = []netip.Prefix{{}} }, "routes[0]: invalid Prefix is not a subnet"},
		"route of a host":      {func(p *Policy) { p.Routes = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")} }, "routes[0]: 10.0.0.1/24 is not a subnet"},
		"default route":        {func(p *Policy) { p.Routes = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")} }, "routes[0]: 0.0.0.0/0 is the whole internet"},
		"route of the tailnet": {func(p *Policy) { p.Routes = []netip.Prefix{netip.MustParsePrefix("100.0.0.0/8")} }, "routes[0]: 100.0.0.0/8 holds addresses of the tailnet"},
		"duplicate route": {func(p *Policy) {
			p.Routes = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
		}, "routes[1]: 10.0.0.0/8 is listed twice"},
	} {
		t.Run(name, func(t *testing.T) {
			policy := valid()
			test.change(&policy)
			err := policy.Validate()
			if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), test.want) || strings.Count(err.Error(), ": ") < 2 {
				t.Errorf("problems are %v, want exactly one starting with %q, with a consequence and a fix", err, test.want)
			}
		})
	}
	if err := (Policy{}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("an empty policy has the problems %v, want three", err)
	}
}

// parse reads a policy back the way Tailscale does.
func parse(t *testing.T, policy Policy) document {
	t.Helper()
	text, err := policy.HuJSON()
	if err != nil {
		t.Fatal(err)
	}
	standard, err := hujson.Standardize([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var doc document
	if err := json.Unmarshal(standard, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// failures runs the tests inside a policy against its rules.
func failures(doc document) []string {
	var found []string
	for _, test := range doc.Tests {
		for _, target := range test.Accept {
			if !allows(doc, test, target) {
				found = append(found, fmt.Sprintf("%s cannot reach %s over %s", test.Src, target, test.Proto))
			}
		}
		for _, target := range test.Deny {
			if allows(doc, test, target) {
				found = append(found, fmt.Sprintf("%s reaches %s over %s", test.Src, target, test.Proto))
			}
		}
	}
	return found
}

func allows(doc document, test test, target string) bool {
	host, port := cutPort(target)
	return slices.ContainsFunc(doc.ACLs, func(rule acl) bool {
		from := slices.ContainsFunc(rule.Src, func(src string) bool {
			return src == "*" || src == test.Src || slices.Contains(doc.Groups[src], test.Src)
		})
		to := slices.ContainsFunc(rule.Dst, func(dst string) bool {
			dstHost, dstPorts := cutPort(dst)
			return (dstHost == "*" || dstHost == host) &&
				(dstPorts == "*" || slices.Contains(strings.Split(dstPorts, ","), port))
		})
		return from && to && (rule.Proto == "" || rule.Proto == test.Proto)
	})
}

func cutPort(target string) (host, ports string) {
	i := strings.LastIndex(target, ":")
	return target[:i], target[i+1:]
}

func TestPortsInTheRule(t *testing.T) {
	policy := valid()
	policy.APIPort = 16443
	want := "tag:k3s:22," + strconv.Itoa(policy.APIPort)
	if got := parse(t, policy).ACLs[0].Dst; !slices.Equal(got, []string{want}) {
		t.Errorf("the rule leads to %q, want %q", got, want)
	}
}
