package tailnet

import (
	"fmt"
	"strings"
	"testing"
)

func TestRestIsRefusedWhereItTouchesTheHosts(t *testing.T) {
	for name, test := range map[string]struct{ rest, want string }{
		"not HuJSON": {"{", "policyFile: mine.hujson: hujson: line 1"},
		"a list":     {"[]", "policyFile: mine.hujson: not an object"},
		"our group": {
			`{"groups": {"group:tinyrack-admins": []}}`,
			`groups: "group:tinyrack-admins" is defined`,
		},
		"manager's tag": {`{"tagOwners": {"tag:tinyrack": []}}`, `tagOwners: "tag:tinyrack" is defined`},
		"a role's tag": {
			`{"TAGOWNERS": {"tag:Tinyrack-storage": []}}`,
			`tagOwners: "tag:Tinyrack-storage" is defined`,
		},
		"everything": {
			"{\n\"grants\": [\n{\"src\": [\"*\"], \"dst\": [\"*\"], \"ip\": [\"*\"]}]}",
			`grants[0].dst: "*" leads to the hosts`,
		},
		"one of several": {
			`{"grants": [{"dst": ["tag:nas"]}, {"dst": ["tag:nas", "tag:tinyrack-agent"]}]}`,
			`grants[1].dst: "tag:tinyrack-agent" leads`,
		},
		"not in a list": {`{"grants": [{"dst": "*"}]}`, `grants[0].dst: "*" leads`},
		"manager":       {`{"grants": [{"dst": ["tag:tinyrack"]}]}`, `grants[0].dst: "tag:tinyrack" leads`},
		"tagged devices": {
			`{"grants": [{"dst": ["autogroup:tagged"]}]}`,
			`grants[0].dst: "autogroup:tagged" leads`,
		},
		"everybody": {
			`{"grants": [{"dst": ["autogroup:danger-all"]}]}`,
			`grants[0].dst: "autogroup:danger-all" leads`,
		},
		"the range":    {`{"grants": [{"dst": ["100.64.0.0/10"]}]}`, `grants[0].dst: "100.64.0.0/10" leads`},
		"a part of it": {`{"grants": [{"dst": ["100.101.0.0/16"]}]}`, `grants[0].dst: "100.101.0.0/16" leads`},
		"more than it": {`{"grants": [{"dst": ["::/0"]}]}`, `grants[0].dst: "::/0" leads`},
		"from to": {
			`{"grants": [{"dst": ["100.64.0.1-100.64.0.9"]}]}`,
			`grants[0].dst: "100.64.0.1-100.64.0.9" leads`,
		},
		"from to around": {
			`{"grants": [{"dst": ["10.0.0.0-200.0.0.0"]}]}`,
			`grants[0].dst: "10.0.0.0-200.0.0.0" leads`,
		},
		"an alias": {
			`{"hosts": {"all": "100.64.0.0/10"}, "grants": [{"dst": ["all"]}]}`,
			`grants[0].dst: "all" leads`,
		},
		"a set": {
			`{"ipsets": {"ipset:a": ["remove 10.0.0.1", "add 100.64.0.0/12"]}, "grants": [{"dst": ["ipset:a"]}]}`,
			`grants[0].dst: "ipset:a" leads`,
		},
		"an alias in one": {
			`{"hosts": {"all": "0.0.0.0/0"}, "ipsets": {"ipset:a": ["host:all"]}, "grants": [{"dst": ["ipset:a"]}]}`,
			`grants[0].dst: "ipset:a" leads`,
		},
		"acl": {
			`{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]}`,
			`acls[0].dst: "*:*" leads`,
		},
		"acl to a role": {
			`{"acls": [{"dst": ["tag:tinyrack-server:22"]}]}`,
			`acls[0].dst: "tag:tinyrack-server:22" leads`,
		},
		"acl of IPv6": {
			`{"acls": [{"dst": ["[fd7a:115c:a1e0::]/48:22"]}]}`,
			`acls[0].dst: "[fd7a:115c:a1e0::]/48:22" leads`,
		},
		"old acl": {
			`{"ACLs": [{"Action": "accept", "Users": ["*"], "Ports": ["*:*"]}]}`,
			`acls[0].Ports: "*:*" leads`,
		},
		"ssh": {
			`{"ssh": [{"dst": ["tag:tinyrack-server"]}]}`,
			`ssh[0].dst: "tag:tinyrack-server" leads`,
		},
		"funnel": {
			`{"nodeAttrs": [{"target": ["*"], "attr": ["funnel"]}]}`,
			`nodeAttrs[0]: "*" with funnel`,
		},
		"approver": {
			`{"autoApprovers": {"exitNode": ["tag:tinyrack-server"]}}`,
			`autoApprovers.exitNode: "tag:tinyrack-server"`,
		},
		"approver (route)": {
			`{"autoApprovers": {"routes": {"10.0.0.0/8": ["autogroup:tagged"]}}}`,
			`autoApprovers.routes.10.0.0.0/8: "autogroup:tagged"`,
		},
		"posture": {
			`{"defaultSrcPosture": ["posture:mac"]}`,
			`defaultSrcPosture holds for the admins' rules too`,
		},
		"section twice": {`{"groups": {}, "Groups": {}}`, `Groups is there twice`},
		"key twice": {
			`{"grants": [{"dst": ["tag:nas"], "Dst": ["tag:pi"]}]}`,
			`grants[0].Dst is there twice`,
		},
		"grants not list": {`{"grants": {}}`, `grants is not a list`},
		"groups not map":  {`{"groups": []}`, `groups is not an object`},
	} {
		t.Run(name, func(t *testing.T) {
			policy := valid()
			policy.Rest, policy.RestName = []byte(test.rest), "mine.hujson"
			want := test.want
			if !strings.HasPrefix(want, "policyFile") { // the rest is one line long, mostly
				want = fmt.Sprintf("policyFile: mine.hujson:%d: %s", 1+strings.Count(test.rest, "\n"), want)
			}
			refused(t, policy.Validate(), want)
			if text, err := policy.HuJSON(); err == nil {
				t.Errorf("it was merged all the same:\n%s", text)
			}
		})
	}
}

func TestEveryProblemOfTheRestIsReported(t *testing.T) {
	policy := valid()
	policy.Rest = []byte(`{"groups": {"group:tinyrack-admins": []}, "grants": [{"dst": ["*"]}],
		"acls": [{"dst": ["*:*"]}]}`)
	if err := policy.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("problems are %v, want three", err)
	}
}

func TestRestThatLeavesTheHostsAlone(t *testing.T) {
	for name, rest := range map[string]string{
		"nothing":             "",
		"blank":               " \n",
		"empty":               "{}",
		"null":                `{"grants": null}`,
		"one device":          `{"grants": [{"dst": ["100.1.2.3/32", "100.64.0.1-100.64.0.1", "fd7a:115c:a1e0::1"]}]}`,
		"a device by address": `{"grants": [{"dst": ["100.101.102.103"]}]}`,
		"below and above":     `{"grants": [{"dst": ["100.0.0.0-100.63.255.255", "100.128.0.0/9", "2001:db8::/32"]}]}`,
		"from the hosts":      `{"grants": [{"src": ["tag:tinyrack-server"], "dst": ["tag:nas"]}]}`,
		"a longer tag":        `{"tagOwners": {"tag:tinyrack-other": []}, "grants": [{"dst": ["tag:tinyrack-other"]}]}`,
		"attributes":          `{"nodeAttrs": [{"target": ["*"], "attr": ["randomize-client-port"]}]}`,
		"a set of itself":     `{"ipsets": {"ipset:a": ["add ipset:a"]}, "grants": [{"dst": ["ipset:a"]}]}`,
		"removed from set":    `{"ipsets": {"ipset:a": ["remove 100.64.0.0/10"]}, "grants": [{"dst": ["ipset:a"]}]}`,
		// The one of the first install.
		"own devices": `{"grants": [{"src": ["autogroup:member"], "dst": ["autogroup:self"], "ip": ["*"]}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			policy := valid()
			policy.Rest = []byte(rest)
			if err := policy.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}
