package cloudflare_test

import (
	"net/http/httptest"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	emulated "github.com/tinyrack-net/infrastructure/lab/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/plugins/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

// The double and the lab's emulated account must agree on every resource:
// made, refreshed without drift, changed and removed.
func TestAgainstTheEmulator(t *testing.T) {
	server, err := emulated.New(t.TempDir(), emulated.Options{})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	p := plugintest.Start(t, cloudflare.New, plugintest.Map(map[string]any{
		"apiToken": server.Token(), "baseUrl": listener.URL + emulated.Prefix,
	}))
	const account, zone = emulated.DefaultAccountID, emulated.DefaultZoneID

	type made struct {
		token, id string
		in, state resource.PropertyMap
	}
	var all []*made
	create := func(kind string, values map[string]any) *made {
		t.Helper()
		m := &made{token: token(kind)}
		m.in = p.Check(m.token, plugintest.Map(values))
		m.id, m.state = p.Create(m.token, m.in)
		all = append(all, m)
		return m
	}
	quiet := func() {
		t.Helper()
		for _, m := range all {
			if id, in, state := p.Read(m.token, m.id, m.in, m.state); id != m.id || !in.DeepEquals(m.in) ||
				!state.DeepEquals(m.state) {
				t.Errorf("%s: a refresh changes\n%v\n%v\nto\n%v\n%v", m.token, m.in, m.state, in, state)
			}
		}
	}
	change := func(m *made, name string, value any) {
		t.Helper()
		news := m.in.Copy()
		news[resource.PropertyKey(name)] = resource.NewPropertyValue(value)
		news = p.Check(m.token, news)
		state, err := p.Update(m.token, m.id, m.state, m.in, news, false)
		if err != nil {
			t.Fatal(err)
		}
		m.in, m.state = news, state
	}
	rules := func(hosts ...string) map[string]any {
		list := []any{}
		for _, host := range hosts {
			list = append(list, map[string]any{"hostname": host, "service": "http://memos.memos-system.svc:5230"})
		}
		return map[string]any{"ingresses": append(list, map[string]any{"service": "http_status:404"})}
	}

	tunnel := create("ZeroTrustTunnelCloudflared", map[string]any{
		"accountId": account, "name": "site", "configSrc": "cloudflare", "tunnelSecret": tunnelSecret,
	})
	config := create("ZeroTrustTunnelCloudflaredConfig", map[string]any{
		"accountId": account, "tunnelId": tunnel.id, "config": rules("notes.lab.test"),
	})
	record := create("DnsRecord", map[string]any{
		"zoneId": zone, "name": "notes.lab.test", "type": "CNAME", "content": tunnel.id + ".cfargotunnel.com",
		"ttl": 1.0, "proxied": true, "comment": "managed by Pulumi",
	})
	policy := create("ZeroTrustAccessPolicy", map[string]any{
		"accountId": account, "name": "team", "decision": "allow",
		"includes": []any{map[string]any{"email": map[string]any{"email": "a@lab.test"}}},
	})
	application := create("ZeroTrustAccessApplication", map[string]any{
		"accountId": account, "name": "notes", "domain": "notes.lab.test", "type": "self_hosted",
		"policies": []any{map[string]any{"id": policy.id, "precedence": 1.0}},
	})
	quiet()

	change(tunnel, "name", "renamed")
	change(config, "config", rules("notes.lab.test", "other.lab.test"))
	change(record, "comment", "changed")
	change(policy, "includes", []any{map[string]any{"emailDomain": map[string]any{"domain": "lab.test"}}})
	change(application, "sessionDuration", "12h")
	quiet()

	for i := len(all) - 1; i >= 0; i-- {
		if err := p.Delete(all[i].token, all[i].id, all[i].in, all[i].state); err != nil {
			t.Errorf("delete %s: %v", all[i].token, err)
		}
	}
	for _, m := range []*made{tunnel, record, policy, application} {
		if id, _, _ := p.Read(m.token, m.id, m.in, m.state); id != "" {
			t.Errorf("%s is still there", m.token)
		}
	}
}
