// Package machine prepares one Linux host: it looks at it before anything is changed anywhere, closes the firewall,
// installs packages, sets kernel parameters, joins the tailnet and proves that the way over it is open.
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

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

//go:embed identity.sh
var identityScript string

//go:embed packages.sh
var packagesScript string

//go:embed join.sh
var joinScript string

//go:embed door.sh
var doorScript string

//go:embed reset.sh
var resetScript string

// Join is how the machine enters the tailnet. Its domain is the host's.
type Join struct {
	// LoginServer is the control server's URL. Empty means Tailscale's own.
	LoginServer string
	// Tags are what the machine is in the tailnet, such as tag:tinyrack-server. The key carries them; the machine must
	// have exactly these afterwards. At least one: a device without tags is a person's, and its login expires.
	Tags []string
	// Key is the join key. Secret; it travels on standard input only. A machine that is in the tailnet already does not
	// spend it.
	Key pulumi.StringInput
}

// Args describes a machine.
type Args struct {
	// Host is the machine and the way to it. From the join on it is reached over the tailnet.
	Host *remote.Host
	// Firewall is loaded first: nothing listens to the outside before. Its SSHPort is the host's.
	Firewall Firewall
	// Packages are Debian package names. They are installed when missing and never removed. rpcbind, which nfs-common
	// brings, is masked unless it is named here: only version 3 of NFS needs it.
	Packages []string
	// Sysctl are kernel parameters by their dotted name.
	Sysctl map[string]string
	// Join is the tailnet.
	Join Join
	// DependsOn are resources that must be there first, beside the host's last command.
	DependsOn []pulumi.Resource
}

// Machine is a prepared host. Its children, one after the other:
//
//	<name>-firewall          the nftables table, on trial; gives the whole machine back when it is deleted
//	<name>-firewall-confirm  a new connection that keeps it
//	<name>-packages          packages, kernel parameters, tailscale, what Longhorn needs
//	<name>-join              the tailnet
//	<name>-door              the first session over the tailnet, which proves the wanted path and port
type Machine struct {
	pulumi.ResourceState

	// TailnetAddress is the machine's IPv4 address in the tailnet.
	TailnetAddress pulumi.StringOutput
	// Done is what later steps depend on: the component's last child.
	Done []pulumi.Resource
}

// doorDial bounds the first session over the tailnet: a new device is known to its peers and to their resolvers within
// seconds, seldom a minute.
var doorDial = remote.Dial{Tries: 30, Timeout: 10}

// New registers the machine and its children.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Machine, error) {
	m := &Machine{}
	if err := m.register(ctx, name, args, opts); err != nil {
		return nil, fmt.Errorf("machine %q: %w", name, err)
	}
	return m, nil
}

func (m *Machine) register(ctx *pulumi.Context, name string, args *Args, opts []pulumi.ResourceOption) error {
	if err := args.Validate(); err != nil {
		return err
	}
	if err := ctx.RegisterComponentResource("tinyrack:machine:Machine", name, m, opts...); err != nil {
		return err
	}
	run := func(suffix string, c *remote.Command, opts ...pulumi.ResourceOption) (pulumi.StringOutput, error) {
		command, err := args.Host.Run(ctx, name+suffix, c, append(opts, pulumi.Parent(m))...)
		if err != nil {
			return pulumi.StringOutput{}, err
		}
		return command.Stdout, nil
	}

	firewall := args.Firewall
	firewall.SSHPort = args.Host.Port
	if err := firewall.load(ctx, args.Host, name, args.resetText(),
		pulumi.Parent(m), pulumi.DependsOn(args.DependsOn)); err != nil {
		return err
	}
	if _, err := run("-packages", &remote.Command{Create: remote.Text{Body: packagesScript, Vars: []remote.Var{
		{Name: "PACKAGES", Value: strings.Join(args.Packages, " ")},
		{Name: "SYSCTL", Value: sysctlLines(args.Sysctl)},
	}}}); err != nil {
		return err
	}
	if _, err := run("-join", &remote.Command{
		Create: remote.Text{Body: identityScript + joinScript, Vars: args.Join.vars(args.Host)},
		Secret: args.Join.Key,
	}); err != nil {
		return err
	}
	args.Host.Joined()
	explained, err := explainConnection(ctx, name+"-door", args.Host, true, args.Join.Tags)
	if err != nil {
		return err
	}
	said, err := run("-door", &remote.Command{Create: args.doorText(), Dial: doorDial}, explained)
	if err != nil {
		return err
	}

	m.Done = args.Host.Done()
	m.TailnetAddress = said.ApplyT(lastLine).(pulumi.StringOutput)
	return ctx.RegisterResourceOutputs(m, pulumi.Map{"tailnetAddress": m.TailnetAddress})
}

func (a *Args) resetText() remote.Text {
	return remote.Text{Body: identityScript + firewallResetScript + resetScript, Vars: a.Join.vars(a.Host)}
}

func (a *Args) doorText() remote.Text {
	vars := append(a.Join.vars(a.Host), remote.Var{Name: "SSH_PORT", Value: fmt.Sprint(a.Host.Port)})
	return remote.Text{Body: identityScript + doorScript, Vars: vars}
}

// vars are the header of identity.sh.
func (j Join) vars(h *remote.Host) []remote.Var {
	return []remote.Var{
		{Name: "TS_DOMAIN", Value: h.Domain},
		{Name: "TS_TAGS", Value: strings.Join(slices.Sorted(slices.Values(j.Tags)), " ")},
		{Name: "TS_LOGIN_SERVER", Value: j.LoginServer},
	}
}

var (
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	sysctlName  = regexp.MustCompile(`^[a-z0-9_]+([./][A-Za-z0-9_-]+)+$`)
	sysctlValue = regexp.MustCompile(`^[A-Za-z0-9_./,:-]+( [A-Za-z0-9_./,:-]+)*$`)
	tagForm     = regexp.MustCompile(`^tag:[A-Za-z][A-Za-z0-9-]*$`)
)

// Validate returns every problem with the arguments, joined. Each line reads "key: value: consequence: fix", its key
// as in the settings of one host.
func (a *Args) Validate() error {
	problems := []error{checkHost(a.Host), a.Firewall.Validate(), a.Join.validate()}
	refuse := func(format string, values ...any) { problems = append(problems, fmt.Errorf(format, values...)) }
	for i, name := range a.Packages {
		if !packageName.MatchString(name) {
			refuse("packages[%d]: %q is not a package name: nothing could be installed: write the distribution's name of the "+
				"package", i, name)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(a.Sysctl)) {
		if !sysctlName.MatchString(key) || !sysctlValue.MatchString(a.Sysctl[key]) {
			refuse("sysctl.%s: %q is not a kernel setting: the machine would refuse it: write it like "+
				"net.ipv4.ip_forward: \"1\"", key, a.Sysctl[key])
		}
	}
	if a.Join.Key == nil {
		refuse("join.key: missing: the machine could not join the tailnet: pass the key made by the tailnet component")
	}
	return errors.Join(problems...)
}

// checkHost validates the host, which a caller may have forgotten.
func checkHost(h *remote.Host) error {
	if h == nil {
		return errors.New("host: missing: there is no machine to work on: pass one")
	}
	return h.Validate()
}

func (j Join) validate() error {
	var problems []error
	if j.LoginServer != "" && !isHTTP(j.LoginServer) {
		problems = append(problems, fmt.Errorf("join.loginServer: %q is not an http(s) URL: the machine could not join: "+
			"leave it empty for Tailscale's own", j.LoginServer))
	}
	if len(j.Tags) == 0 {
		problems = append(problems, errors.New("join.tags: missing: the machine would be a person's device, whose login "+
			"expires: give it a tag like tag:tinyrack-server"))
	}
	for i, tag := range j.Tags {
		if !tagForm.MatchString(tag) {
			problems = append(problems, fmt.Errorf("join.tags[%d]: %q is not a tag: the tailnet would refuse it: use a form "+
				"like tag:tinyrack-server", i, tag))
		}
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
		return "", errors.New("the machine reported no tailnet address: nothing can be managed over the tailnet: see " +
			"tailscale status on it, then run pulumi up again")
	}
	return last, nil
}

// isHTTP reports whether s is an http or https URL with a host and no
// credentials in it.
func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}
