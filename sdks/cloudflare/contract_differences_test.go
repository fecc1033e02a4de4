package cloudflare

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Wrong versions of the bindings, each with one mistake. The contract is worth
// something only if it sees every one of them.
type (
	misspelt      struct{ Name, Type, Ttl, ZoneID pulumi.Input } //nolint:revive // as the SDK spells it
	misspeltPlain struct {
		Name   string  `pulumi:"name"`
		Type   string  `pulumi:"type"`
		Ttl    float64 `pulumi:"ttl"` //nolint:revive // as the SDK spells it
		ZoneID *string `pulumi:"zoneID"`
	}

	mistyped struct {
		Name pulumi.StringInput
		Type pulumi.StringInput
		TTL  pulumi.IntInput
	}
	mistypedPlain struct {
		Name string `pulumi:"name"`
		Type string `pulumi:"type"`
		TTL  int    `pulumi:"ttl"`
	}

	incomplete struct {
		Name pulumi.StringInput
		TTL  pulumi.Float64Input
	}
	incompletePlain struct {
		Name string  `pulumi:"name"`
		TTL  float64 `pulumi:"ttl"`
	}

	relaxed struct {
		Name pulumi.StringPtrInput
		Type pulumi.StringInput
		TTL  pulumi.Float64Input
	}
	relaxedPlain struct {
		Name *string `pulumi:"name"`
		Type string  `pulumi:"type"`
		TTL  float64 `pulumi:"ttl"`
	}

	unbalanced struct {
		TunnelID, Source pulumi.StringInput
	}
	unbalancedPlain struct {
		TunnelID string `pulumi:"tunnelId"`
	}

	nested struct {
		Config   *nestedConfig
		TunnelID pulumi.StringInput
	}
	nestedPlain struct {
		Config   *nestedConfigPlain `pulumi:"config"`
		TunnelID string             `pulumi:"tunnelId"`
	}
	nestedConfig      struct{ Ingresses []nestedRule }
	nestedConfigPlain struct {
		Ingresses []nestedRulePlain `pulumi:"ingresses"`
	}
	nestedRule      struct{ Hostname pulumi.StringPtrInput }
	nestedRulePlain struct {
		Hostname *string `pulumi:"hostName"`
	}

	unlisted struct {
		Config   *nestedConfig
		TunnelID pulumi.StringInput
	}
	unlistedPlain struct {
		Config   nestedConfigPlain `pulumi:"config"`
		TunnelID string            `pulumi:"tunnelId"`
	}
)

func (misspelt) ElementType() reflect.Type     { return reflect.TypeFor[misspeltPlain]() }
func (mistyped) ElementType() reflect.Type     { return reflect.TypeFor[mistypedPlain]() }
func (incomplete) ElementType() reflect.Type   { return reflect.TypeFor[incompletePlain]() }
func (relaxed) ElementType() reflect.Type      { return reflect.TypeFor[relaxedPlain]() }
func (unbalanced) ElementType() reflect.Type   { return reflect.TypeFor[unbalancedPlain]() }
func (nested) ElementType() reflect.Type       { return reflect.TypeFor[nestedPlain]() }
func (nestedConfig) ElementType() reflect.Type { return reflect.TypeFor[nestedConfigPlain]() }
func (nestedRule) ElementType() reflect.Type   { return reflect.TypeFor[nestedRulePlain]() }
func (unlisted) ElementType() reflect.Type     { return reflect.TypeFor[unlistedPlain]() }

func TestContractSeesDeclarations(t *testing.T) {
	sdk := loadSDK(t)
	type wrongOutput struct {
		pulumi.CustomResourceState
		Name pulumi.StringPtrOutput `pulumi:"name"`
	}
	const config = "ZeroTrustTunnelCloudflaredConfig"
	for name, test := range map[string]struct {
		binding binding
		want    string
	}{
		"misspelt property": {binding{sdk: "DnsRecord", args: misspelt{}}, "zoneID: the SDK has no such property"},
		"other type": {binding{sdk: "DnsRecord", args: mistyped{}}, "ttl: takes a pulumi.IntInput, the SDK's " +
			"pulumi.Float64Input"},
		"missing required":       {binding{sdk: "DnsRecord", args: incomplete{}}, "type: required by the SDK"},
		"required made optional": {binding{sdk: "DnsRecord", args: relaxed{}}, "name: is a *string, the SDK's string"},
		"field without property": {binding{sdk: config, args: unbalanced{}}, "has the field Source"},
		"nested misspelt": {binding{sdk: config, args: nested{}}, "config.ingresses.hostName: the SDK has no such " +
			"property"},
		"nested required": {binding{sdk: config, args: nested{}}, "config.ingresses.service: required by the SDK"},
		"nested shape": {binding{sdk: config, args: unlisted{}}, "config: is a cloudflare.nestedConfigPlain, the " +
			"SDK's *Zero"},
		"output": {binding{sdk: "DnsRecord", args: DNSRecordArgs{}, resource: wrongOutput{}}, "output Name " +
			"(name) is a pulumi.StringPtrOutput"},
		"resource": {binding{sdk: "DnsRecrod", args: DNSRecordArgs{}}, `no "type DnsRecrodArgs struct"`},
	} {
		t.Run(name, func(t *testing.T) {
			if test.binding.resource == nil {
				test.binding.resource = struct{}{}
			}
			wantDifference(t, sdk.compare(test.binding), test.want)
		})
	}
}

func TestContractSeesWhatIsSent(t *testing.T) {
	sdk := loadSDK(t)
	all := bindings()
	tunnel := all[slices.IndexFunc(all, func(b binding) bool { return b.sdk == "ZeroTrustTunnelCloudflared" })]
	for name, test := range map[string]struct {
		spoil func(sent *pulumi.MockResourceArgs)
		want  string
	}{
		"token":   {func(sent *pulumi.MockResourceArgs) { sent.TypeToken += "x" }, "token is cloudflare:"},
		"version": {func(sent *pulumi.MockResourceArgs) { sent.RegisterRPC.Version = "" }, "plugin version sent is"},
		"secret output": {
			func(sent *pulumi.MockResourceArgs) { sent.RegisterRPC.AdditionalSecretOutputs = nil },
			"tunnelSecret: the SDK keeps",
		},
		"secret input": {func(sent *pulumi.MockResourceArgs) {
			if secret := sent.Inputs["tunnelSecret"]; secret.IsSecret() {
				sent.Inputs["tunnelSecret"] = secret.SecretValue().Element
			}
		}, "secret properties sent are []"},
		"lost property": {func(sent *pulumi.MockResourceArgs) { delete(sent.Inputs, "configSrc") }, "properties sent are"},
	} {
		t.Run(name, func(t *testing.T) {
			sent := registerAll(t)[tunnel.sdk]
			test.spoil(&sent)
			wantDifference(t, sdk.compareSent(tunnel, sent), test.want)
		})
	}
}

func wantDifference(t *testing.T, differences []string, want string) {
	t.Helper()
	if !strings.Contains(strings.Join(differences, "\n"), want) {
		t.Errorf("differences are %q, want one with %q", differences, want)
	}
}

func TestMissingArgumentsAreRefusedTogether(t *testing.T) {
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		_, err := NewDNSRecord(ctx, "www", &DNSRecordArgs{Name: pulumi.String("www")})
		if err == nil || !strings.HasSuffix(err.Error(), `"www": required arguments missing: ttl, type`) {
			t.Errorf("error is %v", err)
		}
		_, err = NewDNSRecord(ctx, "www", nil)
		if err == nil || !strings.HasSuffix(err.Error(), "missing: name, ttl, type") {
			t.Errorf("error for nil args is %v", err)
		}
		return nil
	}, pulumi.WithMocks("project", "stack", &mocks{sent: recorder{}}))
	if err != nil {
		t.Fatal(err)
	}
}
