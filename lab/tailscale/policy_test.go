package tailscale_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// base is a policy to which a case adds its own fields.
func base(fields string) string {
	return `{
	"groups": {"group:ops": ["alice@lab.test", "bob@lab.test"], "group:empty": []},
	"tagOwners": {"tag:k3s": ["group:ops"], "tag:backup": ["tag:k3s"]},
	"hosts": {"nas": "192.168.1.5", "lan": "192.168.1.0/24"},
	` + fields + `}`
}

func TestWrongPoliciesAreRefused(t *testing.T) {
	c := start(t, t.TempDir())
	for _, test := range []struct {
		name, text string
		status     int
		message    string
	}{
		{"not HuJSON", `{"acls": [}`, 400, "hujson"},
		{"unknown field", `{"acl": []}`, 400, `unknown field "acl"`},
		{
			"unknown field in a test", base(`"tests": [{"src": "tag:k3s", "dst": ["nas:1"]}]`), 400,
			`unknown field "dst"`,
		},
		{"group name", `{"groups": {"ops": []}}`, 400, "does not start with group:"},
		{"nested group", `{"groups": {"group:a": ["group:b"]}}`, 400, "cannot be nested"},
		{"tag name", `{"tagOwners": {"k3s": []}}`, 400, "not a valid tag"},
		{"tag owner", `{"tagOwners": {"tag:a": ["group:none"]}}`, 400, `group not found: "group:none"`},
		{"host address", `{"hosts": {"nas": "attic"}}`, 400, `"attic" is not an IP address`},
		{"acl action", base(`"acls": [{"action": "deny", "src": ["*"], "dst": ["*:*"]}]`), 400, "only accept"},
		{"acl without dst", base(`"acls": [{"action": "accept", "src": ["*"]}]`), 400, "src and dst are required"},
		{
			"acl with an undefined tag", base(`"acls": [{"action": "accept", "src": ["tag:none"], "dst": ["*:*"]}]`), 400,
			`tag not found: "tag:none"`,
		},
		{
			"acl dst without ports", base(`"acls": [{"action": "accept", "src": ["*"], "dst": ["nas"]}]`), 400,
			"want host:ports",
		},
		{"acl port", base(`"acls": [{"action": "accept", "src": ["*"], "dst": ["nas:70000"]}]`), 400, "70000"},
		{"acl port range", base(`"acls": [{"action": "accept", "src": ["*"], "dst": ["nas:90-80"]}]`), 400, "90-80"},
		{
			"acl host", base(`"acls": [{"action": "accept", "src": ["attic"], "dst": ["*:*"]}]`), 400,
			`"attic" is not a user`,
		},
		{"grant without ip or app", base(`"grants": [{"src": ["*"], "dst": ["*"]}]`), 400, "ip or app is required"},
		{"grant port", base(`"grants": [{"src": ["*"], "dst": ["*"], "ip": ["tcp:ssh"]}]`), 400, "ssh"},
		{"grant dst with a port", base(`"grants": [{"src": ["*"], "dst": ["nas:22"], "ip": ["*"]}]`), 400, `"nas:22"`},
		{
			"autogroup", base(`"grants": [{"src": ["autogroup:friends"], "dst": ["*"], "ip": ["*"]}]`), 400,
			"autogroup not found",
		},
		{
			"ssh action", base(`"ssh": [{"action": "allow", "src": ["group:ops"], "dst": ["tag:k3s"], "users": ["root"]}]`),
			400, "accept or check",
		},
		{
			"ssh without users", base(`"ssh": [{"action": "accept", "src": ["group:ops"], "dst": ["tag:k3s"]}]`), 400,
			"users are required",
		},
		{
			"ssh to anything", base(`"ssh": [{"action": "accept", "src": ["group:ops"], "dst": ["*"], "users": ["root"]}]`),
			400, "not allowed here",
		},
		{
			"ssh from a tag to self", base(`"ssh": [{"action": "accept", "src": ["tag:k3s"], "dst": ["autogroup:self"], "users": ["root"]}]`),
			400, "belong to nobody",
		},
		{"approver", base(`"autoApprovers": {"routes": {"10.0.0.0/8": ["tag:none"]}}`), 400, `tag not found`},
		{"approved route", base(`"autoApprovers": {"routes": {"ten": ["tag:k3s"]}}`), 400, "not a prefix"},
		{"test of nothing", base(`"tests": [{"src": "tag:k3s"}]`), 400, "accept or deny is required"},
		{"test of a port range", base(`"tests": [{"src": "tag:k3s", "deny": ["nas:1-2"]}]`), 400, "single port"},
		{"test of everybody", base(`"tests": [{"src": "*", "deny": ["nas:1"]}]`), 400, "not allowed here"},
		{"postures", base(`"postures": {"posture:a": []}`), 501, "postures"},
		{
			"source posture", base(`"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"], "srcPosture": ["posture:a"]}]`),
			501, "srcPosture",
		},
		{"ip sets", base(`"ipsets": {}`), 501, "ipsets"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := c.do(t, http.MethodPost, tailnet+"/acl", test.text)
			message, _ := got.json["message"].(string)
			if got.status != test.status || !strings.Contains(message, test.message) {
				t.Errorf("got %d %s\nwant %d with %q", got.status, got.text, test.status, test.message)
			}
			if c.count(t, "policies") != 0 {
				t.Error("a refused policy is in force")
			}
		})
	}
}

const (
	acls = `"acls": [
		{"action": "accept", "src": ["group:ops"], "dst": ["tag:k3s:22,6443", "lan:*"]},
		{"action": "accept", "src": ["tag:k3s"], "proto": "udp", "dst": ["nas:2049"]},
		{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*", "autogroup:internet:443"]},
	],`
	grants = `"grants": [
		{"src": ["group:ops"], "dst": ["tag:k3s"], "ip": ["tcp:22", "tcp:6443"]},
		{"src": ["group:ops"], "dst": ["lan"], "ip": ["*"]},
		{"src": ["tag:k3s"], "dst": ["nas"], "ip": ["udp:2049"]},
		{"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]},
		{"src": ["autogroup:member"], "dst": ["autogroup:internet"], "ip": ["443"]},
		{"src": ["group:ops"], "dst": ["tag:backup"], "app": {"lab.test/cap/backup": [{}]}},
	],`
)

func TestThePolicysOwnTests(t *testing.T) {
	for language, rules := range map[string]string{"acls": acls, "grants": grants} {
		for _, test := range []struct {
			src, proto, dst string
			accepted        bool
		}{
			{"alice@lab.test", "", "tag:k3s:22", true},
			{"alice@lab.test", "", "tag:k3s:6443", true},
			{"alice@lab.test", "", "tag:k3s:80", false},
			{"alice@lab.test", "udp", "tag:k3s:22", language == "acls"}, // no proto: all of them
			{"group:ops", "", "tag:k3s:22", true},
			{"carol@lab.test", "", "tag:k3s:22", false},
			{"alice@lab.test", "", "tag:backup:22", false}, // an app grant opens no port
			{"alice@lab.test", "", "nas:445", true},        // a host in the prefix lan
			{"alice@lab.test", "", "192.168.1.77:80", true},
			{"alice@lab.test", "", "192.168.2.77:80", false},
			{"tag:k3s", "udp", "nas:2049", true},
			{"tag:k3s", "17", "nas:2049", true},
			{"tag:k3s", "tcp", "nas:2049", false},
			{"tag:k3s", "", "tag:k3s:22", false},
			{"carol@lab.test", "", "carol@lab.test:22", true},
			{"carol@lab.test", "", "alice@lab.test:22", false},
			{"carol@lab.test", "", "203.0.113.9:443", true},
			{"carol@lab.test", "", "203.0.113.9:80", false},
			{"carol@lab.test", "", "100.64.0.10:443", false},
		} {
			t.Run(fmt.Sprintf("%s/%s to %s %s", language, test.src, test.dst, test.proto), func(t *testing.T) {
				c := start(t, t.TempDir())
				policy := func(expectation string) string {
					return base(rules + fmt.Sprintf(`"tests": [{"src": %q, "proto": %q, %q: [%q]}]`, test.src,
						test.proto, expectation, test.dst))
				}
				right, wrong, want, got := "accept", "deny", "Drop", "Accept"
				if !test.accepted {
					right, wrong, want, got = "deny", "accept", "Accept", "Drop"
				}
				if answer := c.do(t, http.MethodPost, tailnet+"/acl", policy(right)); answer.status != http.StatusOK {
					t.Errorf("%s: %d %s", right, answer.status, answer.text)
				}
				answer := c.do(t, http.MethodPost, tailnet+"/acl", policy(wrong))
				detail := fmt.Sprintf(`{"user":%q,"errors":["address \"%s\": want: %s, got: %s"]}`, test.src, test.dst,
					want, got)
				if answer.status != http.StatusBadRequest || answer.json["message"] != "test(s) failed" ||
					!strings.Contains(answer.text, detail) {
					t.Errorf("%s: %d %s\nwant %s", wrong, answer.status, answer.text, detail)
				}
			})
		}
	}
}

func TestAnAddressIsTheDeviceThatHasIt(t *testing.T) {
	c := start(t, t.TempDir())
	c.api(t, http.MethodPost, tailnet+"/acl", taggedPolicy)
	withTest := strings.Replace(taggedPolicy, `"accept": ["tag:k3s:6443"]`, `"accept": ["100.64.0.2:6443"]`, 1)
	if got := c.do(t, http.MethodPost, tailnet+"/acl", withTest); got.status != http.StatusBadRequest {
		t.Errorf("no device has the address: %d %s", got.status, got.text)
	}
	_, key := c.newKey(t, "", "")
	if n := c.join(t, key, "node1"); n.Addresses[0] != "100.64.0.2" {
		t.Fatalf("the node is %v", n.Addresses)
	}
	c.api(t, http.MethodPost, tailnet+"/acl", withTest)
}

func TestSSHTests(t *testing.T) {
	ssh := `"ssh": [
		{"action": "accept", "src": ["group:ops"], "dst": ["tag:k3s"], "users": ["autogroup:nonroot"]},
		{"action": "check", "src": ["alice@lab.test"], "dst": ["tag:k3s"], "users": ["root"]},
	],`
	c := start(t, t.TempDir())
	c.api(t, http.MethodPost, tailnet+"/acl", base(ssh+`"sshTests": [
		{"src": "alice@lab.test", "dst": ["tag:k3s"], "accept": ["debian"], "check": ["root"]},
		{"src": "bob@lab.test", "dst": ["tag:k3s"], "accept": ["debian"], "deny": ["root"]},
		{"src": "tag:k3s", "dst": ["tag:k3s"], "deny": ["debian", "root"]},
	]`))
	got := c.do(t, http.MethodPost, tailnet+"/acl",
		base(ssh+`"sshTests": [{"src": "bob@lab.test", "dst": ["tag:k3s"], "accept": ["root"]}]`))
	if got.status != http.StatusBadRequest || !strings.Contains(got.text, "ssh root@tag:k3s: want: accept, got: deny") {
		t.Errorf("%d %s", got.status, got.text)
	}
}

func TestValidateChangesNothing(t *testing.T) {
	c := start(t, t.TempDir())
	if got := c.api(t, http.MethodPost, tailnet+"/acl/validate", taggedPolicy); strings.TrimSpace(got.text) != "{}" {
		t.Errorf("a right policy: %s", got.text)
	}
	wrong := strings.Replace(taggedPolicy, "tag:k3s:80", "tag:k3s:22", 1)
	if got := c.api(t, http.MethodPost, tailnet+"/acl/validate", wrong); got.json["message"] != "test(s) failed" {
		t.Errorf("a wrong policy: %s", got.text)
	}
	if c.count(t, "policies") != 0 {
		t.Error("validation set the policy")
	}
	c.api(t, http.MethodPost, tailnet+"/acl", taggedPolicy)
	if got := c.api(t, http.MethodPost, tailnet+"/acl/validate",
		`[{"src": "alice@lab.test", "accept": ["tag:k3s:22"]}]`); strings.TrimSpace(got.text) != "{}" {
		t.Errorf("right tests: %s", got.text)
	}
	if got := c.api(t, http.MethodPost, tailnet+"/acl/validate",
		`[{"src": "alice@lab.test", "accept": ["tag:k3s:23"]}]`); got.json["message"] != "test(s) failed" {
		t.Errorf("wrong tests: %s", got.text)
	}
}
