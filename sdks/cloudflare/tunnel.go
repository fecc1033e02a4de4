package cloudflare

import (
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Tunnel is a Cloudflare tunnel (ZeroTrustTunnelCloudflared in the SDK). Its ID
// is the tunnel's UUID.
type Tunnel struct {
	pulumi.CustomResourceState
}

// TunnelArgs describes a Tunnel.
type TunnelArgs struct {
	AccountID pulumi.StringPtrInput
	// ConfigSrc is "cloudflare" for a tunnel configured through the API, "local"
	// for one configured by a file next to the connector.
	ConfigSrc pulumi.StringPtrInput
	// Name is unique among the account's tunnels.
	Name pulumi.StringInput
	// TunnelSecret is at least 32 bytes in standard base64. Secret.
	TunnelSecret pulumi.StringPtrInput
}

type tunnelArgs struct {
	AccountID    *string `pulumi:"accountId"`
	ConfigSrc    *string `pulumi:"configSrc"`
	Name         string  `pulumi:"name"`
	TunnelSecret *string `pulumi:"tunnelSecret"`
}

// ElementType makes TunnelArgs an input.
func (TunnelArgs) ElementType() reflect.Type { return reflect.TypeFor[tunnelArgs]() }

// NewTunnel registers a tunnel.
func NewTunnel(ctx *pulumi.Context, name string, args *TunnelArgs, opts ...pulumi.ResourceOption) (*Tunnel, error) {
	if args != nil {
		masked := *args
		masked.TunnelSecret = secret(args.TunnelSecret)
		args = &masked
	}
	tunnel := &Tunnel{}
	opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"tunnelSecret"}))
	token := "cloudflare:index/zeroTrustTunnelCloudflared:ZeroTrustTunnelCloudflared"
	if err := register(ctx, token, name, args, tunnel, opts); err != nil {
		return nil, err
	}
	return tunnel, nil
}
