package tailscale_test

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

	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
	"github.com/tinyrack-net/infrastructure/lab/plugins/tailscale"
)

const (
	aclToken = "tailscale:index/acl:Acl"
	dnsToken = "tailscale:index/dnsPreferences:DnsPreferences"
	keyToken = "tailscale:index/tailnetKey:TailnetKey"
)

// cloud is as much of the Tailscale API as these tests need; it answers what
// the real one was seen to answer, and 501 to everything else.
type cloud struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
	policy   string
	foreign  bool // the policy is somebody else's
	magicDNS bool
	keys     map[string]map[string]any
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{policy: "{}", keys: map[string]map[string]any{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	what := r.Method + " " + r.URL.Path
	if r.URL.Path != "/api/v2/oauth/token" {
		c.requests = append(c.requests, strings.TrimSpace(fmt.Sprintf("%s %s %s", what, r.Header.Get("If-Match"), body)))
		if r.Header.Get("Authorization") != "Bearer granted" {
			http.Error(w, `{"message":"unauthorized"}`, http.StatusUnauthorized)
			return
		}
	}
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	const tailnet = "/api/v2/tailnet/lab.test"
	switch id := strings.TrimPrefix(r.URL.Path, tailnet+"/keys/"); {
	case what == "POST /api/v2/oauth/token":
		if user, password, _ := r.BasicAuth(); user != "id" || password != "secret" {
			http.Error(w, `{"message":"bad client"}`, http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		answer(map[string]any{"access_token": "granted", "token_type": "Bearer", "expires_in": 3600})
	case what == "POST "+tailnet+"/acl":
		if c.foreign && r.Header.Get("If-Match") == `"ts-default"` {
			w.WriteHeader(http.StatusPreconditionFailed)
			answer(map[string]any{"message": "precondition failed, invalid old hash"})
			return
		}
		if strings.Contains(string(body), "failing test") {
			w.WriteHeader(http.StatusBadRequest)
			answer(map[string]any{"message": "test(s) failed", "data": []any{map[string]any{
				"user":   "a@b",
				"errors": []string{"address denied"},
			}}})
			return
		}
		c.policy = string(body)
		_, _ = w.Write(body)
	case what == "GET "+tailnet+"/acl":
		_, _ = io.WriteString(w, c.policy)
	case what == "POST "+tailnet+"/dns/preferences":
		c.magicDNS = strings.Contains(string(body), "true")
		answer(map[string]any{"magicDNS": c.magicDNS})
	case what == "GET "+tailnet+"/dns/preferences":
		answer(map[string]any{"magicDNS": c.magicDNS})
	case what == "POST "+tailnet+"/keys":
		key := map[string]any{}
		_ = json.Unmarshal(body, &key)
		key["id"], key["userId"], key["keyType"] = fmt.Sprintf("k%d", len(c.keys)+1), "", "auth"
		key["created"], key["expires"] = "2026-11-23T08:00:00Z", "2027-02-21T08:00:00Z"
		if key["expirySeconds"] == 0.0 {
			key["expirySeconds"] = 7776000
		}
		c.keys[key["id"].(string)] = key
		whole := map[string]any{"key": "tskey-auth-canary"}
		for name, value := range key {
			whole[name] = value
		}
		answer(whole)
	case c.keys[id] != nil && r.Method == "GET":
		answer(c.keys[id])
	case c.keys[id] != nil && r.Method == "DELETE":
		delete(c.keys, id)
	case strings.HasPrefix(r.URL.Path, tailnet+"/keys/"):
		w.WriteHeader(http.StatusNotFound)
		answer(map[string]any{"message": "not found"})
	default:
		http.Error(w, `{"message":"this test serves no `+what+`"}`, http.StatusNotImplemented)
	}
}

// took returns the requests since the last call.
func (c *cloud) took() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests := c.requests
	c.requests = nil
	return requests
}

func start(t *testing.T, c *cloud) *plugintest.Plugin {
	t.Helper()
	return plugintest.Start(t, tailscale.New, plugintest.Map(map[string]any{
		"baseUrl": c.URL, "tailnet": "lab.test", "oauthClientId": "id", "oauthClientSecret": "secret",
		"userAgent": "test", "version": "0.29.0",
	}))
}

func expect(t *testing.T, c *cloud, want ...string) {
	t.Helper()
	if got := c.took(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("requests\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPolicy(t *testing.T) {
	c := newCloud(t)
	p := start(t, c)
	const policy, other = `{"acls": []}`, `{"acls": [], "hosts": {}}`
	in := p.Check(aclToken, plugintest.Map(map[string]any{"acl": policy, "resetAclOnDestroy": true}))
	p.PreviewCreate(aclToken, in)
	expect(t, c)

	id, state := p.Create(aclToken, in)
	expect(t, c, `POST /api/v2/tailnet/lab.test/acl "ts-default" `+policy)

	c.policy = "// as the cloud formats it\n{\n\t\"acls\": [],\n}\n"
	if _, inputs, read := p.Read(aclToken, id, in, state); !inputs.DeepEquals(in) || !read.DeepEquals(state) {
		t.Errorf("the same policy in another notation is drift: %v", inputs)
	}
	c.policy = other
	if _, inputs, _ := p.Read(aclToken, id, in, state); inputs["acl"].V != other {
		t.Errorf("a changed policy is no drift: %v", inputs["acl"])
	}
	c.took()

	news := p.Check(aclToken, plugintest.Map(map[string]any{"acl": other, "resetAclOnDestroy": true}))
	if diff := p.Diff(aclToken, in, news); len(diff.GetDiffs()) != 1 || len(diff.GetReplaces()) != 0 {
		t.Errorf("a changed policy must update in place: %v", diff)
	}
	state, err := p.Update(aclToken, id, state, in, news, false)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, c, "POST /api/v2/tailnet/lab.test/acl  "+other)

	if err := p.Delete(aclToken, id, news, state); err != nil {
		t.Fatal(err)
	}
	expect(t, c, "POST /api/v2/tailnet/lab.test/acl")
}

func TestForeignPolicyIsKept(t *testing.T) {
	c := newCloud(t)
	c.policy, c.foreign = `{"theirs": true}`, true
	p := start(t, c)
	in := p.Check(aclToken, plugintest.Map(map[string]any{"acl": "{}"}))
	if _, _, err := p.TryCreate(aclToken, in); err == nil || !strings.Contains(err.Error(), "overwrite a non-default "+
		"policy") {
		t.Errorf("error %v, want the refusal", err)
	}
	if c.policy != `{"theirs": true}` {
		t.Errorf("the policy is %q", c.policy)
	}
	c.took()
	over := p.Check(aclToken, plugintest.Map(map[string]any{"acl": "{}", "overwriteExistingContent": true}))
	id, state := p.Create(aclToken, over)
	expect(t, c, "POST /api/v2/tailnet/lab.test/acl  {}")
	if err := p.Delete(aclToken, id, over, state); err != nil {
		t.Fatal(err)
	}
	expect(t, c) // without resetAclOnDestroy the policy stays
}

func TestFailedPolicyTestsAreNamed(t *testing.T) {
	c := newCloud(t)
	p := start(t, c)
	in := p.Check(aclToken, plugintest.Map(map[string]any{"acl": `{"hosts": {"failing test": ""}}`}))
	if _, _, err := p.TryCreate(aclToken, in); err == nil || !strings.Contains(err.Error(), "a@b: address denied") {
		t.Errorf("error %v, want the failed test", err)
	}
}

func TestDNSPreferences(t *testing.T) {
	c := newCloud(t)
	p := start(t, c)
	in := p.Check(dnsToken, plugintest.Map(map[string]any{"magicDns": true}))
	id, state := p.Create(dnsToken, in)
	expect(t, c, `POST /api/v2/tailnet/lab.test/dns/preferences  {"magicDNS":true}`)
	if _, inputs, read := p.Read(dnsToken, id, in, state); !inputs.DeepEquals(in) || !read.DeepEquals(state) {
		t.Error("a refresh changes something")
	}
	c.magicDNS = false
	if _, inputs, _ := p.Read(dnsToken, id, in, state); inputs["magicDns"].V != false {
		t.Error("drift is not seen")
	}
	c.took()
	if err := p.Delete(dnsToken, id, in, state); err != nil {
		t.Fatal(err)
	}
	expect(t, c, `POST /api/v2/tailnet/lab.test/dns/preferences  {"magicDNS":false}`)
}

func TestTailnetKey(t *testing.T) {
	c := newCloud(t)
	p := start(t, c)
	in := p.Check(keyToken, plugintest.Map(map[string]any{
		"description": "join", "preauthorized": true, "tags": []any{"tag:k3s"}, "recreateIfInvalid": "never",
	}))
	id, state := p.Create(keyToken, in)
	expect(t, c, `POST /api/v2/tailnet/lab.test/keys  {"capabilities":{"devices":{"create":{"reusable":false,"ephemeral":false,`+
		`"tags":["tag:k3s"],"preauthorized":true}}},"expirySeconds":0,"description":"join"}`)
	if id != "k1" || !state["key"].IsSecret() || state["key"].SecretValue().Element.V != "tskey-auth-canary" {
		t.Errorf("id %q, key %s: want it secret", id, state["key"].TypeString())
	}
	if state["expiry"].V != 7776000.0 || state["reusable"].V != false {
		t.Errorf("completed inputs: %v", state)
	}
	_, inputs, read := p.Read(keyToken, id, in, state)
	if !inputs.DeepEquals(in) || !read.DeepEquals(state) {
		t.Errorf("a refresh changes %v\nto %v", state, read)
	}

	delete(c.keys, id)
	if gone, inputs, _ := p.Read(keyToken, id, in, state); gone != id || !inputs.DeepEquals(in) {
		t.Error("a used-up key is recreated although recreateIfInvalid is never")
	}
	always := in.Copy()
	always["recreateIfInvalid"] = resource.NewProperty("always")
	if gone, _, _ := p.Read(keyToken, id, always, state); gone != "" {
		t.Error("a used-up key is kept although recreateIfInvalid is always")
	}
	if diff := p.Diff(keyToken, in, always); len(diff.GetReplaces()) != 0 {
		t.Errorf("recreateIfInvalid replaces: %v", diff)
	}
	reusable := in.Copy()
	reusable["reusable"] = resource.NewProperty(true)
	if diff := p.Diff(keyToken, in, reusable); len(diff.GetReplaces()) != 1 {
		t.Errorf("reusable does not replace: %v", diff)
	}
	if err := p.Delete(keyToken, id, in, state); err != nil {
		t.Errorf("delete of a key that is gone: %v", err)
	}
}

func TestRefusedConfiguration(t *testing.T) {
	p := plugintest.Unconfigured(t, tailscale.New)
	for name, c := range map[string]struct {
		config map[string]any
		want   string
	}{
		"nothing":     {map[string]any{}, "credentials are missing"},
		"half of it":  {map[string]any{"oauthClientId": "id"}, "credentials are missing"},
		"both":        {map[string]any{"apiKey": "k", "oauthClientId": "id", "oauthClientSecret": "s"}, "exclude each other"},
		"no URL":      {map[string]any{"apiKey": "k", "baseUrl": "nonsense"}, "is not a URL"},
		"unsupported": {map[string]any{"apiKey": "k", "identityToken": "t"}, `does not support property "identityToken"`},
	} {
		if _, err := p.Configure(plugintest.Map(c.config)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestBrokenPolicyIsRefusedEarly(t *testing.T) {
	c := newCloud(t)
	p := start(t, c)
	_, failures, err := p.TryCheck(aclToken, plugintest.Map(map[string]any{"acl": "{"}))
	if err != nil || len(failures) != 1 || !strings.Contains(failures[0], "neither JSON nor HuJSON") {
		t.Errorf("%v %q", err, failures)
	}
}
