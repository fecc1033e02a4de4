package machine

import (
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/script"
)

//go:embed preflight.sh
var preflightScript string

// A machine may still be booting when the first command comes. The provider's own
// 10 tries end after about 11 seconds (pulumi/pulumi-command#1238); these last a
// little over a minute and a half when connections are refused.
const (
	dialErrorLimit = 30
	perDialTimeout = 10
)

// Artifact is a file the machine downloads and verifies.
type Artifact struct {
	// Name is a word for messages.
	Name string
	// URL is where the file comes from.
	URL string
	// SHA256 is its checksum in hexadecimal.
	SHA256 string
}

// Git is the repository the machine must be able to read for Flux.
type Git struct {
	// URL is https://, http:// or ssh://. Empty skips the check.
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

// PreflightArgs describes what must hold before anything is changed.
type PreflightArgs struct {
	// Connection and User reach the machine, as in Args.
	Connection remote.ConnectionArgs
	User       string
	// ClusterCIDR and ServiceCIDR are compared with a cluster that already runs.
	ClusterCIDR string
	ServiceCIDR string
	// Artifacts are downloaded and verified now, so that a wrong checksum stops
	// everything rather than half of it.
	Artifacts []Artifact
	Git       Git
	// MinDiskGiB is the free space needed below /var, in GiB; MinMemoryMiB the
	// total memory, in MiB.
	MinDiskGiB   int
	MinMemoryMiB int
}

// Preflight is the first resource of a run: everything else depends on it,
// resources in the cloud too. It reports all problems at once and changes nothing
// on the machine but a cache of verified downloads. Its only child is
// <name>-check.
type Preflight struct {
	pulumi.ResourceState

	// Done is what everything else depends on. Depending on the component itself
	// does not order anything reliably: the Go SDK expands it to the children that
	// happen to be registered by then, and it registers them in the background.
	Done []pulumi.Resource
}

// NewPreflight registers the check.
func NewPreflight(ctx *pulumi.Context, name string, args *PreflightArgs, opts ...pulumi.ResourceOption) (*Preflight, error) {
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("preflight %q: %w", name, err)
	}
	p := &Preflight{}
	if err := ctx.RegisterComponentResource("tinyrack:machine:Preflight", name, p, opts...); err != nil {
		return nil, fmt.Errorf("preflight %q: %w", name, err)
	}
	connection := args.Connection
	if connection.DialErrorLimit == nil {
		connection.DialErrorLimit = pulumi.Int(dialErrorLimit)
	}
	if connection.PerDialTimeout == nil {
		connection.PerDialTimeout = pulumi.Int(perDialTimeout)
	}
	command := &script.CommandArgs{
		Connection: connection,
		User:       args.User,
		Create:     script.Text{Vars: args.vars(), Body: script.Cluster + preflightScript},
	}
	if secret := args.Git.secret(); secret != nil {
		command.Stdin = secret.ToStringOutput().ToStringPtrOutput()
	}
	check, err := script.NewCommand(ctx, name+"-check", command, pulumi.Parent(p))
	if err != nil {
		return nil, fmt.Errorf("preflight %q: %w", name, err)
	}
	p.Done = []pulumi.Resource{check}
	if err := ctx.RegisterResourceOutputs(p, pulumi.Map{}); err != nil {
		return nil, fmt.Errorf("preflight %q: %w", name, err)
	}
	return p, nil
}

func (a *PreflightArgs) vars() []script.Var {
	var artifacts []string
	for _, f := range a.Artifacts {
		artifacts = append(artifacts, f.Name+" "+f.URL+" "+f.SHA256)
	}
	vars := []script.Var{
		{Name: "MIN_DISK_GIB", Value: strconv.Itoa(a.MinDiskGiB)},
		{Name: "MIN_MEMORY_MIB", Value: strconv.Itoa(a.MinMemoryMiB)},
		{Name: "CLUSTER_CIDR", Value: a.ClusterCIDR},
		{Name: "SERVICE_CIDR", Value: a.ServiceCIDR},
		{Name: "ARTIFACTS", Value: strings.Join(artifacts, "\n")},
	}
	return append(vars, a.Git.vars()...)
}

func (g Git) vars() []script.Var {
	var host, port, user, path string
	// Validate has parsed it before.
	if u, err := url.Parse(g.URL); err == nil && u.Scheme == "ssh" {
		host, port, user, path = u.Hostname(), u.Port(), u.User.Username(), u.Path
		if port == "" {
			port = "22"
		}
		if user == "" {
			user = "git"
		}
	}
	return []script.Var{
		{Name: "GIT_URL", Value: strings.TrimSuffix(g.URL, "/")},
		{Name: "GIT_BRANCH", Value: g.Branch},
		{Name: "GIT_USERNAME", Value: g.Username},
		{Name: "GIT_CA", Value: strings.TrimSpace(g.CA)},
		{Name: "GIT_KNOWN_HOSTS", Value: strings.TrimSpace(g.KnownHosts)},
		{Name: "GIT_SSH_HOST", Value: host},
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

var (
	sha256Form   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	artifactWord = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	branchForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
	gitPathForm  = regexp.MustCompile(`^/[A-Za-z0-9._~/-]+$`)
	gitUserForm  = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.-]*$`)
	gitHostForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.:-]*$`)
)

// Validate returns every problem with the arguments.
func (a *PreflightArgs) Validate() error {
	problems := []error{script.ValidateConnection(a.Connection), a.Git.validate()}
	if a.User == "" {
		problems = append(problems, errors.New("user: missing: nothing can be run over SSH: set root or a user with passwordless sudo"))
	}
	for _, network := range []struct{ key, value string }{{"clusterCIDR", a.ClusterCIDR}, {"serviceCIDR", a.ServiceCIDR}} {
		if _, err := netip.ParsePrefix(network.value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %q: not a CIDR: a running cluster could not be compared: use a form like 10.55.0.0/16", network.key, network.value))
		}
	}
	for _, f := range a.Artifacts {
		if !artifactWord.MatchString(f.Name) || !isHTTP(f.URL) || strings.ContainsAny(f.URL, " \t\n") {
			problems = append(problems, fmt.Errorf("artifacts: %q %q: not a name and an http(s) URL: it could not be downloaded: correct it", f.Name, f.URL))
		}
		if !sha256Form.MatchString(f.SHA256) {
			problems = append(problems, fmt.Errorf("artifacts: %s: sha256 %q: not 64 hexadecimal digits: the file could not be verified: use the checksum the publisher names", f.Name, f.SHA256))
		}
	}
	if a.MinDiskGiB < 0 || a.MinMemoryMiB < 0 {
		problems = append(problems, fmt.Errorf("minDiskGiB %d, minMemoryMiB %d: negative: nothing would be checked: use 0 or more", a.MinDiskGiB, a.MinMemoryMiB))
	}
	return errors.Join(problems...)
}

func (g Git) validate() error {
	if g.URL == "" {
		return nil
	}
	var problems []error
	if !branchForm.MatchString(g.Branch) {
		problems = append(problems, fmt.Errorf("git.branch: %q: not a branch name: Flux could not sync: use a name like main", g.Branch))
	}
	if g.Token != nil && g.SSHKey != nil {
		problems = append(problems, errors.New("git: a token and an SSH key: only one can be used: leave the other out"))
	}
	u, err := url.Parse(g.URL)
	switch {
	case err != nil || u.Host == "":
		problems = append(problems, fmt.Errorf("git.url: %q: not a URL: Flux could not sync: write git@host:path as ssh://git@host/path", g.URL))
	case u.Scheme == "ssh":
		_, password := u.User.Password()
		userOK := u.User == nil || gitUserForm.MatchString(u.User.Username())
		if password || !userOK || !gitHostForm.MatchString(u.Hostname()) || !gitPathForm.MatchString(u.Path) {
			problems = append(problems, fmt.Errorf("git.url: %q: unexpected characters: ssh would misread them: use a form like ssh://git@host/path", u.Redacted()))
		}
		if g.SSHKey == nil || strings.TrimSpace(g.KnownHosts) == "" {
			problems = append(problems, errors.New("git: an ssh:// URL needs an SSH key and known hosts: Flux could not sync: set both"))
		}
	case u.Scheme == "https" || u.Scheme == "http":
		if u.User != nil {
			problems = append(problems, fmt.Errorf("git.url: %q: credentials in the URL: they would be stored and printed in clear: use username and token", u.Redacted()))
		}
		if u.RawQuery != "" || u.Fragment != "" {
			problems = append(problems, fmt.Errorf("git.url: %q: query or fragment: not part of a repository's URL: remove it", u.Redacted()))
		}
		if g.SSHKey != nil {
			problems = append(problems, errors.New("git: an SSH key with an http(s) URL: it would never be used: use an ssh:// URL or a token"))
		}
	default:
		problems = append(problems, fmt.Errorf("git.url: %q: scheme %q: Flux reads https, http and ssh: use one of them", u.Redacted(), u.Scheme))
	}
	return errors.Join(problems...)
}
