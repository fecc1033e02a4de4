package cloudflare_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudflare/cloudflared/tunnelrpc"
	"github.com/cloudflare/cloudflared/tunnelrpc/pogs"
	"github.com/google/uuid"
	"golang.org/x/net/http2"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
)

// edge is an account with its edge, a tunnel, and a visitor.
type edge struct {
	*cloud
	tunnel    string
	connector string // address
	visitors  *httptest.Server
}

func startEdge(t *testing.T) *edge {
	t.Helper()
	c := start(t, t.TempDir())
	made := cloudflare.NewEdge(c.Server)
	e := &edge{cloud: c, visitors: httptest.NewTLSServer(made.Visitors())}
	t.Cleanup(e.visitors.Close)
	// Any certificate will do here.
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: e.visitors.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() { _ = made.Serve(listener) }()
	e.connector = listener.Addr().String()
	e.tunnel = c.id(t, accounts+"/cfd_tunnel", `{"name":"site","config_src":"cloudflare","tunnel_secret":"`+secret+`"}`)
	e.publish(t, "notes.lab.test")
	e.configure(t, "http_status:404")
	return e
}

func (e *edge) publish(t *testing.T, hostname string) {
	t.Helper()
	e.api(t, http.MethodPost, zones+"/dns_records", `{"name":"`+hostname+`","type":"CNAME","proxied":true,"ttl":1,"content":"`+
		e.tunnel+`.cfargotunnel.com"}`)
}

func (e *edge) configure(t *testing.T, service string) {
	t.Helper()
	e.api(t, http.MethodPut, accounts+"/cfd_tunnel/"+e.tunnel+"/configurations",
		`{"config":{"ingress":[{"service":"`+service+`"}]}}`)
}

// get is a visitor's request.
func (e *edge) get(t *testing.T, url string) (status int, header http.Header, body string) {
	t.Helper()
	at, path, _ := strings.Cut(url, "/")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.visitors.URL+"/"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = at
	client := e.visitors.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for range 500 {
		if ask() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within 5 s: %s", what)
}

// connector is what cloudflared is to the edge, with an application behind it.
type connector struct {
	id       uuid.UUID
	secret   []byte
	tunnel   string
	serve    http.HandlerFunc
	conn     net.Conn
	client   tunnelrpc.RegistrationClient
	refused  chan error // the answer to the registration
	finished chan struct{}

	mu      sync.Mutex
	configs []string
	first   bool // a visitor came before any configuration
}

func connect(t *testing.T, e *edge, change func(*connector)) *connector {
	t.Helper()
	c := &connector{
		id: uuid.New(), secret: []byte(strings.Repeat("s", 32)), tunnel: e.tunnel, refused: make(chan error, 1),
		finished: make(chan struct{}),
		serve:    func(w http.ResponseWriter, r *http.Request) { reply(w, http.StatusOK, nil, r.Host+r.URL.Path) },
	}
	if change != nil {
		change(c)
	}
	conn, err := tls.Dial("tcp", e.connector, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	c.conn = conn
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		defer close(c.finished)
		(&http2.Server{}).ServeConn(conn, &http2.ServeConnOpts{Handler: c}) //nolint:staticcheck // dialled, not accepted
	}()
	return c
}

// connected is a connector that the edge sends visitors to.
func connected(t *testing.T, e *edge, change func(*connector)) *connector {
	t.Helper()
	c := connect(t, e, change)
	if err := <-c.refused; err != nil {
		t.Fatal(err)
	}
	eventually(t, "visitors are sent to it", func() bool { return e.Admitted(c.id.String()) })
	return c
}

func (c *connector) configurations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.configs)
}

func (c *connector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Header.Get("Cf-Cloudflared-Proxy-Connection-Upgrade") {
	case "control-stream":
		stream := &flushed{ReadCloser: r.Body, w: w}
		defer stream.end()
		c.client = tunnelrpc.NewRegistrationClient(r.Context(), stream, time.Second)
		_, err := c.client.RegisterConnection(r.Context(), pogs.TunnelAuth{
			AccountTag: cloudflare.DefaultAccountID, TunnelSecret: c.secret,
		}, uuid.MustParse(c.tunnel), &pogs.ConnectionOptions{
			Client: pogs.ClientInfo{ClientID: c.id[:], Version: "2026.7.1", Arch: "linux_amd64"},
		}, 0, net.IPv4(127, 0, 0, 1))
		if err != nil {
			c.client.Close()
		}
		c.refused <- err
		if err == nil {
			<-r.Context().Done()
		}
	case "update-configuration":
		text, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		c.configs = append(c.configs, string(text))
		c.mu.Unlock()
		_, _ = io.WriteString(w, `{"lastAppliedVersion":1,"err":null}`)
	default:
		if len(c.configurations()) == 0 {
			c.mu.Lock()
			c.first = true
			c.mu.Unlock()
		}
		c.serve(w, r)
	}
}

// flushed is a control stream: what is written goes out at once, until the handler ends.
type flushed struct {
	io.ReadCloser
	mu    sync.Mutex
	w     http.ResponseWriter
	ended bool
}

func (f *flushed) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return 0, io.ErrClosedPipe
	}
	n, err := f.w.Write(p)
	f.w.(http.Flusher).Flush()
	return n, err
}

func (f *flushed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}

// reply sends an application's answer as cloudflared does.
func reply(w http.ResponseWriter, status int, headers map[string]string, body string) {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		pairs = append(pairs, base64.RawStdEncoding.EncodeToString([]byte(name))+":"+
			base64.RawStdEncoding.EncodeToString([]byte(headers[name])))
	}
	w.Header().Set("Cf-Cloudflared-Response-Headers", strings.Join(pairs, ";"))
	w.Header().Set("Cf-Cloudflared-Response-Meta", `{"src":"origin"}`)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
	w.(http.Flusher).Flush()
}

func TestAVisitorReachesTheApplication(t *testing.T) {
	e := startEdge(t)
	if status, _, body := e.get(t, "notes.lab.test/"); status != 530 || body != "error code: 1033\n" {
		t.Errorf("without a connector: %d %q", status, body)
	}
	seen := make(chan http.Header, 1)
	c := connected(t, e, func(c *connector) {
		c.serve = func(w http.ResponseWriter, r *http.Request) {
			seen <- r.Header
			reply(w, http.StatusTeapot, map[string]string{"Set-Cookie": "a=b", "X-Odd": "ü"}, r.Method+" "+r.Host+r.URL.Path)
		}
	})
	var status int
	var header http.Header
	var body string
	eventually(t, "an answer", func() bool {
		status, header, body = e.get(t, "notes.lab.test/page")
		return status != 530
	})
	if status != http.StatusTeapot || body != "GET notes.lab.test/page" || header.Get("Set-Cookie") != "a=b" ||
		header.Get("X-Odd") != "ü" {
		t.Errorf("%d %q %v", status, body, header)
	}
	for name := range header {
		if strings.HasPrefix(name, "Cf-Cloudflared-") {
			t.Errorf("the visitor sees %s", name)
		}
	}
	asked := <-seen
	if asked.Get("Cf-Connecting-Ip") != "127.0.0.1" || asked.Get("X-Forwarded-Proto") != "https" ||
		asked.Get("Cf-Ray") == "" {
		t.Errorf("the application sees %v", asked)
	}
	if c.first {
		t.Error("a visitor came before the configuration")
	}
	if status, _, body := e.get(t, "other.lab.test/"); status != http.StatusConflict || body != "error code: 1001\n" {
		t.Errorf("a hostname without a record: %d %q", status, body)
	}
}

func TestOnlyItsOwnConnectorsServeATunnel(t *testing.T) {
	e := startEdge(t)
	for name, test := range map[string]struct {
		change func(*connector)
		want   string
	}{
		"another secret": {
			func(c *connector) { c.secret = []byte(strings.Repeat("x", 32)) }, "Unauthorized: Invalid tunnel secret",
		},
		"no secret":      {func(c *connector) { c.secret = nil }, "Unauthorized: Invalid tunnel secret"},
		"no such tunnel": {func(c *connector) { c.tunnel = uuid.NewString() }, "Unauthorized: Tunnel not found"},
	} {
		err := <-connect(t, e, test.change).refused
		var again *pogs.RetryableError
		if err == nil || err.Error() != test.want || errors.As(err, &again) {
			t.Errorf("%s: %v, want %q for good", name, err, test.want)
		}
	}
	if list := e.api(t, http.MethodGet, accounts+"/cfd_tunnel/"+e.tunnel+"/connections", "").List; len(list) != 0 {
		t.Errorf("connections: %v", list)
	}
	if log := e.log.String(); strings.Contains(log, secret) {
		t.Errorf("the log holds the secret:\n%s", log)
	}
}

func TestAChangedConfigurationArrivesAtOnce(t *testing.T) {
	e := startEdge(t)
	c := connected(t, e, nil)
	e.configure(t, "http://notes.svc:80")
	eventually(t, "the change", func() bool { return len(c.configurations()) == 2 })
	var versions []int
	for _, text := range c.configurations() {
		var got struct {
			Version int
			Config  struct{ Ingress []struct{ Service string } }
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, got.Version)
		want := []string{"http_status:404", "http://notes.svc:80"}[len(versions)-1]
		if got.Config.Ingress[0].Service != want {
			t.Errorf("configuration %s, want %s", text, want)
		}
	}
	if versions[0] >= versions[1] {
		t.Errorf("versions %v do not rise", versions)
	}
}

func TestConnectorsTakeTurns(t *testing.T) {
	e := startEdge(t)
	var all []*connector
	var mu sync.Mutex
	served := map[int]int{}
	for i := range 2 {
		all = append(all, connected(t, e, func(c *connector) {
			c.serve = func(w http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				served[i]++
				mu.Unlock()
				reply(w, http.StatusOK, nil, "")
			}
		}))
	}
	for range 10 {
		if status, _, _ := e.get(t, "notes.lab.test/"); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	if served[0] != 5 || served[1] != 5 {
		t.Errorf("served %v", served)
	}
	// One that is lost: what was not answered yet goes to the other.
	all[0].serve = func(http.ResponseWriter, *http.Request) { _ = all[0].conn.Close() }
	for range 4 {
		if status, _, _ := e.get(t, "notes.lab.test/"); status != http.StatusOK {
			t.Errorf("a lost connector: status %d", status)
		}
	}
	eventually(t, "it is not listed", func() bool {
		return len(e.api(t, http.MethodGet, accounts+"/cfd_tunnel/"+e.tunnel+"/connections", "").List) == 1
	})
}

// A request that may have had its effect is not sent twice.
func TestAPostIsNotRepeated(t *testing.T) {
	e := startEdge(t)
	var mu sync.Mutex
	asked := 0
	for range 2 {
		connected(t, e, func(c *connector) {
			c.serve = func(http.ResponseWriter, *http.Request) {
				mu.Lock()
				asked++
				mu.Unlock()
				_ = c.conn.Close()
			}
		})
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.visitors.URL, strings.NewReader("text"))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "notes.lab.test"
	response, err := e.visitors.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadGateway || asked != 1 {
		t.Errorf("status %d after %d tries", response.StatusCode, asked)
	}
}

func TestOneThatLeavesFinishesItsRequests(t *testing.T) {
	e := startEdge(t)
	began, release := make(chan struct{}), make(chan struct{})
	leaving := connected(t, e, func(c *connector) {
		c.serve = func(w http.ResponseWriter, _ *http.Request) {
			close(began)
			<-release
			reply(w, http.StatusOK, nil, "late")
		}
	})
	got := make(chan string, 1)
	go func() {
		status, _, body := e.get(t, "notes.lab.test/")
		got <- fmt.Sprint(status, body)
	}()
	<-began
	if err := leaving.client.GracefulShutdown(context.Background(), time.Second); err != nil {
		t.Fatal(err)
	}
	leaving.client.Close()
	if status, _, _ := e.get(t, "notes.lab.test/"); status != 530 {
		t.Errorf("one that leaves gets a request: %d", status)
	}
	close(release)
	if late := <-got; late != "200late" {
		t.Errorf("the request under way: %s", late)
	}
	select {
	case <-leaving.finished:
	case <-time.After(5 * time.Second):
		t.Error("the connection is not closed once it is drained")
	}
}

func TestAccessAsksForALogin(t *testing.T) {
	e := startEdge(t)
	connected(t, e, nil)
	e.publish(t, "forum.lab.test")
	e.publish(t, "*.wild.lab.test")
	team := e.id(t, accounts+"/access/policies", `{"name":"team","decision":"allow","include":[{"email":{"email":"a@lab.test"}}]}`)
	all := e.id(t, accounts+"/access/policies", `{"name":"all","decision":"bypass","include":[{"everyone":{}}]}`)
	for domain, policy := range map[string]string{
		"forum.lab.test": team, "notes.lab.test": all, "*.wild.lab.test/admin": team,
	} {
		e.api(t, http.MethodPost, accounts+"/access/apps",
			`{"name":"`+domain+`","type":"self_hosted","domain":"`+domain+`","policies":["`+policy+`"]}`)
	}
	for url, want := range map[string]int{
		"forum.lab.test/t/1": http.StatusFound, "FORUM.lab.test/": http.StatusFound, "notes.lab.test/": http.StatusOK,
		"a.wild.lab.test/admin/x": http.StatusFound, "a.wild.lab.test/": http.StatusOK,
		"a.b.wild.lab.test/": http.StatusConflict,
	} {
		status, header, _ := e.get(t, url)
		if status != want {
			t.Errorf("%s: %d, want %d", url, status, want)
		}
		host, _, _ := strings.Cut(strings.ToLower(url), "/")
		if at := header.Get("Location"); status == http.StatusFound &&
			!strings.HasPrefix(at, "https://lab.cloudflareaccess.com/cdn-cgi/access/login/"+host+"?") {
			t.Errorf("%s: sent to %s", url, at)
		}
	}
}

func TestAnUpgradedConnectionAndAStream(t *testing.T) {
	e := startEdge(t)
	next := make(chan struct{})
	connected(t, e, func(c *connector) {
		c.serve = func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Cf-Cloudflared-Proxy-Connection-Upgrade") == "websocket" {
				reply(w, http.StatusOK, map[string]string{
					"Sec-Websocket-Accept": "x", "Connection": "Upgrade", "Upgrade": "websocket",
				}, "")
				line, _ := bufio.NewReader(r.Body).ReadString('\n')
				_, _ = io.WriteString(w, "echo "+line)
				return
			}
			reply(w, http.StatusOK, nil, "one")
			<-next
			_, _ = io.WriteString(w, "two")
		}
	})
	response, err := e.visitors.Client().Do(func() *http.Request {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, e.visitors.URL, http.NoBody)
		r.Host = "notes.lab.test"
		return r
	}())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	part := make([]byte, 3)
	if _, err := io.ReadFull(response.Body, part); err != nil || string(part) != "one" {
		t.Errorf("the first part is not there before the second: %q %v", part, err)
	}
	close(next)
	if rest, err := io.ReadAll(response.Body); err != nil || string(rest) != "two" {
		t.Errorf("the second part: %q %v", rest, err)
	}

	conn, err := tls.Dial("tcp", e.visitors.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /socket HTTP/1.1\r\nHost: notes.lab.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n")
	reader := bufio.NewReader(conn)
	upgraded, err := http.ReadResponse(reader, nil)
	if err != nil || upgraded.StatusCode != http.StatusSwitchingProtocols ||
		upgraded.Header.Get("Sec-Websocket-Accept") != "x" {
		t.Fatalf("%+v %v", upgraded, err)
	}
	fmt.Fprint(conn, "hello\n")
	if line, err := reader.ReadString('\n'); err != nil || line != "echo hello\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestATunnelWithConnectorsStays(t *testing.T) {
	e := startEdge(t)
	path := accounts + "/cfd_tunnel/" + e.tunnel
	for _, rec := range e.api(t, http.MethodGet, zones+"/dns_records", "").List {
		e.api(t, http.MethodDelete, zones+"/dns_records/"+rec.(map[string]any)["id"].(string), "")
	}
	if got := e.api(t, http.MethodGet, path, "").Result["status"]; got != "inactive" {
		t.Errorf("before a connector: %v", got)
	}
	c := connected(t, e, nil)
	got := e.do(t, http.MethodDelete, cloudflare.Prefix+path, "")
	if got.status != http.StatusBadRequest || got.Errors[0].Code != 1022 {
		t.Errorf("%d %s", got.status, got.text)
	}
	shown := e.api(t, http.MethodGet, path, "").Result
	connections, _ := shown["connections"].([]any)
	if shown["status"] != "degraded" || len(connections) != 1 ||
		connections[0].(map[string]any)["client_id"] != c.id.String() {
		t.Errorf("the tunnel: %v", shown)
	}
	list := e.api(t, http.MethodGet, path+"/connections", "").List
	if len(list) != 1 || list[0].(map[string]any)["version"] != "2026.7.1" ||
		len(list[0].(map[string]any)["conns"].([]any)) != 1 {
		t.Errorf("connectors: %v", list)
	}
	e.api(t, http.MethodDelete, path+"/connections?client_id="+uuid.NewString(), "")
	select {
	case <-c.finished:
		t.Error("somebody else's connections were cut")
	case <-time.After(50 * time.Millisecond):
	}
	e.api(t, http.MethodDelete, path+"/connections", "")
	<-c.finished
	if got := e.api(t, http.MethodGet, path, "").Result["status"]; got != "down" {
		t.Errorf("after the last connector: %v", got)
	}
	e.api(t, http.MethodDelete, path, "")
}

// TestProxyLeadsToVisitors asks for a name that nobody knows, over TLS, through the proxy.
func TestProxyLeadsToVisitors(t *testing.T) {
	there := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s at %s", r.Host, r.URL.Path)
	}))
	defer there.Close()
	proxy := httptest.NewServer(cloudflare.Proxy(there.Listener.Addr().String()))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport, _ := there.Client().Transport.(*http.Transport)
	transport = transport.Clone()
	transport.Proxy = http.ProxyURL(at)
	transport.TLSClientConfig.ServerName = "example.com" // the test server's certificate
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	resp, err := client.Get("https://hooks.lab.test/hook")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hooks.lab.test at /hook" {
		t.Errorf("got %q, %v", body, err)
	}
	if resp, err := http.Get(proxy.URL); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("without a connection: %v, %v", resp, err)
	}
}
