package stacks

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi-tailscale/sdk/go/tailscale"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/credentials"
	"github.com/tinyrack-net/infrastructure/components/databases"
	"github.com/tinyrack-net/infrastructure/components/edge"
	"github.com/tinyrack-net/infrastructure/components/flux"
	"github.com/tinyrack-net/infrastructure/components/k3s"
	"github.com/tinyrack-net/infrastructure/components/machine"
	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/sealedsecrets"
	"github.com/tinyrack-net/infrastructure/components/tailnet"
	"github.com/tinyrack-net/infrastructure/sdks/cloudflare"
)

// stack is what the steps hand to each other. What ranges over machines is keyed by the host's name.
type stack struct {
	ctx *pulumi.Context
	cfg Config

	cloudflare *cloudflare.Provider
	tailscale  *tailscale.Provider
	kubernetes *kubernetes.Provider

	hosts    map[string]*remote.Host
	machines map[string]*machine.Machine
	checked  []pulumi.Resource // the preflights of all hosts
	tailnet  *tailnet.Tailnet
	edge     *edge.Edge
	cluster  *k3s.Cluster
	server   *k3s.Node         // the first one
	nodes    []pulumi.Resource // all of them
	keys     *sealedsecrets.Keys
	flux     *flux.Flux

	// beforeFlux must exist before Flux starts applying.
	beforeFlux []pulumi.Resource
}

const (
	// sealedSecretsNamespace is where the GitOps tree runs the controller.
	sealedSecretsNamespace = "sealed-secrets"
	// connectorNamespace is where it runs the tunnel's connectors, connectorSecret what they log in with.
	connectorNamespace, connectorSecret = "cloudflared", "tunnel-token"
	// fluxNamespace is where Flux runs.
	fluxNamespace = "flux-system"
	// appsLayer is the layer of the GitOps tree with the applications.
	appsLayer = "apps"
	// apiPort is where k3s serves the Kubernetes API.
	apiPort = 6443
	// minDiskGiB and minMemoryMiB are what k3s, Flux and a first application need:
	// https://docs.k3s.io/installation/requirements
	minDiskGiB   = 5
	minMemoryMiB = 1500
)

// ownNamespaces are Kubernetes' own, Longhorn's, and those that the program makes whatever the settings are.
var ownNamespaces = []string{
	"default", "kube-system", "kube-public", "kube-node-lease", fluxNamespace, sealedSecretsNamespace, connectorNamespace,
	databases.Namespace, databases.VolumesNamespace,
}

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

func (s *stack) reachHosts() error {
	s.hosts = map[string]*remote.Host{}
	for name := range s.cfg.Hosts {
		s.hosts[name] = s.host(name)
	}
	return nil
}

// host is the way to a machine.
func (s *stack) host(name string) *remote.Host {
	h := s.cfg.Hosts[name]
	return &remote.Host{
		Name:       name,
		Domain:     s.cfg.Tailnet.Domain,
		Owner:      fmt.Sprintf("%s/%s of %s", project, s.cfg.Stack, s.cfg.Cloudflare.Zone),
		Address:    h.Address,
		Port:       h.Port,
		User:       h.User,
		HostKey:    h.HostKey,
		PrivateKey: s.cfg.Secrets.MachinePrivateKey.Output(),
		Closed:     len(h.BootstrapSources) == 0,
	}
}

func (s *stack) secureTailnet() (err error) {
	args := s.tailnetArgs()
	args.DependsOn = s.checked
	s.tailnet, err = tailnet.New(s.ctx, "tailnet", args, pulumi.Providers(s.tailscale))
	return err
}

func (s *stack) tailnetArgs() *tailnet.Args {
	t := s.cfg.Tailnet
	args := &tailnet.Args{
		Policy: tailnet.Policy{
			Admins: t.Admins, ManagerTag: t.ManagerTag, APIPort: apiPort, Rest: t.Rest, RestName: t.PolicyFile,
		},
		OverwritePolicy:      t.OverwritePolicy,
		ResetPolicyOnDestroy: t.ResetPolicyOnDestroy,
		MagicDNS:             t.MagicDNS,
		Domain:               t.Domain,
		API: tailnet.API{
			ClientID:     string(s.cfg.Secrets.TailscaleOAuthClientID),
			ClientSecret: string(s.cfg.Secrets.TailscaleOAuthClientSecret),
			Tailnet:      t.Name, BaseURL: t.BaseURL,
		},
	}
	for _, name := range sortedKeys(s.cfg.Hosts) {
		args.Hosts = append(args.Hosts, s.tailnetHost(name))
	}
	return args
}

func (s *stack) tailnetHost(name string) tailnet.Host {
	host := tailnet.Host{Name: name, SSHPort: s.cfg.Hosts[name].Port}
	for _, role := range s.cfg.Hosts[name].Roles {
		host.Roles = append(host.Roles, tailnet.Role(role))
	}
	return host
}

func (s *stack) cloudflareAPI() edge.API {
	return edge.API{Token: string(s.cfg.Secrets.CloudflareAPIToken), BaseURL: s.cfg.Cloudflare.BaseURL}
}

func (s *stack) publish() (err error) {
	args := s.edgeArgs()
	args.Protect = s.cfg.Protect
	args.API = s.cloudflareAPI()
	// A tailnet that is refused leaves Cloudflare untouched.
	args.DependsOn = slices.Concat(s.checked, s.tailnet.Done)
	s.edge, err = edge.New(s.ctx, "edge", args, pulumi.Providers(s.cloudflare))
	return err
}

func (s *stack) edgeArgs() *edge.Args {
	c := s.cfg.Cloudflare
	args := &edge.Args{
		AccountID: c.AccountID, ZoneID: c.ZoneID, Zone: c.Zone, TunnelName: c.Tunnel, AccessEmails: c.AccessEmails,
	}
	for _, r := range c.Ingress {
		args.Ingress = append(args.Ingress, edge.Route(r))
	}
	return args
}

// gatherCluster comes before the hosts are worked on: who leaves the cluster leaves while all hosts still admit it.
func (s *stack) gatherCluster() (err error) {
	args := s.clusterArgs()
	args.First, args.Token, args.Protect = s.hosts[s.cfg.firstServer()], s.cfg.Secrets.K3sToken.Optional(), s.cfg.Protect
	args.DependsOn = slices.Concat(s.checked, s.edge.Done)
	s.cluster, err = k3s.NewCluster(s.ctx, "cluster", args)
	return err
}

func (s *stack) prepareHosts() error {
	s.machines = map[string]*machine.Machine{}
	for _, name := range sortedKeys(s.hosts) {
		args := s.machineArgs(name)
		args.Host = s.hosts[name]
		args.Join.Key = s.tailnet.Keys[name]
		// The machine is destroyed before the tunnel: Cloudflare refuses to delete one that still has connectors; and
		// before its place in the tailnet.
		args.DependsOn = append(slices.Concat(s.checked, s.edge.Done, s.cluster.Done), s.tailnet.Devices[name])
		prepared, err := machine.New(s.ctx, "machine-"+name, args)
		if err != nil {
			return err
		}
		s.machines[name] = prepared
	}
	return nil
}

// machineArgs is what the settings ask of a host.
func (s *stack) machineArgs(name string) *machine.Args {
	h := s.cfg.Hosts[name]
	args := &machine.Args{
		Host:     s.host(name),
		Packages: h.Packages,
		Sysctl:   h.Sysctl,
		Firewall: machine.Firewall{
			BootstrapSources: h.BootstrapSources,
			SSHPort:          h.Port,
			PodCIDR:          s.cfg.Cluster.ClusterCIDR,
			ServiceCIDR:      s.cfg.Cluster.ServiceCIDR,
		},
		Join: s.join(name),
	}
	if slices.Contains(h.Roles, roleServer) || slices.Contains(h.Roles, roleAgent) {
		for _, other := range s.nodeNames() {
			if addr, err := netip.ParseAddr(s.cfg.nodeAddress(other)); err == nil && other != name {
				args.Firewall.Nodes = append(args.Firewall.Nodes, addr)
			}
		}
	}
	return args
}

// join is how a host enters the tailnet; the key is known later.
func (s *stack) join(name string) machine.Join {
	return machine.Join{
		LoginServer: s.cfg.Tailnet.LoginServer,
		Tags:        s.tailnetArgs().Tags(s.tailnetHost(name)),
		Key:         pulumi.String(""),
	}
}

// nodeNames are the hosts that k3s runs on: servers, the first one in front, then agents.
func (s *stack) nodeNames() []string {
	servers := s.cfg.servers()
	return append(servers, slices.DeleteFunc(s.cfg.withRole(roleAgent), func(name string) bool {
		return slices.Contains(servers, name)
	})...)
}

// nodeAddress is where the cluster's other nodes reach one. A node alone leaves it to k3s, unless it is set: behind a
// translated address the public one is on none of its interfaces.
func (c Config) nodeAddress(name string) string {
	h := c.Hosts[name]
	if len(c.withRole(roleServer))+len(c.withRole(roleAgent)) <= 1 {
		return h.NodeAddress
	}
	return cmp.Or(h.NodeAddress, h.Address)
}

func (s *stack) installNodes() error {
	for _, name := range s.nodeNames() {
		node, err := k3s.NewNode(s.ctx, "k3s-"+name, &k3s.NodeArgs{
			Cluster: s.cluster, Host: s.hosts[name], DependsOn: s.machines[name].Done,
		})
		if err != nil {
			return err
		}
		s.server = cmp.Or(s.server, node)
		s.nodes = append(s.nodes, node.Done...)
	}
	return nil
}

func (s *stack) clusterArgs() *k3s.ClusterArgs {
	c := s.cfg.Cluster
	args := &k3s.ClusterArgs{Spec: k3s.Spec{
		Version:              c.Version,
		AcceptVersion:        c.AcceptVersion,
		Binaries:             map[string]k3s.Artifact{},
		InstallScript:        k3s.Artifact(c.InstallScript),
		ClusterCIDR:          c.ClusterCIDR,
		ServiceCIDR:          c.ServiceCIDR,
		TLSSANs:              c.TLSSANs,
		Disable:              c.Disable,
		KubeletArgs:          c.KubeletArgs,
		APIServerArgs:        c.APIServerArgs,
		PrivilegedNamespaces: c.PrivilegedNamespaces,
		FlannelBackend:       c.FlannelBackend,
		LooseKernelDefaults:  !c.ProtectKernelDefaults,
		Requires:             []string{machine.FirewallUnit},
		Renewal:              c.Renewal,
	}}
	for arch, binary := range c.Binaries {
		args.Spec.Binaries[arch] = k3s.Artifact(binary)
	}
	if snapshots := c.Snapshots; snapshots != nil {
		converted := k3s.Snapshots(*snapshots)
		args.Spec.Snapshots = &converted
	}
	for _, name := range s.nodeNames() {
		args.Nodes = append(args.Nodes, k3s.Member{
			Name: name, Address: s.cfg.nodeAddress(name), Agent: slices.Contains(s.cfg.Hosts[name].Roles, roleAgent),
		})
	}
	return args
}

func (s *stack) connectCluster() (err error) {
	s.kubernetes, err = kubernetes.NewProvider(s.ctx, "kubernetes", &kubernetes.ProviderArgs{
		Kubeconfig: s.server.Kubeconfig,
		// Without it an unknown kubeconfig would preview the replacement of every object (pulumi/pulumi#4326).
		ClusterIdentifier:     pulumi.String(project + "-" + s.cfg.Stack),
		EnableServerSideApply: pulumi.Bool(true),
		// An interrupted or lost run left objects behind: adopt them. The price is that renaming a resource needs an
		// alias, or its object is deleted.
		UpsertExistingObjects: pulumi.Bool(true),
		// Changed credentials and variables are updated in place; by default the object would be deleted and made anew
		// under the controllers that read it.
		EnableConfigMapMutable: pulumi.Bool(true),
		EnableSecretMutable:    pulumi.Bool(true),
		// DeleteUnreachable stays off: one network failure during a refresh would empty the state. To destroy a stack
		// whose machine is gone, set PULUMI_K8S_DELETE_UNREACHABLE=true for that one command.
	})
	return err
}

func (s *stack) storeCredentials() error {
	plugin, err := databases.NewPlugin(s.ctx, "backup-plugin")
	if err != nil {
		return err
	}
	wanted := map[string]*credentials.Args{
		"connectors": {
			Namespace:       connectorNamespace,
			CreateNamespace: true,
			Protect:         s.cfg.Protect,
			Name:            connectorSecret,
			Data:            map[string]pulumi.StringInput{"token": s.edge.TunnelToken},
		},
		"backup-plugin-server": {
			Namespace:       databases.Namespace,
			CreateNamespace: true,
			Protect:         s.cfg.Protect,
			Name:            databases.PluginServerSecret,
			Type:            databases.PluginSecretType,
			Data:            plugin.Server,
			DeletedWith:     s.server.Done[0],
		},
	}
	if snapshots := s.clusterArgs().Spec.Snapshots; snapshots != nil {
		accessKey, secretKey := s.cfg.Secrets.S3AccessKey.Output(), s.cfg.Secrets.S3SecretKey.Output()
		wanted["snapshots"] = &credentials.Args{
			Namespace: k3s.SnapshotNamespace,
			Name:      k3s.SnapshotSecretName,
			Type:      k3s.SnapshotSecretType,
			Data:      k3s.SnapshotCredentials(snapshots, accessKey, secretKey),
		}
	}
	if backups := s.backups(); backups != nil {
		var senders []*credentials.Args
		for _, namespace := range backups.Namespaces {
			senders = append(senders, s.backupCredentials(namespace))
		}
		if backups.Volumes {
			senders = append(senders, s.volumeCredentials())
		}
		for _, args := range senders {
			// Its objects have finalizers of operators that go before it.
			args.DeletedWith = s.server.Done[0]
			wanted["backups-"+args.Namespace] = args
		}
	}
	for _, name := range sortedKeys(wanted) {
		if err := s.store(name, wanted[name], s.server.Done); err != nil {
			return err
		}
	}
	// In a namespace that was made above.
	return s.store("backup-plugin-client", &credentials.Args{
		Namespace: databases.Namespace,
		Name:      databases.PluginClientSecret,
		Type:      databases.PluginSecretType,
		Data:      plugin.Client,

		DeletedWith: s.server.Done[0],
	}, s.beforeFlux)
}

// store makes a Secret that has to be there before Flux starts.
func (s *stack) store(name string, args *credentials.Args, after []pulumi.Resource) error {
	args.DependsOn = after
	secret, err := credentials.New(s.ctx, name, args, pulumi.Providers(s.kubernetes))
	if err != nil {
		return err
	}
	s.beforeFlux = append(s.beforeFlux, secret.Done...)
	return nil
}

// backups is where the databases' copies go, or nil.
func (s *stack) backups() *databases.Backups { return (*databases.Backups)(s.cfg.Backups) }

// backupCredentials is a database's namespace, with what its copies take.
func (s *stack) backupCredentials(namespace string) *credentials.Args {
	return &credentials.Args{
		Namespace:       namespace,
		CreateNamespace: true,
		Protect:         s.cfg.Protect,
		Name:            databases.BackupSecretName,
		Data: s.backups().Credentials(s.cfg.Secrets.BackupsAccessKey.Output(),
			s.cfg.Secrets.BackupsSecretKey.Output()),
	}
}

// volumeCredentials is Longhorn's namespace, with what the copies of its volumes take.
func (s *stack) volumeCredentials() *credentials.Args {
	args := s.backupCredentials(databases.VolumesNamespace)
	args.Privileged = databases.VolumesReason
	args.Data = s.backups().VolumeCredentials(s.cfg.Secrets.BackupsAccessKey.Output(),
		s.cfg.Secrets.BackupsSecretKey.Output())
	return args
}

func (s *stack) unlockSecrets() (err error) {
	s.keys, err = sealedsecrets.New(s.ctx, "sealed-secrets", &sealedsecrets.Args{
		Namespace:   sealedSecretsNamespace,
		Certificate: s.cfg.SealedSecrets.PEM,
		PrivateKey:  string(s.cfg.Secrets.SealingKey),
		Protect:     s.cfg.Protect,
		DependsOn:   s.server.Done,
	}, pulumi.Providers(s.kubernetes))
	return err
}

func (s *stack) startFlux() (err error) {
	args := s.fluxArgs()
	args.Host, args.Protect = s.hosts[s.cfg.firstServer()], s.cfg.Protect
	args.DependsOn = slices.Concat(s.keys.Done, s.beforeFlux, s.nodes)
	args.Variables[tunnelVariable] = s.edge.TokenFingerprint
	s.flux, err = flux.New(s.ctx, "flux", args, pulumi.Providers(s.kubernetes))
	return err
}

func (s *stack) fluxArgs() *flux.Args {
	f := s.cfg.Flux
	args := &flux.Args{
		Version: f.Version,
		Sync:    flux.Sync{URL: f.URL, Branch: f.Branch, Path: f.Path},
		Git: flux.Credentials{
			Username:   f.Username,
			Token:      s.cfg.Secrets.GitToken.Optional(),
			SSHKey:     s.cfg.Secrets.GitSSHKey.Optional(),
			KnownHosts: f.KnownHosts,
			CA:         f.CA,

			StatusToken: s.cfg.Secrets.GitStatusToken.Optional(),
		},
		Variables: variables(s.cfg),
		Revision:  f.Revision,
		Layers:    s.layers(),
	}
	return args
}

func (s *stack) holdHosts() error {
	for _, name := range sortedKeys(s.hosts) {
		if err := s.hosts[name].Hold(s.ctx); err != nil {
			return err
		}
	}
	return nil
}

// tunnelVariable is the variable that changes with the token of the tunnel's connectors: a pod reads it once, at its
// start, and has to be replaced for another.
const tunnelVariable = "tunnel_fingerprint"

// webhookTypes are the types of Flux' Receivers for each kind of git host. Gitea, and Forgejo, sign as GitHub does.
var webhookTypes = map[string]string{"github": "github", "gitea": "github", "gitlab": "gitlab"}

// facts are the variables that the program knows from the settings and hands to the manifests.
func facts(c Config) map[string]string {
	known := map[string]string{
		"environment":  path.Base(c.Flux.Path),
		"zone":         c.Cloudflare.Zone,
		"cluster_cidr": c.Cluster.ClusterCIDR,
		"service_cidr": c.Cluster.ServiceCIDR,
		"git_host":     c.Flux.Host,
		"webhook_type": webhookTypes[c.Flux.Host],
		// With no token there is nobody to tell.
		"commit_status_suspended": strconv.FormatBool(c.Secrets.GitStatusToken == ""),
	}
	if c.Backups != nil {
		maps.Copy(known, (*databases.Backups)(c.Backups).Variables())
	}
	maps.Copy(known, hostnames(c.Cloudflare.Ingress))
	return known
}

// clusterService is a Service of the cluster as a route names it: its name, then its namespace.
var clusterService = regexp.MustCompile(`^https?://([^./]+)\.([^./]+)\.svc(?:\.cluster\.local)?(?::[0-9]+)?/?$`)

// hostnames are the variables by which applications know their own address, hostname_<Service>: of the routes that lead
// to that Service, the first that is a whole hostname. Two Services of one name have none, for it would be either's.
func hostnames(routes []Route) map[string]string {
	known, namespaces := map[string]string{}, map[string]string{}
	for _, r := range routes {
		service := clusterService.FindStringSubmatch(r.Service)
		if service == nil || r.Path != "" || strings.HasPrefix(r.Hostname, "*.") {
			continue
		}
		name := "hostname_" + strings.ReplaceAll(service[1], "-", "_")
		switch namespace, before := namespaces[name]; {
		case !before:
			known[name], namespaces[name] = r.Hostname, service[2]
		case namespace != service[2]:
			delete(known, name)
		}
	}
	return known
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
