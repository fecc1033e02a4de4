//go:build e2e

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// notes is the hostname of an application that runs in the lab.
const notes = "https://notes." + layout.Zone

// browser is a visitor's: it finds every hostname at the emulated edge, trusts the lab's authority, and shows redirects
// instead of following them. Each request is a new connection.
func browser(t *testing.T, l *lab) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(l.CA())
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", l.CA())
	}
	return &http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, layout.VisitorAddr)
			},
		},
	}
}

// answer is what a visitor gets.
type answer struct {
	status       int
	body         string
	at, location string
}

func (a answer) String() string {
	return fmt.Sprintf("%s: %d %s %.200q", a.at, a.status, a.location, a.body)
}

func ask(ctx context.Context, client *http.Client, url string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(text), url, resp.Header.Get("Location")}, err
}

// visited is what a visitor gets who must get something.
func visited(t *testing.T, client *http.Client, url string) answer {
	t.Helper()
	got, err := ask(t.Context(), client, url)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// connector is one of those that the emulated API lists.
type connector struct {
	ID    string `json:"id"`
	Conns []struct {
		OriginIP string `json:"origin_ip"`
	} `json:"conns"`
}

// cloudflareAPI calls the emulated API with the stack's own token.
func cloudflareAPI(t *testing.T, l *lab, method, path, body string, result any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+layout.CloudflareAddr+cloudflare.Prefix+path,
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+l.secrets.CloudflareToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	envelope := struct {
		Success bool `json:"success"`
		Result  any  `json:"result"`
	}{Result: result}
	if err := json.Unmarshal(text, &envelope); err != nil || !envelope.Success {
		t.Fatalf("%s %s: %v\n%s", method, path, err, text)
	}
}

// theTunnel is the ID and the status of the site's tunnel, and its connectors.
func theTunnel(t *testing.T, l *lab) (id, status string, connectors []connector) {
	t.Helper()
	tunnels := "/accounts/" + cloudflare.DefaultAccountID + "/cfd_tunnel"
	var found []struct{ ID, Status string }
	cloudflareAPI(t, l, http.MethodGet, tunnels+"?is_deleted=false", "", &found)
	if len(found) != 1 {
		t.Fatalf("tunnels: %v", found)
	}
	cloudflareAPI(t, l, http.MethodGet, tunnels+"/"+found[0].ID+"/connections", "", &connectors)
	return found[0].ID, found[0].Status, connectors
}

// TestAVisitorReachesAnApplication asks the emulated edge, as a browser would: for an application, through every
// connector; for what is not in the ingress list; and for what asks for a login.
func TestAVisitorReachesAnApplication(t *testing.T) {
	l := running(t)
	client := browser(t, l)
	if got := visited(t, client, notes+"/"); got.status != http.StatusOK || !strings.Contains(got.body, "Memos") {
		t.Errorf("got %s", got)
	}
	if got := visited(t, client, blog+"/"); got.status != http.StatusOK || !strings.Contains(got.body, "Ghost") {
		t.Errorf("got %s", got)
	}
	tunnel, status, connectors := theTunnel(t, l)
	if status != "healthy" || len(connectors) != 2 || len(connectors[0].Conns) != 4 || len(connectors[1].Conns) != 4 {
		t.Errorf("the tunnel is %s with the connectors %+v", status, connectors)
	}

	before := passed(t, l)
	for range 20 {
		visited(t, client, notes+"/healthz")
	}
	for pod, count := range passed(t, l) {
		if got := count - before[pod]; got < 5 {
			t.Errorf("%s passed %d of 20 requests on", pod, got)
		}
	}

	if got := visited(t, client, "https://forum."+layout.Zone+"/latest"); got.status != http.StatusFound ||
		!strings.HasPrefix(got.location, "https://lab.cloudflareaccess.com/cdn-cgi/access/login/forum."+layout.Zone) {
		t.Errorf("a gated hostname: %s", got)
	}
	if got := visited(t, client, "https://stray."+layout.Zone+"/"); got.status != http.StatusConflict ||
		!strings.Contains(got.body, "1001") {
		t.Errorf("a hostname without a record: %s", got)
	}
	records := "/zones/" + cloudflare.DefaultZoneID + "/dns_records"
	var made struct{ ID string }
	record := fmt.Sprintf(`{"type":"CNAME","name":"stray.%s","content":"%s.cfargotunnel.com","proxied":true,"ttl":1}`,
		layout.Zone, tunnel)
	cloudflareAPI(t, l, http.MethodPost, records, record, &made)
	defer cloudflareAPI(t, l, http.MethodDelete, records+"/"+made.ID, "", nil)
	if got := visited(t, client, "https://stray."+layout.Zone+"/"); got.status != http.StatusNotFound {
		t.Errorf("a hostname that leads to the tunnel and is in none of its rules: %s", got)
	}
}

var total = regexp.MustCompile(`(?m)^cloudflared_tunnel_total_requests (\d+)`)

// passed is how many requests each connector says that it passed on, by pod.
func passed(t *testing.T, l *lab) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, pod := range connectorPods(t, l) {
		text := kube(t, l, "get", "--raw", "/api/v1/namespaces/cloudflared/pods/"+pod+":2000/proxy/metrics")
		match := total.FindStringSubmatch(text)
		if match == nil {
			t.Fatalf("%s does not count its requests:\n%s", pod, text)
		}
		count, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		found[pod] = count
	}
	return found
}

// connectorPods are the connectors' pods that are not on their way out.
func connectorPods(t *testing.T, l *lab) []string {
	t.Helper()
	const stay = `go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}`
	names := strings.Fields(kube(t, l, "-n", "cloudflared", "get", "pods", "-l", "app.kubernetes.io/name=cloudflared",
		"-o", stay))
	slices.Sort(names)
	return names
}

// TestConnectorsComeAndGo kills a connector and rolls all of them while a visitor asks 20 times a second.
func TestConnectorsComeAndGo(t *testing.T) {
	l := running(t)
	for _, asked := range []struct {
		what string
		do   func()
	}{
		{"a connector is killed", func() {
			kube(t, l, "-n", "cloudflared", "delete", "pod", connectorPods(t, l)[0], "--grace-period=0", "--force")
		}},
		{"a connector ends", func() { kube(t, l, "-n", "cloudflared", "delete", "pod", connectorPods(t, l)[0]) }},
		{"all are replaced", func() { kube(t, l, "-n", "cloudflared", "rollout", "restart", "deployment/cloudflared") }},
	} {
		crowd := gather(t, l)
		asked.do()
		kube(t, l, "-n", "cloudflared", "rollout", "status", "deployment/cloudflared", "--timeout=90s")
		eventually(t, time.Minute, asked.what+": two connectors are at work", func() error {
			if _, status, connectors := theTunnel(t, l); status != "healthy" || len(connectors) != 2 {
				return fmt.Errorf("the tunnel is %s with %d connectors", status, len(connectors))
			}
			return nil
		})
		requests, failures := crowd.leave()
		t.Logf("%s: %d requests, %d failed", asked.what, requests, len(failures))
		if requests < 100 || len(failures) > 0 {
			t.Errorf("%s: of %d requests %d failed: %.3q", asked.what, requests, len(failures), failures)
		}
	}
}

// TestWritingsOutliveTheirPods kills applications and databases without a warning.
func TestWritingsOutliveTheirPods(t *testing.T) {
	l := running(t)
	const text = "before the pods were killed"
	w := write(t, text)
	for _, namespace := range []string{notesNamespace, blogNamespace} {
		kube(t, l, "-n", namespace, "delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")
	}
	w.isThere(t, 3*time.Minute, text)
}

// crowd asks 20 times a second, whatever became of the requests before.
type crowd struct {
	stop func()
	all  sync.WaitGroup

	mu       sync.Mutex
	requests int
	failures []string
}

func gather(t *testing.T, l *lab) *crowd {
	t.Helper()
	client := browser(t, l)
	ctx, stop := context.WithCancel(t.Context())
	c := &crowd{stop: stop}
	c.all.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			c.all.Go(func() {
				// A request that is under way when the crowd leaves is waited for.
				got, err := ask(context.WithoutCancel(ctx), client, notes+"/healthz")
				if err == nil && got.status != http.StatusOK {
					err = fmt.Errorf("%s", got)
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				c.requests++
				if err != nil {
					c.failures = append(c.failures, err.Error())
				}
			})
		}
	})
	t.Cleanup(stop)
	return c
}

// leave waits for the answers that are on their way.
func (c *crowd) leave() (requests int, failures []string) {
	time.Sleep(5 * time.Second)
	c.stop()
	c.all.Wait()
	return c.requests, c.failures
}
