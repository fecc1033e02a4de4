package cloudflare

import (
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// TunnelConfig is the remotely managed configuration of a tunnel
// (ZeroTrustTunnelCloudflaredConfig in the SDK). The cloud has no call to delete
// it: it goes with its tunnel.
type TunnelConfig struct {
	pulumi.CustomResourceState
}

// TunnelConfigArgs describes a TunnelConfig.
type TunnelConfigArgs struct {
	AccountID pulumi.StringPtrInput
	Config    *TunnelConfigConfigArgs
	TunnelID  pulumi.StringInput
}

type tunnelConfigArgs struct {
	AccountID *string             `pulumi:"accountId"`
	Config    *tunnelConfigConfig `pulumi:"config"`
	TunnelID  string              `pulumi:"tunnelId"`
}

// ElementType makes TunnelConfigArgs an input.
func (TunnelConfigArgs) ElementType() reflect.Type { return reflect.TypeFor[tunnelConfigArgs]() }

// TunnelConfigConfigArgs is what the connectors of a tunnel are told.
type TunnelConfigConfigArgs struct {
	// Ingresses are tried in order; the first that matches a request wins.
	Ingresses []TunnelIngressArgs
}

type tunnelConfigConfig struct {
	Ingresses []tunnelIngress `pulumi:"ingresses"`
}

// ElementType makes TunnelConfigConfigArgs an input.
func (TunnelConfigConfigArgs) ElementType() reflect.Type {
	return reflect.TypeFor[tunnelConfigConfig]()
}

// TunnelIngressArgs is one rule of a tunnel.
type TunnelIngressArgs struct {
	// Hostname is a full name or *.<domain>. Without it the rule matches all
	// requests; the last rule must be such a one.
	Hostname pulumi.StringPtrInput
	// Path is a regular expression that the path of a request has to match. Without it every path does.
	Path pulumi.StringPtrInput
	// Service is the origin's URL, or http_status:<code>.
	Service pulumi.StringInput
}

type tunnelIngress struct {
	Hostname *string `pulumi:"hostname"`
	Path     *string `pulumi:"path"`
	Service  string  `pulumi:"service"`
}

// ElementType makes TunnelIngressArgs an input.
func (TunnelIngressArgs) ElementType() reflect.Type { return reflect.TypeFor[tunnelIngress]() }

// NewTunnelConfig registers the configuration of a tunnel.
func NewTunnelConfig(
	ctx *pulumi.Context, name string, args *TunnelConfigArgs, opts ...pulumi.ResourceOption,
) (*TunnelConfig, error) {
	config := &TunnelConfig{}
	token := "cloudflare:index/zeroTrustTunnelCloudflaredConfig:ZeroTrustTunnelCloudflaredConfig"
	if err := register(ctx, token, name, args, config, opts); err != nil {
		return nil, err
	}
	return config, nil
}
