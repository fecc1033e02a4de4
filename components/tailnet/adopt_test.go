package tailnet

import "testing"

func TestReplaceablePolicy(t *testing.T) {
	const ssh = `"ssh": [{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"],
		"users": ["autogroup:nonroot", "root"]}]`
	const grants = `"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]`
	const acls = `"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]`
	wanted, err := valid().HuJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		policy string
		want   bool
	}{
		"this very policy": {"// a comment\n" + wanted, true},
		"grants":           {`{` + grants + `, ` + ssh + `,}`, true},
		"grants alone":     {`{` + grants + `}`, true},
		"acls":             {`{` + acls + `, ` + ssh + `}`, true},
		"acls with the funnel": {
			`{` + acls + `, "nodeAttrs": [{"target": ["autogroup:member"], "attr": ["funnel"]}]}`,
			true,
		},
		"acls, old keys": {
			`{"ACLs": [{"Action": "accept", "Users": ["*"], "Ports": ["*:*"]}],
				"Groups": {"group:example": ["a@b"]}, "Hosts": {"example-host-1": "100.100.100.100"}}`,
			true,
		},
		"manager's tag": {
			`{` + grants + `, "tagOwners": {"tag:tinyrack": ["autogroup:admin"]}, ` + ssh + `}`,
			true,
		},
		"all tags": {
			`{` + grants + `, "tagOwners": {"tag:tinyrack": [], "tag:tinyrack-server": ["tag:tinyrack"]}}`,
			true,
		},
		"empty sections": {`{` + grants + `, "tests": [], "groups": {}, "postures": null}`, true},
		"another tag":    {`{` + grants + `, "tagOwners": {"tag:tinyrack": [], "tag:nas": []}}`, false},
		"another rule": {
			`{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}, {"src": ["*"], "dst": ["tag:x"], "ip": ["22"]}]}`,
			false,
		},
		"a narrower rule": {`{"grants": [{"src": ["autogroup:member"], "dst": ["*"], "ip": ["*"]}]}`, false},
		"another group":   {`{` + grants + `, "groups": {"group:family": []}}`, false},
		"another host":    {`{` + grants + `, "hosts": {"nas": "100.1.2.3"}}`, false},
		"another ssh rule": {
			`{` + grants + `, "ssh": [{"action": "accept", "src": ["autogroup:member"],
				"dst": ["autogroup:self"], "users": ["root"]}]}`,
			false,
		},
		"another attribute":     {`{` + grants + `, "nodeAttrs": [{"target": ["*"], "attr": ["funnel"]}]}`, false},
		"tests":                 {`{` + grants + `, "tests": [{"src": "a@b", "accept": ["tag:x:22"]}]}`, false},
		"something unknown":     {`{` + grants + `, "randomizeClientPort": true}`, false},
		"nothing allowed":       {`{"acls": []}`, false},
		"an empty file":         {`{}`, false},
		"not a policy":          {`{`, false},
		"not an object":         {`[]`, false},
		"owners are not a list": {`{` + grants + `, "tagOwners": ["tag:tinyrack"]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := valid().replaceable(test.policy, wanted); got != test.want {
				t.Errorf("may be replaced: %t, want %t", got, test.want)
			}
		})
	}
}
