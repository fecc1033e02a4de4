package cloudflare_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/tinyrack-net/infrastructure/lab/plugins/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

// apiToken has the form of a real one.
const apiToken = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ-_12"

// tunnelSecret is the base64 of 32 bytes.
const tunnelSecret = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// cloud keeps objects by path: POST makes one with an ID, the other methods
// do what they say.
type cloud struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
	objects  map[string]map[string]any
	extra    map[string]any // what it adds to every object
	fail     []int          // statuses to answer next instead
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{objects: map[string]map[string]any{}, extra: map[string]any{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, _ := io.ReadAll(r.Body)
	at := strings.TrimPrefix(r.URL.Path, "/client/v4")
	c.requests = append(c.requests, strings.TrimSpace(r.Method+" "+at+" "+string(text)))
	refuse := func(status, code int, message string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"success": false, "errors": []any{map[string]any{
			"code":    code,
			"message": message,
		}}})
	}
	if r.Header.Get("Authorization") != "Bearer "+apiToken {
		refuse(http.StatusForbidden, 10000, "Authentication error")
		return
	}
	if len(c.fail) > 0 {
		status := c.fail[0]
		c.fail = c.fail[1:]
		refuse(status, 81053, "planted")
		return
	}
	body := map[string]any{}
	_ = json.Unmarshal(text, &body)
	switch {
	case r.Method == "POST":
		id := fmt.Sprintf("id%d", len(c.objects)+1)
		body["id"] = id
		at += "/" + id
		c.objects[at] = body
	case r.Method == "PUT" && strings.HasSuffix(at, "/configurations"):
		c.objects[at] = body
	case c.objects[at] == nil:
		refuse(http.StatusNotFound, 1003, "not found")
		return
	case r.Method == "PUT" || r.Method == "PATCH":
		for name, value := range body {
			c.objects[at][name] = value
		}
	case r.Method == "DELETE":
		delete(c.objects, at)
	}
	result := map[string]any{}
	for _, m := range []map[string]any{c.extra, c.objects[at]} {
		for name, value := range m {
			result[name] = value
		}
	}
	delete(result, "tunnel_secret")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"success": true, "errors": []any{}, "messages": []any{},
		"result": result,
	})
}

func (c *cloud) took() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests := c.requests
	c.requests = nil
	return requests
}

func expect(t *testing.T, c *cloud, want ...string) {
	t.Helper()
	if got := c.took(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("requests\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func start(t *testing.T, c *cloud) *plugintest.Plugin {
	t.Helper()
	return plugintest.Start(t, cloudflare.New, plugintest.Map(map[string]any{
		"apiToken": apiToken,
		"baseUrl":  c.URL + "/client/v4",
	}))
}

func token(name string) string {
	return "cloudflare:index/" + strings.ToLower(name[:1]) + name[1:] + ":" + name
}

// The life of every kind: create, quiet refresh, update or replacement, delete.
func TestLife(t *testing.T) {
	cases := map[string]struct {
		inputs   map[string]any
		create   string // request
		change   map[string]any
		update   string // request, empty for none
		replace  map[string]any
		deletion string // request, empty for none
		extra    map[string]any
		outputs  map[string]any
	}{
		"ZeroTrustTunnelCloudflared": {
			inputs:   map[string]any{"accountId": "a", "name": "t", "configSrc": "cloudflare", "tunnelSecret": tunnelSecret},
			create:   `POST /accounts/a/cfd_tunnel {"config_src":"cloudflare","name":"t","tunnel_secret":"` + tunnelSecret + `"}`,
			change:   map[string]any{"name": "u"},
			update:   `PATCH /accounts/a/cfd_tunnel/id1 {"name":"u","tunnel_secret":"` + tunnelSecret + `"}`,
			replace:  map[string]any{"configSrc": "local"},
			deletion: `DELETE /accounts/a/cfd_tunnel/id1`,
			extra:    map[string]any{"account_tag": "a", "status": "inactive", "metadata": map[string]any{}, "deleted_at": nil},
			outputs:  map[string]any{"accountTag": "a", "status": "inactive", "metadata": "{}"},
		},
		"ZeroTrustTunnelCloudflaredConfig": {
			inputs: map[string]any{"accountId": "a", "tunnelId": "t", "config": map[string]any{"ingresses": []any{
				map[string]any{"hostname": "h", "service": "http://s:80"}, map[string]any{"service": "http_status:404"},
			}}},
			create: `PUT /accounts/a/cfd_tunnel/t/configurations {"config":{"ingress":[{"hostname":"h","service":"http://s:80"},{"service":"http_status:404"}]}}`,
			change: map[string]any{"config": map[string]any{"ingresses": []any{map[string]any{"service": "http_status:404"}}}},
			update: `PUT /accounts/a/cfd_tunnel/t/configurations {"config":{"ingress":[{"service":"http_status:404"}]}}`,

			replace: map[string]any{"tunnelId": "u"},
			extra:   map[string]any{"version": 1, "source": "cloudflare", "created_at": "now"},
			outputs: map[string]any{"version": 1.0, "source": "cloudflare"},
		},
		"DnsRecord": {
			inputs: map[string]any{
				"zoneId": "z", "name": "h.example", "type": "CNAME", "content": "t.cfargotunnel.com", "ttl": 1.0, "proxied": true,
			},
			create:   `POST /zones/z/dns_records {"content":"t.cfargotunnel.com","name":"h.example","proxied":true,"ttl":1,"type":"CNAME"}`,
			change:   map[string]any{"content": "u"},
			update:   `PUT /zones/z/dns_records/id1 {"content":"u","name":"h.example","proxied":true,"ttl":1,"type":"CNAME"}`,
			replace:  map[string]any{"zoneId": "y"},
			deletion: `DELETE /zones/z/dns_records/id1`,
			extra:    map[string]any{"proxiable": true, "created_on": "now", "meta": map[string]any{"a": 1}, "comment": nil},
			outputs:  map[string]any{"proxiable": true, "createdOn": "now", "meta": `{"a":1}`},
		},
		"ZeroTrustAccessPolicy": {
			inputs: map[string]any{"accountId": "a", "name": "team", "decision": "allow", "includes": []any{
				map[string]any{"email": map[string]any{"email": "a@b"}},
			}},
			create:   `POST /accounts/a/access/policies {"decision":"allow","include":[{"email":{"email":"a@b"}}],"name":"team","session_duration":"24h"}`,
			change:   map[string]any{"includes": []any{map[string]any{"emailDomain": map[string]any{"domain": "b"}}}},
			update:   `PUT /accounts/a/access/policies/id1 {"decision":"allow","include":[{"email_domain":{"domain":"b"}}],"name":"team","session_duration":"24h"}`,
			replace:  map[string]any{"accountId": "b"},
			deletion: `DELETE /accounts/a/access/policies/id1`,
			extra:    map[string]any{"exclude": []any{}, "require": []any{}, "created_at": "now"},
			outputs:  map[string]any{"sessionDuration": "24h"},
		},
		"ZeroTrustAccessApplication": {
			inputs: map[string]any{
				"accountId": "a", "name": "n", "domain": "d", "type": "self_hosted",
				"policies": []any{map[string]any{"id": "p", "precedence": 1.0}},
			},
			create: `POST /accounts/a/access/apps {"app_launcher_visible":true,"domain":"d","http_only_cookie_attribute":true,"name":"n",` +
				`"policies":[{"id":"p","precedence":1}],"session_duration":"24h","type":"self_hosted"}`,
			change: map[string]any{"domain": "e"},
			update: `PUT /accounts/a/access/apps/id1 {"app_launcher_visible":true,"domain":"e","http_only_cookie_attribute":true,"name":"n",` +
				`"policies":[{"id":"p","precedence":1}],"session_duration":"24h","type":"self_hosted"}`,
			replace:  map[string]any{"accountId": "b"},
			deletion: `DELETE /accounts/a/access/apps/id1`,
			extra:    map[string]any{"aud": "x"},
			outputs:  map[string]any{"aud": "x", "appLauncherVisible": true, "sessionDuration": "24h"},
		},
	}
	for kind, c := range cases {
		t.Run(kind, func(t *testing.T) {
			api := newCloud(t)
			api.extra = c.extra
			p := start(t, api)
			tok := token(kind)
			in := p.Check(tok, plugintest.Map(c.inputs))
			plan := p.PreviewCreate(tok, in)
			for name := range c.outputs {
				if !plan[resource.PropertyKey(name)].ContainsUnknowns() {
					t.Errorf("planned %s is %v, want it unknown", name, plan[resource.PropertyKey(name)])
				}
			}
			expect(t, api)

			id, state := p.Create(tok, in)
			expect(t, api, c.create)
			for name, value := range c.outputs {
				if got := state[resource.PropertyKey(name)]; !got.DeepEquals(resource.NewPropertyValue(value)) {
					t.Errorf("output %s is %v, want %v", name, got, value)
				}
			}
			if readID, inputs, read := p.Read(tok, id, in, state); readID != id || !inputs.DeepEquals(in) ||
				!read.DeepEquals(state) {
				t.Errorf("a refresh changes\n%v\n%v\nto\n%v\n%v", in, state, inputs, read)
			}
			if diff := p.Diff(tok, in, in); len(diff.GetDiffs()) != 0 {
				t.Errorf("no change differs: %v", diff)
			}
			with := func(change map[string]any) resource.PropertyMap {
				changed := in.Copy()
				for name, value := range change {
					changed[resource.PropertyKey(name)] = resource.NewPropertyValue(value)
				}
				return p.Check(tok, changed)
			}
			if diff := p.Diff(tok, in, with(c.replace)); len(diff.GetReplaces()) == 0 {
				t.Errorf("%v does not replace", c.replace)
			}
			news := with(c.change)
			if diff := p.Diff(tok, in, news); len(diff.GetDiffs()) == 0 || len(diff.GetReplaces()) != 0 {
				t.Errorf("%v must update in place: %v", c.change, diff)
			}
			api.took()
			state, err := p.Update(tok, id, state, in, news, false)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, api, c.update)

			if err := p.Delete(tok, id, news, state); err != nil {
				t.Fatal(err)
			}
			if c.deletion == "" {
				expect(t, api)
				return
			}
			expect(t, api, c.deletion)
			if gone, _, _ := p.Read(tok, id, news, state); gone != "" {
				t.Error("a deleted object is still there")
			}
			if err := p.Delete(tok, id, news, state); err != nil {
				t.Errorf("deleting it again: %v", err)
			}
		})
	}
}

func TestDriftIsSeen(t *testing.T) {
	api := newCloud(t)
	p := start(t, api)
	tok := token("DnsRecord")
	in := p.Check(tok, plugintest.Map(map[string]any{
		"zoneId": "z", "name": "h", "type": "A", "content": "192.0.2.1",
		"ttl": 60.0,
	}))
	id, state := p.Create(tok, in)
	api.objects["/zones/z/dns_records/"+id]["content"] = "192.0.2.2"
	_, inputs, read := p.Read(tok, id, in, state)
	if inputs["content"].V != "192.0.2.2" || read["content"].V != "192.0.2.2" {
		t.Errorf("content: input %v, state %v", inputs["content"], read["content"])
	}
}

func TestTunnelSecretIsSecretAndStaysOnRefresh(t *testing.T) {
	api := newCloud(t)
	p := start(t, api)
	tok := token("ZeroTrustTunnelCloudflared")
	in := p.Check(tok, plugintest.Map(map[string]any{"accountId": "a", "name": "t", "tunnelSecret": tunnelSecret}))
	id, state := p.Create(tok, in)
	_, inputs, read := p.Read(tok, id, in, state)
	for name, m := range map[string]resource.PropertyMap{
		"checked": in, "state": state, "read inputs": inputs,
		"read": read,
	} {
		if !m["tunnelSecret"].IsSecret() || m["tunnelSecret"].SecretValue().Element.V != tunnelSecret {
			t.Errorf("%s: tunnelSecret is %s", name, m["tunnelSecret"].TypeString())
		}
	}
	api.objects["/accounts/a/cfd_tunnel/"+id]["deleted_at"] = "now"
	if gone, _, _ := p.Read(tok, id, in, state); gone != "" {
		t.Error("a tunnel that the API shows as deleted is still there")
	}
}

func TestFaults(t *testing.T) {
	api := newCloud(t)
	p := start(t, api)
	tok := token("DnsRecord")
	in := p.Check(tok, plugintest.Map(map[string]any{
		"zoneId": "z", "name": "h", "type": "A", "content": "192.0.2.1",
		"ttl": 60.0,
	}))
	api.fail = []int{429, 503}
	p.Create(tok, in)
	if got := len(api.took()); got != 3 {
		t.Errorf("%d requests, want two failing ones and a good one", got)
	}
	api.fail = []int{500, 500, 500}
	if _, _, err := p.TryCreate(tok, in); err == nil || !strings.Contains(err.Error(), "answered 500: planted (81053)") {
		t.Errorf("error %v", err)
	}
	api.took()
	api.fail = []int{400}
	if _, _, err := p.TryCreate(tok, in); err == nil || !strings.Contains(err.Error(), "answered 400: planted (81053)") {
		t.Errorf("error %v", err)
	}
	if got := len(api.took()); got != 1 {
		t.Errorf("%d requests, want no retry of a refusal", got)
	}
}

func TestRefusals(t *testing.T) {
	api := newCloud(t)
	p := start(t, api)
	for name, c := range map[string]struct {
		kind   string
		inputs map[string]any
		want   string
	}{
		"no zone": {
			"DnsRecord",
			map[string]any{"name": "h", "type": "A", "ttl": 1.0},
			`missing required property "zoneId"`,
		},
		"no ttl": {
			"DnsRecord",
			map[string]any{"zoneId": "z", "name": "h", "type": "A"},
			`missing required property "ttl"`,
		},
		"ttl 2": {
			"DnsRecord",
			map[string]any{"zoneId": "z", "name": "h", "type": "A", "ttl": 2.0},
			"ttl must be 1",
		},
		"misspelt": {
			"DnsRecord",
			map[string]any{"zoneId": "z", "name": "h", "type": "A", "ttl": 1.0, "proxyed": true},
			`does not support property "proxyed"`,
		},
		"misspelt inside": {
			"ZeroTrustTunnelCloudflaredConfig",
			map[string]any{"accountId": "a", "tunnelId": "t", "config": map[string]any{"ingress": []any{}}},
			`"config.ingress"`,
		},
		"rule without goal": {
			"ZeroTrustTunnelCloudflaredConfig",
			map[string]any{"accountId": "a", "tunnelId": "t", "config": map[string]any{"ingresses": []any{map[string]any{}}}},
			`"config.ingresses[0].service"`,
		},
		"short secret": {
			"ZeroTrustTunnelCloudflared",
			map[string]any{"accountId": "a", "name": "t", "tunnelSecret": "c2hvcnQ="},
			"at least 32 bytes",
		},
		"other selector": {
			"ZeroTrustAccessPolicy",
			map[string]any{
				"accountId": "a", "name": "p", "decision": "allow",
				"includes": []any{map[string]any{"geo": map[string]any{}}},
			},
			`"includes[0].geo"`,
		},
	} {
		_, failures, err := p.TryCheck(token(c.kind), plugintest.Map(c.inputs))
		if err != nil || len(failures) != 1 || !strings.Contains(failures[0], c.want) {
			t.Errorf("%s: %v %q, want %q", name, err, failures, c.want)
		}
	}
	unconfigured := plugintest.Unconfigured(t, cloudflare.New)
	for want, config := range map[string]map[string]any{
		"must be 40 characters long":         {"apiToken": "short"},
		"is not a URL":                       {"apiToken": apiToken, "baseUrl": "nonsense"},
		`does not support property "apiKey"`: {"apiToken": apiToken, "apiKey": "k"},
	} {
		if _, err := unconfigured.Configure(plugintest.Map(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	checked, failures := unconfigured.CheckConfig("cloudflare", plugintest.Map(map[string]any{"apiToken": apiToken}))
	if len(failures) != 0 || !checked["apiToken"].IsSecret() {
		t.Errorf("apiToken is %s, failures %q: want it secret", checked["apiToken"].TypeString(), failures)
	}
}
