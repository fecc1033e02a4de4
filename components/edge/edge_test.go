package edge

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/sdks/cloudflare"
)

// testPassword is what the random provider answers, testSecret the same in base64 as Cloudflare takes it.
const (
	testPassword = "secretsecretsecretsecretsecret12"
	testSecret   = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI="
)

// run creates an Edge named "edge" the way a stack does.
func run(t *testing.T, args *Args) *pulumitest.Recording {
	t.Helper()
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		provider, err := cloudflare.NewProvider(ctx, "cloudflare", &cloudflare.ProviderArgs{APIToken: pulumi.String("token")})
		if err != nil {
			return err
		}
		var first struct{ pulumi.CustomResourceState }
		if err := ctx.RegisterResource("test:index:First", "first", nil, &first); err != nil {
			return err
		}
		args.DependsOn = []pulumi.Resource{&first}
		edge, err := New(ctx, "edge", args, pulumi.Providers(provider))
		if err != nil {
			return err
		}
		return pulumitest.Probe(ctx, "outputs", pulumi.Map{
			"id": edge.TunnelID, "token": edge.TunnelToken, "fingerprint": edge.TokenFingerprint,
		})
	}, func(res pulumitest.Resource) map[string]any {
		if res.Type == "random:index/randomPassword:RandomPassword" {
			return map[string]any{"result": testPassword}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

// children are the names of what an Edge made of valid registers. Renaming one
// replaces it on every site: give it an alias, and that a test.
var children = []string{
	"edge-access-admin.example.org",
	"edge-access-example.org/ghost",
	"edge-access-example.org/ghost/a.p-i",
	"edge-record-_wildcard.example.org",
	"edge-record-_wildcard.lab.example.org",
	"edge-record-admin.example.org",
	"edge-record-example.org",
	"edge-record-notes.example.org",
	"edge-team",
	"edge-tunnel",
	"edge-tunnel-config",
	"edge-tunnel-secret",
}

func TestChildren(t *testing.T) {
	recording := run(t, valid())
	want := append([]string{"cloudflare", "first"}, children...)
	slices.Sort(want)
	if got := recording.Names(); !slices.Equal(got, want) {
		t.Errorf("resources are\n%q, want\n%q", got, want)
	}
	for _, name := range children {
		child := recording.Get(t, name)
		if child.Parent != "edge" {
			t.Errorf("%s has the parent %q, want edge", name, child.Parent)
		}
		if strings.HasPrefix(child.Type, "cloudflare:") && child.Provider != "cloudflare" {
			t.Errorf("%s uses the provider %q, want the one given", name, child.Provider)
		}
		if !slices.Contains(child.DependsOn, "first") && !reaches(t, recording, name, "first") {
			t.Errorf("%s does not wait for DependsOn", name)
		}
	}
	if got := recording.Get(t, "edge").Type; got != "tinyrack:edge:Edge" {
		t.Errorf("component is a %s", got)
	}
	if recording.OutputsRegistered != 2 {
		t.Errorf("outputs registered %d times, want 2: the component's and the stack's", recording.OutputsRegistered)
	}
}

func TestInputs(t *testing.T) {
	recording := run(t, valid())
	account, zone := valid().AccountID, valid().ZoneID
	record := func(hostname string) map[string]any {
		return map[string]any{
			"zoneId": zone, "name": hostname, "type": "CNAME", "content": "edge-tunnel-id.cfargotunnel.com",
			"proxied": true, "ttl": 1.0, "comment": "managed by Pulumi",
		}
	}
	for name, want := range map[string]map[string]any{
		"edge-tunnel-secret": {"length": 48.0, "special": false},
		"edge-tunnel": {
			"accountId": account, "name": "site", "configSrc": "cloudflare", "tunnelSecret": testSecret,
		},
		"edge-tunnel-config": {
			"accountId": account, "tunnelId": "edge-tunnel-id", "config": map[string]any{"ingresses": []any{
				map[string]any{"hostname": "admin.example.org", "service": "http://longhorn.longhorn-system"},
				map[string]any{
					"hostname": "example.org", "path": `^/ghost/a\.p-i(/|$)`, "service": "https://ghost.ghost-system:444",
				},
				map[string]any{"hostname": "example.org", "path": "^/ghost(/|$)", "service": "https://ghost.ghost-system:443"},
				map[string]any{"hostname": "example.org", "service": "https://ghost.ghost-system:443"},
				map[string]any{"hostname": "notes.example.org", "service": "http://memos.memos-system:5230"},
				map[string]any{"hostname": "*.lab.example.org", "service": "http_status:503"},
				map[string]any{"hostname": "*.example.org", "service": "http://fallback.web:80"},
				map[string]any{"service": "http_status:404"},
			}},
		},
		"edge-record-example.org":           record("example.org"),
		"edge-record-admin.example.org":     record("admin.example.org"),
		"edge-record-_wildcard.example.org": record("*.example.org"),
		"edge-team": {
			"accountId": account, "name": "site team", "decision": "allow", "sessionDuration": "24h",
			"includes": []any{
				map[string]any{"email": map[string]any{"email": "alice@example.org"}},
				map[string]any{"email": map[string]any{"email": "bob@example.org"}},
			},
		},
		"edge-access-example.org/ghost": {
			"accountId": account, "name": "example.org/ghost", "domain": "example.org/ghost", "type": "self_hosted",
			"sessionDuration": "24h", "appLauncherVisible": true, "httpOnlyCookieAttribute": true,
			"policies": []any{map[string]any{"id": "edge-team-id", "precedence": 1.0}},
		},
		"edge-access-admin.example.org": {
			"accountId": account, "name": "admin.example.org", "domain": "admin.example.org", "type": "self_hosted",
			"sessionDuration": "24h", "appLauncherVisible": true, "httpOnlyCookieAttribute": true,
			"policies": []any{map[string]any{"id": "edge-team-id", "precedence": 1.0}},
		},
	} {
		if got := recording.Get(t, name).Plain(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s has the inputs\n%v, want\n%v", name, got, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	recording := run(t, valid())
	want := map[string][]string{"edge-tunnel": {"tunnelSecret"}, "cloudflare": {"apiToken"}}
	for _, name := range recording.Names() {
		if got := recording.Get(t, name).Secrets(); !slices.Equal(got, want[name]) {
			t.Errorf("%s has the secret inputs %q, want %q", name, got, want[name])
		}
	}
	outputs := recording.Get(t, "outputs")
	if got := outputs.Secrets(); !slices.Equal(got, []string{"token"}) {
		t.Errorf("secret outputs are %q, want only the token", got)
	}
	token, err := base64.StdEncoding.DecodeString(outputs.Plain()["token"].(string))
	if err != nil {
		t.Fatal(err)
	}
	var parts map[string]string
	if err := json.Unmarshal(token, &parts); err != nil {
		t.Fatal(err)
	}
	login := map[string]string{"a": valid().AccountID, "t": "edge-tunnel-id", "s": testSecret}
	if !reflect.DeepEqual(parts, login) {
		t.Errorf("token holds %v, want %v", parts, want)
	}
	sum := sha256.Sum256([]byte(outputs.Plain()["token"].(string)))
	if got, want := outputs.Plain()["fingerprint"], hex.EncodeToString(sum[:])[:16]; got != want {
		t.Errorf("the token's fingerprint is %v, want %s", got, want)
	}
}

// Deletion runs against the dependencies: what depends on a resource goes first.
func TestOrder(t *testing.T) {
	recording := run(t, valid())
	for _, name := range children {
		if name == "edge-tunnel" || name == "edge-tunnel-secret" || name == "edge-team" ||
			strings.HasPrefix(name, "edge-access") {
			continue
		}
		if !reaches(t, recording, name, "edge-tunnel") {
			t.Errorf("%s would outlive the tunnel", name)
		}
	}
	for _, name := range []string{"edge-tunnel-config", "edge-record-admin.example.org"} {
		if !reaches(t, recording, name, "edge-access-admin.example.org") {
			t.Errorf("%s would open the hostname before its login exists", name)
		}
	}
	if !reaches(t, recording, "edge-record-notes.example.org", "edge-tunnel-config") {
		t.Error("the record would lead to a tunnel that does not know it yet")
	}
	for _, name := range []string{"edge-tunnel", "edge-record-notes.example.org", "edge-access-admin.example.org"} {
		if !recording.Get(t, name).RPC.GetDeleteBeforeReplace() {
			t.Errorf("%s would be created twice under one name when replaced", name)
		}
	}
}

func TestAddingAHostname(t *testing.T) {
	before := run(t, valid())
	args := valid()
	forum := Route{Hostname: "forum.example.org", Service: "http://discourse.discourse-system:80", Access: Public}
	args.Ingress = append([]Route{forum}, args.Ingress...)
	after := run(t, args)

	var changed []string
	for _, name := range after.Names() {
		if !slices.Contains(before.Names(), name) {
			changed = append(changed, "+"+name)
		} else if !reflect.DeepEqual(before.Get(t, name).Inputs, after.Get(t, name).Inputs) {
			changed = append(changed, "~"+name)
		}
	}
	want := []string{"+edge-record-forum.example.org", "~edge-tunnel-config"}
	if !slices.Equal(changed, want) || len(after.Names()) != len(before.Names())+1 {
		t.Errorf("changes are %q, want %q", changed, want)
	}
}

func TestWithoutATeam(t *testing.T) {
	args := valid()
	args.Ingress, args.AccessEmails = args.Ingress[:3], nil
	for _, name := range run(t, args).Names() {
		if name == "edge-team" || strings.HasPrefix(name, "edge-access") {
			t.Errorf("%s was registered without a hostname for the team", name)
		}
	}
}

func TestRefusalRegistersNothing(t *testing.T) {
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "edge", &Args{})
		return err
	}, nil)
	if err == nil || !strings.Contains(err.Error(), `edge "edge": accountId: "" is not 32`) {
		t.Errorf("error is %v", err)
	}
	if names := recording.Names(); len(names) != 0 {
		t.Errorf("%q were registered", names)
	}
}

// reaches says whether a resource depends on another, directly or not.
func reaches(t *testing.T, recording *pulumitest.Recording, from, to string) bool {
	t.Helper()
	for _, next := range recording.Get(t, from).DependsOn {
		if next == to || reaches(t, recording, next, to) {
			return true
		}
	}
	return false
}
