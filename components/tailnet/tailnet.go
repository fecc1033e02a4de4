// Package tailnet manages the private network that administration happens over:
// its policy, its DNS and the key a machine joins with.
package tailnet

import (
	"fmt"

	"github.com/pulumi/pulumi-tailscale/sdk/go/tailscale"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Tailnet is the configuration of one tailnet. Its children are
//
//	<name>-policy     the policy file, whole
//	<name>-dns        the DNS preferences
//	<name>-join-key   the key a machine joins with
//
// The policy comes first: a tailnet that is refused is left untouched, and the
// tag of the key exists only in the policy.
type Tailnet struct {
	pulumi.ResourceState

	// JoinKey registers one machine, once, with the machine tag. Secret.
	JoinKey pulumi.StringOutput
}

// Args describes a Tailnet.
type Args struct {
	Policy Policy
	// OverwritePolicy replaces whatever policy the tailnet has. Without it the
	// first deployment succeeds only on a tailnet with Tailscale's default policy.
	// On any other it fails with status 412 and changes nothing: carry over what
	// must stay, then set this for one deployment. A policy edited to declare the
	// tag of the OAuth client is such an other one.
	OverwritePolicy bool
	// ResetPolicyOnDestroy puts Tailscale's default policy back on destroy, which
	// lets every device reach every other. Without it the policy stays.
	ResetPolicyOnDestroy bool
	// MagicDNS lets devices find each other by name.
	MagicDNS bool
	// API finds what an interrupted deployment created without noting it down: a
	// join key, and this very policy. Without its secret nothing is looked for,
	// and such a policy counts as another one.
	API API
	// DependsOn is waited for before anything is created. It is an argument
	// because children do not inherit a component's own dependencies.
	DependsOn []pulumi.Resource
}

// Validate returns everything that is wrong with the arguments, joined.
func (a *Args) Validate() error { return a.Policy.Validate() }

// joinKeyExpiry is in seconds: a week to finish a deployment that was
// interrupted. The key is single-use and worthless after the machine joined.
const joinKeyExpiry = 7 * 24 * 60 * 60

// New creates a Tailnet with the Tailscale provider among opts (pulumi.Providers).
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Tailnet, error) {
	if args == nil {
		args = &Args{}
	}
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("tailnet %q: %w", name, err)
	}
	tailnet := &Tailnet{}
	if err := ctx.RegisterComponentResource("tinyrack:tailnet:Tailnet", name, tailnet, opts...); err != nil {
		return nil, fmt.Errorf("tailnet %q: %w", name, err)
	}
	if err := tailnet.create(ctx, name, args); err != nil {
		return nil, fmt.Errorf("tailnet %q: %w", name, err)
	}
	return tailnet, ctx.RegisterResourceOutputs(tailnet, pulumi.Map{"joinKey": tailnet.JoinKey})
}

func (t *Tailnet) create(ctx *pulumi.Context, name string, args *Args) error {
	text, err := args.Policy.HuJSON()
	if err != nil {
		return err
	}
	policy, err := tailscale.NewAcl(ctx, name+"-policy", &tailscale.AclArgs{
		Acl:                      pulumi.String(text),
		OverwriteExistingContent: args.mayOverwrite(ctx, text),
		ResetAclOnDestroy:        pulumi.Bool(args.ResetPolicyOnDestroy),
	}, pulumi.Parent(t), pulumi.DependsOn(args.DependsOn),
		// It matters for the creation alone.
		pulumi.IgnoreChanges([]string{"overwriteExistingContent"}))
	if err != nil {
		return err
	}
	afterPolicy := pulumi.DependsOn([]pulumi.Resource{policy})
	if _, err := tailscale.NewDnsPreferences(ctx, name+"-dns", &tailscale.DnsPreferencesArgs{
		MagicDns: pulumi.Bool(args.MagicDNS),
	}, pulumi.Parent(t), afterPolicy); err != nil {
		return err
	}
	description := keyDescription(ctx.Project(), ctx.Stack())
	leftover, err := args.API.revokeLeftover(ctx, name, description)
	if err != nil {
		return err
	}
	key, err := tailscale.NewTailnetKey(ctx, name+"-join-key", &tailscale.TailnetKeyArgs{
		Description:   pulumi.String(description),
		Preauthorized: pulumi.Bool(true),
		Reusable:      pulumi.Bool(false),
		// An ephemeral machine is forgotten as soon as it is offline.
		Ephemeral: pulumi.Bool(false),
		Expiry:    pulumi.Int(joinKeyExpiry),
		Tags:      pulumi.StringArray{pulumi.String(args.Policy.MachineTag)},
		// The key is spent after the first join. Recreating it would make every
		// later deployment replace it for a machine that joined long ago.
		RecreateIfInvalid: pulumi.String("never"),
	}, pulumi.Parent(t), afterPolicy, leftover,
		// A replacement must not take its predecessor for a leftover: what the
		// engine deletes, the state knows to be gone.
		pulumi.DeleteBeforeReplace(true))
	if err != nil {
		return err
	}
	t.JoinKey = pulumi.ToSecret(key.Key).(pulumi.StringOutput)
	return nil
}
