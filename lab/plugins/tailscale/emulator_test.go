package tailscale_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
	"github.com/tinyrack-net/infrastructure/lab/plugins/tailscale"
	emulated "github.com/tinyrack-net/infrastructure/lab/tailscale"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/controltest"
)

// The double and the lab's emulated tailnet must agree on every resource.
func TestAgainstTheEmulator(t *testing.T) {
	server, err := emulated.New(t.TempDir(), emulated.Options{Control: &controltest.Fake{}})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	id, secret := server.Client()
	p := plugintest.Start(t, tailscale.New, plugintest.Map(map[string]any{
		"baseUrl": listener.URL, "tailnet": emulated.DefaultTailnet, "oauthClientId": id, "oauthClientSecret": secret,
	}))
	const policy = `{"tagOwners": {"tag:k3s": []}, "acls": [{"action": "accept", "src": ["tag:k3s"], "dst": ["tag:k3s:*"]}]}`
	for _, c := range []struct {
		token string
		in    map[string]any
	}{
		{aclToken, map[string]any{"acl": policy, "resetAclOnDestroy": true}},
		{dnsToken, map[string]any{"magicDns": true}},
		{
			keyToken,
			map[string]any{"preauthorized": true, "tags": []any{"tag:k3s"}, "recreateIfInvalid": "never", "description": "join"},
		},
	} {
		in := p.Check(c.token, plugintest.Map(c.in))
		id, state := p.Create(c.token, in)
		if readID, inputs, read := p.Read(c.token, id, in, state); readID != id || !inputs.DeepEquals(in) ||
			!read.DeepEquals(state) {
			t.Errorf("%s: a refresh changes\n%v\n%v\nto\n%v\n%v", c.token, in, state, inputs, read)
		}
		if c.token == aclToken {
			// The policy is no longer the default one: nobody else may overwrite it.
			other := p.Check(aclToken, plugintest.Map(map[string]any{"acl": "{}"}))
			if _, _, err := p.TryCreate(aclToken, other); err == nil || !strings.Contains(err.Error(), "overwrite a "+
				"non-default policy") {
				t.Errorf("a second policy: %v", err)
			}
			news := in.Copy()
			news["acl"] = resource.NewProperty(strings.Replace(policy, "tag:k3s:*", "tag:k3s:22", 1))
			if state, err = p.Update(aclToken, id, state, in, news, false); err != nil {
				t.Fatal(err)
			}
			in = news
			defer func() {
				if err := p.Delete(aclToken, id, in, state); err != nil {
					t.Errorf("delete: %v", err)
				}
				p.Create(aclToken, p.Check(aclToken, plugintest.Map(map[string]any{"acl": "{}"}))) // the default is back
			}()
			continue
		}
		if err := p.Delete(c.token, id, in, state); err != nil {
			t.Errorf("delete %s: %v", c.token, err)
		}
	}
}
