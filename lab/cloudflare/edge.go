package cloudflare

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/cloudflare/cloudflared/tunnelrpc"
	"github.com/cloudflare/cloudflared/tunnelrpc/pogs"
	"github.com/google/uuid"
	"golang.org/x/net/http2"
)

// ConnectorName is the name in the certificate that a connector expects of an edge that it reaches by HTTP/2
// (edgeH2TLSServerName in cloudflared's connection package).
const ConnectorName = "h2.cftunnel.com"

// How the edge tells a connector what a request is for, as in cloudflared's connection package.
const (
	upgradeHeader   = "Cf-Cloudflared-Proxy-Connection-Upgrade"
	controlStream   = "control-stream"
	configuration   = "update-configuration"
	websocket       = "websocket"
	responseHeaders = "Cf-Cloudflared-Response-Headers"
)

// Edge is the emulated network in front of the account: connectors register with it, visitors reach through them what
// the account's tunnels publish. It speaks the protocol of the real cloudflared over HTTP/2. There is one location, and
// how the cloud chooses among connectors is not known: here each takes its turn.
type Edge struct {
	server *Server
	// The transport of net/http dials its connections; these are accepted.
	transport *http2.Transport //nolint:staticcheck // see above
	log       *slog.Logger
}

// NewEdge returns the edge of an account.
func NewEdge(server *Server) *Edge {
	// A connector that died without a word is found out within seconds.
	const often = 5 * time.Second
	return &Edge{
		server:    server,
		transport: &http2.Transport{ReadIdleTimeout: often, PingTimeout: often}, //nolint:staticcheck // see the field
		log:       server.log(),
	}
}

// Serve takes connectors from a listener that speaks TLS, until it is closed.
func (e *Edge) Serve(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			if err := e.connector(conn); err != nil {
				e.log.Info("edge: a connection of a connector ended", "from", conn.RemoteAddr(), "why", err)
			}
		}()
	}
}

// connector serves one connection. On it the edge is the client: what it asks first is to be registered.
func (e *Edge) connector(conn net.Conn) error {
	l := &link{conn: conn, gone: make(chan struct{})}
	defer func() {
		close(l.gone)
		e.server.links.remove(l)
		_ = conn.Close()
	}()
	var err error
	if l.http, err = e.transport.NewClientConn(conn); err != nil { //nolint:staticcheck // see the field
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	in, out := io.Pipe()
	answer, err := l.ask(ctx, controlStream, in)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	served := tunnelrpc.NewRegistrationServer(&registration{e, l}).Serve(ctx, struct {
		io.ReadCloser
		io.Writer
	}{answer.Body, out})
	// One that took its leave finishes what it is at.
	e.server.links.drained(l, time.Minute)
	return served
}

// ask sends a request of the edge's own.
func (l *link) ask(ctx context.Context, what string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://"+ConnectorName, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set(upgradeHeader, what)
	return l.http.RoundTrip(request)
}

// registration is what a connector can ask of the edge about one connection.
type registration struct {
	edge *Edge
	link *link
}

// RegisterConnection implements pogs.RegistrationServer.
func (r *registration) RegisterConnection(
	_ context.Context, auth pogs.TunnelAuth, tunnelID uuid.UUID, index byte, options *pogs.ConnectionOptions,
) (*pogs.ConnectionDetails, error) {
	remote, err := r.edge.server.login(auth, tunnelID.String())
	if err != nil {
		r.edge.log.Warn("edge: a connector is refused", "tunnel", tunnelID, "why", err)
		return nil, err
	}
	client, err := uuid.FromBytes(options.Client.ClientID)
	if err != nil {
		return nil, fmt.Errorf("the connector's ID: %w", err)
	}
	l := r.link
	origin, _, _ := net.SplitHostPort(l.conn.RemoteAddr().String())
	l.id, l.tunnel, l.client, l.index, l.opened = newUUID(), tunnelID.String(), client.String(), index, now()
	l.version, l.arch, l.features, l.origin = options.Client.Version, options.Client.Arch, options.Client.Features, origin
	r.edge.server.links.add(l)
	go r.edge.configure(l)
	return &pogs.ConnectionDetails{UUID: uuid.MustParse(l.id), Location: colo, TunnelIsRemotelyManaged: remote}, nil
}

// UnregisterConnection implements pogs.RegistrationServer: no more requests come.
func (r *registration) UnregisterConnection(context.Context) { r.edge.server.links.leave(r.link) }

// UpdateLocalConfiguration implements pogs.RegistrationServer. What a locally configured connector serves is its own
// affair.
func (r *registration) UpdateLocalConfiguration(context.Context, []byte) error { return nil }

// login checks who a connector says that it is, and tells whether its tunnel is configured remotely.
func (s *Server) login(auth pogs.TunnelAuth, id string) (remote bool, err error) {
	err = s.store.View(func(st *state) error {
		t := st.Tunnels[id]
		if auth.AccountTag != s.options.AccountID || t == nil || t.DeletedAt != nil {
			return errors.New("Unauthorized: Tunnel not found") //nolint:staticcheck // the cloud's words
		}
		wanted, err := base64.StdEncoding.DecodeString(t.Secret)
		if err != nil || len(wanted) == 0 || subtle.ConstantTimeCompare(wanted, auth.TunnelSecret) != 1 {
			return errors.New("Unauthorized: Invalid tunnel secret") //nolint:staticcheck // the cloud's words
		}
		remote = t.ConfigSrc == "cloudflare"
		return nil
	})
	return remote, err
}

// configure hands a connection the tunnel's remote configuration, before any visitor is sent to it, and again whenever
// it changes. A connector ignores a version that it knows.
func (e *Edge) configure(l *link) {
	pushed := -1
	for {
		changed := e.server.changed()
		config, version, live := e.server.remoteConfig(l.tunnel)
		if !live {
			_ = l.conn.Close()
			return
		}
		if config != nil && version > pushed {
			if err := l.push(config, version); err != nil {
				e.log.Warn("edge: a connector does not take the configuration", "tunnel", l.tunnel, "version", version, "why", err)
			}
			pushed = version
		}
		e.server.links.admit(l)
		select {
		case <-changed:
		case <-l.gone:
			return
		}
	}
}

func (s *Server) remoteConfig(id string) (config json.RawMessage, version int, live bool) {
	_ = s.store.View(func(st *state) error {
		if t := st.Tunnels[id]; t != nil && t.DeletedAt == nil {
			config, version, live = t.Config, t.ConfigVersion, true
		}
		return nil
	})
	return config, version, live
}

func (l *link) push(config json.RawMessage, version int) error {
	body, err := json.Marshal(map[string]any{"version": version, "config": config})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := l.ask(ctx, configuration, bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var result struct {
		Err *string `json:"err"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&result); err != nil {
		return err
	}
	if result.Err != nil {
		return errors.New(*result.Err)
	}
	return nil
}
