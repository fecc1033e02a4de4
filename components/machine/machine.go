// Package machine prepares one Linux host over SSH: it looks at the host before
// anything is changed anywhere, installs packages, sets kernel parameters, joins
// the tailnet and closes the firewall.
package machine

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/script"
)

//go:embed packages.sh
var packagesScript string

//go:embed packages_delete.sh
var packagesDeleteScript string

//go:embed join.sh
var joinScript string

//go:embed leave.sh
var leaveScript string

//go:embed firewall.sh
var firewallScript string

//go:embed firewall_delete.sh
var firewallDeleteScript string

// Join is how the machine enters the tailnet.
type Join struct {
	// LoginServer is the control server's URL. Empty means Tailscale's own.
	LoginServer string
	// Hostname is the machine's name in the tailnet, a DNS label.
	Hostname string
	// Key is the join key. Secret; it travels on standard input only.
	Key pulumi.StringInput
}

// Args describes a machine.
type Args struct {
	// Connection reaches the machine over SSH. The host key is mandatory.
	Connection remote.ConnectionArgs
	// User is the login of Connection: root, or a user with passwordless sudo.
	User string
	// Packages are Debian package names, nftables apart, which the firewall brings. They are installed when missing and
	// never removed.
	Packages []string
	// Sysctl are kernel parameters by their dotted name.
	Sysctl map[string]string
	// Firewall is loaded last, once the machine is in the tailnet.
	Firewall Firewall
	// Tailnet is what the machine joins.
	Tailnet Join
	// DependsOn are resources that must be there first: the preflight's Done.
	DependsOn []pulumi.Resource
}

// Machine is a prepared host. Its children, one after the other because each
// opens an SSH connection of its own:
//
//	<name>-packages          packages, kernel parameters, what Longhorn needs
//	<name>-join              the tailnet
//	<name>-firewall          the nftables table, on trial
//	<name>-firewall-confirm  a new connection that keeps it
type Machine struct {
	pulumi.ResourceState

	// TailnetAddress is the machine's IPv4 address in the tailnet. It is known
	// once the firewall stands, so whatever uses it waits for that.
	TailnetAddress pulumi.StringOutput
	// Done is what later steps depend on: the component's last child.
	Done []pulumi.Resource
}

// New registers the machine and its children.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Machine, error) {
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}
	ruleset, err := args.Firewall.Ruleset()
	if err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}
	m := &Machine{}
	if err := ctx.RegisterComponentResource("tinyrack:machine:Machine", name, m, opts...); err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}

	packages, err := args.command(ctx, m, name+"-packages", args.DependsOn, &script.CommandArgs{
		Create: script.Text{Body: packagesScript, Vars: []script.Var{
			{Name: "PACKAGES", Value: strings.Join(args.packages(), " ")},
			{Name: "SYSCTL", Value: sysctlLines(args.Sysctl)},
		}},
		Delete: script.Text{Body: packagesDeleteScript},
	})
	if err != nil {
		return nil, err
	}
	join, err := args.command(ctx, m, name+"-join", []pulumi.Resource{packages}, &script.CommandArgs{
		Create: script.Text{Body: joinScript, Vars: []script.Var{
			{Name: "TS_HOSTNAME", Value: args.Tailnet.Hostname},
			{Name: "TS_LOGIN_SERVER", Value: args.Tailnet.LoginServer},
		}},
		Delete: script.Text{Body: leaveScript},
		Stdin:  args.Tailnet.Key.ToStringOutput().ToStringPtrOutput(),
	})
	if err != nil {
		return nil, err
	}
	firewall, err := args.command(ctx, m, name+"-firewall", []pulumi.Resource{join}, &script.CommandArgs{
		Create: args.firewallStep("apply", ruleset),
		Delete: script.Text{Body: firewallDeleteScript},
	})
	if err != nil {
		return nil, err
	}
	confirm, err := args.command(ctx, m, name+"-firewall-confirm", []pulumi.Resource{firewall}, &script.CommandArgs{
		Create: args.firewallStep("confirm", ruleset),
	})
	if err != nil {
		return nil, err
	}

	m.Done = []pulumi.Resource{confirm}
	m.TailnetAddress = pulumi.All(join.Stdout, confirm.Stdout).ApplyT(func(outputs []any) (string, error) {
		return lastLine(outputs[0].(string))
	}).(pulumi.StringOutput)
	if err := ctx.RegisterResourceOutputs(m, pulumi.Map{"tailnetAddress": m.TailnetAddress}); err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}
	return m, nil
}

func (a *Args) command(ctx *pulumi.Context, parent pulumi.Resource, name string, after []pulumi.Resource, c *script.CommandArgs) (*remote.Command, error) {
	c.Connection, c.User = a.Connection, a.User
	command, err := script.NewCommand(ctx, name, c, pulumi.Parent(parent), pulumi.DependsOn(after))
	if err != nil {
		return nil, fmt.Errorf("machine: %w", err)
	}
	return command, nil
}

func (a *Args) firewallStep(step, ruleset string) script.Text {
	return script.Text{Body: firewallScript, Vars: []script.Var{
		{Name: "STEP", Value: step},
		{Name: "TAILNET_INTERFACE", Value: a.Firewall.withDefaults().TailnetInterface},
		{Name: "RULESET", Value: ruleset},
	}}
}

var (
	packageName  = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	sysctlName   = regexp.MustCompile(`^[a-z0-9_]+([./][A-Za-z0-9_-]+)+$`)
	sysctlValue  = regexp.MustCompile(`^[A-Za-z0-9_./,:-]+( [A-Za-z0-9_./,:-]+)*$`)
	hostnameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// Validate returns every problem with the arguments.
func (a *Args) Validate() error {
	problems := []error{script.ValidateConnection(a.Connection), a.Firewall.Validate()}
	if a.User == "" {
		problems = append(problems, errors.New("user: missing: nothing can be run over SSH: set root or a user with passwordless sudo"))
	}
	for _, p := range a.Packages {
		if !packageName.MatchString(p) {
			problems = append(problems, fmt.Errorf("packages: %q: not a Debian package name: apt would stop: correct it", p))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(a.Sysctl)) {
		if !sysctlName.MatchString(key) || !sysctlValue.MatchString(a.Sysctl[key]) {
			problems = append(problems, fmt.Errorf("sysctl: %s=%q: not a kernel parameter: the kernel would refuse it: use a form like net.ipv4.ip_forward: \"1\"", key, a.Sysctl[key]))
		}
	}
	if !hostnameForm.MatchString(a.Tailnet.Hostname) {
		problems = append(problems, fmt.Errorf("tailnet.hostname: %q: not a DNS label: the machine would get another name than its certificates: use lower-case letters, digits and hyphens", a.Tailnet.Hostname))
	}
	if a.Tailnet.LoginServer != "" && !isHTTP(a.Tailnet.LoginServer) {
		problems = append(problems, fmt.Errorf("tailnet.loginServer: %q: not an http(s) URL: the machine could not join: leave it empty for Tailscale's own", a.Tailnet.LoginServer))
	}
	if a.Tailnet.Key == nil {
		problems = append(problems, errors.New("tailnet.key: missing: the machine could not join the tailnet: pass the key made by the tailnet component"))
	}
	return errors.Join(problems...)
}

// sysctlLines returns the parameters in the form of sysctl.d, sorted.
func sysctlLines(parameters map[string]string) string {
	lines := make([]string, 0, len(parameters))
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		lines = append(lines, key+" = "+parameters[key])
	}
	return strings.Join(lines, "\n")
}

// lastLine returns the last line of a command's output.
func lastLine(output string) (string, error) {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if last == "" {
		return "", errors.New("the machine reported no tailnet address: nothing can be managed over the tailnet: see tailscale status on it, then run pulumi up again")
	}
	return last, nil
}

// isHTTP reports whether s is an http or https URL with a host and no
// credentials in it.
func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

// packages are what the host gets: what was asked for, and what the firewall is loaded with.
func (a *Args) packages() []string {
	if slices.Contains(a.Packages, "nftables") {
		return a.Packages
	}
	return append(slices.Clone(a.Packages), "nftables")
}
