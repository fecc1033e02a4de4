package tailnet

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi-tailscale/sdk/go/tailscale"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/tailnet/internal/cloud"
	"github.com/tinyrack-net/infrastructure/components/tailnet/internal/cloud/cloudtest"
)

// site returns arguments that nothing is wrong with, for two hosts. Without a secret nothing asks the API.
func site() *Args {
	policy := valid()
	policy.Hosts = []Host{
		{Name: "one", Roles: []Role{Storage, Server}, SSHPort: 22}, {Name: "two", Roles: []Role{Agent}, SSHPort: 22},
	}
	return &Args{Policy: policy, Domain: "example.ts.net", MagicDNS: true, API: API{Tailnet: "-"}}
}

// asking lets the arguments ask a tailnet.
func asking(t *testing.T, args *Args) *cloudtest.Server {
	t.Helper()
	server := cloudtest.New(t)
	args.API = API{ClientID: cloudtest.ClientID, ClientSecret: cloudtest.Secret, Tailnet: "-", BaseURL: server.URL}
	return server
}

// deploy creates a Tailnet named "tailnet" the way a stack does.
func deploy(t *testing.T, args *Args) *pulumitest.Recording {
	t.Helper()
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		provider, err := tailscale.NewProvider(ctx, "tailscale", &tailscale.ProviderArgs{})
		if err != nil {
			return err
		}
		var first struct{ pulumi.CustomResourceState }
		if err := ctx.RegisterResource("test:index:First", "first", nil, &first); err != nil {
			return err
		}
		args.DependsOn = []pulumi.Resource{&first}
		tailnet, err := New(ctx, "tailnet", args, pulumi.Providers(provider))
		if err != nil {
			return err
		}
		var done struct{ pulumi.CustomResourceState }
		if err := ctx.RegisterResource("test:index:Probe", "done", nil, &done, pulumi.DependsOn(tailnet.Done)); err != nil {
			return err
		}
		keys := pulumi.Map{}
		for host, key := range tailnet.Keys {
			keys[host] = key
		}
		return pulumitest.Probe(ctx, "keys", keys)
	}, func(res pulumitest.Resource) map[string]any {
		if res.Type == "tailscale:index/tailnetKey:TailnetKey" {
			return map[string]any{"key": "canary-" + res.Name}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

func TestChildren(t *testing.T) {
	args := site()
	asking(t, args)
	recording := deploy(t, args)
	type child struct {
		kind, provider string
		dependsOn      []string
		hooks          []string
		retained       bool
	}
	const key, device = "tailscale:index/tailnetKey:TailnetKey", "command:local:Command"
	want := map[string]child{
		"tailnet-policy": {
			"tailscale:index/acl:Acl",
			"tailscale",
			[]string{"first"},
			[]string{"tailnet-foreign-policy"},
			false,
		},
		"tailnet-dns": {
			"tailscale:index/dnsPreferences:DnsPreferences",
			"tailscale",
			[]string{"tailnet-policy"},
			nil,
			true,
		},
		"tailnet-device-one": {device, "", []string{"tailnet-dns", "tailnet-policy"}, nil, false},
		"tailnet-device-two": {device, "", []string{"tailnet-dns", "tailnet-policy"}, nil, false},
		"tailnet-key-one": {
			key,
			"tailscale",
			[]string{"tailnet-device-one"},
			[]string{"tailnet-taken-name-one", "tailnet-orphaned-key-one"},
			false,
		},
		"tailnet-key-two": {
			key,
			"tailscale",
			[]string{"tailnet-device-two"},
			[]string{"tailnet-taken-name-two", "tailnet-orphaned-key-two"},
			false,
		},
	}
	names := slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(want)), "first", "tailscale")))
	if got := recording.Names(); !slices.Equal(got, names) {
		t.Errorf("resources are %q, want %q", got, names)
	}
	for name, want := range want {
		res := recording.Get(t, name)
		if res.Parent != "tailnet" {
			t.Errorf("%s has the parent %q", name, res.Parent)
		}
		got := child{res.Type, res.Provider, res.DependsOn, res.RPC.GetHooks().GetBeforeCreate(), res.RPC.GetRetainOnDelete()}
		// The provider comes by itself.
		got.dependsOn = slices.DeleteFunc(slices.Clone(got.dependsOn), func(n string) bool { return n == "tailscale" })
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is\n%+v, want\n%+v", name, got, want)
		}
		// A hook at the deletion would make the engine refuse to destroy without the program.
		if hooks := res.RPC.GetHooks(); len(hooks.GetBeforeDelete())+len(hooks.GetAfterDelete()) > 0 {
			t.Errorf("%s has the hooks %v", name, hooks)
		}
		if isKey := want.kind == key; res.RPC.GetDeleteBeforeReplace() != isKey {
			t.Errorf("%s is deleted before it is replaced: %t", name, !isKey)
		}
	}
	ignored := recording.Get(t, "tailnet-policy").RPC.GetIgnoreChanges()
	if !slices.Equal(ignored, []string{"overwriteExistingContent"}) {
		t.Errorf("changes of %q are ignored", ignored)
	}
	if got := recording.Get(t, "done").DependsOn; !slices.Equal(got, []string{"tailnet-dns", "tailnet-policy"}) {
		t.Errorf("what waits for the tailnet depends on %q", got)
	}
	if got := recording.Get(t, "tailnet").Type; got != "tinyrack:tailnet:Tailnet" {
		t.Errorf("component is a %s", got)
	}
	if recording.OutputsRegistered != 2 {
		t.Errorf("outputs registered %d times, want 2: the component's and the stack's", recording.OutputsRegistered)
	}
}

func TestInputs(t *testing.T) {
	for name, test := range map[string]struct {
		overwrite, reset bool
	}{"nothing asked for": {}, "overwrite": {overwrite: true}, "reset": {reset: true}} {
		t.Run(name, func(t *testing.T) {
			args := site()
			server := asking(t, args)
			server.Policy = `{"acls": [], "groups": {"group:theirs": []}}`
			args.OverwritePolicy, args.ResetPolicyOnDestroy = test.overwrite, test.reset
			recording := deploy(t, args)
			policy, err := args.HuJSON()
			if err != nil {
				t.Fatal(err)
			}
			key := func(host string, tags ...any) map[string]any {
				return map[string]any{
					"description": host + " stack project", "preauthorized": true, "reusable": false, "ephemeral": false,
					"expiry": 604800.0, "recreateIfInvalid": "never", "tags": tags,
				}
			}
			for name, want := range map[string]map[string]any{
				"tailnet-policy": {
					"acl":                      policy,
					"overwriteExistingContent": test.overwrite,
					"resetAclOnDestroy":        test.reset,
				},
				"tailnet-dns":     {"magicDns": true},
				"tailnet-key-one": key("one", "tag:tinyrack-server", "tag:tinyrack-storage"),
				"tailnet-key-two": key("two", "tag:tinyrack-agent"),
			} {
				if got := recording.Get(t, name).Plain(); !reflect.DeepEqual(got, want) {
					t.Errorf("%s has the inputs\n%v, want\n%v", name, got, want)
				}
			}
			for _, host := range []string{"one", "two"} {
				device := recording.Get(t, "tailnet-device-"+host)
				inputs := device.Plain()
				var request map[string]any
				if err := json.Unmarshal([]byte(inputs["stdin"].(string)), &request); err != nil {
					t.Fatal(err)
				}
				if want := map[string]any{
					"API": map[string]any{
						"ClientID": "id", "ClientSecret": cloudtest.Secret, "Tailnet": "-", "BaseURL": server.URL,
					},
					"Machine": map[string]any{
						"Name": host, "Domain": "example.ts.net",
						"RoleTags": []any{"tag:tinyrack-server", "tag:tinyrack-agent", "tag:tinyrack-storage"},
					},
				}; !reflect.DeepEqual(request, want) {
					t.Errorf("%s forgets\n%v, want\n%v", host, request, want)
				}
				delete(inputs, "stdin")
				if want := map[string]any{
					"delete": "go run ./components/tailnet/forget", "addPreviousOutputInEnv": false,
				}; !reflect.DeepEqual(inputs, want) {
					t.Errorf("the device of %s has the inputs %v, want %v", host, inputs, want)
				}
				if got := device.Secrets(); !slices.Equal(got, []string{"stdin"}) {
					t.Errorf("secret inputs of the device are %q", got)
				}
			}
		})
	}
}

func TestWithoutMagicDNSTheSettingIsNotTouched(t *testing.T) {
	args := site()
	args.MagicDNS = false
	if names := deploy(t, args).Names(); slices.Contains(names, "tailnet-dns") {
		t.Errorf("resources are %q", names)
	}
}

// A preview of a stack without secrets cannot look, and must not promise to overwrite.
func TestWithoutAccessNothingIsAsked(t *testing.T) {
	policy := deploy(t, site()).Get(t, "tailnet-policy")
	if got := policy.Plain()["overwriteExistingContent"]; got != false {
		t.Errorf("may be overwritten: %v", got)
	}
	if hooks := policy.RPC.GetHooks().GetBeforeCreate(); len(hooks) != 0 {
		t.Errorf("hooks are %q", hooks)
	}
	if !slices.Equal(policy.DependsOn, []string{"first"}) {
		t.Errorf("the policy depends on %q", policy.DependsOn)
	}
}

func TestKeysAreSecret(t *testing.T) {
	keys := deploy(t, site()).Get(t, "keys")
	if got, want := keys.Plain(), map[string]any{
		"one": "canary-tailnet-key-one", "two": "canary-tailnet-key-two",
	}; !reflect.DeepEqual(got, want) {
		t.Errorf("keys are %v, want %v", got, want)
	}
	if got := keys.Secrets(); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("secret are %q, want both", got)
	}
}

func TestPolicyIsOverwrittenOnlyWhenNothingIsLost(t *testing.T) {
	args := site()
	ours, err := args.HuJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		policy string
		status int
		want   bool
	}{
		"this very policy": {ours, 0, true},
		"default with our tags": {
			`{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}], "tagOwners": {"tag:tinyrack": []}}`,
			0,
			true,
		},
		"another":    {`{"grants": [], "groups": {"group:theirs": []}}`, 0, false},
		"unreadable": {"", 500, false},
	} {
		t.Run(name, func(t *testing.T) {
			args := site()
			server := asking(t, args)
			server.Policy, server.Fail["GET /acl"] = test.policy, test.status
			if got := deploy(t, args).Get(t, "tailnet-policy").Plain()["overwriteExistingContent"]; got != test.want {
				t.Errorf("may be overwritten: %v, want %t", got, test.want)
			}
			err := args.checkPolicy(t.Context(), ours)
			if (err == nil) != test.want {
				t.Errorf("the refusal is %v", err)
			}
			if test.status == 0 && !test.want {
				refused(t, err, "overwritePolicy: false: the tailnet has a policy of its own (grants, groups)")
			}
		})
	}
	asked := site()
	server := asking(t, asked)
	asked.OverwritePolicy = true
	recording := deploy(t, asked)
	if requests := server.Requests(); len(requests) != 0 {
		t.Errorf("%q asked although the answer does not matter", requests)
	}
	if hooks := recording.Get(t, "tailnet-policy").RPC.GetHooks().GetBeforeCreate(); len(hooks) != 0 {
		t.Errorf("an overwrite that is wanted meets %q", hooks)
	}
}

// A refusal must fail the creation; an error about orphans must not.
func TestHooks(t *testing.T) {
	args := site()
	server := asking(t, args)
	server.Policy = `{"grants": [{"src": ["*"], "dst": ["*"], "ip": ["*"]}]}`
	server.Devices["d1"] = cloudtest.Object{"name": "one.example.ts.net", "user": "eve@example.org"}
	server.Devices["d2"] = cloudtest.Object{
		"name": "two.example.ts.net", "hostname": "two", "tags": []string{"tag:tinyrack-agent"},
		"lastSeen": "2026-11-24T10:00:00Z",
	}
	orphan := func(host, tag string) cloudtest.Object {
		return cloudtest.Object{
			"description": host + " stack project", "keyType": "auth",
			"capabilities": map[string]any{"devices": map[string]any{"create": map[string]any{"tags": []string{tag}}}},
		}
	}
	server.Keys["k1"], server.Keys["k2"] = orphan("one", "tag:tinyrack-agent"), orphan("two", "tag:tinyrack-agent")

	var said []string
	say := func(text string) { said = append(said, text) }
	hooks := args.policyHooks("tailnet", "{}")
	for _, host := range args.Hosts {
		hooks = append(hooks, args.keyHooks("tailnet", cloud.Machine{
			Name: host.Name, Domain: args.Domain, RoleTags: args.roleTags(),
		}, cloud.Key{Description: keyDescription("project", "stack", host.Name), Tags: args.Tags(host)}, say)...)
	}
	errs, options := map[string]error{}, map[string]pulumi.ResourceHookOptions{}
	if _, err := bind(t.Context(), func(
		name string, run pulumi.ResourceHookFunction, opts *pulumi.ResourceHookOptions,
	) (*pulumi.ResourceHook, error) {
		errs[name], options[name] = run(nil), *opts
		return &pulumi.ResourceHook{Name: name}, nil
	}, hooks); err != nil {
		t.Fatal(err)
	}
	if err := errs["tailnet-taken-name-one"]; err == nil || !strings.Contains(err.Error(), "is taken by device d1") {
		t.Errorf("a taken name ends in %v", err)
	}
	delete(errs, "tailnet-taken-name-one")
	for name, err := range errs {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], "two was free to take over: removed device d2") {
		t.Errorf("said %q", said)
	}
	if len(server.Devices) != 1 || server.Devices["d2"] != nil {
		t.Errorf("devices are %v, want d1 alone", server.Devices)
	}
	if len(server.Keys) != 1 || server.Keys["k2"] != nil {
		t.Errorf("keys are %v, want k1 alone, which has not the tags of its host", server.Keys)
	}
	strict, lenient := pulumi.ResourceHookOptions{}, pulumi.ResourceHookOptions{IgnoreErrors: true}
	if want := map[string]pulumi.ResourceHookOptions{
		"tailnet-foreign-policy": strict, "tailnet-taken-name-one": strict, "tailnet-taken-name-two": strict,
		"tailnet-orphaned-key-one": lenient, "tailnet-orphaned-key-two": lenient,
	}; !maps.Equal(options, want) {
		t.Errorf("hooks are %v, want %v", options, want)
	}
	if _, err := bind(t.Context(), func(
		string, pulumi.ResourceHookFunction, *pulumi.ResourceHookOptions,
	) (*pulumi.ResourceHook, error) {
		return nil, errors.New("no hooks here")
	}, hooks); err == nil {
		t.Error("a hook that cannot be registered is left out")
	}
}

func TestValidateSettings(t *testing.T) {
	if err := site().Validate(); err != nil {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		change func(*Args)
		want   string
	}{
		"no name": {func(a *Args) { a.API.Tailnet = "" }, `name: "" is not a tailnet`},
		"domain as name": {
			func(a *Args) { a.API.Tailnet = "example.TS.net" },
			`name: "example.TS.net" is the domain`,
		},
		"blank in it": {func(a *Args) { a.API.Tailnet = "my net" }, `name: "my net" is not a tailnet`},
		"a path":      {func(a *Args) { a.API.Tailnet = "a/b" }, `name: "a/b" is not a tailnet`},
		"no domain":   {func(a *Args) { a.Domain = "" }, `domain: "" is not a domain`},
		"one label":   {func(a *Args) { a.Domain = "example" }, `domain: "example" is not a domain`},
		"a dot at the end": {
			func(a *Args) { a.Domain = "example.ts.net." },
			`domain: "example.ts.net." is not a domain`,
		},
		"in capitals": {
			func(a *Args) { a.Domain = "Example.ts.net" },
			`domain: "Example.ts.net" is not a domain`,
		},
		"too long": {func(a *Args) { a.Domain = strings.Repeat("a.", 126) + "aa" }, `domain: "a.a.`},
		"policy":   {func(a *Args) { a.Admins = nil }, "admins: empty"},
	} {
		t.Run(name, func(t *testing.T) {
			args := site()
			test.change(args)
			refused(t, args.Validate(), test.want)
		})
	}
	for _, name := range []string{"-", "example.com", "me@github", "T1234CNTRL", "me.github"} {
		args := site()
		args.API.Tailnet = name
		if err := args.Validate(); err != nil {
			t.Error(err)
		}
	}
	longest := site()
	longest.Domain = strings.Repeat("a.", 126) + "a"
	if err := longest.Validate(); err != nil {
		t.Error(err)
	}
}

func TestRefusalRegistersNothing(t *testing.T) {
	twice := site()
	twice.Hosts[1].Name = "one"
	role := site()
	role.Hosts[1].Roles = []Role{"x"}
	for want, args := range map[string]*Args{
		"admins: empty":                    {},
		"managerTag: ":                     nil,
		"hosts.one: named twice":           twice,
		`hosts.two.roles[0]: "x" is not a`: role,
	} {
		recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
			_, err := New(ctx, "tailnet", args)
			return err
		}, nil)
		if err == nil || !strings.Contains(err.Error(), `tailnet "tailnet": `) || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
		if names := recording.Names(); len(names) != 0 {
			t.Errorf("%q were registered", names)
		}
	}
}

func TestKeyDescription(t *testing.T) {
	long := strings.Repeat("p", 60)
	for _, test := range []struct{ project, stack, host, want string }{
		{"infrastructure", "production", "tinyrack", "tinyrack production infrastructure"},
		{"my.project", "prod_1", "one", "one prod-1 my-project 82d5b706"},
		{long, "lab", "one", "one lab " + long[:33] + " 10b8302e"},
		{long[:42], "lab", "one", "one lab " + long[:42]}, // 50 characters
	} {
		got := keyDescription(test.project, test.stack, test.host)
		if got != test.want || len(got) > 50 {
			t.Errorf("%q (%d), want %q", got, len(got), test.want)
		}
	}
	// None of these shares its description with another.
	seen := map[string]bool{}
	for _, one := range [][3]string{
		{"p", "a", "b"},
		{"p", "b", "a"},
		{"p", "a-b", "c"},
		{"p", "a", "b-c"},
		{"p", "a.b", "c"},
		{"p", "a_b", "c"},
		{long, "lab", "one"},
		{long + "q", "lab", "one"},
		{long, "production", strings.Repeat("h", 63)},
		{long, "lab", strings.Repeat("h", 63)},
		{"x", "lab", "one"},
		{"x", "my-lab", "one"},
	} {
		text := keyDescription(one[0], one[1], one[2])
		if seen[text] {
			t.Errorf("%q stands for two keys", text)
		}
		if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789- ") != "" || len(text) > 50 {
			t.Errorf("%q is no description", text)
		}
		seen[text] = true
	}
}
