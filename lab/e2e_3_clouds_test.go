//go:build e2e

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// hostnames are those of the lab's ingress list.
var hostnames = []string{"flux.lab.test", "forum.lab.test", "lab.test", "notes.lab.test"}

// TestCloudHoldsTheIngressList compares the emulated account with the stack's list, then adds a hostname and removes it
// again.
func TestCloudHoldsTheIngressList(t *testing.T) {
	l := running(t)
	if got := cloudRecords(t); !slices.Equal(got, hostnames) {
		t.Errorf("records %v, want %v", got, hostnames)
	}
	if got := cloudRules(t); !slices.Equal(got, append(slices.Clone(hostnames), "")) {
		t.Errorf("rules %v, want those of %v and a last one for everything else", got, hostnames)
	}
	config, err := os.ReadFile(l.stack.Config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(l.stack.Config(), config, 0o600); err != nil {
			t.Error(err)
		}
	}()
	added := bytes.Replace(
		config,
		[]byte("    ingress:\n"),
		[]byte(
			"    ingress:\n    - access: public\n      hostname: status.lab.test\n"+
				"      service: http://status.status-system.svc.cluster.local:80\n",
		),
		1,
	)
	if bytes.Equal(added, config) {
		t.Fatalf("the configuration has no ingress list:\n%s", config)
	}
	for _, step := range []struct {
		config  []byte
		records []string
		want    map[string]int
	}{
		{
			added, append(slices.Clone(hostnames), "status.lab.test"),
			map[string]int{"PUT configurations": 1, "POST dns_records": 1},
		},
		{config, hostnames, map[string]int{"PUT configurations": 1, "DELETE {record}": 1}},
	} {
		if err := os.WriteFile(l.stack.Config(), step.config, 0o600); err != nil {
			t.Fatal(err)
		}
		resetRequests(t)
		if err := l.stack.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := writes(t); fmt.Sprint(got) != fmt.Sprint(step.want) {
			t.Errorf("the cloud was asked for %v, want %v", got, step.want)
		}
		if got := cloudRecords(t); !slices.Equal(got, step.records) {
			t.Errorf("records %v, want %v", got, step.records)
		}
	}
}

// TestMemosMoves gives memos another hostname, by a line of the settings, and its own again: visitors find it there,
// and it knows itself by it.
func TestMemosMoves(t *testing.T) {
	l := running(t)
	client := browser(t, l)
	const own, other = "notes." + layout.Zone, "memos." + layout.Zone
	knowsItself := func(address string) {
		t.Helper()
		eventually(t, 2*time.Minute, "memos calls itself "+address, func() error {
			profile, err := ask(t.Context(), client, address+"/api/v1/instance/profile")
			if err == nil && !strings.Contains(profile.body, `"instanceUrl":"`+address+`"`) {
				err = fmt.Errorf("it is said to be at another: %s", profile)
			}
			return err
		})
	}
	knowsItself(notes)
	putBack := change(t, l, func(config map[string]map[string]any) {
		for _, item := range config["tinyrack:cloudflare"]["ingress"].([]any) {
			if route := item.(map[string]any); route["hostname"] == own {
				route["hostname"] = other
			}
		}
	})
	upOrFail(t, l)
	knowsItself("https://" + other)
	if got := visited(t, client, notes+"/"); !strings.Contains(got.body, "1001") {
		t.Errorf("the former hostname, which has no record: %s, want 1001", got)
	}
	putBack()
	upOrFail(t, l)
	knowsItself(notes)
}

func fetch(t *testing.T, method, url string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if into == nil {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func cloudRecords(t *testing.T) []string {
	t.Helper()
	var all struct {
		Objects struct{ DNSRecords []struct{ Name, Type string } }
	}
	fetch(t, http.MethodGet, "http://"+layout.CloudflareAddr+"/lab/state", &all)
	var names []string
	for _, r := range all.Objects.DNSRecords {
		if r.Type == "CNAME" {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

// cloudRules are the hostnames of the tunnel's rules in their order; the last rule has none.
func cloudRules(t *testing.T) []string {
	t.Helper()
	var all struct{ Objects map[string]json.RawMessage }
	fetch(t, http.MethodGet, "http://"+layout.CloudflareAddr+"/lab/state", &all)
	var names []string
	decoder := json.NewDecoder(bytes.NewReader(all.Objects["tunnels"]))
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if rules, ok := v["ingress"].([]any); ok {
				for _, r := range rules {
					name, _ := r.(map[string]any)["hostname"].(string)
					names = append(names, name)
				}
				return
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	var tunnels any
	if err := decoder.Decode(&tunnels); err != nil {
		t.Fatal(err)
	}
	walk(tunnels)
	slices.Sort(names[:max(0, len(names)-1)])
	return names
}

func resetRequests(t *testing.T) {
	t.Helper()
	fetch(t, http.MethodDelete, "http://"+layout.CloudflareAddr+"/lab/requests", nil)
}

// writes are the changing requests that the emulated Cloudflare served, by method and last part of the path.
func writes(t *testing.T) map[string]int {
	t.Helper()
	var all struct {
		Requests map[string]struct{ Total, OK int }
	}
	fetch(t, http.MethodGet, "http://"+layout.CloudflareAddr+"/lab/requests", &all)
	found := map[string]int{}
	for route, count := range all.Requests {
		method, path, _ := strings.Cut(route, " ")
		if method != http.MethodGet && strings.HasPrefix(path, "/client/") {
			found[method+" "+path[strings.LastIndex(path, "/")+1:]] += count.Total
		}
	}
	return found
}

// tailscaleAPI calls the emulated API with the stack's own access: a method, a path and a body, which is a policy where
// the path is that of one and JSON elsewhere.
func tailscaleAPI(t *testing.T, l *lab) func(method, path, body string) (answer string, status int) {
	t.Helper()
	call := func(method, path, contentType, body string, access func(*http.Request)) (string, int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+layout.TailscaleAddr+"/api/v2"+path,
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		access(req)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text), resp.StatusCode
	}
	text, _ := call(http.MethodPost, "/oauth/token", "application/x-www-form-urlencoded", "grant_type=client_credentials",
		func(r *http.Request) { r.SetBasicAuth(l.secrets.TailscaleClientID, l.secrets.TailscaleClientSecret) })
	var access struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(text), &access); err != nil || access.AccessToken == "" {
		t.Fatalf("no access token: %v", err)
	}
	return func(method, path, body string) (string, int) {
		t.Helper()
		contentType := "application/json"
		if strings.Contains(path, "/acl") {
			contentType = "application/hujson"
		}
		return call(method, path, contentType, body, func(r *http.Request) {
			r.Header.Set("Accept", contentType)
			r.Header.Set("Authorization", "Bearer "+access.AccessToken)
		})
	}
}

// TestTailnetPolicyPassesItsTests asks the emulated tailnet to validate the policy that it holds, which runs the tests
// inside it.
func TestTailnetPolicyPassesItsTests(t *testing.T) {
	l := running(t)
	call := tailscaleAPI(t, l)
	policy, status := call(http.MethodGet, "/tailnet/"+layout.Tailnet+"/acl", "")
	if status != http.StatusOK || !strings.Contains(policy, "tag:tinyrack-server") ||
		!strings.Contains(policy, `"tests"`) {
		t.Fatalf("the tailnet holds another policy (%d):\n%s", status, policy)
	}
	answer, status := call(http.MethodPost, "/tailnet/"+layout.Tailnet+"/acl/validate", policy)
	if status != http.StatusOK || strings.Contains(answer, "message") {
		t.Errorf("the policy does not pass its own tests (%d): %s", status, answer)
	}
	opened := strings.Replace(policy, `"tcp:22"`, `"tcp:*"`, 1)
	if opened == policy {
		t.Fatalf("the policy grants no port 22:\n%s", policy)
	}
	// The tests inside must be able to fail.
	answer, status = call(http.MethodPost, "/tailnet/"+layout.Tailnet+"/acl/validate", opened)
	if status == http.StatusOK && !strings.Contains(answer, "message") {
		t.Errorf("a policy that opens every port of the machine passes its tests: %s", answer)
	}
}
