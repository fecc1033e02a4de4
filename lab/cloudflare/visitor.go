package cloudflare

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
)

// Visitors returns the handler of what visitors ask: it answers as the cloud does for the hostname, or passes the
// request on through the hostname's tunnel. It is served over TLS alone.
func (e *Edge) Visitors() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "https", r.In.Host, r.In.Host
			r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
			r.SetXForwarded()
			visitor, _, _ := net.SplitHostPort(r.In.RemoteAddr)
			r.Out.Header.Set("Cf-Connecting-Ip", visitor)
			r.Out.Header.Set("Cf-Ray", newID()[:16]+"-LAB")
		},
		Transport:     through{e},
		FlushInterval: -1, // what an application streams arrives as it is sent
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, errNoConnector) {
				refuseVisitor(w, 530, 1033)
				return
			}
			refuseVisitor(w, http.StatusBadGateway, http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		tunnel, login := e.server.route(strings.ToLower(host), r.URL)
		switch {
		case tunnel == "":
			refuseVisitor(w, http.StatusConflict, 1001)
		case login != "":
			http.Redirect(w, r, login, http.StatusFound)
		default:
			proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tunnelKey{}, tunnel)))
		}
	})
}

// Proxy returns the handler of a proxy that leads every connection to visitors: it stands in for the public DNS, for a
// program that cannot be told where the names of the zone are.
func Proxy(visitors string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "connections alone are passed on", http.StatusMethodNotAllowed)
			return
		}
		there, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", visitors)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer here.Close()
		if _, err := here.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")); err != nil {
			return
		}
		done := make(chan struct{}, 2)
		pass := func(to io.Writer, from io.Reader) {
			_, _ = io.Copy(to, from)
			done <- struct{}{}
		}
		go pass(there, buffered)
		go pass(here, there)
		<-done
	})
}

// refuseVisitor answers as the edge itself does, with one of the codes of
// https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/: 1001 where no
// record of the zone has the hostname (outside, its name would not be found), 1033 where its tunnel has no connector.
func refuseVisitor(w http.ResponseWriter, status, code int) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "error code: %d\n", code)
}

// route is the tunnel that a hostname leads to, and where Access asks a visitor for a login before that. Nobody can log
// in at the emulated edge.
func (s *Server) route(host string, at *url.URL) (tunnel, login string) {
	_ = s.store.View(func(st *state) error {
		if tunnel = tunnelOf(st, host); tunnel == "" {
			return nil
		}
		for _, app := range sortedAccess(st.Apps) {
			guarded, path, _ := strings.Cut(app.text("domain"), "/")
			if matches(guarded, host) && strings.HasPrefix(at.Path, "/"+path) && !bypassed(st, app) {
				login = (&url.URL{
					Scheme: "https", Host: "lab.cloudflareaccess.com", Path: "/cdn-cgi/access/login/" + host,
					RawQuery: url.Values{"kid": {app.AUD}, "redirect_url": {at.RequestURI()}}.Encode(),
				}).String()
				break
			}
		}
		return nil
	})
	return tunnel, login
}

// tunnelOf is the tunnel to which a proxied record of the hostname leads; a record of its own wins over a wildcard.
func tunnelOf(st *state, host string) string {
	const suffix = ".cfargotunnel.com"
	found := ""
	for _, rec := range st.Records {
		name := strings.ToLower(rec.Name)
		id, leads := strings.CutSuffix(strings.ToLower(rec.Content), suffix)
		if leads && rec.Proxied && matches(name, host) && (found == "" || name == host) {
			found = id
		}
	}
	return found
}

// matches tells whether a name, of which the first label may be a wildcard, is the host's.
func matches(name, host string) bool {
	rest, wildcard := strings.CutPrefix(name, "*.")
	_, parent, _ := strings.Cut(host, ".")
	return strings.EqualFold(name, host) || wildcard && strings.EqualFold(rest, parent)
}

// bypassed tells whether one of the application's policies lets everybody pass.
func bypassed(st *state, app *accessObject) bool {
	return slices.ContainsFunc(app.policies(), func(id string) bool {
		policy := st.Policies[id]
		if policy == nil || policy.text("decision") != "bypass" {
			return false
		}
		include, _ := policy.Fields["include"].([]any)
		return slices.ContainsFunc(include, func(rule any) bool {
			selector, _ := rule.(map[string]any)
			_, everyone := selector["everyone"]
			return everyone
		})
	})
}

type tunnelKey struct{}

var errNoConnector = errors.New("the tunnel has no connector")

// through sends a request through a tunnel, and one that may be repeated through another connection when the first is
// lost before it answered.
type through struct{ edge *Edge }

// RoundTrip implements http.RoundTripper.
func (t through) RoundTrip(r *http.Request) (*http.Response, error) {
	tunnel, _ := r.Context().Value(tunnelKey{}).(string)
	links := t.edge.server.links
	repeatable := (r.Body == nil || r.Body == http.NoBody) && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	var tried []*link
	err := errNoConnector
	for {
		l := links.take(tunnel, tried)
		if l == nil {
			return nil, err
		}
		var answer *http.Response
		if answer, err = l.forward(r, func() { links.release(l) }); err == nil || !repeatable || r.Context().Err() != nil {
			return answer, err
		}
		tried = append(tried, l)
	}
}

// forward sends a request through one connection. done is called once, when nothing of it is under way any more.
func (l *link) forward(r *http.Request, done func()) (_ *http.Response, err error) {
	var toOrigin *io.PipeWriter
	defer func() {
		if err != nil {
			if toOrigin != nil {
				_ = toOrigin.CloseWithError(err)
			}
			done()
		}
	}()
	out := r.Clone(r.Context())
	if strings.EqualFold(r.Header.Get("Upgrade"), websocket) {
		// HTTP/2 has no upgrade: what the visitor sends becomes the body.
		out.Header.Del("Connection")
		out.Header.Del("Upgrade")
		out.Header.Set(upgradeHeader, websocket)
		out.Body, toOrigin = io.Pipe()
		out.ContentLength = -1
	}
	answer, err := l.http.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = answer.Body.Close()
		}
	}()
	length := answer.Header.Get("Content-Length")
	if answer.Header, err = originHeaders(answer.Header.Get(responseHeaders)); err != nil {
		return nil, err
	}
	if length != "" {
		answer.Header.Set("Content-Length", length)
	}
	body := &stream{ReadCloser: answer.Body, done: done}
	answer.Body = body
	if toOrigin != nil && answer.Header.Get("Sec-Websocket-Accept") != "" {
		answer.StatusCode, answer.Status = http.StatusSwitchingProtocols, ""
		body.toOrigin = toOrigin
		answer.Body = duplex{body, toOrigin}
	}
	return answer, nil
}

// originHeaders are an application's, which a connector sends in one header, so that HTTP/2's rules for headers do not
// apply to them: pairs of base64 (SerializeHeaders in cloudflared's connection package). A connector that could not
// reach the application sends none.
func originHeaders(text string) (http.Header, error) {
	headers := http.Header{}
	for pair := range strings.SplitSeq(text, ";") {
		if pair == "" {
			continue
		}
		name, value, found := strings.Cut(pair, ":")
		plainName, nameErr := base64.RawStdEncoding.DecodeString(name)
		plainValue, valueErr := base64.RawStdEncoding.DecodeString(value)
		if !found || nameErr != nil || valueErr != nil {
			return nil, errors.New("the connector's headers cannot be read")
		}
		headers.Add(string(plainName), string(plainValue))
	}
	return headers, nil
}

// stream is an answer's body, with what is to be done at its end.
type stream struct {
	io.ReadCloser
	toOrigin *io.PipeWriter
	done     func()
}

// Close implements io.Closer.
func (s *stream) Close() error {
	if s.done == nil {
		return nil
	}
	if s.toOrigin != nil {
		_ = s.toOrigin.Close()
	}
	defer func() { s.done(); s.done = nil }()
	return s.ReadCloser.Close()
}

// duplex is both directions of an upgraded connection.
type duplex struct {
	*stream
	io.Writer
}
