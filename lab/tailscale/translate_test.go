package tailscale_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestTheControlServerGetsWhatItKnows(t *testing.T) {
	for _, test := range []struct{ name, policy, want string }{
		{"a new tailnet", "", `{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}`},
		{"nothing admits nothing", `{}`, `{"grants": []}`},
		{
			"tests, SSH, attributes and capabilities are left out", base(`
				"grants": [
					{"src": ["group:ops"], "dst": ["tag:k3s"], "ip": ["tcp:22"], "app": {"tailscale.com/cap/x": [{}]}},
					{"src": ["group:ops"], "dst": ["tag:backup"], "app": {"tailscale.com/cap/x": [{}]}},
				],
				"acls": [{"action": "accept", "src": ["tag:k3s"], "proto": "udp", "dst": ["nas:2049"]}],
				"tests": [{"src": "alice@lab.test", "accept": ["tag:k3s:22"]}],
				"ssh": [{"action": "accept", "src": ["group:ops"], "dst": ["tag:k3s"], "users": ["root"]}],
				"sshTests": [{"src": "alice@lab.test", "dst": ["tag:k3s"], "accept": ["root"]}],
				"nodeAttrs": [{"target": ["*"], "attr": ["funnel"]}],
				"autoApprovers": {"routes": {"10.0.0.0/8": ["tag:k3s"]}},`),
			`{"groups": {"group:ops": ["alice@lab.test", "bob@lab.test"], "group:empty": []},
			  "hosts": {"nas": "192.168.1.5", "lan": "192.168.1.0/24"},
			  "tagOwners": {"tag:k3s": ["group:ops"], "tag:backup": ["tag:k3s"]},
			  "grants": [{"src": ["group:ops"], "dst": ["tag:k3s"], "ip": ["tcp:22"]}],
			  "acls": [{"action": "accept", "src": ["tag:k3s"], "proto": "udp", "dst": ["nas:2049"]}],
			  "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:k3s"]}}}`,
		},
		{
			"a role is nobody, and a rule for nobody is none", `{"tagOwners": {"tag:a": ["autogroup:admin"]},
				"acls": [
					{"action": "accept", "src": ["autogroup:members", "autogroup:owner"], "dst": ["autogroup:self:*"]},
					{"action": "accept", "src": ["autogroup:admin"], "dst": ["*:*"]}],
				"grants": [{"src": ["autogroup:admin"], "dst": ["*"], "ip": ["*"]}]}`,
			`{"tagOwners": {"tag:a": []}, "grants": [],
				"acls": [{"action": "accept", "src": ["autogroup:member"], "dst": ["autogroup:self:*"]}]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t, t.TempDir())
			c.api(t, http.MethodPost, tailnet+"/acl", test.policy)
			var got, want any
			if err := json.Unmarshal([]byte(c.control.Policy()), &got); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(test.want), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("enforced:\n%s\nwant\n%s", c.control.Policy(), test.want)
			}
		})
	}
}

func TestWhatTheControlServerRefusesIsLoud(t *testing.T) {
	c := startTagged(t)
	before := c.control.Policy()
	got := c.do(t, http.MethodPost, tailnet+"/acl",
		base(`"grants": [{"src": ["autogroup:self"], "dst": ["*"], "ip": ["*"]}]`))
	if got.status != http.StatusNotImplemented || !strings.Contains(got.text, "not valid on the src side") {
		t.Errorf("%d %s", got.status, got.text)
	}
	if text := c.api(t, http.MethodGet, tailnet+"/acl", "").text; text != taggedPolicy || c.control.Policy() != before {
		t.Errorf("the policy is now %s", text)
	}
}
