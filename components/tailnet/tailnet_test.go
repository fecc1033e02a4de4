package tailnet

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi-tailscale/sdk/go/tailscale"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
)

// run creates a Tailnet named "tailnet" the way a stack does.
func run(t *testing.T, args *Args) *pulumitest.Recording {
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
		return pulumitest.Probe(ctx, "outputs", pulumi.Map{"joinKey": tailnet.JoinKey})
	}, func(res pulumitest.Resource) map[string]any {
		if res.Type == "tailscale:index/tailnetKey:TailnetKey" {
			return map[string]any{"key": "tskey-auth-test"}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

func TestChildren(t *testing.T) {
	recording := run(t, &Args{Policy: valid()})
	children := []string{"tailnet-dns", "tailnet-join-key", "tailnet-policy"}
	if got, want := recording.Names(), append([]string{"first"}, append(children, "tailscale")...); !slices.Equal(got, want) {
		t.Errorf("resources are %q, want %q", got, want)
	}
	for _, name := range children {
		child := recording.Get(t, name)
		if child.Parent != "tailnet" || child.Provider != "tailscale" {
			t.Errorf("%s has the parent %q and the provider %q", name, child.Parent, child.Provider)
		}
		// A tailnet that refuses the policy must be left untouched.
		want := "tailnet-policy"
		if name == want {
			want = "first"
		}
		if !slices.Contains(child.DependsOn, want) {
			t.Errorf("%s depends on %q, want %s among them", name, child.DependsOn, want)
		}
	}
	if got := recording.Get(t, "tailnet").Type; got != "tinyrack:tailnet:Tailnet" {
		t.Errorf("component is a %s", got)
	}
	if recording.OutputsRegistered != 2 {
		t.Errorf("outputs registered %d times, want 2: the component's and the stack's", recording.OutputsRegistered)
	}
}

func TestInputs(t *testing.T) {
	policy, err := valid().HuJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args Args
		yes  bool
	}{
		"nothing asked for": {Args{Policy: valid()}, false},
		"all asked for":     {Args{Policy: valid(), OverwritePolicy: true, ResetPolicyOnDestroy: true, MagicDNS: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			recording := run(t, &test.args)
			for name, want := range map[string]map[string]any{
				"tailnet-policy": {"acl": policy, "overwriteExistingContent": test.yes, "resetAclOnDestroy": test.yes},
				"tailnet-dns":    {"magicDns": test.yes},
				"tailnet-join-key": {
					"description": "project-stack join key", "preauthorized": true, "reusable": false, "ephemeral": false,
					"expiry": 604800.0, "recreateIfInvalid": "never", "tags": []any{"tag:k3s"},
				},
			} {
				if got := recording.Get(t, name).Plain(); !reflect.DeepEqual(got, want) {
					t.Errorf("%s has the inputs\n%v, want\n%v", name, got, want)
				}
			}
		})
	}
}

func TestJoinKeyIsSecret(t *testing.T) {
	outputs := run(t, &Args{Policy: valid()}).Get(t, "outputs")
	if got := outputs.Plain()["joinKey"]; got != "tskey-auth-test" {
		t.Errorf("join key is %v", got)
	}
	if got := outputs.Secrets(); !slices.Equal(got, []string{"joinKey"}) {
		t.Errorf("secret outputs are %q, want the join key", got)
	}
}

func TestRefusalRegistersNothing(t *testing.T) {
	for _, args := range []*Args{nil, {}} {
		recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
			_, err := New(ctx, "tailnet", args)
			return err
		}, nil)
		if err == nil || !strings.Contains(err.Error(), `tailnet "tailnet": admins: empty`) {
			t.Errorf("error is %v", err)
		}
		if names := recording.Names(); len(names) != 0 {
			t.Errorf("%q were registered", names)
		}
	}
}
