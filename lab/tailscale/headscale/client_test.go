package headscale

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/tailscale"
)

// server answers as headscale v0.29.2 does; the texts are its own.
func server(t *testing.T, answers map[string]string) (*Client, *[]string) {
	t.Helper()
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		request := r.Method + " " + strings.TrimPrefix(r.URL.RequestURI(), "/api/v1")
		asked = append(asked, strings.TrimSpace(request+" "+string(body)))
		answer, known := answers[request]
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
			answer = "Unauthorized"
		case strings.HasPrefix(request, "DELETE /node/") && !known:
			w.WriteHeader(http.StatusNotFound)
			answer = `{"code":5, "message":"node not found", "details":[]}`
		case !known:
			w.WriteHeader(http.StatusInternalServerError)
			answer = `{"code":2, "message":"record not found", "details":[]}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return &Client{URL: s.URL, Key: "secret", HTTP: s.Client()}, &asked
}

func TestNodes(t *testing.T) {
	c, _ := server(t, map[string]string{"GET /node": `{"nodes":[
		{"id":"1","machineKey":"mkey:a","nodeKey":"nodekey:b","ipAddresses":["100.64.0.1","fd7a:115c:a1e0::1"],"name":"site",
		 "user":{"id":"2147455555","name":"tagged-devices"},"lastSeen":"2026-11-24T10:00:00Z","expiry":null,
		 "preAuthKey":{"ephemeral":true},"createdAt":"2026-11-24T09:00:00Z","givenName":"site-1","online":false,
		 "tags":["tag:a"]},
		{"id":"2","name":"laptop","givenName":"laptop","user":{"name":"admin@lab.test"},
		 "expiry":"2027-05-23T09:00:00Z","online":true,"tags":[]},
		{"id":"3","name":"old","givenName":"old","user":{"name":"admin@lab.test"},
		 "expiry":"0001-01-01T00:00:00Z","tags":[]}]}`})
	nodes, err := c.Nodes(t.Context())
	if err != nil || len(nodes) != 3 {
		t.Fatalf("%v %v", nodes, err)
	}
	if n := nodes[0]; n.ID != "1" || n.Hostname != "site" || n.Name != "site-1" || n.User != "" || len(n.Tags) != 1 ||
		n.Addresses[0] != "100.64.0.1" ||
		!n.Ephemeral || n.Connected || !n.Expires.IsZero() || n.LastSeen.Hour() != 10 || n.Created.Hour() != 9 ||
		n.NodeKey != "nodekey:b" {
		t.Errorf("tagged: %+v", n)
	}
	if n := nodes[1]; n.User != "admin@lab.test" || !n.Connected || n.Expires.Year() != 2027 {
		t.Errorf("a person's: %+v", n)
	}
	if !nodes[2].Expires.IsZero() {
		t.Errorf("a zero time is an expiry: %+v", nodes[2])
	}
}

func TestRequests(t *testing.T) {
	at := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	made := `{"preAuthKey":{"id":"4","key":"hskey-auth-x","aclTags":["tag:a"],"expiration":"2026-11-24T10:00:00Z"}}`
	c, asked := server(t, map[string]string{
		"PUT /policy": "{}", "POST /preauthkey": made, "DELETE /preauthkey?id=4": "{}", "DELETE /node/1": "{}",
		"POST /node/1/rename/new": "{}",
		"POST /node/1/tags":       "{}", "POST /node/1/expire?disableExpiry=true": "{}",
		"POST /node/1/expire?expiry=2026-11-24T10%3A00%3A00Z": "{}",
		"GET /user?name=new%40lab.test":                       `{"users":[]}`,
		"GET /user?name=admin%40lab.test":                     `{"users":[{"id":"7"}]}`,
		"POST /user":                                          `{"user":{"id":"8"}}`,
	})
	ctx := t.Context()
	key, err := c.CreateKey(ctx, tailscale.JoinKey{Tags: []string{"tag:a"}, Ephemeral: true, Expires: at})
	if err != nil || key.ID != "4" || key.Secret != "hskey-auth-x" || !key.Expires.Equal(at) {
		t.Errorf("%+v %v", key, err)
	}
	for _, err := range []error{
		c.SetPolicy(ctx, "{}"), c.DeleteKey(ctx, "4"), c.DeleteNode(ctx, "1"), c.RenameNode(ctx, "1", "new"),
		c.TagNode(ctx, "1", []string{"tag:b"}),
		c.ExpireNode(ctx, "1", time.Time{}), c.ExpireNode(ctx, "1", at),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{
		`POST /preauthkey {"aclTags":["tag:a"],"ephemeral":true,"expiration":"2026-11-24T10:00:00Z","reusable":false}`,
		`PUT /policy {"policy":"{}"}`,
		`POST /node/1/tags {"tags":["tag:b"]}`,
	} {
		if !strings.Contains(strings.Join(*asked, "\n"), want) {
			t.Errorf("never asked: %s\n%s", want, strings.Join(*asked, "\n"))
		}
	}
	for login, user := range map[string]string{"admin@lab.test": `"user":"7"`, "new@lab.test": `"user":"8"`} {
		if _, err := c.DeviceKey(ctx, login); err != nil || !strings.Contains((*asked)[len(*asked)-1], user) {
			t.Errorf("key for %s: %s %v", login, (*asked)[len(*asked)-1], err)
		}
	}
	if !strings.Contains(strings.Join(*asked, "\n"), `POST /user {"email":"new@lab.test","name":"new@lab.test"}`) {
		t.Errorf("the person was not made: %v", *asked)
	}
}

func TestRefusalsAndFaultsDiffer(t *testing.T) {
	c, _ := server(t, nil)
	refused := (*tailscale.Refused)(nil)
	if err := c.RenameNode(t.Context(), "9", "a"); !errors.As(err, &refused) || refused.Message != "record not found" {
		t.Errorf("refused: %v", err)
	}
	if err := c.DeleteNode(t.Context(), "9"); err != nil {
		t.Errorf("a node that is gone: %v", err)
	}
	c.Key = "other"
	if _, err := c.Keys(t.Context()); !errors.Is(err, errUnauthorized) || errors.As(err, &refused) {
		t.Errorf("a wrong API key: %v", err)
	}
	c.URL = "http://127.0.0.1:1"
	if _, err := c.Keys(t.Context()); err == nil || errors.As(err, &refused) {
		t.Errorf("no server: %v", err)
	}
}
