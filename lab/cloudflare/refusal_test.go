package cloudflare_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
)

// site is an account with one of everything, for the refusals.
type site struct {
	*cloud
	tunnel, local, record, policy, app string
}

func startSite(t *testing.T) *site {
	t.Helper()
	s := &site{cloud: start(t, t.TempDir())}
	s.tunnel = s.id(t, accounts+"/cfd_tunnel", `{"name":"site","config_src":"cloudflare","tunnel_secret":"`+secret+`"}`)
	s.local = s.id(t, accounts+"/cfd_tunnel", `{"name":"local"}`)
	s.record = s.id(t, zones+"/dns_records",
		`{"name":"app.lab.test","type":"CNAME","content":"`+s.tunnel+`.cfargotunnel.com","ttl":1,"proxied":true}`)
	s.id(t, zones+"/dns_records", `{"name":"host.lab.test","type":"A","content":"192.0.2.1","ttl":300}`)
	s.policy = s.id(t, accounts+"/access/policies", `{"name":"team","decision":"allow","include":[{"everyone":{}}]}`)
	s.app = s.id(t, accounts+"/access/apps",
		`{"name":"app","type":"self_hosted","domain":"app.lab.test","policies":["`+s.policy+`"]}`)
	return s
}

func TestRefusals(t *testing.T) {
	s := startSite(t)
	const (
		ok        = "{}"
		missing   = "00000000-0000-4000-8000-000000000000"
		elsewhere = "ffffffffffffffffffffffffffffffff"
	)
	tunnels, records := accounts+"/cfd_tunnel", zones+"/dns_records"
	policies, apps := accounts+"/access/policies", accounts+"/access/apps"
	config := tunnels + "/" + s.tunnel + "/configurations"
	ingress := func(rules string) string { return `{"config":{"ingress":[` + rules + `]}}` }
	record := func(fields string) string { return `{"type":"CNAME","content":"x.test","ttl":1,` + fields + `}` }
	policy := func(fields string) string { return `{"name":"p","decision":"allow",` + fields + `}` }
	app := func(fields string) string { return `{"name":"a","type":"self_hosted",` + fields + `}` }

	for _, test := range []struct {
		name, method, path, body string
		status, code             int
		message                  string
	}{
		{"other account", "GET", "/accounts/" + elsewhere + "/cfd_tunnel", "", 404, 7003, "Could not route to " +
			"/accounts/" + elsewhere},
		{"other zone", "POST", "/zones/" + elsewhere + "/dns_records", ok, 404, 7003, "Could not route to"},
		{"body is not JSON", "POST", tunnels, "{", 400, 9207, "Request body is invalid"},

		{"tunnel without a name", "POST", tunnels, ok, 400, 1003, "name is required"},
		{"tunnel name taken", "POST", tunnels, `{"name":"site"}`, 409, 1013, "already have a tunnel with this name"},
		{"tunnel renamed to a taken name", "PATCH", tunnels + "/" + s.local, `{"name":"site"}`, 409, 1013, "already have"},
		{"tunnel config source", "POST", tunnels, `{"name":"x","config_src":"file"}`, 400, 1003, "config_src"},
		{
			"tunnel secret too short",
			"POST",
			tunnels,
			`{"name":"x","tunnel_secret":"c2hvcnQ="}`,
			400,
			1002,
			"at least 32 bytes",
		},
		{
			"tunnel secret not base64",
			"POST",
			tunnels,
			`{"name":"x","tunnel_secret":"` + strings.Repeat("!", 60) + `"}`,
			400,
			1002,
			"base64",
		},
		{"tunnel unknown", "GET", tunnels + "/" + missing, "", 404, 1003, "Tunnel not found"},
		{"tunnel unknown deleted", "DELETE", tunnels + "/" + missing, "", 404, 1003, "Tunnel not found"},
		{"tunnel with DNS records", "DELETE", tunnels + "/" + s.tunnel, "", 400, 1022, "app.lab.test"},
		{"tunnel list with an unknown filter", "GET", tunnels + "?nome=x", "", 501, 10000, `"nome"`},
		{"page is not a number", "GET", tunnels + "?page=x", "", 400, 1003, "page"},

		{"config without rules", "PUT", config, ingress(""), 400, 1056, "doesn't contain any ingress rules"},
		{"config is no object", "PUT", config, `{"config":[]}`, 400, 1056, "not an object"},
		{"config without config", "PUT", config, ok, 400, 1056, "not an object"},
		{
			"config of a local tunnel",
			"PUT",
			tunnels + "/" + s.local + "/configurations",
			ingress(`{"service":"http_status:404"}`),
			400,
			1056,
			"configured locally",
		},
		{
			"last rule has a hostname",
			"PUT",
			config,
			ingress(`{"hostname":"a.lab.test","service":"http://x"}`),
			400,
			1056,
			"last ingress rule must match all URLs",
		},
		{
			"last rule has a path",
			"PUT",
			config,
			ingress(`{"path":"/x","service":"http://x"}`),
			400,
			1056,
			"last ingress rule must match all URLs",
		},
		{
			"catch-all before the last",
			"PUT",
			config,
			ingress(`{"service":"http://x"},{"service":"http_status:404"}`),
			400,
			1056,
			"Rule #1 is matching",
		},
		{
			"two wildcards",
			"PUT",
			config,
			ingress(`{"hostname":"*.*.lab.test","service":"http://x"},{"service":"http_status:404"}`),
			400,
			1056,
			"at most one wildcard",
		},
		{
			"wildcard inside",
			"PUT",
			config,
			ingress(`{"hostname":"a.*.test","service":"http://x"},{"service":"http_status:404"}`),
			400,
			1056,
			"only be used for subdomains",
		},
		{
			"hostname with a port",
			"PUT",
			config,
			ingress(`{"hostname":"a.test:80","service":"http://x"},{"service":"http_status:404"}`),
			400,
			1056,
			"cannot contain a port",
		},
		{
			"hostname malformed",
			"PUT",
			config,
			ingress(`{"hostname":"a b.test","service":"http://x"},{"service":"http_status:404"}`),
			400,
			1056,
			"not a valid hostname",
		},
		{
			"path is no regex",
			"PUT",
			config,
			ingress(`{"hostname":"a.test","path":"(","service":"http://x"},{"service":"http_status:404"}`),
			400,
			1056,
			"invalid regex",
		},
		{
			"service missing",
			"PUT",
			config,
			ingress(`{"hostname":"a.test"},{"service":"http_status:404"}`),
			400,
			1056,
			"scheme and a hostname",
		},
		{
			"service without scheme",
			"PUT",
			config,
			ingress(`{"hostname":"a.test","service":"memos:80"},{"service":"http_status:404"}`),
			400,
			1056,
			"scheme and a hostname",
		},
		{
			"service with a path",
			"PUT",
			config,
			ingress(`{"hostname":"a.test","service":"http://x/y"},{"service":"http_status:404"}`),
			400,
			1056,
			"different path",
		},
		{
			"service scheme",
			"PUT",
			config,
			ingress(`{"hostname":"a.test","service":"gopher://x"},{"service":"http_status:404"}`),
			400,
			1056,
			"unsupported scheme",
		},
		{"service status", "PUT", config, ingress(`{"service":"http_status:none"}`), 400, 1056, "invalid HTTP status"},

		{"record beside a CNAME", "POST", records, record(`"name":"app.lab.test"`), 400, 81053, "already exists"},
		{"CNAME beside an A", "POST", records, record(`"name":"host"`), 400, 81053, "already exists"},
		{
			"A beside a CNAME",
			"POST",
			records,
			`{"name":"app","type":"A","content":"192.0.2.1","ttl":1}`,
			400,
			81054,
			"CNAME record with that host",
		},
		{
			"same A twice",
			"POST",
			records,
			`{"name":"host","type":"A","content":"192.0.2.1","ttl":1}`,
			400,
			81057,
			"already exists",
		},
		{
			"record renamed onto another", "PATCH", records + "/" + s.record, `{"name":"host.lab.test"}`, 400, 81053,
			"already exists",
		},
		{
			"record outside the zone", "POST", records, record(`"name":"app.other.test"`), 400, 9000, "not in the zone lab.test",
		},
		{
			"record in a zone that ends alike", "POST", records, record(`"name":"app.notlab.test"`), 400, 9000,
			"not in the zone",
		},
		{"record without a name", "POST", records, record(`"proxied":true`), 400, 9000, "not in the zone"},
		{"wildcard inside a name", "POST", records, record(`"name":"a.*.lab.test"`), 400, 9000, "first label"},
		{"CNAME to an address", "POST", records, record(`"name":"x","content":"192.0.2.1"`), 400, 9007, "CNAME"},
		{"CNAME to itself", "POST", records, record(`"name":"x","content":"x.lab.test"`), 400, 9039, "itself"},
		{"A to a name", "POST", records, `{"name":"x","type":"A","content":"y.test","ttl":1}`, 400, 9005, "IPv4"},
		{
			"A to an IPv6 address",
			"POST",
			records,
			`{"name":"x","type":"A","content":"2001:db8::1","ttl":1}`,
			400,
			9005,
			"IPv4",
		},
		{
			"AAAA to an IPv4 address",
			"POST",
			records,
			`{"name":"x","type":"AAAA","content":"192.0.2.1","ttl":1}`,
			400,
			9006,
			"IPv6",
		},
		{
			"proxied private address",
			"POST",
			records,
			`{"name":"x","type":"A","content":"10.0.0.1","proxied":true,"ttl":1}`,
			400,
			9003,
			"not allowed",
		},
		{
			"proxied TXT",
			"POST",
			records,
			`{"name":"x","type":"TXT","content":"t","proxied":true,"ttl":1}`,
			400,
			9004,
			"cannot be proxied",
		},
		{"record without a type", "POST", records, `{"name":"x","content":"t","ttl":1}`, 400, 9004, "type is required"},
		{"record TTL too small", "POST", records, record(`"name":"x","ttl":5`), 400, 9021, "Invalid TTL"},
		{"record type not emulated", "POST", records, `{"name":"x","type":"SRV","ttl":1}`, 501, 10000, "SRV"},
		{"record unknown", "GET", records + "/" + missing, "", 404, 81044, "does not exist"},

		{
			"policy without a name",
			"POST",
			policies,
			`{"decision":"allow","include":[{"everyone":{}}]}`,
			400,
			12130,
			"name is required",
		},
		{
			"policy without an include", "POST", policies, policy(`"require":[]`), 400, 12130,
			"include must have at least one rule",
		},
		{
			"policy with an empty include", "POST", policies, policy(`"include":[]`), 400, 12130,
			"include must have at least one rule",
		},
		{
			"policy decision",
			"POST",
			policies,
			`{"name":"p","decision":"maybe","include":[{"everyone":{}}]}`,
			400,
			12130,
			`"maybe"`,
		},
		{
			"policy selector",
			"POST",
			policies,
			policy(`"include":[{"mail":{"email":"a@b.c"}}]`),
			400,
			12130,
			`unknown selector "mail"`,
		},
		{
			"policy with two selectors in a rule",
			"POST",
			policies,
			policy(`"include":[{"everyone":{},"geo":{}}]`),
			400,
			12130,
			"exactly one selector",
		},
		{
			"policy email",
			"POST",
			policies,
			policy(`"include":[{"email":{"email":"nobody"}}]`),
			400,
			12130,
			`"nobody" is not an email`,
		},
		{"policy in use", "DELETE", policies + "/" + s.policy, "", 400, 12130, "in use by app"},
		{"policy unknown", "GET", policies + "/" + missing, "", 404, 11021, "not_found"},

		{"application without a domain", "POST", apps, app(`"policies":[]`), 400, 12130, "domain is required"},
		{"application outside the zone", "POST", apps, app(`"domain":"a.other.test"`), 400, 12130, "does not belong to zone"},
		{"application domain taken", "POST", apps, app(`"domain":"app.lab.test"`), 409, 11010, "already exists"},
		{
			"application with an unknown policy",
			"POST",
			apps,
			app(`"domain":"b.lab.test","policies":[{"id":"` + missing + `","precedence":1}]`),
			400,
			12130,
			"does not exist",
		},
		{
			"application with a policy twice",
			"POST",
			apps,
			app(`"domain":"b.lab.test","policies":["` + s.policy + `","` + s.policy + `"]`),
			400,
			12130,
			"listed twice",
		},
		{"application type", "POST", apps, `{"name":"a","type":"ssh","domain":"b.lab.test"}`, 501, 10000, "ssh"},

		{"token of no tunnel", "GET", tunnels + "/" + missing + "/token", "", 404, 1003, "not found"},
		{"unknown path", "GET", accounts + "/workers/scripts", "", 501, 10000, "not emulated"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := s.do(t, http.MethodGet, "/lab/state", "").text
			got := s.do(t, test.method, cloudflare.Prefix+test.path, test.body)
			if got.Success || got.status != test.status || len(got.Errors) != 1 || got.Errors[0].Code != test.code ||
				!strings.Contains(got.Errors[0].Message, test.message) {
				t.Errorf("got %d %s\nwant %d with code %d and %q", got.status, got.text, test.status, test.code, test.message)
			}
			if after := s.do(t, http.MethodGet, "/lab/state", "").text; after != before {
				t.Errorf("a refused request changed the account:\n%s\n%s", before, after)
			}
		})
	}
}

func TestADeletedTunnelIsRememberedLikeInTheCloud(t *testing.T) {
	c := start(t, t.TempDir())
	path := accounts + "/cfd_tunnel"
	first := c.id(t, path, `{"name":"site"}`)
	c.api(t, http.MethodDelete, path+"/"+first, "")
	if got := c.api(t, http.MethodGet, path+"/"+first, ""); got.Result["deleted_at"] == nil {
		t.Errorf("no deleted_at: %s", got.text)
	}
	if got := c.do(t, http.MethodDelete, cloudflare.Prefix+path+"/"+first, ""); got.status != http.StatusNotFound {
		t.Errorf("deleted twice: %d %s", got.status, got.text)
	}
	second := c.id(t, path, `{"name":"site"}`) // the name is free again
	if list := c.api(t, http.MethodGet, path+"?name=site&is_deleted=false", "").List; len(list) != 1 ||
		!strings.Contains(fmt.Sprint(list), second) {
		t.Errorf("live tunnels: %v", list)
	}
	if left := c.total(t); left != 1 {
		t.Errorf("%v objects counted", left)
	}
}

func TestListsHavePages(t *testing.T) {
	c := start(t, t.TempDir())
	for i := range 5 {
		c.id(t, zones+"/dns_records", fmt.Sprintf(`{"name":"r%d","type":"TXT","content":"t"}`, i))
	}
	got := c.api(t, http.MethodGet, zones+"/dns_records?per_page=2&page=3", "")
	if len(got.List) != 1 || got.ResultInfo["total_count"] != 5 || got.ResultInfo["total_pages"] != 3 {
		t.Errorf("last page: %s", got.text)
	}
	got = c.api(t, http.MethodGet, zones+"/dns_records?per_page=2&page=4", "")
	if got.List == nil || len(got.List) != 0 {
		t.Errorf("a page after the last must be an empty list: %s", got.text)
	}
}
