package stacks

import (
	"path"
	"slices"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi-tailscale/sdk/go/tailscale"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/edge"
	"github.com/tinyrack-net/infrastructure/components/flux"
	"github.com/tinyrack-net/infrastructure/components/k3s"
	"github.com/tinyrack-net/infrastructure/components/machine"
	"github.com/tinyrack-net/infrastructure/components/sealedsecrets"
	"github.com/tinyrack-net/infrastructure/components/tailnet"
	"github.com/tinyrack-net/infrastructure/sdks/cloudflare"
)

// stack is what the steps hand to each other.
type stack struct {
	ctx *pulumi.Context
	cfg Config

	cloudflare *cloudflare.Provider
	tailscale  *tailscale.Provider
	kubernetes *kubernetes.Provider

	checked *machine.Preflight
	edge    *edge.Edge
	tailnet *tailnet.Tailnet
	host    *machine.Machine
	server  *k3s.Server
	keys    *sealedsecrets.Keys
	flux    *flux.Flux

	// beforeFlux must exist before Flux starts applying.
	beforeFlux []pulumi.Resource
}

// sealedSecretsNamespace is where the GitOps tree runs the controller.
const sealedSecretsNamespace = "sealed-secrets"

// minDiskGiB and minMemoryMiB are what k3s, Flux and a first application need:
// https://docs.k3s.io/installation/requirements
const (
	minDiskGiB   = 5
	minMemoryMiB = 1500
)

func (s *stack) connectClouds() (err error) {
	if s.cloudflare, err = cloudflare.NewProvider(s.ctx, "cloudflare", &cloudflare.ProviderArgs{
		APIToken: s.cfg.Secrets.CloudflareAPIToken.Output(),
		BaseURL:  optional(s.cfg.Cloudflare.BaseURL),
	}); err != nil {
		return err
	}
	s.tailscale, err = tailscale.NewProvider(s.ctx, "tailscale", &tailscale.ProviderArgs{
		OauthClientId:     s.cfg.Secrets.TailscaleOAuthClientID.Output(),
		OauthClientSecret: s.cfg.Secrets.TailscaleOAuthClientSecret.Output(),
		Tailnet:           pulumi.String(s.cfg.Tailnet.Name),
		BaseUrl:           optional(s.cfg.Tailnet.BaseURL),
	})
	return err
}

func (s *stack) preflight() (err error) {
	s.checked, err = machine.NewPreflight(s.ctx, "preflight", &machine.PreflightArgs{
		Connection:  s.connection(),
		User:        s.cfg.Machine.User,
		ClusterCIDR: s.cfg.K3s.ClusterCIDR,
		ServiceCIDR: s.cfg.K3s.ServiceCIDR,
		Artifacts: []machine.Artifact{
			{Name: "k3s", URL: s.cfg.K3s.Binary.URL, SHA256: s.cfg.K3s.Binary.SHA256},
			{Name: "install.sh", URL: s.cfg.K3s.InstallScript.URL, SHA256: s.cfg.K3s.InstallScript.SHA256},
		},
		Git: machine.Git{
			URL:        s.cfg.Flux.URL,
			Branch:     s.cfg.Flux.Branch,
			Username:   s.cfg.Flux.Username,
			Token:      s.cfg.Secrets.GitToken.Optional(),
			SSHKey:     s.cfg.Secrets.GitSSHKey.Optional(),
			KnownHosts: s.cfg.Flux.KnownHosts,
			CA:         s.cfg.Flux.CA,
		},
		MinDiskGiB:   minDiskGiB,
		MinMemoryMiB: minMemoryMiB,
	})
	return err
}

func (s *stack) publish() (err error) {
	args := s.cfg.Cloudflare.edge()
	args.API = edge.API{Token: string(s.cfg.Secrets.CloudflareAPIToken), BaseURL: s.cfg.Cloudflare.BaseURL}
	args.DependsOn = s.checked.Done
	s.edge, err = edge.New(s.ctx, "edge", args, pulumi.Providers(s.cloudflare))
	return err
}

// edge is what the settings ask of the edge.
func (c Cloudflare) edge() *edge.Args {
	args := &edge.Args{AccountID: c.AccountID, ZoneID: c.ZoneID, Zone: c.Zone, TunnelName: c.Tunnel, AccessEmails: c.AccessEmails}
	for _, r := range c.Ingress {
		args.Ingress = append(args.Ingress, edge.Route(r))
	}
	return args
}

func (s *stack) secureTailnet() (err error) {
	s.tailnet, err = tailnet.New(s.ctx, "tailnet", &tailnet.Args{
		Policy:               s.cfg.Tailnet.policy(),
		OverwritePolicy:      s.cfg.Tailnet.OverwritePolicy,
		ResetPolicyOnDestroy: s.cfg.Tailnet.ResetPolicyOnDestroy,
		MagicDNS:             s.cfg.Tailnet.MagicDNS,
		API: tailnet.API{
			ClientID: string(s.cfg.Secrets.TailscaleOAuthClientID), ClientSecret: string(s.cfg.Secrets.TailscaleOAuthClientSecret),
			Tailnet: s.cfg.Tailnet.Name, BaseURL: s.cfg.Tailnet.BaseURL,
		},
		DependsOn: s.checked.Done,
	}, pulumi.Providers(s.tailscale))
	return err
}

// policy is who the settings let reach the machine.
func (t Tailnet) policy() tailnet.Policy {
	return tailnet.Policy{Admins: t.Admins, MachineTag: t.MachineTag, APIPort: apiPort}
}

// apiPort is where k3s serves the Kubernetes API.
const apiPort = 6443

func (s *stack) prepareMachine() (err error) {
	s.host, err = machine.New(s.ctx, "machine", &machine.Args{
		Connection: s.connection(),
		User:       s.cfg.Machine.User,
		Packages:   s.cfg.Machine.Packages,
		Sysctl:     s.cfg.Machine.Sysctl,
		Firewall: machine.Firewall{
			BootstrapSources: s.cfg.Machine.BootstrapSources,
			SSHPort:          s.cfg.Machine.Port,
			PodCIDR:          s.cfg.K3s.ClusterCIDR,
			ServiceCIDR:      s.cfg.K3s.ServiceCIDR,
			TailnetInterface: "tailscale0",
		},
		Tailnet: machine.Join{
			LoginServer: s.cfg.Tailnet.LoginServer,
			Hostname:    s.cfg.Machine.Hostname,
			Key:         s.tailnet.JoinKey,
		},
		// The machine is destroyed before the tunnel: Cloudflare refuses to delete
		// one that still has connectors. The join key orders it after the tailnet.
		DependsOn: slices.Concat(s.checked.Done, s.edge.Done),
	})
	return err
}

func (s *stack) installK3s() (err error) {
	s.server, err = k3s.New(s.ctx, "k3s", &k3s.Args{
		Connection:    s.connection(),
		User:          s.cfg.Machine.User,
		Version:       s.cfg.K3s.Version,
		Binary:        k3s.Artifact(s.cfg.K3s.Binary),
		InstallScript: k3s.Artifact(s.cfg.K3s.InstallScript),
		NodeName:      s.cfg.Machine.Hostname,
		APIServer:     s.cfg.K3s.APIServer,
		ClusterCIDR:   s.cfg.K3s.ClusterCIDR,
		ServiceCIDR:   s.cfg.K3s.ServiceCIDR,
		TLSSANs:       s.cfg.K3s.TLSSANs,
		Disable:       s.cfg.K3s.Disable,
		KubeletArgs:   s.cfg.K3s.KubeletArgs,
		Snapshots:     s.snapshots(),
		DependsOn:     s.host.Done,
	})
	return err
}

func (s *stack) connectCluster() (err error) {
	s.kubernetes, err = kubernetes.NewProvider(s.ctx, "kubernetes", &kubernetes.ProviderArgs{
		Kubeconfig: s.server.Kubeconfig,
		// Without it an unknown kubeconfig would preview the replacement of every
		// object (pulumi/pulumi#4326).
		ClusterIdentifier:     pulumi.String(project + "-" + s.cfg.Stack),
		EnableServerSideApply: pulumi.Bool(true),
		// An interrupted or lost run left objects behind: adopt them. The price is
		// that renaming a resource needs an alias, or its object is deleted.
		UpsertExistingObjects: pulumi.Bool(true),
		// Changed credentials and variables are updated in place; by default the
		// object would be deleted and made anew under the controllers that read it.
		EnableConfigMapMutable: pulumi.Bool(true),
		EnableSecretMutable:    pulumi.Bool(true),
		// DeleteUnreachable stays off: one network failure during a refresh would
		// empty the state. To destroy a stack whose machine is gone, set
		// PULUMI_K8S_DELETE_UNREACHABLE=true for that one command.
	})
	return err
}

func (s *stack) storeSnapshots() error {
	c := s.cfg.K3s.Snapshots
	if c == nil {
		return nil
	}
	secret, err := k3s.NewSnapshotSecret(s.ctx, "snapshots", &k3s.SnapshotSecretArgs{
		Endpoint:  c.Endpoint,
		Region:    c.Region,
		Bucket:    c.Bucket,
		Folder:    c.Folder,
		Insecure:  c.Insecure,
		AccessKey: s.cfg.Secrets.S3AccessKey.Output(),
		SecretKey: s.cfg.Secrets.S3SecretKey.Output(),
		DependsOn: s.server.Done,
	}, pulumi.Providers(s.kubernetes))
	if err != nil {
		return err
	}
	s.beforeFlux = append(s.beforeFlux, secret.Done...)
	return nil
}

func (s *stack) unlockSecrets() (err error) {
	s.keys, err = sealedsecrets.New(s.ctx, "sealed-secrets", &sealedsecrets.Args{
		Namespace:   sealedSecretsNamespace,
		Certificate: s.cfg.SealedSecrets.PEM,
		PrivateKey:  string(s.cfg.Secrets.SealingKey),
		DependsOn:   s.server.Done,
	}, pulumi.Providers(s.kubernetes))
	return err
}

func (s *stack) startFlux() (err error) {
	s.flux, err = flux.New(s.ctx, "flux", &flux.Args{
		Connection: s.connection(),
		User:       s.cfg.Machine.User,
		Version:    s.cfg.Flux.Version,
		Sync:       flux.Sync{URL: s.cfg.Flux.URL, Branch: s.cfg.Flux.Branch, Path: s.cfg.Flux.Path},
		Git: flux.Credentials{
			Username:   s.cfg.Flux.Username,
			Token:      s.cfg.Secrets.GitToken.Optional(),
			SSHKey:     s.cfg.Secrets.GitSSHKey.Optional(),
			KnownHosts: s.cfg.Flux.KnownHosts,
			CA:         s.cfg.Flux.CA,
		},
		Variables: variables(s.cfg),
		Revision:  s.cfg.Flux.Revision,
		DependsOn: slices.Concat(s.keys.Done, s.beforeFlux),
	}, pulumi.Providers(s.kubernetes))
	return err
}

// connection is how every remote command reaches the machine.
func (s *stack) connection() remote.ConnectionArgs {
	return remote.ConnectionArgs{
		Host:       pulumi.String(s.cfg.Machine.Address),
		Port:       pulumi.Float64(float64(s.cfg.Machine.Port)),
		User:       pulumi.String(s.cfg.Machine.User),
		HostKey:    pulumi.String(s.cfg.Machine.HostKey),
		PrivateKey: s.cfg.Secrets.MachinePrivateKey.Output(),
	}
}

func (s *stack) snapshots() *k3s.Snapshots {
	c := s.cfg.K3s.Snapshots
	if c == nil {
		return nil
	}
	return &k3s.Snapshots{Schedule: c.Schedule, Retention: c.Retention}
}

// facts are the variables the program itself knows and hands to the manifests.
func facts(c Config) map[string]string {
	return map[string]string{
		"environment":  path.Base(c.Flux.Path),
		"zone":         c.Cloudflare.Zone,
		"cluster_cidr": c.K3s.ClusterCIDR,
		"service_cidr": c.K3s.ServiceCIDR,
	}
}

// variables are the facts and the stack's own.
func variables(c Config) map[string]pulumi.StringInput {
	out := map[string]pulumi.StringInput{}
	for _, values := range []map[string]string{c.Flux.Variables, facts(c)} {
		for name, value := range values {
			out[name] = pulumi.String(value)
		}
	}
	return out
}

// optional is text as an input, or nil for none.
func optional(text string) pulumi.StringPtrInput {
	if text == "" {
		return nil
	}
	return pulumi.String(text)
}
