// Package k3s installs a k3s server over SSH: pinned and verified, configured by
// file, with embedded etcd from the first day.
package k3s

import (
	"crypto/sha256"
	_ "embed"
	"fmt"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/script"
)

//go:embed server.sh
var serverScript string

//go:embed uninstall.sh
var uninstallScript string

//go:embed kubeconfig.sh
var kubeconfigScript string

// Artifact is a file the machine downloads and verifies.
type Artifact struct {
	URL string
	// SHA256 is the checksum in hexadecimal.
	SHA256 string
}

// Snapshots sends etcd snapshots to S3, with the settings of NewSnapshotSecret.
type Snapshots struct {
	// Schedule is a cron expression of five fields, in the machine's time zone.
	Schedule string
	// Retention is how many snapshots are kept.
	Retention int
}

// Args describes a server.
type Args struct {
	// Connection reaches the machine over SSH. The host key is mandatory.
	Connection remote.ConnectionArgs
	// User is the login of Connection: root, or a user with passwordless sudo.
	User string
	// Version is the k3s release Binary is, like v1.32.0+k3s1.
	Version string
	// Binary is the release's executable, InstallScript its install.sh.
	Binary        Artifact
	InstallScript Artifact
	// NodeName is the server's name in the cluster.
	NodeName string
	// APIServer is the host the kubeconfig points at: the management address. It
	// is always among the certificate's names.
	APIServer string
	// ClusterCIDR and ServiceCIDR can never change in a running cluster; the
	// script refuses.
	ClusterCIDR string
	ServiceCIDR string
	// TLSSANs are more names and addresses of the API's certificate.
	TLSSANs []string
	// Disable are the packaged components left out. Nil means traefik and
	// servicelb.
	Disable []string
	// KubeletArgs are kubelet flags in the form name=value.
	KubeletArgs []string
	// Snapshots is nil for local snapshots only.
	Snapshots *Snapshots
	// DependsOn are resources that must be there first: the machine's Done.
	DependsOn []pulumi.Resource
}

// Server is a k3s server that serves its API. Its children:
//
//	<name>-token       the cluster's token
//	<name>-server      installation, configuration, readiness; uninstalls on destroy
//	<name>-kubeconfig  the administrator's kubeconfig
type Server struct {
	pulumi.ResourceState

	// Kubeconfig is the administrator's, for APIServer. Secret. Its client
	// certificate is valid for a year; k3s renews it when it restarts, and it is
	// fetched again with every change of the server.
	Kubeconfig pulumi.StringOutput
	// Token lets servers join and opens restored snapshots: keep a copy outside
	// the cluster. Secret.
	Token pulumi.StringOutput
	// Done is what later steps depend on. The component itself would be expanded
	// to the children registered by then, which may be none.
	Done []pulumi.Resource
}

// New registers the server and its children. Every change is an update in place:
// a replacement would uninstall the new server right after its installation.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Server, error) {
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("k3s server %q: %w", name, err)
	}
	text, err := args.serverText()
	if err != nil {
		return nil, fmt.Errorf("k3s server %q: %w", name, err)
	}
	s := &Server{}
	if err := ctx.RegisterComponentResource("tinyrack:k3s:Server", name, s, opts...); err != nil {
		return nil, fmt.Errorf("k3s server %q: %w", name, err)
	}

	// Letters and digits only: the token is a line of a file and part of URLs.
	token, err := random.NewRandomPassword(ctx, name+"-token", &random.RandomPasswordArgs{
		Length:  pulumi.Int(48),
		Special: pulumi.Bool(false),
	}, pulumi.Parent(s))
	if err != nil {
		return nil, fmt.Errorf("k3s server %q: %w", name, err)
	}
	s.Token = pulumi.ToSecret(token.Result).(pulumi.StringOutput)

	server, err := script.NewCommand(ctx, name+"-server", &script.CommandArgs{
		Connection: args.Connection,
		User:       args.User,
		Create:     text,
		Delete:     script.Text{Body: uninstallScript},
		Stdin:      s.Token.ToStringPtrOutput(),
	}, pulumi.Parent(s), pulumi.DependsOn(args.DependsOn))
	if err != nil {
		return nil, fmt.Errorf("k3s server %q: %w", name, err)
	}
	kubeconfig, err := script.NewCommand(ctx, name+"-kubeconfig", &script.CommandArgs{
		Connection:   args.Connection,
		User:         args.User,
		Create:       script.Text{Vars: []script.Var{{Name: "GENERATION", Value: generation(text)}}, Body: kubeconfigScript},
		SecretOutput: true,
	}, pulumi.Parent(s), pulumi.DependsOn([]pulumi.Resource{server}))
	if err != nil {
		return nil, fmt.Errorf("k3s server %q: %w", name, err)
	}
	s.Done = []pulumi.Resource{server, kubeconfig}
	host := args.APIServer
	s.Kubeconfig = pulumi.ToSecret(kubeconfig.Stdout.ApplyT(func(written string) (string, error) {
		return Kubeconfig(written, host)
	})).(pulumi.StringOutput)

	if err := ctx.RegisterResourceOutputs(s, pulumi.Map{"kubeconfig": s.Kubeconfig, "token": s.Token}); err != nil {
		return nil, fmt.Errorf("k3s server %q: %w", name, err)
	}
	return s, nil
}

func (a *Args) serverText() (script.Text, error) {
	config, err := a.Config()
	if err != nil {
		return script.Text{}, err
	}
	return script.Text{Body: script.Cluster + serverScript, Vars: []script.Var{
		{Name: "BINARY_URL", Value: a.Binary.URL},
		{Name: "BINARY_SHA256", Value: a.Binary.SHA256},
		{Name: "INSTALL_URL", Value: a.InstallScript.URL},
		{Name: "INSTALL_SHA256", Value: a.InstallScript.SHA256},
		{Name: "CLUSTER_CIDR", Value: a.ClusterCIDR},
		{Name: "SERVICE_CIDR", Value: a.ServiceCIDR},
		{Name: "NODE_NAME", Value: a.NodeName},
		{Name: "CONFIG", Value: config},
	}}, nil
}

// generation names a server's installation: it changes with anything that makes
// k3s restart.
func generation(text script.Text) string {
	hash := sha256.New()
	for _, v := range text.Vars {
		fmt.Fprintf(hash, "%s=%s\n", v.Name, v.Value)
	}
	return fmt.Sprintf("%x", hash.Sum(nil))[:12]
}
