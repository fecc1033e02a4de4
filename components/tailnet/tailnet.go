// Package tailnet manages the private network that administration happens over: its policy, its DNS, one key and one
// device for each host.
//
// Credentials come in, keys go out. It does not join a machine: it makes sure that the name is free before the key is
// there, and removes the device after the machine was undone.
package tailnet

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-command/sdk/go/command/local"
	"github.com/pulumi/pulumi-tailscale/sdk/go/tailscale"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/tailnet/internal/cloud"
)

// Tailnet is the configuration of one tailnet. Its children are
//
//	<name>-policy           the policy file, whole
//	<name>-dns              MagicDNS, where it is asked for
//	<name>-device-<host>    the host's place in the list of devices, which is cleared when it is deleted
//	<name>-key-<host>       the key the host joins with
//
// in this order: a tailnet that is refused is left untouched, the tags of a key exist only in the policy, and a device
// is removed after whatever needed the key is gone.
type Tailnet struct {
	pulumi.ResourceState

	// Keys register one host each, once, with the tags of its roles. By the host's name. Secret.
	Keys map[string]pulumi.StringOutput
	// Devices are the hosts' places in the list of devices, by the host's name. Whatever undoes a host depends on it: the
	// place is cleared once the host has logged out.
	Devices map[string]pulumi.Resource
	// Done is what waits for the tailnet without needing a key: the policy was accepted, and names resolve.
	Done []pulumi.Resource
}

// API is the access to the tailnet, the same that the provider has.
type API = cloud.API

// Args describes a Tailnet.
type Args struct {
	Policy
	// OverwritePolicy replaces whatever policy the tailnet has. Without it the first deployment succeeds only on a tailnet
	// that has Tailscale's default policy, apart from the tags that this program declares, or this very policy.
	OverwritePolicy bool
	// ResetPolicyOnDestroy puts Tailscale's default policy back on destroy, which lets every device reach every other.
	// Without it the policy stays.
	ResetPolicyOnDestroy bool
	// MagicDNS lets devices find each other by name. It is switched on and never off, not even on destroy: the rest of the
	// tailnet may depend on it. Without it the setting is not touched.
	MagicDNS bool
	// Domain is the MagicDNS suffix: a host is <name>.<domain>.
	Domain string
	// API looks at the policy, at orphaned keys and at the names of devices. Without its secret, which only a preview may
	// lack, nothing is looked for.
	API API
	// DependsOn is waited for before anything is created. It is an argument because children do not inherit a
	// component's own dependencies.
	DependsOn []pulumi.Resource
}

var (
	domainForm  = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	tailnetForm = regexp.MustCompile(`^[A-Za-z0-9@._+-]+$`)
)

// Validate returns everything that is wrong with the settings of the tailnet, joined; ValidateHost does the hosts.
func (a *Args) Validate() error {
	problems := []error{checkName(a.API.Tailnet), checkDomain(a.Domain), a.Policy.Validate()}
	return errors.Join(problems...)
}

func checkName(name string) error {
	switch {
	case strings.HasSuffix(strings.ToLower(name), ".ts.net"):
		return fmt.Errorf("name: %q is the domain of the tailnet's devices: the Tailscale API would not find it: "+
			"write - for the tailnet of the OAuth client, and this text as domain", name)
	case !tailnetForm.MatchString(name):
		return fmt.Errorf("name: %q is not a tailnet: the Tailscale API would not find it: "+
			"write - for the tailnet of the OAuth client, or its ID or organization from the admin console", name)
	}
	return nil
}

func checkDomain(domain string) error {
	if len(domain) > 253 || !domainForm.MatchString(domain) {
		return fmt.Errorf("domain: %q is not a domain: the machines could not be found by name: "+
			"copy the tailnet's DNS name from the admin console, such as example.ts.net", domain)
	}
	return nil
}

// validateAll adds the hosts.
func (a *Args) validateAll() error {
	problems := []error{a.Validate()}
	for i, host := range a.Hosts {
		if err := a.ValidateHost(host); err != nil {
			for _, line := range strings.Split(err.Error(), "\n") {
				problems = append(problems, fmt.Errorf("hosts.%s.%s", host.Name, line))
			}
		}
		if slices.ContainsFunc(a.Hosts[:i], func(other Host) bool { return other.Name == host.Name }) {
			problems = append(problems, fmt.Errorf("hosts.%s: named twice: one would take the other's name: rename one",
				host.Name))
		}
	}
	return errors.Join(problems...)
}

// keyExpiry is in seconds: a week to finish a deployment that was interrupted. The key is single-use and worthless
// after the machine joined.
const keyExpiry = 7 * 24 * 60 * 60

// forget removes the device. It runs in the directory of the program, and gets its access on standard input.
const forget = "go run ./components/tailnet/forget"

// New creates a Tailnet with the Tailscale provider among opts (pulumi.Providers).
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Tailnet, error) {
	if args == nil {
		args = &Args{}
	}
	if err := args.validateAll(); err != nil {
		return nil, fmt.Errorf("tailnet %q: %w", name, err)
	}
	tailnet := &Tailnet{Keys: map[string]pulumi.StringOutput{}, Devices: map[string]pulumi.Resource{}}
	if err := ctx.RegisterComponentResource("tinyrack:tailnet:Tailnet", name, tailnet, opts...); err != nil {
		return nil, fmt.Errorf("tailnet %q: %w", name, err)
	}
	if err := tailnet.create(ctx, name, args); err != nil {
		return nil, fmt.Errorf("tailnet %q: %w", name, err)
	}
	keys := pulumi.StringMap{}
	for host, key := range tailnet.Keys {
		keys[host] = key
	}
	return tailnet, ctx.RegisterResourceOutputs(tailnet, pulumi.Map{"keys": keys})
}

func (t *Tailnet) create(ctx *pulumi.Context, name string, args *Args) error {
	if err := t.createPolicy(ctx, name, args); err != nil {
		return err
	}
	if args.MagicDNS {
		dns, err := tailscale.NewDnsPreferences(ctx, name+"-dns", &tailscale.DnsPreferencesArgs{
			MagicDns: pulumi.Bool(true),
		}, pulumi.Parent(t), pulumi.DependsOn(t.Done), pulumi.RetainOnDelete(true))
		if err != nil {
			return err
		}
		t.Done = append(t.Done, dns)
	}
	for _, host := range args.Hosts {
		if err := t.createHost(ctx, name, args, host); err != nil {
			return fmt.Errorf("host %s: %w", host.Name, err)
		}
	}
	return nil
}

func (t *Tailnet) createPolicy(ctx *pulumi.Context, name string, args *Args) error {
	text, err := args.HuJSON()
	if err != nil {
		return err
	}
	refusal, err := args.beforeCreate(ctx, args.policyHooks(name, text)...)
	if err != nil {
		return err
	}
	policy, err := tailscale.NewAcl(ctx, name+"-policy", &tailscale.AclArgs{
		Acl:                      pulumi.String(text),
		OverwriteExistingContent: args.mayOverwrite(ctx, text),
		ResetAclOnDestroy:        pulumi.Bool(args.ResetPolicyOnDestroy),
	}, pulumi.Parent(t), pulumi.DependsOn(args.DependsOn), refusal,
		// It matters for the creation alone.
		pulumi.IgnoreChanges([]string{"overwriteExistingContent"}))
	if err != nil {
		return err
	}
	t.Done = []pulumi.Resource{policy}
	return nil
}

// mayOverwrite tells whether the policy may be replaced at its creation. A preview does not look.
func (a *Args) mayOverwrite(ctx *pulumi.Context, text string) pulumi.BoolInput {
	if a.OverwritePolicy || ctx.DryRun() || a.API.ClientSecret == "" {
		return pulumi.Bool(a.OverwritePolicy)
	}
	// As late as the policy itself, so that little can change in between.
	var before []any
	for _, resource := range a.DependsOn {
		before = append(before, resource.URN())
	}
	return pulumi.All(before...).ApplyT(func([]any) bool {
		// A policy that cannot be read may not be overwritten; the provider meets the same obstacle and says what it is.
		found, err := a.API.Policy(ctx.Context())
		return err == nil && a.replaceable(found, text)
	}).(pulumi.BoolOutput)
}

// checkPolicy explains before the creation what the provider would report as status 412.
func (a *Args) checkPolicy(ctx context.Context, text string) error {
	found, err := a.API.Policy(ctx)
	if err != nil {
		return fmt.Errorf("reading the policy that the tailnet has: %w", err)
	}
	if !a.replaceable(found, text) {
		return fmt.Errorf("overwritePolicy: false: the tailnet has a policy of its own (%s), which would be lost: "+
			"move what must stay into the file of policyFile, then set overwritePolicy: true for one deployment",
			sections(found))
	}
	return nil
}

// createHost registers what the tailnet has of one host.
func (t *Tailnet) createHost(ctx *pulumi.Context, name string, args *Args, host Host) error {
	machine := cloud.Machine{Name: host.Name, Domain: args.Domain, RoleTags: args.roleTags()}
	request, err := json.Marshal(cloud.Request{API: args.API, Machine: machine})
	if err != nil {
		return err
	}
	// Nothing runs at its creation: a device is there once the machine has joined.
	device, err := local.NewCommand(ctx, name+"-device-"+host.Name, &local.CommandArgs{
		Delete: pulumi.String(forget),
		Stdin:  pulumi.ToSecret(pulumi.String(request)).(pulumi.StringOutput),
		// There is no previous output.
		AddPreviousOutputInEnv: pulumi.Bool(false),
	}, pulumi.Parent(t), pulumi.DependsOn(t.Done))
	if err != nil {
		return err
	}

	t.Devices[host.Name] = device

	tags := args.Tags(host)
	description := keyDescription(ctx.Project(), ctx.Stack(), host.Name)
	say := func(text string) { _ = ctx.Log.Info(text, nil) } // the engine is gone if it takes no message
	wanted := cloud.Key{Description: description, Tags: tags}
	hooks, err := args.beforeCreate(ctx, args.keyHooks(name, machine, wanted, say)...)
	if err != nil {
		return err
	}
	key, err := tailscale.NewTailnetKey(ctx, name+"-key-"+host.Name, &tailscale.TailnetKeyArgs{
		Description:   pulumi.String(description),
		Preauthorized: pulumi.Bool(true),
		Reusable:      pulumi.Bool(false),
		// An ephemeral machine is forgotten as soon as it is offline.
		Ephemeral: pulumi.Bool(false),
		Expiry:    pulumi.Int(keyExpiry),
		Tags:      pulumi.ToStringArray(tags),
		// The key is spent after the first join. Recreating it would make every later deployment replace it for a machine
		// that joined long ago.
		RecreateIfInvalid: pulumi.String("never"),
	}, pulumi.Parent(t), pulumi.DependsOn([]pulumi.Resource{device}), hooks,
		// A replacement must not take its predecessor for an orphan: what the engine deletes, the state knows to be gone.
		pulumi.DeleteBeforeReplace(true))
	if err != nil {
		return err
	}
	t.Keys[host.Name] = pulumi.ToSecret(key.Key).(pulumi.StringOutput)
	return nil
}

// hook looks at the tailnet before a resource is created.
type hook struct {
	name string
	// mayFail makes an error a warning; without it the creation fails.
	mayFail bool
	look    func(context.Context) error
}

func (a *Args) policyHooks(name, text string) []hook {
	if a.OverwritePolicy {
		return nil
	}
	return []hook{{name + "-foreign-policy", false, func(ctx context.Context) error { return a.checkPolicy(ctx, text) }}}
}

func (a *Args) keyHooks(name string, machine cloud.Machine, key cloud.Key, say func(string)) []hook {
	return []hook{
		{name + "-taken-name-" + machine.Name, false, func(ctx context.Context) error {
			removed, err := a.API.TakeName(ctx, machine)
			for _, device := range removed {
				say("the name " + machine.Name + " was free to take over: removed " + device)
			}
			return err
		}},
		// Such a key is never used, and expires.
		{name + "-orphaned-key-" + machine.Name, true, func(ctx context.Context) error {
			return a.API.RevokeOrphans(ctx, key)
		}},
	}
}

// beforeCreate returns the option that runs hooks before a resource is created, and not in a preview.
func (a *Args) beforeCreate(ctx *pulumi.Context, hooks ...hook) (pulumi.ResourceOption, error) {
	if a.API.ClientSecret == "" {
		return pulumi.Composite(), nil
	}
	return bind(ctx.Context(), ctx.RegisterResourceHook, hooks)
}

type register = func(string, pulumi.ResourceHookFunction, *pulumi.ResourceHookOptions) (*pulumi.ResourceHook, error)

func bind(ctx context.Context, register register, hooks []hook) (pulumi.ResourceOption, error) {
	binding := &pulumi.ResourceHookBinding{}
	for _, hook := range hooks {
		run := func(*pulumi.ResourceHookArgs) error { return hook.look(ctx) }
		registered, err := register(hook.name, run, &pulumi.ResourceHookOptions{IgnoreErrors: hook.mayFail})
		if err != nil {
			return nil, err
		}
		binding.BeforeCreate = append(binding.BeforeCreate, registered)
	}
	return pulumi.ResourceHooks(binding), nil
}

// https://tailscale.com/api#tag/keys
const maxDescription = 50

var notInDescription = regexp.MustCompile(`[^A-Za-z0-9-]`)

// keyDescription is what a host's key is known by, in the characters and length that Tailscale takes. It names one host
// of one stack alone: names hold no space, and where something was changed or cut a hash of the whole stands for it.
func keyDescription(project, stack, host string) string {
	whole := strings.Join([]string{host, stack, project}, " ")
	readable := strings.Join([]string{
		host, notInDescription.ReplaceAllString(stack, "-"), notInDescription.ReplaceAllString(project, "-"),
	}, " ")
	if readable == whole && len(whole) <= maxDescription {
		return whole
	}
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(whole)))[:8]
	return strings.TrimRight(readable[:min(len(readable), maxDescription-1-len(hash))], " ") + " " + hash
}
