package stacks

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// No unit test reaches a network: what is dialled beyond this machine fails the run, whoever dials it.
func TestMain(m *testing.M) {
	transport := http.DefaultTransport.(*http.Transport)
	var reached []string
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasPrefix(address, "127.0.0.1:") {
			reached = append(reached, address)
			return nil, fmt.Errorf("a unit test dials %s: no unit test may reach a network", address)
		}
		return dial(ctx, network, address)
	}
	code := m.Run()
	if len(reached) > 0 {
		fmt.Printf("FAIL: unit tests reached for the network: %q\n", reached)
		code = 1
	}
	os.Exit(code)
}

// atTestCloud returns src with both clouds at a server of this test, which has an empty tailnet with the default
// policy.
func atTestCloud(t *testing.T, src Source) Source {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/oauth/token"):
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}`))
		case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/acl"):
			_, _ = w.Write([]byte(`{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}`))
		default:
			t.Errorf("a run of the program itself asked for %s %s", r.Method, r.URL.Path)
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	for _, section := range []string{"tinyrack:cloudflare", "tinyrack:tailnet"} {
		var settings map[string]any
		must(json.Unmarshal([]byte(src.Values[section]), &settings))
		settings["baseUrl"] = server.URL
		text, err := json.Marshal(settings)
		must(err)
		src.Values[section] = string(text)
	}
	return src
}
