// Package edge makes the only way in from the internet: a Cloudflare tunnel, its
// rules, DNS records and logins, all from one list.
package edge

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/sdks/cloudflare"
)

// Edge is a tunnel with everything that leads to it. Its children are
//
//	<name>-tunnel-secret       the secret connectors log in with
//	<name>-tunnel              the tunnel
//	<name>-tunnel-config       its rules
//	<name>-team                the Access policy, when a hostname is for the team
//	<name>-access-<hostname>   one Access application per hostname of the team
//	<name>-record-<hostname>   one proxied CNAME per hostname
//
// where "*" in a hostname reads "_wildcard". Naming records by hostname makes a
// new one exactly one new record and one change of the rules.
//
// A hostname is open only while its login exists: records are created after the
// rules, rules after the logins, and deleted the other way round. The tunnel
// goes last. Cloudflare refuses to delete one that still has connectors, so
// whatever runs them must depend on the Edge.
type Edge struct {
	pulumi.ResourceState

	// TunnelID is the tunnel's UUID.
	TunnelID pulumi.StringOutput
	// TunnelToken is what a connector logs in with. Secret.
	TunnelToken pulumi.StringOutput
	// TokenFingerprint changes with TunnelToken and tells nothing of it: 16 hexadecimal digits of its SHA-256. Not secret.
	TokenFingerprint pulumi.StringOutput
	// Done is what later steps depend on: the tunnel with its rules and records.
	Done []pulumi.Resource
}

// New creates an Edge with the Cloudflare provider among opts (pulumi.Providers).
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Edge, error) {
	if args == nil {
		args = &Args{}
	}
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("edge %q: %w", name, err)
	}
	edge := &Edge{}
	if err := ctx.RegisterComponentResource("tinyrack:edge:Edge", name, edge, opts...); err != nil {
		return nil, fmt.Errorf("edge %q: %w", name, err)
	}
	if err := edge.create(ctx, name, args); err != nil {
		return nil, fmt.Errorf("edge %q: %w", name, err)
	}
	return edge, ctx.RegisterResourceOutputs(edge, pulumi.Map{
		"tunnelId":         edge.TunnelID,
		"tunnelToken":      edge.TunnelToken,
		"tokenFingerprint": edge.TokenFingerprint,
	})
}

func (e *Edge) create(ctx *pulumi.Context, name string, args *Args) error {
	tunnel, err := e.createTunnel(ctx, name, args)
	if err != nil {
		return err
	}
	logins, err := e.createLogins(ctx, name, args)
	if err != nil {
		return err
	}
	config, err := cloudflare.NewTunnelConfig(ctx, name+"-tunnel-config", &cloudflare.TunnelConfigArgs{
		AccountID: pulumi.String(args.AccountID),
		TunnelID:  tunnel.ID().ToStringOutput(),
		Config:    &cloudflare.TunnelConfigConfigArgs{Ingresses: ingressArgs(ingressConfig(args.Ingress))},
	}, pulumi.Parent(e), pulumi.DependsOn(logins))
	if err != nil {
		return err
	}
	e.Done = append(e.Done, tunnel, config)
	leftover, err := args.API.hooks(ctx, name, "record")
	if err != nil {
		return err
	}
	recorded := map[string]bool{}
	for _, route := range args.Ingress {
		if recorded[route.Hostname] {
			continue
		}
		recorded[route.Hostname] = true
		record, err := cloudflare.NewDNSRecord(ctx, name+"-record-"+label(route.Hostname), &cloudflare.DNSRecordArgs{
			ZoneID:  pulumi.String(args.ZoneID),
			Name:    pulumi.String(route.Hostname),
			Type:    pulumi.String("CNAME"),
			Content: pulumi.Sprintf("%s.cfargotunnel.com", tunnel.ID()),
			Proxied: pulumi.Bool(true),
			TTL:     pulumi.Float64(1),
			Comment: pulumi.String("managed by Pulumi"),
		}, pulumi.Parent(e), pulumi.DependsOn([]pulumi.Resource{config}), leftover,
			// Cloudflare refuses a second CNAME of the same name (81053).
			pulumi.DeleteBeforeReplace(true))
		if err != nil {
			return err
		}
		e.Done = append(e.Done, record)
	}
	return nil
}

func (e *Edge) createTunnel(ctx *pulumi.Context, name string, args *Args) (*cloudflare.Tunnel, error) {
	// Not RandomBytes: the provider makes its value, in clear, the resource's ID.
	// 48 letters and digits are 285 bits; Cloudflare wants at least 32 bytes.
	password, err := random.NewRandomPassword(ctx, name+"-tunnel-secret", &random.RandomPasswordArgs{
		Length:  pulumi.Int(48),
		Special: pulumi.Bool(false),
	}, pulumi.Parent(e), pulumi.DependsOn(args.DependsOn))
	if err != nil {
		return nil, err
	}
	secret := pulumi.ToSecret(password.Result.ApplyT(func(text string) string {
		return base64.StdEncoding.EncodeToString([]byte(text))
	})).(pulumi.StringOutput)
	leftover, err := args.API.hooks(ctx, name, "tunnel")
	if err != nil {
		return nil, err
	}
	tunnel, err := cloudflare.NewTunnel(ctx, name+"-tunnel", &cloudflare.TunnelArgs{
		AccountID:    pulumi.String(args.AccountID),
		Name:         pulumi.String(args.TunnelName),
		ConfigSrc:    pulumi.String("cloudflare"),
		TunnelSecret: secret,
	}, pulumi.Parent(e), pulumi.DependsOn(args.DependsOn), pulumi.Protect(args.Protect), leftover,
		// Two tunnels of one account cannot have the same name (409).
		pulumi.DeleteBeforeReplace(true))
	if err != nil {
		return nil, err
	}
	e.TunnelID = tunnel.ID().ToStringOutput()
	e.TunnelToken = pulumi.All(tunnel.ID(), secret).ApplyT(func(parts []any) (string, error) {
		return connectorToken(args.AccountID, string(parts[0].(pulumi.ID)), parts[1].(string))
	}).(pulumi.StringOutput)
	e.TokenFingerprint = pulumi.Unsecret(e.TunnelToken.ApplyT(fingerprint)).(pulumi.StringOutput)
	return tunnel, nil
}

// sessionDuration is how long a login of the team lasts.
const sessionDuration = "24h"

// createLogins puts the team's hostnames behind Access and returns the
// applications.
func (e *Edge) createLogins(ctx *pulumi.Context, name string, args *Args) ([]pulumi.Resource, error) {
	var logins []pulumi.Resource
	var policy *cloudflare.AccessPolicy
	var leftover pulumi.ResourceOption
	for _, route := range args.Ingress {
		if route.Access != Team {
			continue
		}
		if policy == nil {
			var err error
			if policy, err = e.createPolicy(ctx, name, args); err != nil {
				return nil, err
			}
			if leftover, err = args.API.hooks(ctx, name, "login"); err != nil {
				return nil, err
			}
		}
		child := name + "-access-" + label(route.at())
		login, err := cloudflare.NewAccessApplication(ctx, child, &cloudflare.AccessApplicationArgs{
			AccountID:               pulumi.String(args.AccountID),
			Name:                    pulumi.String(route.at()),
			Domain:                  pulumi.String(route.at()),
			Type:                    pulumi.String("self_hosted"),
			SessionDuration:         pulumi.String(sessionDuration),
			AppLauncherVisible:      pulumi.Bool(true),
			HTTPOnlyCookieAttribute: pulumi.Bool(true),
			Policies: []cloudflare.AccessApplicationPolicyArgs{
				{ID: policy.ID().ToStringOutput(), Precedence: pulumi.Int(1)},
			},
		}, pulumi.Parent(e), leftover,
			// Two applications cannot guard one hostname. A replacement also must not
			// take its predecessor for a leftover: what the engine deletes, the state
			// knows to be gone.
			pulumi.DeleteBeforeReplace(true))
		if err != nil {
			return nil, err
		}
		logins = append(logins, login)
	}
	return logins, nil
}

func (e *Edge) createPolicy(ctx *pulumi.Context, name string, args *Args) (*cloudflare.AccessPolicy, error) {
	var includes []cloudflare.AccessIncludeArgs
	for _, email := range args.AccessEmails {
		includes = append(includes, cloudflare.AccessIncludeArgs{
			Email: &cloudflare.AccessEmailArgs{Email: pulumi.String(email)},
		})
	}
	leftover, err := args.API.hooks(ctx, name, "policy")
	if err != nil {
		return nil, err
	}
	return cloudflare.NewAccessPolicy(ctx, name+"-team", &cloudflare.AccessPolicyArgs{
		AccountID:       pulumi.String(args.AccountID),
		Name:            pulumi.String(args.TunnelName + " team"),
		Decision:        pulumi.String("allow"),
		Includes:        includes,
		SessionDuration: pulumi.String(sessionDuration),
	}, pulumi.Parent(e), pulumi.DependsOn(args.DependsOn), leftover)
}

// label is a hostname as part of a resource's name. A host name has no
// underscore, so no two hostnames share a label; a "*" would be a pattern to
// "pulumi up --target".
func label(hostname string) string { return strings.Replace(hostname, "*", "_wildcard", 1) }
