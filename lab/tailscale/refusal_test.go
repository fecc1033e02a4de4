package tailscale_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestRefusals(t *testing.T) {
	c := startTagged(t)
	key := func(create, rest string) string {
		return `{"capabilities":{"devices":{"create":{` + create + `}}}` + rest + `}`
	}
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		message                  string
	}{
		{"other tailnet", "GET", "/api/v2/tailnet/other.test/keys", "", 404, "not found"},
		{"key without tags", "POST", tailnet + "/keys", key("", ""), 400, "tailnet-owned auth key must have tags set"},
		{
			"key with an undefined tag", "POST", tailnet + "/keys", key(`"tags":["tag:k3s","tag:nope"]`, ""), 400,
			"requested tags [tag:nope] are invalid or not permitted",
		},
		{"key without capabilities", "POST", tailnet + "/keys", `{}`, 400, "capabilities are required"},
		{
			"key that lives too long", "POST", tailnet + "/keys", key(`"tags":["tag:k3s"]`, `,"expirySeconds":7776001`),
			400, "expirySeconds must be between 1 and 7776000",
		},
		{
			"key with a negative life", "POST", tailnet + "/keys", key(`"tags":["tag:k3s"]`, `,"expirySeconds":-1`), 400,
			"expirySeconds",
		},
		{"key with a long description", "POST", tailnet + "/keys", key(`"tags":["tag:k3s"]`,
			`,"description":"`+strings.Repeat("x", 51)+`"`), 400, "at most 50"},
		{"key with a wrong description", "POST", tailnet + "/keys", key(`"tags":["tag:k3s"]`,
			`,"description":"join_key"`), 400, "hyphens and spaces"},
		{"OAuth client", "POST", tailnet + "/keys", `{"keyType":"client","scopes":["all"]}`, 501, "not emulated"},
		{"unknown key", "GET", tailnet + "/keys/k1", "", 404, "key not found"},
		{"unknown key deleted", "DELETE", tailnet + "/keys/k1", "", 404, "key not found"},
		{"unknown device", "GET", "/api/v2/device/n1", "", 404, "device not found"},
		{"unknown device deleted", "DELETE", "/api/v2/device/n1", "", 404, "device not found"},
		{"unknown device renamed", "POST", "/api/v2/device/n1/name", `{"name":"a"}`, 404, "device not found"},
		{"device filter", "GET", tailnet + "/devices?tags=tag:k3s", "", 501, "not emulated"},
		{"unknown setting", "PATCH", tailnet + "/settings", `{"devicesApproval":true}`, 400, "unknown field"},
		{
			"setting out of bounds", "PATCH", tailnet + "/settings", `{"devicesKeyDurationDays":181}`, 400,
			"between 1 and 180",
		},
		{
			"setting of another kind", "PATCH", tailnet + "/settings",
			`{"usersRoleAllowedToJoinExternalTailnets":"owner"}`, 400, "none, admin or member",
		},
		{"nameserver", "POST", tailnet + "/dns/nameservers", `{"dns":["one"]}`, 400, "not an IP address"},
		{"policy details", "GET", tailnet + "/acl?details=1", "", 501, "not emulated"},
		{"unknown path", "GET", tailnet + "/webhooks", "", 501, "not emulated"},
		{"unknown method", "PUT", tailnet + "/acl", "{}", 501, "not emulated"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := c.do(t, http.MethodGet, "/lab/state", "").text
			got := c.do(t, test.method, test.path, test.body)
			message, _ := got.json["message"].(string)
			if got.status != test.status || !strings.Contains(message, test.message) {
				t.Errorf("got %d %s\nwant %d with %q", got.status, got.text, test.status, test.message)
			}
			if after := c.do(t, http.MethodGet, "/lab/state", "").text; after != before {
				t.Errorf("a refused request changed the tailnet")
			}
		})
	}
}

func TestAForeignPolicyIsNotOverwritten(t *testing.T) {
	c := start(t, t.TempDir())
	set := func(text, match string) answer {
		return c.do(t, http.MethodPost, tailnet+"/acl", text, "If-Match", match, "Content-Type", "application/hujson")
	}
	if got := set(taggedPolicy, `"ts-default"`); got.status != http.StatusOK || got.text != taggedPolicy {
		t.Fatalf("over the default policy: %d %s", got.status, got.text)
	}
	got := set(`{}`, `"ts-default"`)
	if got.status != http.StatusPreconditionFailed || got.json["message"] != "precondition failed, invalid old hash" {
		t.Errorf("over another policy: %d %s", got.status, got.text)
	}
	etag := c.do(t, http.MethodGet, tailnet+"/acl", "").header.Get("ETag")
	if got := set(`{"acls":[]}`, etag); got.status != http.StatusOK {
		t.Errorf("over the policy that was read: %d %s", got.status, got.text)
	}
	if got := set(taggedPolicy, etag); got.status != http.StatusPreconditionFailed {
		t.Errorf("over a policy changed since it was read: %d %s", got.status, got.text)
	}
	if got := set(taggedPolicy, ""); got.status != http.StatusOK {
		t.Errorf("without a condition: %d %s", got.status, got.text)
	}
	if got := set("", ""); got.status != http.StatusOK {
		t.Errorf("back to the default: %d %s", got.status, got.text)
	}
	if got := set(taggedPolicy, `"ts-default"`); got.status != http.StatusOK {
		t.Errorf("over the default policy again: %d %s", got.status, got.text)
	}
}
