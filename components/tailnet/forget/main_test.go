package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/tailnet/internal/cloud"
	"github.com/tinyrack-net/infrastructure/components/tailnet/internal/cloud/cloudtest"
)

func TestRun(t *testing.T) {
	s := cloudtest.New(t)
	s.Devices["d1"] = cloudtest.Object{
		"name": "site.example.ts.net", "tags": []string{"tag:t-server"}, "connectedToControl": true,
	}
	request, err := json.Marshal(cloud.Request{
		API:     cloud.API{ClientID: cloudtest.ClientID, ClientSecret: cloudtest.Secret, Tailnet: "-", BaseURL: s.URL},
		Machine: cloud.Machine{Name: "site", Domain: "example.ts.net", RoleTags: []string{"tag:t-server"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	pauses := 0
	var out strings.Builder
	err = run(t.Context(), strings.NewReader(string(request)), &out, func(context.Context) error {
		if pauses++; pauses == 40 { // the last look sees it
			s.Devices["d1"]["connectedToControl"], s.Devices["d1"]["lastSeen"] = false, "2026-11-24T10:00:00Z"
		}
		return nil
	})
	if err != nil || len(s.Devices) != 0 || !strings.HasPrefix(out.String(), "removed device d1") {
		t.Errorf("said %q (%v), devices %v", out.String(), err, s.Devices)
	}
	if strings.Contains(out.String(), cloudtest.Secret) {
		t.Errorf("the secret is in %q", out.String())
	}
	s.Fail["GET /devices"] = 500
	out.Reset()
	none := func(context.Context) error { return nil }
	if err := run(t.Context(), strings.NewReader(string(request)), &out, none); err == nil || out.String() != "" {
		t.Errorf("a failing cloud ends in %v, %q", err, out.String())
	}
}

func TestBadRequest(t *testing.T) {
	for _, request := range []string{"", "canary", `{"canary": 1}`, `{"API": "canary"}`} {
		err := run(t.Context(), strings.NewReader(request), nil, nil)
		if err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q ends in %v", request, err)
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := wait(ctx); err == nil {
		t.Error("it goes on waiting")
	}
}
