package cloudflare_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/emulator"
)

const (
	accounts = "/accounts/" + cloudflare.DefaultAccountID
	zones    = "/zones/" + cloudflare.DefaultZoneID
)

var secret = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("s"), 32))

// cloud is a running emulator.
type cloud struct {
	*cloudflare.Server
	dir, url string
	log      *bytes.Buffer
}

func start(t *testing.T, dir string) *cloud {
	t.Helper()
	log := &bytes.Buffer{}
	server, err := cloudflare.New(dir, cloudflare.Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(server)
	t.Cleanup(listener.Close)
	return &cloud{Server: server, dir: dir, url: listener.URL, log: log}
}

type answer struct {
	status  int
	text    string
	Success bool `json:"success"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
	Result     map[string]any `json:"-"`
	List       []any          `json:"-"`
	ResultInfo map[string]int `json:"result_info"`
}

func (c *cloud) do(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.Token())
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
	got := answer{status: response.StatusCode, text: string(text)}
	if strings.HasPrefix(path, "/lab/") {
		_ = json.Unmarshal(text, &got.Result)
		return got
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%s %s: not an envelope: %s", method, path, text)
	}
	whole := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"success", "errors", "messages", "result"} {
		if whole[field] == nil {
			t.Errorf("%s %s: the envelope lacks %s: %s", method, path, field, text)
		}
	}
	_ = json.Unmarshal(whole["result"], &got.Result) // one of the two fits
	_ = json.Unmarshal(whole["result"], &got.List)
	return got
}

// api asks the emulated API for something that it must do.
func (c *cloud) api(t *testing.T, method, path, body string) answer {
	t.Helper()
	got := c.do(t, method, cloudflare.Prefix+path, body)
	if got.status != http.StatusOK || !got.Success {
		t.Fatalf("%s %s: %d %s", method, path, got.status, got.text)
	}
	return got
}

func (c *cloud) id(t *testing.T, path, body string) string {
	t.Helper()
	id, _ := c.api(t, http.MethodPost, path, body).Result["id"].(string)
	if id == "" {
		t.Fatalf("POST %s gave no id", path)
	}
	return id
}

// total is what is left in the account.
func (c *cloud) total(t *testing.T) float64 {
	t.Helper()
	total, ok := c.do(t, http.MethodGet, "/lab/state", "").Result["total"].(float64)
	if !ok {
		t.Fatal("/lab/state has no total")
	}
	return total
}

func TestTheAccountSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir)
	tunnel := first.id(t, accounts+"/cfd_tunnel", `{"name":"site","config_src":"cloudflare","tunnel_secret":"`+secret+`"}`)
	first.api(t, http.MethodPut, accounts+"/cfd_tunnel/"+tunnel+"/configurations",
		`{"config":{"ingress":[{"service":"http_status:404"}]}}`)
	record := first.id(t, zones+"/dns_records",
		`{"name":"a.lab.test","type":"CNAME","content":"`+tunnel+`.cfargotunnel.com","ttl":1,"proxied":true}`)
	policy := first.id(t, accounts+"/access/policies",
		`{"name":"team","decision":"allow","include":[{"email":{"email":"a@lab.test"}}]}`)
	app := first.id(t, accounts+"/access/apps",
		`{"name":"a","type":"self_hosted","domain":"a.lab.test","policies":[{"id":"`+policy+`","precedence":1}]}`)

	second := start(t, dir) // as after kill -9: nothing was closed
	if second.Token() != first.Token() {
		t.Error("the token changed with the restart")
	}
	for path, want := range map[string]string{
		accounts + "/cfd_tunnel/" + tunnel:                     `"name":"site"`,
		accounts + "/cfd_tunnel/" + tunnel + "/configurations": "http_status:404",
		zones + "/dns_records/" + record:                       `"name":"a.lab.test"`,
		accounts + "/access/policies/" + policy:                `"a@lab.test"`,
		accounts + "/access/apps/" + app:                       `"precedence":1`,
	} {
		if got := second.api(t, http.MethodGet, path, ""); !strings.Contains(got.text, want) {
			t.Errorf("%s lacks %s: %s", path, want, got.text)
		}
	}

	for _, path := range []string{
		accounts + "/access/apps/" + app, accounts + "/access/policies/" + policy,
		zones + "/dns_records/" + record, accounts + "/cfd_tunnel/" + tunnel,
	} {
		second.api(t, http.MethodDelete, path, "")
	}
	if left := second.total(t); left != 0 {
		t.Errorf("%v objects left: %s", left, second.do(t, http.MethodGet, "/lab/state", "").text)
	}
}

func TestNoSecretLeaks(t *testing.T) {
	c := start(t, t.TempDir())
	tunnel := c.id(t, accounts+"/cfd_tunnel", `{"name":"site","config_src":"cloudflare","tunnel_secret":"`+secret+`"}`)
	c.do(t, http.MethodGet, cloudflare.Prefix+"/no/such/thing?"+secret, "")
	shown := c.do(t, http.MethodGet, "/lab/state", "").text + c.do(t, http.MethodGet, "/lab/requests", "").text +
		c.api(t, http.MethodGet, accounts+"/cfd_tunnel/"+tunnel, "").text + c.log.String()
	path := filepath.Join(c.dir, "cloudflare.json")
	if strings.Contains(shown, secret) {
		t.Error("the tunnel's secret is shown")
	}
	_, text, _ := strings.Cut(c.do(t, http.MethodGet, cloudflare.Prefix+accounts+"/cfd_tunnel/"+tunnel+"/token", "").text,
		`"result":"`)
	text, _, _ = strings.Cut(text, `"`)
	token, err := base64.StdEncoding.DecodeString(text)
	if want := `"s":"` + secret + `","t":"` + tunnel + `"`; err != nil || !strings.Contains(string(token), want) {
		t.Errorf("the connector's token is %s (%v), want %s in it", token, err, want)
	}
	if strings.Contains(shown, c.Token()) {
		t.Error("the API token is shown")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the state has mode %v", info.Mode().Perm())
	}
}

func TestAuthentication(t *testing.T) {
	c := start(t, t.TempDir())
	for header, want := range map[string]struct{ status, code int }{
		"":                                  {http.StatusUnauthorized, 9106},
		"Bearer short":                      {http.StatusBadRequest, 6003},
		"Basic " + c.Token():                {http.StatusBadRequest, 6003},
		"Bearer " + strings.Repeat("x", 40): {http.StatusForbidden, 9109},
	} {
		got := c.do(t, http.MethodGet, cloudflare.Prefix+"/user/tokens/verify", "", "Authorization", header)
		if got.status != want.status || len(got.Errors) != 1 || got.Errors[0].Code != want.code {
			t.Errorf("%d characters of authorization: %d %s", len(header), got.status, got.text)
		}
	}
	if got := c.api(t, http.MethodGet, "/user/tokens/verify", ""); got.Result["status"] != "active" {
		t.Errorf("the right token: %s", got.text)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, options := range []cloudflare.Options{{Token: "short"}, {AccountID: "1"}, {ZoneID: "lab"}} {
		if _, err := cloudflare.New(t.TempDir(), options); err == nil {
			t.Errorf("accepted %d %q %q", len(options.Token), options.AccountID, options.ZoneID)
		}
	}
	server, err := cloudflare.New(t.TempDir(), cloudflare.Options{Token: strings.Repeat("t", 40)})
	if err != nil || server.Token() != strings.Repeat("t", 40) {
		t.Errorf("a given token: %v", err)
	}
}

func TestFaultsHaveTheEnvelope(t *testing.T) {
	c := start(t, t.TempDir())
	if err := c.AddFault(emulator.Fault{Kind: emulator.RateLimit, Path: cloudflare.Prefix + accounts}); err != nil {
		t.Fatal(err)
	}
	got := c.do(t, http.MethodPost, cloudflare.Prefix+accounts+"/cfd_tunnel", `{"name":"site"}`)
	if got.status != http.StatusTooManyRequests || len(got.Errors) != 1 {
		t.Errorf("%d %s", got.status, got.text)
	}
	if c.total(t) != 0 {
		t.Error("the refused request did its work")
	}
}

func TestRequestsAreCountedByTemplate(t *testing.T) {
	c := start(t, t.TempDir())
	tunnel := c.id(t, accounts+"/cfd_tunnel", `{"name":"site","config_src":"cloudflare"}`)
	c.ResetRequests()
	c.api(t, http.MethodPut, accounts+"/cfd_tunnel/"+tunnel+"/configurations",
		`{"config":{"ingress":[{"service":"http_status:404"}]}}`)
	c.id(t, zones+"/dns_records", `{"name":"b","type":"CNAME","content":"x.test"}`)
	c.do(t, http.MethodPost, cloudflare.Prefix+zones+"/dns_records",
		`{"name":"b","type":"CNAME","content":"y.test"}`) // refused
	counts := c.Requests()
	config := counts["PUT /client/v4/accounts/{account}/cfd_tunnel/{tunnel}/configurations"]
	records := counts["POST /client/v4/zones/{zone}/dns_records"]
	if config != (emulator.Count{Total: 1, OK: 1}) || records != (emulator.Count{Total: 2, OK: 1}) || len(counts) != 2 {
		t.Errorf("counters: %v", counts)
	}
}
