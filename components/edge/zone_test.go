package edge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLookAtZone(t *testing.T) {
	const id = "fedcba9876543210fedcba9876543210"
	for name, tt := range map[string]struct {
		status       int
		zone, refuse string
	}{
		"the zone":        {200, "example.org", ""},
		"another zone":    {200, "example.com", "cloudflare.zoneId: " + id + " is the ID of example.com, and cloudflare"},
		"a zone above it": {200, "org", "is the ID of org, and cloudflare.zone is example.org"},
		"may not see it":  {403, "example.com", ""},
		"no such zone":    {404, "", ""},
		"no name":         {200, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				if r.Method+" "+r.URL.Path != "GET /zones/"+id || r.Header.Get("Authorization") != "Bearer t0ken" {
					t.Errorf("asked %s %s", r.Method, r.URL)
				}
				w.WriteHeader(tt.status)
				fmt.Fprintf(w, `{"success": true, "result": {"id": %q, "name": %q}}`, id, tt.zone)
			}))
			defer server.Close()
			err := API{Token: "t0ken", BaseURL: server.URL}.LookAtZone(t.Context(), id, "example.org")
			if got := fmt.Sprint(err); tt.refuse == "" != (err == nil) || !strings.Contains(got, tt.refuse) || asked != 1 {
				t.Errorf("%d questions, %v", asked, err)
			}
			server.Close()
			if err := (API{Token: "t0ken", BaseURL: server.URL}).LookAtZone(t.Context(), id, "example.org"); err != nil {
				t.Errorf("nobody answers: %v", err)
			}
		})
	}
	if err := (API{BaseURL: "http://127.0.0.1:1"}).LookAtZone(t.Context(), id, "example.org"); err != nil {
		t.Errorf("without a token: %v", err)
	}
}
