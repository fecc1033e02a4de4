package tailscale_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func startTagged(t *testing.T) *cloud {
	t.Helper()
	c := start(t, t.TempDir())
	c.api(t, http.MethodPost, tailnet+"/acl", taggedPolicy)
	return c
}

func TestAKeyIsTheControlServersKey(t *testing.T) {
	c := startTagged(t)
	id, secret := c.newKey(t, `,"reusable":true,"ephemeral":true`, `,"expirySeconds":600`)
	keys, err := c.control.Keys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%v %v", keys, err)
	}
	if k := keys[0]; !k.Reusable || !k.Ephemeral || len(k.Tags) != 1 || k.Tags[0] != "tag:k3s" ||
		!k.Expires.Equal(c.now.Add(10*time.Minute)) {
		t.Errorf("the control server's key: %+v", k)
	}
	c.join(t, secret, "one")
	c.join(t, secret, "two")
	c.now = c.now.Add(10 * time.Minute)
	if got := c.api(t, http.MethodGet, tailnet+"/keys/"+id, ""); got.json["invalid"] != true {
		t.Errorf("an expired key: %s", got.text)
	}
	if _, err := c.control.Join(secret, "three"); err == nil {
		t.Error("an expired key let a machine in")
	}
}

func TestASingleUseKeyIsInvalidOnceUsed(t *testing.T) {
	c := startTagged(t)
	id, secret := c.newKey(t, "", "")
	if got := c.api(t, http.MethodGet, tailnet+"/keys/"+id, ""); got.json["invalid"] != false {
		t.Errorf("a new key: %s", got.text)
	}
	c.join(t, secret, "one")
	if got := c.api(t, http.MethodGet, tailnet+"/keys/"+id, ""); got.json["invalid"] != true {
		t.Errorf("a used key: %s", got.text)
	}
	if c.count(t, "validKeys") != 0 {
		t.Error("a used key counts as valid")
	}
}

func TestARevokedKeyLetsNobodyIn(t *testing.T) {
	c := startTagged(t)
	id, secret := c.newKey(t, `,"reusable":true`, "")
	c.join(t, secret, "one")
	c.api(t, http.MethodDelete, tailnet+"/keys/"+id, "")
	if _, err := c.control.Join(secret, "two"); err == nil {
		t.Error("a revoked key let a machine in")
	}
	if c.count(t, "devices") != 1 {
		t.Error("the device that joined with the revoked key is gone")
	}
}

func TestDevices(t *testing.T) {
	c := startTagged(t)
	_, secret := c.newKey(t, `,"reusable":true`, "")
	dead := c.join(t, secret, "site")
	c.control.Disconnect(dead.ID)
	c.join(t, secret, "site") // rebuilt while its namesake is still listed
	list := func() []map[string]any {
		var answer struct{ Devices []map[string]any }
		if err := json.Unmarshal([]byte(c.api(t, http.MethodGet, tailnet+"/devices", "").text), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.Devices
	}
	devices := list()
	if len(devices) != 2 || devices[0]["name"] != "site.tail.lab.test" ||
		devices[1]["name"] != "site-1.tail.lab.test" || devices[1]["hostname"] != "site" {
		t.Fatalf("devices: %v", devices)
	}
	if devices[0]["connectedToControl"] != false || devices[0]["lastSeen"] == nil ||
		devices[1]["connectedToControl"] != true || devices[1]["lastSeen"] != nil {
		t.Errorf("which one is dead? %v", devices)
	}
	at := func(i int) string { return "/api/v2/device/" + devices[i]["nodeId"].(string) }
	if got := c.do(t, http.MethodPost, at(1)+"/name", `{"name":"site"}`); got.status != http.StatusBadRequest ||
		!strings.Contains(got.text, "not unique") {
		t.Errorf("renamed to its namesake: %d %s", got.status, got.text)
	}
	c.api(t, http.MethodDelete, at(0), "")
	c.api(t, http.MethodPost, at(1)+"/name", `{"name":"site.tail.lab.test"}`)
	c.api(t, http.MethodPost, at(1)+"/tags", `{"tags":["tag:other"]}`)
	c.api(t, http.MethodPost, at(1)+"/key", `{"keyExpiryDisabled":false}`)
	devices = list()
	if len(devices) != 1 || devices[0]["name"] != "site.tail.lab.test" || devices[0]["keyExpiryDisabled"] != false ||
		devices[0]["tags"].([]any)[0] != "tag:other" {
		t.Fatalf("devices: %v", devices)
	}
	c.api(t, http.MethodPost, at(0)+"/expire", "")
	if got := list()[0]["expires"]; got != c.now.Format(time.RFC3339) {
		t.Errorf("expired at %v", got)
	}
	c.api(t, http.MethodPost, at(0)+"/key", `{"keyExpiryDisabled":true}`)
	if got := list()[0]; got["keyExpiryDisabled"] != true {
		t.Errorf("expiry is not off: %v", got)
	}
	for _, test := range []struct {
		path, body string
		status     int
	}{
		{"/name", `{"name":"a b"}`, 400},
		{"/tags", `{"tags":["tag:none"]}`, 400},
		{"/tags", `{"tags":[]}`, 501},
		{"/authorized", `{"authorized":false}`, 501},
	} {
		if got := c.do(t, http.MethodPost, at(0)+test.path, test.body); got.status != test.status {
			t.Errorf("%s %s: %d %s", test.path, test.body, got.status, got.text)
		}
	}
	c.api(t, http.MethodPost, at(0)+"/authorized", `{"authorized":true}`)
}

func TestApprovalIsNotEmulated(t *testing.T) {
	c := startTagged(t)
	c.api(t, http.MethodPatch, tailnet+"/settings", `{"devicesApprovalOn":true}`)
	body := `{"capabilities":{"devices":{"create":{"tags":["tag:k3s"]}}}}`
	if got := c.do(t, http.MethodPost, tailnet+"/keys", body); got.status != http.StatusNotImplemented {
		t.Errorf("a key whose devices wait for approval: %d %s", got.status, got.text)
	}
	c.newKey(t, `,"preauthorized":true`, "")
}

func TestAControlServerThatIsDownIsAFaultNotAnAnswer(t *testing.T) {
	c := startTagged(t)
	id, _ := c.newKey(t, "", "")
	before := c.control.Policy()
	c.control.Down = errors.New("connection refused")
	for _, request := range []struct{ method, path, body string }{
		{"GET", tailnet + "/devices", ""},
		{"GET", tailnet + "/keys/" + id, ""},
		{"DELETE", tailnet + "/keys/" + id, ""},
		{"POST", tailnet + "/keys", `{"capabilities":{"devices":{"create":{"tags":["tag:k3s"]}}}}`},
		{"POST", tailnet + "/acl", "{}"},
		{"DELETE", "/api/v2/device/1", ""},
		{"GET", "/lab/state", ""},
	} {
		if got := c.do(t, request.method, request.path, request.body); got.status != http.StatusInternalServerError {
			t.Errorf("%s %s: %d %s", request.method, request.path, got.status, got.text)
		}
	}
	c.control.Down = nil
	c.api(t, http.MethodGet, tailnet+"/keys/"+id, "") // still there
	if got := c.api(t, http.MethodGet, tailnet+"/acl", "").text; got != taggedPolicy || c.control.Policy() != before {
		t.Errorf("the policy is now %s", got)
	}
}
