package edge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
)

const testAccount = "0123456789abcdef0123456789abcdef"

// wanted are the inputs of what is about to be created, by kind.
var wanted = map[string]map[string]any{
	"tunnel": {"accountId": testAccount, "name": "site", "tunnelSecret": testSecret},
	"record": {
		"zoneId": "fed", "name": "notes.example.org", "type": "CNAME", "content": "t1.cfargotunnel.com", "proxied": true,
		"comment": "managed by Pulumi",
	},
	"policy": {
		"accountId": testAccount, "name": "site team", "decision": "allow",
		"includes": []any{map[string]any{"email": map[string]any{"email": "alice@example.org"}}},
	},
	"login": {
		"accountId": testAccount, "name": "admin.example.org", "domain": "admin.example.org",
		"policies": []any{map[string]any{"id": "p1", "precedence": 1.0}},
	},
}

func TestLeftoverIsRemovedOnlyWhenProvenOurs(t *testing.T) {
	token := func(secret string) string {
		text, err := connectorToken(testAccount, "old", secret)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	record := `{"id":"old","name":"notes.example.org","type":"CNAME","content":"%s","proxied":%t,` +
		`"comment":"managed by Pulumi"}`
	policy := `{"id":"old","name":"site team","decision":"allow","app_count":%d,"include":[{"email":{"email":%q}}]}`
	login := `{"id":"old","name":"admin.example.org","domain":"admin.example.org","policies":[%s]}`
	for name, test := range map[string]struct {
		kind, found, token string
		removed            bool
	}{
		"nothing is there":           {"tunnel", ``, "", false},
		"a tunnel with our secret":   {"tunnel", `{"id":"old","name":"site"}`, token(testSecret), true},
		"a tunnel with other secret": {"tunnel", `{"id":"old","name":"site"}`, token("b3RoZXI="), false},
		"a tunnel without a secret":  {"tunnel", `{"id":"old","name":"site"}`, token(""), false},
		"our record":                 {"record", fmt.Sprintf(record, "t1.cfargotunnel.com", true), "", true},
		"a record that leads away":   {"record", fmt.Sprintf(record, "t2.cfargotunnel.com", true), "", false},
		"a record that is unproxied": {"record", fmt.Sprintf(record, "t1.cfargotunnel.com", false), "", false},
		"our policy":                 {"policy", fmt.Sprintf(policy, 0, "alice@example.org"), "", true},
		"a policy that is used":      {"policy", fmt.Sprintf(policy, 1, "alice@example.org"), "", false},
		"a policy for others":        {"policy", fmt.Sprintf(policy, 0, "mallory@example.org"), "", false},
		"our application":            {"login", fmt.Sprintf(login, `{"id":"p1"}`), "", true},
		"an application of others":   {"login", fmt.Sprintf(login, `{"id":"p2"}`), "", false},
		"an application with two":    {"login", fmt.Sprintf(login, `{"id":"p1"},{"id":"p2"}`), "", false},
		"an application without any": {"login", fmt.Sprintf(login, ``), "", false},
		"the very policy of the hook": {
			"policy",
			strings.Replace(fmt.Sprintf(policy, 0, "alice@example.org"), "old", "new", 1),
			"",
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var removed []string
			cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				result := "[" + test.found + "]"
				switch {
				case r.Header.Get("Authorization") != "Bearer token":
					http.Error(w, "no access", http.StatusForbidden)
					return
				case r.Method == http.MethodDelete:
					removed = append(removed, r.URL.Path)
					result = `{}`
				case strings.HasSuffix(r.URL.Path, "/token"):
					text, _ := json.Marshal(test.token)
					result = string(text)
				}
				fmt.Fprintf(w, `{"success":true,"result":%s}`, result)
			}))
			defer cloud.Close()
			api := API{Token: "token", BaseURL: cloud.URL}
			if err := api.removeLeftover(t.Context(), leftovers[test.kind], wanted[test.kind], "new"); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(removed, " "); strings.HasSuffix(got, "/old") != test.removed || len(removed) > 1 ||
				!test.removed && got != "" {
				t.Errorf("removed %q, want the one found: %t", removed, test.removed)
			}
		})
	}
}

func TestLookForLeftoversKeepsSecretsToItself(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"refused":     {http.StatusForbidden, `{"result":"c2VjcmV0"}`},
		"not JSON":    {http.StatusOK, "c2VjcmV0"},
		"not a token": {http.StatusOK, `{"result":[{"id":"old","name":"c2VjcmV0"}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(answer.status)
				if strings.HasSuffix(r.URL.Path, "/token") {
					fmt.Fprint(w, `{"result":"c2VjcmV0"}`)
					return
				}
				fmt.Fprint(w, answer.body)
			}))
			defer cloud.Close()
			api := API{Token: "hunter2", BaseURL: cloud.URL}
			err := api.removeLeftover(t.Context(), leftovers["tunnel"], wanted["tunnel"], "")
			if err == nil {
				t.Fatal("no error")
			}
			for _, secret := range []string{"hunter2", "c2VjcmV0", testSecret} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q is in the error %v", secret, err)
				}
			}
		})
	}
}

// TestLookForLeftoversAsksForTheVeryName compares the requests, and reports a deletion that is refused.
func TestLookForLeftoversAsksForTheVeryName(t *testing.T) {
	var asked []string
	cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String())
		if r.Method == http.MethodDelete {
			http.Error(w, "no", http.StatusConflict)
			return
		}
		fmt.Fprint(w, `{"result":[{"id":"old","name":"notes.example.org","type":"CNAME","content":"t1.cfargotunnel.com",`+
			`"proxied":true,"comment":"managed by Pulumi"}]}`)
	}))
	defer cloud.Close()
	err := API{Token: "token", BaseURL: cloud.URL}.removeLeftover(t.Context(), leftovers["record"], wanted["record"], "")
	if err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("a refused deletion: %v", err)
	}
	want := "GET /zones/fed/dns_records?name.exact=notes.example.org&type=CNAME DELETE /zones/fed/dns_records/old"
	if got := strings.Join(asked, " "); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestPlainOpensSecrets(t *testing.T) {
	got := plain(resource.PropertyMap{
		"tunnelSecret": resource.MakeSecret(resource.NewProperty(testSecret)),
		"policies": resource.NewProperty([]resource.PropertyValue{
			resource.NewProperty(resource.PropertyMap{"id": resource.MakeSecret(resource.NewProperty("p1"))}),
		}),
	})
	if text(got, "tunnelSecret") != testSecret || firstID(got) != "p1" {
		t.Errorf("inputs read %v", got)
	}
}

// TestHooks runs the hooks of a policy as the engine would: before it is created, and again after it, when its own ID
// is known. Other kinds, of which there is no second one, have none after it, and without a token nobody looks.
func TestHooks(t *testing.T) {
	const policy = `{"id":%q,"name":"site team","decision":"allow","app_count":0,` +
		`"include":[{"email":{"email":"alice@example.org"}}]}`
	status, removed := http.StatusOK, []string{}
	cloud := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		if r.Method == http.MethodDelete {
			removed = append(removed, path.Base(r.URL.Path))
			return
		}
		fmt.Fprintf(w, `{"result":[`+policy+`,`+policy+`]}`, "old", "new")
	}))
	defer cloud.Close()
	hooksOf := func(api API, kind string) *pulumi.ResourceHookBinding {
		binding := &pulumi.ResourceHookBinding{}
		_, err := pulumitest.Run(func(ctx *pulumi.Context) error {
			option, err := api.hooks(ctx, "edge", kind)
			if err != nil {
				return err
			}
			options, err := pulumi.NewResourceOptions(option)
			if options != nil && options.Hooks != nil {
				binding = options.Hooks
			}
			return err
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return binding
	}
	api := API{Token: "token", BaseURL: cloud.URL}
	for kind := range leftovers {
		if hooks := hooksOf(API{}, kind); len(hooks.BeforeCreate)+len(hooks.AfterCreate) != 0 {
			t.Errorf("%s: looked for without a token", kind)
		}
		after := map[string]int{"policy": 1}[kind]
		if hooks := hooksOf(api, kind); len(hooks.BeforeCreate) != 1 || len(hooks.AfterCreate) != after {
			t.Errorf("%s: %d hooks before and %d after the creation, want 1 and %d", kind, len(hooks.BeforeCreate),
				len(hooks.AfterCreate), after)
		}
	}
	hooks := hooksOf(api, "policy")
	if len(hooks.BeforeCreate) != 1 || len(hooks.AfterCreate) != 1 {
		t.FailNow()
	}
	inputs := resource.NewPropertyMapFromMap(wanted["policy"])
	for _, test := range []struct {
		hook *pulumi.ResourceHook
		id   pulumi.ID
		want string
	}{{hooks.BeforeCreate[0], "", "[old new]"}, {hooks.AfterCreate[0], "new", "[old]"}} {
		removed = nil
		err := test.hook.Callback(&pulumi.ResourceHookArgs{Name: "edge-team", ID: test.id, NewInputs: inputs})
		if got := fmt.Sprint(removed); err != nil || got != test.want {
			t.Errorf("removed %s (%v), want %s", got, err, test.want)
		}
	}
	status = http.StatusForbidden
	err := hooks.BeforeCreate[0].Callback(&pulumi.ResourceHookArgs{Name: "edge-team", NewInputs: inputs})
	if err == nil || !strings.Contains(err.Error(), "left of edge-team: ") {
		t.Errorf("a refusal ends in %v", err)
	}
}
