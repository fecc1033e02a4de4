package tailnet

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// fake answers like the Tailscale API, with one policy and some keys by ID and description.
func fake(t *testing.T, policy string, keys map[string]string) (api API, deleted *[]string) {
	t.Helper()
	deleted = new([]string)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/oauth/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if _, secret, _ := r.BasicAuth(); secret != "secret" && r.FormValue("client_secret") != "secret" {
			http.Error(w, `{"message":"no access"}`, http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"access_token":"token","token_type":"Bearer","expires_in":3600}`)
	})
	mux.HandleFunc("GET /api/v2/tailnet/-/acl", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, policy) })
	mux.HandleFunc("GET /api/v2/tailnet/-/keys", func(w http.ResponseWriter, _ *http.Request) {
		var list []string
		for id := range keys {
			list = append(list, fmt.Sprintf(`{"id":%q}`, id))
		}
		fmt.Fprintf(w, `{"keys":[%s]}`, strings.Join(list, ","))
	})
	mux.HandleFunc("GET /api/v2/tailnet/-/keys/{id}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"id":%q,"description":%q}`, r.PathValue("id"), keys[r.PathValue("id")])
	})
	mux.HandleFunc("DELETE /api/v2/tailnet/-/keys/{id}", func(_ http.ResponseWriter, r *http.Request) { *deleted = append(*deleted, r.PathValue("id")) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return API{ClientID: "id", ClientSecret: "secret", Tailnet: "-", BaseURL: server.URL}, deleted
}

func TestPolicyIsOverwrittenOnlyWhenItIsTheSame(t *testing.T) {
	for name, test := range map[string]struct {
		policy string
		same   bool
	}{
		"the same":             {`{"acls": [{"action": "accept"}]}`, true},
		"the same, laid out":   {"{\n  // who may\n  \"acls\": [{\"action\": \"accept\"},],\n}", true},
		"another":              {`{"acls": []}`, false},
		"the same with more":   {`{"acls": [{"action": "accept"}], "ssh": []}`, false},
		"the same, other case": {`{"ACLs": [{"action": "accept"}]}`, false},
		"not a policy":         {`{`, false},
	} {
		t.Run(name, func(t *testing.T) {
			api, _ := fake(t, test.policy, nil)
			if got := api.has(t.Context(), `{"acls":[{"action":"accept"}]}`); got != test.same {
				t.Errorf("counts as the same: %t, want %t", got, test.same)
			}
		})
	}
	api, _ := fake(t, `{}`, nil)
	api.ClientSecret = "wrong"
	if api.has(t.Context(), `{}`) {
		t.Error("a policy that cannot be read counts as the same")
	}
}

func TestLeftoverJoinKeyIsRevoked(t *testing.T) {
	description := keyDescription("infrastructure", "lab")
	api, deleted := fake(t, "{}", map[string]string{"k1": description, "k2": keyDescription("infrastructure", "production"), "k3": ""})
	if err := api.revoke(t.Context(), description); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(*deleted, []string{"k1"}) {
		t.Errorf("revoked %q, want k1 alone", *deleted)
	}
}

func TestKeyDescription(t *testing.T) {
	for _, test := range []struct{ project, stack, want string }{
		{"infrastructure", "lab", "infrastructure-lab join key"},
		{"my.project", "prod_1", "my-project-prod-1 join key"},
		{strings.Repeat("p", 60), "lab", strings.Repeat("p", 37) + "-lab join key"},
	} {
		if got := keyDescription(test.project, test.stack); got != test.want {
			t.Errorf("%s %s: %q, want %q", test.project, test.stack, got, test.want)
		}
	}
}
