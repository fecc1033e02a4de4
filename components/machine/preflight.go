package machine

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/s3"
	"github.com/tinyrack-net/infrastructure/components/remote"
)

//go:embed preflight.sh
var preflightScript string

// A machine may still be booting when the first command comes. The provider's own 10 tries end after about 11 seconds
// (pulumi/pulumi-command#1238); these last a minute and a half when connections are refused, and a little over three
// minutes when nothing answers, as behind a firewall that does not know the port.
var firstDial = remote.Dial{Tries: 26, Timeout: 4}

// Artifact is a file the machine downloads and verifies.
type Artifact struct {
	// Name is a word for messages.
	Name string
	// Setting is where the settings have it, without the architecture: cluster.binaries.
	Setting string
	// Arch is amd64 or arm64; a machine of another architecture leaves the file out. Empty is for every one.
	Arch string
	// URL is where the file comes from.
	URL string
	// SHA256 is its checksum in hexadecimal.
	SHA256 string
	// Release is what the file must answer to --version, as the third word of the first line: v1.32.4+k3s1. Empty does
	// not ask it.
	Release string
}

// Git is the repository the machine must be able to read for Flux. It is not validated here: whoever validates what
// Flux is to sync has refused what ssh or curl would misread.
type Git struct {
	// URL is https:// or ssh://. Empty skips the check.
	URL    string
	Branch string
	// Username goes with Token; many servers take any name.
	Username string
	// Token is the HTTPS password, SSHKey the private key for ssh://. Secret;
	// at most one of them.
	Token  pulumi.StringInput
	SSHKey pulumi.StringInput
	// KnownHosts are the SSH server's keys, needed with SSHKey.
	KnownHosts string
	// CA is the PEM certificate of a private authority. Optional.
	CA string
}

// Bucket is a place in an S3 server where copies go: the machine must reach it, and the keys open it. It is not
// validated here either.
type Bucket struct {
	// Setting is where the settings have it: cluster.snapshots.
	Setting string
	// Endpoint is the server's host, with a port when it is not the usual one, and without a scheme.
	Endpoint string
	// Insecure speaks http instead of https.
	Insecure bool
	Region   string
	Name     string
	// AccessKey and SecretKey are secret.
	AccessKey, SecretKey pulumi.StringInput
}

// Role is what k3s is on a host.
type Role string

// The roles; the zero value is a host without k3s.
const (
	Server Role = "server"
	Agent  Role = "agent"
)

// PreflightArgs describes what must hold before anything is changed.
type PreflightArgs struct {
	// Host is the machine and the way to it.
	Host *remote.Host
	// Settings is a digest of the whole configuration, without secrets: the check runs again when it changes, whatever
	// the change is.
	Settings string
	// Role is what k3s is to be on the host. What runs already must be the same.
	Role Role
	// Join is the tailnet, compared with the machine's present login. Its key is not used.
	Join Join
	// ClusterCIDR and ServiceCIDR are compared with a cluster that already runs.
	ClusterCIDR string
	ServiceCIDR string
	// Artifacts are downloaded and verified now, so that a wrong checksum stops everything rather than half of it.
	Artifacts []Artifact
	Git       Git
	// Buckets are looked into, but those in the tailnet, which a new machine has not joined yet.
	Buckets []Bucket
	// Looks are taken from the computer that pulumi runs on before the machine is looked at, but not in a preview. What
	// they return, all of it, stops everything.
	Looks []func(context.Context) error
	// MinDiskGiB is the free space needed below /var, in GiB; MinMemoryMiB the total memory, in MiB.
	MinDiskGiB   int
	MinMemoryMiB int
}

// Preflight is the first resource of a host: everything else depends on it, resources in the cloud too. It reports all
// problems at once and changes nothing on the machine but a cache of verified downloads. Its only child is
// <name>-check.
type Preflight struct {
	pulumi.ResourceState

	// Done is what everything else depends on. Depending on the component itself does not order anything reliably: the
	// Go SDK expands it to the children that happen to be registered by then, and it registers them in the background.
	Done []pulumi.Resource
}

// NewPreflight registers the check.
func NewPreflight(
	ctx *pulumi.Context, name string, args *PreflightArgs, opts ...pulumi.ResourceOption,
) (*Preflight, error) {
	p := &Preflight{}
	if err := p.register(ctx, name, args, opts); err != nil {
		return nil, fmt.Errorf("preflight %q: %w", name, err)
	}
	return p, nil
}

func (p *Preflight) register(
	ctx *pulumi.Context, name string, args *PreflightArgs, opts []pulumi.ResourceOption,
) error {
	if err := args.Validate(); err != nil {
		return err
	}
	if err := ctx.RegisterComponentResource("tinyrack:machine:Preflight", name, p, opts...); err != nil {
		return err
	}
	explained, err := explainConnection(ctx, name+"-check", args.Host, args.Host.Closed, args.Join.Tags)
	if err != nil {
		return err
	}
	looks, err := args.looks(ctx, name+"-check")
	if err != nil {
		return err
	}
	check, err := args.Host.Run(ctx, name+"-check", &remote.Command{
		Create:   args.text(),
		Secret:   args.secret(),
		ReadOnly: true,
		Dial:     firstDial,
	}, pulumi.Parent(p), explained, looks)
	if err != nil {
		return err
	}
	p.Done = []pulumi.Resource{check}
	return ctx.RegisterResourceOutputs(p, pulumi.Map{})
}

// looks are taken whenever the check is to run.
func (a *PreflightArgs) looks(ctx *pulumi.Context, name string) (pulumi.ResourceOption, error) {
	if len(a.Looks) == 0 {
		return pulumi.Composite(), nil
	}
	hook, err := ctx.RegisterResourceHook(name+"-looks", func(*pulumi.ResourceHookArgs) error {
		return a.look(ctx.Context())
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("resource hook: %w", err)
	}
	hooks := []*pulumi.ResourceHook{hook}
	return pulumi.ResourceHooks(&pulumi.ResourceHookBinding{BeforeCreate: hooks, BeforeUpdate: hooks}), nil
}

func (a *PreflightArgs) look(ctx context.Context) error {
	var errs []error
	for _, look := range a.Looks {
		errs = append(errs, look(ctx))
	}
	return errors.Join(errs...)
}

func (a *PreflightArgs) text() remote.Text {
	var artifacts []string
	for _, f := range a.Artifacts {
		artifacts = append(artifacts, strings.Join([]string{
			f.Name, f.Setting, cmp.Or(f.Arch, "-"), f.URL, f.SHA256, cmp.Or(f.Release, "-"),
		}, " "))
	}
	var buckets []string
	for _, b := range a.Buckets {
		buckets = append(buckets, strings.Join([]string{
			b.Setting, s3.URL(b.Endpoint, b.Insecure), b.Region, b.Name,
		}, " "))
	}
	vars := slices.Concat([]remote.Var{
		{Name: "SETTINGS", Value: a.Settings},
		{Name: "SSH_PORT", Value: strconv.Itoa(a.Host.Port)},
		{Name: "K3S_ROLE", Value: string(a.Role)},
		{Name: "MIN_DISK_GIB", Value: strconv.Itoa(a.MinDiskGiB)},
		{Name: "MIN_MEMORY_MIB", Value: strconv.Itoa(a.MinMemoryMiB)},
		{Name: "CLUSTER_CIDR", Value: a.ClusterCIDR},
		{Name: "SERVICE_CIDR", Value: a.ServiceCIDR},
		{Name: "ARTIFACTS", Value: strings.Join(artifacts, "\n")},
		{Name: "BUCKETS", Value: strings.Join(buckets, "\n")},
	}, a.Join.vars(a.Host), a.Git.vars())
	return remote.Text{Vars: vars, Body: remote.Cluster + identityScript + preflightScript}
}

func (g Git) vars() []remote.Var {
	var server, port, user, path string
	if u, err := url.Parse(g.URL); err == nil && u.Scheme == "ssh" {
		server, port, user, path = u.Hostname(), u.Port(), u.User.Username(), u.Path
		if port == "" {
			port = "22"
		}
		if user == "" {
			user = "git"
		}
	}
	return []remote.Var{
		{Name: "GIT_URL", Value: strings.TrimSuffix(g.URL, "/")},
		{Name: "GIT_BRANCH", Value: g.Branch},
		{Name: "GIT_USERNAME", Value: g.Username},
		{Name: "GIT_CA", Value: strings.TrimSpace(g.CA)},
		{Name: "GIT_KNOWN_HOSTS", Value: strings.TrimSpace(g.KnownHosts)},
		{Name: "GIT_SSH_HOST", Value: server},
		{Name: "GIT_SSH_PORT", Value: port},
		{Name: "GIT_SSH_USER", Value: user},
		{Name: "GIT_SSH_PATH", Value: path},
	}
}

func (g Git) secret() pulumi.StringInput {
	if g.SSHKey != nil {
		return g.SSHKey
	}
	return g.Token
}

// secret is the script's standard input.
func (a *PreflightArgs) secret() pulumi.StringInput {
	git := a.Git.secret()
	if len(a.Buckets) == 0 {
		return git
	}
	if git == nil {
		git = pulumi.String("")
	}
	parts := []any{git}
	for _, b := range a.Buckets {
		parts = append(parts, b.AccessKey, b.SecretKey)
	}
	return pulumi.All(parts...).ApplyT(func(parts []any) string {
		var text strings.Builder
		for i := 1; i < len(parts); i += 2 {
			fmt.Fprintf(&text, "%s:%s\n", parts[i], parts[i+1])
		}
		return text.String() + parts[0].(string)
	}).(pulumi.StringOutput)
}

var (
	sha256Form   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	artifactWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	releaseForm  = regexp.MustCompile(`^v?[0-9][A-Za-z0-9.+-]*$`)
)

// Validate returns every problem with the arguments, joined, as Args.Validate does.
func (a *PreflightArgs) Validate() error {
	problems := []error{checkHost(a.Host), a.Join.validate()}
	refuse := func(format string, values ...any) { problems = append(problems, fmt.Errorf(format, values...)) }
	if a.Role != "" && a.Role != Server && a.Role != Agent {
		refuse("role: %q is no role of k3s: nothing could be compared: use %s, %s or leave it empty", a.Role, Server, Agent)
	}
	for _, network := range []struct{ key, value string }{
		{"clusterCidr", a.ClusterCIDR}, {"serviceCidr", a.ServiceCIDR},
	} {
		if _, err := netip.ParsePrefix(network.value); err != nil && a.Role != "" {
			refuse("%s: %q is not a CIDR: a running cluster could not be compared: use a form like 10.55.0.0/16",
				network.key, network.value)
		}
	}
	for _, f := range a.Artifacts {
		problems = append(problems, f.validate())
	}
	if a.MinDiskGiB < 0 || a.MinMemoryMiB < 0 {
		refuse("minDiskGiB %d, minMemoryMiB %d: negative: nothing would be checked: use 0 or more", a.MinDiskGiB,
			a.MinMemoryMiB)
	}
	return errors.Join(problems...)
}

func (f Artifact) validate() error {
	var problems []error
	key := f.Setting
	if f.Arch != "" {
		key += "." + f.Arch
	}
	refuse := func(format string, values ...any) {
		problems = append(problems, fmt.Errorf("%s"+format, append([]any{key}, values...)...))
	}
	if !artifactWord.MatchString(f.Name) || !artifactWord.MatchString(f.Setting) {
		refuse(": name %q: no words: the problems of the file could not be reported: name it and its setting", f.Name)
	}
	if f.Arch != "" && f.Arch != "amd64" && f.Arch != "arm64" {
		refuse(": no architecture k3s is made for: no machine would take the file: use amd64 or arm64")
	}
	if !isHTTP(f.URL) || strings.ContainsAny(f.URL, " \t\n") {
		refuse(".url: not an http(s) URL without credentials: the file could not be downloaded: correct it")
	}
	if !sha256Form.MatchString(f.SHA256) {
		refuse(".sha256: %q is not 64 hexadecimal digits: the file could not be verified: use the checksum the publisher "+
			"names",
			f.SHA256)
	}
	if f.Release != "" && !releaseForm.MatchString(f.Release) {
		refuse(": release %q: not a version: it could not be compared: use a form like v1.32.4+k3s1", f.Release)
	}
	return errors.Join(problems...)
}
