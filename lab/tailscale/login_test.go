package tailscale_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/tailscale"
)

func (c *cloud) tryLogin(t *testing.T, request tailscale.LoginRequest) (tailscale.LoginResponse, answer) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	got := c.do(t, http.MethodPost, "/lab/login", string(body), "Authorization", "")
	var response tailscale.LoginResponse
	if err := json.Unmarshal([]byte(got.text), &response); err != nil {
		t.Fatal(err)
	}
	return response, got
}

func (c *cloud) login(t *testing.T, key, hostname, nodeKey string) tailscale.LoginResponse {
	t.Helper()
	response, got := c.tryLogin(t, tailscale.LoginRequest{AuthKey: key, Hostname: hostname, NodeKey: nodeKey})
	if got.status != http.StatusOK {
		t.Fatalf("login of %s: %d %s", hostname, got.status, got.text)
	}
	return response
}

func startTagged(t *testing.T) *cloud {
	t.Helper()
	c := start(t, t.TempDir())
	c.api(t, http.MethodPost, tailnet+"/acl", taggedPolicy)
	return c
}

func TestASingleUseKeyLetsOneNodeIn(t *testing.T) {
	c := startTagged(t)
	_, key := c.newKey(t, `,"preauthorized":true`, "")
	first := c.login(t, key, "Node1", "")
	if first.Address != "100.64.0.10" || first.DNSName != "node1.lab.test" || !first.Authorized || len(first.Tags) != 1 || first.NodeKey == "" {
		t.Errorf("login: %+v", first)
	}
	if again := c.login(t, key, "node1", first.NodeKey); again.NodeID != first.NodeID {
		t.Errorf("the same node logged in as another: %+v", again)
	}
	if without := c.login(t, "", "node1", first.NodeKey); without.NodeID != first.NodeID {
		t.Errorf("a node that is registered needs no key: %+v", without)
	}
	if _, got := c.tryLogin(t, tailscale.LoginRequest{AuthKey: key, Hostname: "node2"}); got.status != http.StatusUnauthorized || !strings.Contains(got.text, "already used") {
		t.Errorf("a used key: %d %s", got.status, got.text)
	}
	if n := c.count(t, "devices"); n != 1 {
		t.Errorf("%v devices", n)
	}
}

func TestAddressesAreStickyPerName(t *testing.T) {
	c := startTagged(t)
	_, key := c.newKey(t, `,"reusable":true`, "")
	one, two := c.login(t, key, "one", ""), c.login(t, key, "two", "")
	if one.Address != "100.64.0.10" || two.Address != "100.64.0.11" {
		t.Errorf("addresses %s and %s", one.Address, two.Address)
	}
	c.api(t, http.MethodPost, "/lab/logout", `{"nodeKey":"`+one.NodeKey+`"}`)
	c.api(t, http.MethodPost, "/lab/logout", `{"nodeKey":"`+one.NodeKey+`"}`) // again: no error
	if n := c.count(t, "devices"); n != 1 {
		t.Errorf("%v devices after a logout", n)
	}
	back := c.login(t, key, "one", "")
	if back.Address != one.Address || back.NodeID == one.NodeID {
		t.Errorf("after a logout: %+v", back)
	}
	rebuilt := c.login(t, key, "one", "") // a new machine under the old name
	if rebuilt.Address != one.Address || c.count(t, "devices") != 2 {
		t.Errorf("rebuilt: %+v, %v devices", rebuilt, c.count(t, "devices"))
	}
	if _, got := c.tryLogin(t, tailscale.LoginRequest{Hostname: "one", NodeKey: back.NodeKey}); got.status != http.StatusUnauthorized {
		t.Errorf("the replaced node: %d %s", got.status, got.text)
	}
}

func TestLoginRefusals(t *testing.T) {
	c := startTagged(t)
	_, used := c.newKey(t, "", "")
	node := c.login(t, used, "node1", "")
	_, short := c.newKey(t, "", `,"expirySeconds":60`)
	revokedID, revoked := c.newKey(t, "", "")
	c.api(t, http.MethodDelete, tailnet+"/keys/"+revokedID, "")
	_, good := c.newKey(t, `,"reusable":true`, "")
	c.now = c.now.Add(time.Minute)

	for name, test := range map[string]struct {
		request tailscale.LoginRequest
		status  int
		message string
	}{
		"no key":          {tailscale.LoginRequest{Hostname: "x"}, 401, "auth key is needed"},
		"unknown key":     {tailscale.LoginRequest{Hostname: "x", AuthKey: "tskey-auth-x-y"}, 401, "does not exist"},
		"used key":        {tailscale.LoginRequest{Hostname: "x", AuthKey: used}, 401, "already used"},
		"expired key":     {tailscale.LoginRequest{Hostname: "x", AuthKey: short}, 401, "expired"},
		"revoked key":     {tailscale.LoginRequest{Hostname: "x", AuthKey: revoked}, 401, "does not exist"},
		"no host name":    {tailscale.LoginRequest{AuthKey: good}, 400, "not a DNS label"},
		"wrong host name": {tailscale.LoginRequest{Hostname: "a.b", AuthKey: good}, 400, "not a DNS label"},
		"foreign tag":     {tailscale.LoginRequest{Hostname: "x", AuthKey: good, Tags: []string{"tag:other"}}, 400, "[tag:other] are invalid"},
		"renamed node":    {tailscale.LoginRequest{Hostname: "x", NodeKey: node.NodeKey}, 400, `registered as "node1"`},
	} {
		if _, got := c.tryLogin(t, test.request); got.status != test.status || !strings.Contains(got.text, strings.ReplaceAll(test.message, `"`, `\"`)) {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	if n := c.count(t, "devices"); n != 1 {
		t.Errorf("%v devices after refused logins", n)
	}
}

func TestDeviceApproval(t *testing.T) {
	c := startTagged(t)
	c.api(t, http.MethodPatch, tailnet+"/settings", `{"devicesApprovalOn":true}`)
	_, plain := c.newKey(t, "", "")
	waiting := c.login(t, plain, "waiting", "")
	if waiting.Authorized {
		t.Error("a key that is not pre-authorized let a device in without approval")
	}
	c.api(t, http.MethodPost, "/api/v2/device/"+waiting.NodeID+"/authorized", `{"authorized":true}`)
	if again := c.login(t, "", "waiting", waiting.NodeKey); !again.Authorized {
		t.Error("approved, and still waiting")
	}
	_, preauthorized := c.newKey(t, `,"preauthorized":true`, "")
	if in := c.login(t, preauthorized, "in", ""); !in.Authorized {
		t.Error("a pre-authorized key needs approval")
	}
}
