package tailscale_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	client "tailscale.com/client/tailscale/v2"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
	"github.com/tinyrack-net/infrastructure/lab/tailscale"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/controltest"
)

const tailnet = "/api/v2/tailnet/-"

// cloud is a running emulator with a clock that tests can move.
type cloud struct {
	*tailscale.Server
	control  *controltest.Fake
	dir, url string
	log      *bytes.Buffer
	now      time.Time
	token    string
}

func start(t *testing.T, dir string) *cloud {
	t.Helper()
	return startWith(t, dir, &controltest.Fake{})
}

// startWith starts the API in front of a control server that may have been there before.
func startWith(t *testing.T, dir string, control *controltest.Fake) *cloud {
	t.Helper()
	c := &cloud{dir: dir, control: control, log: &bytes.Buffer{}, now: time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)}
	control.Now = func() time.Time { return c.now }
	server, err := tailscale.New(dir, tailscale.Options{
		Control: control,
		Log:     slog.New(slog.NewTextHandler(c.log, nil)),
		Now:     func() time.Time { return c.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	c.Server, c.url = server, listener.URL
	c.token = c.newToken(t)
	return c
}

// join lets a machine in by a key.
func (c *cloud) join(t *testing.T, key, hostname string) tailscale.Node {
	t.Helper()
	n, err := c.control.Join(key, hostname)
	if err != nil {
		t.Fatalf("%s cannot join: %v", hostname, err)
	}
	return n
}

// client returns the official client with the OAuth client of the emulator.
func (c *cloud) client(t *testing.T) *client.Client {
	t.Helper()
	base, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	id, secret := c.Client()
	return &client.Client{
		BaseURL: base, Tailnet: tailscale.DefaultTailnet,
		Auth: &client.OAuth{ClientID: id, ClientSecret: secret},
	}
}

type answer struct {
	status int
	header http.Header
	text   string
	json   map[string]any
}

func (c *cloud) do(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := answer{status: response.StatusCode, header: response.Header, text: string(text)}
	_ = json.Unmarshal(text, &got.json) // a policy is not JSON
	return got
}

// api asks for something that the emulator must do.
func (c *cloud) api(t *testing.T, method, path, body string) answer {
	t.Helper()
	got := c.do(t, method, path, body)
	if got.status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, got.status, got.text)
	}
	return got
}

func (c *cloud) newToken(t *testing.T) string {
	t.Helper()
	id, secret := c.Client()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	got := c.do(t, http.MethodPost, "/api/v2/oauth/token", form.Encode(), "Authorization", "", "Content-Type",
		"application/x-www-form-urlencoded")
	token, _ := got.json["access_token"].(string)
	if got.status != http.StatusOK || token == "" || got.json["expires_in"] != float64(3600) {
		t.Fatalf("token: %d", got.status)
	}
	return token
}

// count reads one of the counters of /lab/state.
func (c *cloud) count(t *testing.T, what string) float64 {
	t.Helper()
	counts, _ := c.do(t, http.MethodGet, "/lab/state", "").json["counts"].(map[string]any)
	n, ok := counts[what].(float64)
	if !ok {
		t.Fatalf("/lab/state does not count %s", what)
	}
	return n
}

const taggedPolicy = `{
	// Comments and trailing commas are part of the language.
	"groups": {"group:ops": ["alice@lab.test"]},
	"tagOwners": {"tag:k3s": ["group:ops"], "tag:other": []},
	"grants": [{"src": ["group:ops"], "dst": ["tag:k3s"], "ip": ["tcp:22", "tcp:6443"]}],
	"tests": [{"src": "alice@lab.test", "accept": ["tag:k3s:6443"], "deny": ["tag:k3s:80"]}],
}
`

// newKey makes an auth key for tag:k3s; options are further fields of "create".
func (c *cloud) newKey(t *testing.T, create, rest string) (id, secret string) {
	t.Helper()
	got := c.api(t, http.MethodPost, tailnet+"/keys",
		`{"capabilities":{"devices":{"create":{"tags":["tag:k3s"]`+create+`}}}`+rest+`}`)
	id, _ = got.json["id"].(string)
	secret, _ = got.json["key"].(string)
	if id == "" || secret == "" {
		t.Fatalf("key: %s", got.text)
	}
	return id, secret
}

func TestOfficialClient(t *testing.T) {
	c := start(t, t.TempDir())
	api, ctx := c.client(t), t.Context()

	before, err := api.PolicyFile().Raw(ctx)
	if err != nil || before.ETag == "" || !strings.Contains(before.HuJSON, "// ") {
		t.Fatalf("default policy: %+v %v", before, err)
	}
	if err := api.PolicyFile().Validate(ctx, taggedPolicy); err != nil {
		t.Errorf("validate: %v", err)
	}
	if err := api.PolicyFile().Set(ctx, taggedPolicy, "ts-default"); err != nil {
		t.Fatalf("set: %v", err)
	}
	raw, err := api.PolicyFile().Raw(ctx)
	if err != nil || raw.HuJSON != taggedPolicy {
		t.Errorf("the policy is not kept as it was written: %v", err)
	}
	parsed, err := api.PolicyFile().Get(ctx)
	if err != nil || len(parsed.Grants) != 1 || parsed.ETag != raw.ETag {
		t.Errorf("as JSON: %+v %v", parsed, err)
	}

	on, days := true, 90
	if err := api.TailnetSettings().Update(ctx, client.UpdateTailnetSettingsRequest{
		DevicesApprovalOn:      &on,
		DevicesKeyDurationDays: &days,
	}); err != nil {
		t.Errorf("settings: %v", err)
	}
	settings, err := api.TailnetSettings().Get(ctx)
	if err != nil || !settings.DevicesApprovalOn || settings.DevicesKeyDurationDays != 90 ||
		settings.UsersRoleAllowedToJoinExternalTailnets != "admin" {
		t.Errorf("settings: %+v %v", settings, err)
	}
	if err := api.DNS().SetPreferences(ctx, client.DNSPreferences{MagicDNS: true}); err != nil {
		t.Error(err)
	}
	if dns, err := api.DNS().Preferences(ctx); err != nil || !dns.MagicDNS {
		t.Errorf("dns: %+v %v", dns, err)
	}

	request := client.CreateKeyRequest{ExpirySeconds: 3600, Description: "lab join"}
	request.Capabilities.Devices.Create.Tags = []string{"tag:k3s"}
	request.Capabilities.Devices.Create.Preauthorized = true
	key, err := api.Keys().CreateAuthKey(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	if key.KeyType != "auth" || key.UserID == "" || key.ExpirySeconds == nil || *key.ExpirySeconds != 3600 ||
		!key.Expires.Equal(key.Created.Add(time.Hour)) {
		t.Errorf("key: id %s type %s user %q expires %v", key.ID, key.KeyType, key.UserID, key.Expires)
	}
	shown, err := api.Keys().Get(ctx, key.ID)
	if err != nil || shown.Key != "" || shown.Invalid || !shown.Capabilities.Devices.Create.Preauthorized ||
		*shown.ExpirySeconds != 3600 {
		t.Errorf("key again: %v %v", shown.Invalid, err)
	}
	node := c.join(t, key.Key, "node1")
	if used, err := api.Keys().Get(ctx, key.ID); err != nil || !used.Invalid {
		t.Errorf("a used key must be invalid: %v", err)
	}
	devices, err := api.Devices().List(ctx)
	if err != nil || len(devices) != 1 || devices[0].Hostname != "node1" ||
		devices[0].Addresses[0] != node.Addresses[0] ||
		devices[0].Name != "node1.tail.lab.test" || devices[0].Tags[0] != "tag:k3s" || !devices[0].Authorized ||
		!devices[0].KeyExpiryDisabled ||
		!devices[0].ConnectedToControl || devices[0].LastSeen != nil || devices[0].IsExternal ||
		devices[0].NodeID == devices[0].ID {
		t.Errorf("devices: %+v %v", devices, err)
	}
	if _, err := api.Devices().GetWithAllFields(ctx, devices[0].NodeID); err != nil {
		t.Error(err)
	}
	if err := api.Devices().Delete(ctx, devices[0].ID); err != nil {
		t.Error(err)
	}
	if _, err := api.Devices().Get(ctx, devices[0].NodeID); !client.IsNotFound(err) {
		t.Errorf("a deleted device: %v", err)
	}
	if list, err := api.Keys().List(ctx, true); err != nil || len(list) != 1 || list[0].ID != key.ID {
		t.Errorf("keys: %v", err)
	}
	if err := api.Keys().Delete(ctx, key.ID); err != nil {
		t.Error(err)
	}
	if _, err := api.Keys().Get(ctx, key.ID); !client.IsNotFound(err) {
		t.Errorf("a deleted key: %v", err)
	}
	if err := api.PolicyFile().Set(ctx, "", ""); err != nil { // back to the default
		t.Error(err)
	}
	if left := c.do(t, http.MethodGet, "/lab/state", "").json["total"]; left != float64(0) {
		t.Errorf("%v objects left", left)
	}
}

func TestTheTailnetSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	first.api(t, http.MethodPost, tailnet+"/acl", taggedPolicy)
	id, secret := first.newKey(t, "", "")
	first.join(t, secret, "node1")
	first.api(t, http.MethodPost, tailnet+"/dns/preferences", `{"magicDNS":true}`)
	enforced := first.control.Policy()

	second := startWith(t, dir, first.control) // as after kill -9: nothing was closed
	second.token = first.token
	for path, want := range map[string]string{
		tailnet + "/acl":             "tag:k3s",
		tailnet + "/keys/" + id:      `"invalid":true`,
		tailnet + "/devices":         "node1.tail.lab.test",
		tailnet + "/dns/preferences": `"magicDNS":true`,
	} {
		if got := second.api(t, http.MethodGet, path, ""); !strings.Contains(got.text, want) {
			t.Errorf("%s lacks %s: %s", path, want, got.text)
		}
	}
	third := start(t, dir) // the control server is another one, and knows no policy
	if got := third.control.Policy(); got != enforced || !strings.Contains(got, "tag:k3s") {
		t.Errorf("enforced after the restart:\n%s\nwant\n%s", got, enforced)
	}
}

func TestNoSecretLeaks(t *testing.T) {
	c := start(t, t.TempDir())
	c.api(t, http.MethodPost, tailnet+"/acl", taggedPolicy)
	id, key := c.newKey(t, "", "")
	c.join(t, key, "node1")
	shown := c.log.String()
	for _, path := range []string{"/lab/state", "/lab/requests", tailnet + "/keys", tailnet + "/keys/" + id, tailnet +
		"/devices"} {
		shown += c.do(t, http.MethodGet, path, "").text
	}
	kept, err := os.ReadFile(filepath.Join(c.dir, "tailscale.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{"auth key": key, "access token": c.token} {
		if strings.Contains(shown+string(kept), secret) {
			t.Errorf("the %s is shown or stored", name)
		}
	}
	if _, secret := c.Client(); strings.Contains(shown, secret) {
		t.Error("the OAuth client secret is shown")
	}
}

func TestAccessTokens(t *testing.T) {
	c := start(t, t.TempDir())
	id, _ := c.Client()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {"wrong"}}
	if got := c.do(t, http.MethodPost, "/api/v2/oauth/token", form.Encode(), "Authorization", "", "Content-Type",
		"application/x-www-form-urlencoded"); got.status != http.StatusUnauthorized {
		t.Errorf("a wrong client secret: %d", got.status)
	}
	for _, header := range []string{"", "Bearer wrong", "Bearer "} {
		if got := c.do(t, http.MethodGet, tailnet+"/keys", "", "Authorization",
			header); got.status != http.StatusUnauthorized {
			t.Errorf("%q: %d", header, got.status)
		}
	}
	c.api(t, http.MethodGet, tailnet+"/keys", "")
	c.now = c.now.Add(time.Hour)
	if got := c.do(t, http.MethodGet, tailnet+"/keys", ""); got.status != http.StatusUnauthorized {
		t.Errorf("an expired token: %d", got.status)
	}
	c.token = c.newToken(t)
	c.api(t, http.MethodGet, tailnet+"/keys", "")
}

func TestOptionsAreChecked(t *testing.T) {
	for _, options := range []tailscale.Options{
		{Control: &controltest.Fake{}, Tailnet: "-"},
		{Control: &controltest.Fake{}, Domain: "a b"},
		{Control: &controltest.Fake{}, ClientID: "only"},
		{},
	} {
		if _, err := tailscale.New(t.TempDir(), options); err == nil {
			t.Errorf("accepted %+v", options)
		}
	}
}

func TestFaultsAreInTheShapeOfTheAPI(t *testing.T) {
	c := start(t, t.TempDir())
	if err := c.AddFault(emulator.Fault{Kind: emulator.ServerError, Status: 503, Path: tailnet + "/keys"}); err != nil {
		t.Fatal(err)
	}
	got := c.do(t, http.MethodGet, tailnet+"/keys", "")
	if message, _ := got.json["message"].(string); got.status != 503 || message == "" {
		t.Errorf("%d %s", got.status, got.text)
	}
}
