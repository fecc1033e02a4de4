package cloudflare

import (
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Provider is an explicitly configured Cloudflare provider.
type Provider struct {
	pulumi.ProviderResourceState
}

// ProviderArgs configures a Provider.
type ProviderArgs struct {
	// APIToken is secret. It needs the permissions Cloudflare Tunnel: Edit and
	// Access (apps and policies): Edit on the account, and DNS: Edit on the zone.
	APIToken pulumi.StringPtrInput
	// BaseURL replaces https://api.cloudflare.com/client/v4. Optional.
	BaseURL pulumi.StringPtrInput
}

type providerArgs struct {
	APIToken *string `pulumi:"apiToken"`
	BaseURL  *string `pulumi:"baseUrl"`
}

// ElementType makes ProviderArgs an input.
func (ProviderArgs) ElementType() reflect.Type { return reflect.TypeFor[providerArgs]() }

// NewProvider registers a provider. Without a token the plugin falls back on the
// environment.
func NewProvider(
	ctx *pulumi.Context, name string, args *ProviderArgs, opts ...pulumi.ResourceOption,
) (*Provider, error) {
	if args != nil {
		args = &ProviderArgs{APIToken: secret(args.APIToken), BaseURL: args.BaseURL}
	}
	provider := &Provider{}
	opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"apiToken"}))
	if err := register(ctx, "pulumi:providers:cloudflare", name, args, provider, opts); err != nil {
		return nil, err
	}
	return provider, nil
}
