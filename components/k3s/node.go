package k3s

import (
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

//go:embed node.sh
var nodeScript string

//go:embed member.sh
var memberScript string

//go:embed dismiss.sh
var dismissScript string

//go:embed uninstall.sh
var uninstallScript string

//go:embed kubeconfig.sh
var kubeconfigScript string

// NodeArgs describes a node.
type NodeArgs struct {
	// Cluster is the one the node belongs to; its member of the host's name says the role.
	Cluster *Cluster
	Host    *remote.Host
	// DependsOn are resources that must be there first.
	DependsOn []pulumi.Resource
}

// Node is k3s on one host. Its children:
//
//	<name>-server, <name>-agent  installation, configuration, readiness; uninstalls once the host is released
//	<name>-kubeconfig            of the first server: the administrator's kubeconfig
//	<name>-member                of every other node, run on the first server: its place in the cluster; sees before the
//	                             node is uninstalled that it has left
//
// Servers are worked on one after the other and agents after all of them, side by side: etcd takes one new member at a
// time, an upgrade must leave a majority at work, and no kubelet may be newer than an API server.
type Node struct {
	pulumi.ResourceState

	// Kubeconfig is the administrator's, for the host's name in the tailnet; of the first server only. Secret. Its
	// certificate is valid for a year, see Spec.Renewal.
	Kubeconfig pulumi.StringOutput
	// Done is what later steps depend on. The component itself would be expanded to the children registered by then,
	// which may be none.
	Done []pulumi.Resource
}

// NewNode registers the node and its children. Every change is an update in place: a replacement would uninstall the
// new node right after its installation, were the host not held.
func NewNode(ctx *pulumi.Context, name string, args *NodeArgs, opts ...pulumi.ResourceOption) (*Node, error) {
	fail := func(err error) (*Node, error) { return nil, fmt.Errorf("k3s node %q: %w", name, err) }
	cluster := args.Cluster
	member, err := cluster.member(args.Host.Name)
	if err != nil {
		return fail(err)
	}
	create, remove, err := cluster.args.texts(member, args.Host.FQDN())
	if err != nil {
		return fail(err)
	}
	first := member == servers(cluster.args.Nodes)[0]
	if !first && cluster.last == nil {
		return fail(errors.New("registered before the first server, which is to see it: this is a defect of the caller"))
	}
	n := &Node{}
	if err := ctx.RegisterComponentResource("tinyrack:k3s:Node", name, n, opts...); err != nil {
		return fail(err)
	}
	suffix, secret := "-server", pulumi.Sprintf("%s\n%s\n", cluster.Token, cluster.agentToken)
	if member.Agent {
		suffix, secret = "-agent", pulumi.Sprintf("%s\n", cluster.agentToken)
	}
	node, err := args.Host.Run(ctx, name+suffix, &remote.Command{Create: create, Delete: remove, Secret: secret},
		pulumi.Parent(n), pulumi.Protect(cluster.args.Protect && first), pulumi.DependsOn(args.DependsOn),
		pulumi.DependsOn(cluster.last))
	if err != nil {
		return fail(err)
	}
	n.Done = []pulumi.Resource{node}
	if !member.Agent {
		cluster.last = n.Done
	}
	outputs := pulumi.Map{}
	if first {
		if err := n.fetchKubeconfig(ctx, name, args, create); err != nil {
			return fail(err)
		}
		outputs["kubeconfig"] = n.Kubeconfig
	} else if err := n.place(ctx, name, cluster, member); err != nil {
		return fail(err)
	}
	if err := ctx.RegisterResourceOutputs(n, outputs); err != nil {
		return fail(err)
	}
	return n, nil
}

func (n *Node) fetchKubeconfig(ctx *pulumi.Context, name string, args *NodeArgs, server remote.Text) error {
	token, fqdn := args.Cluster.Token, args.Host.FQDN()
	kubeconfig, err := args.Host.Run(ctx, name+"-kubeconfig", &remote.Command{
		Create: remote.Text{
			Vars: []remote.Var{{Name: "GENERATION", Value: generation(server)}}, Body: kubeconfigScript,
		},
		Secret: pulumi.Sprintf("%s\n", token), SecretOutput: true, ReadOnly: true,
	}, pulumi.Parent(n))
	if err != nil {
		return err
	}
	n.Done = append(n.Done, kubeconfig)
	n.Kubeconfig = pulumi.ToSecret(pulumi.All(kubeconfig.Stdout, token).ApplyT(func(values []any) (string, error) {
		written, err := unseal(values[0].(string), values[1].(string))
		if err != nil {
			return "", err
		}
		if warning := renewalWarning(written, time.Now()); warning != "" {
			if err := ctx.Log.Warn(warning, &pulumi.LogArgs{Resource: n}); err != nil {
				return "", err
			}
		}
		return Kubeconfig(written, fqdn)
	})).(pulumi.StringOutput)
	return nil
}

// place registers the node's place in the cluster, on the first server. A node cannot leave by itself: when its delete
// script runs the other hosts' firewalls, updated before, admit it no longer.
func (n *Node) place(ctx *pulumi.Context, name string, cluster *Cluster, node Member) error {
	create, remove := memberTexts(node)
	command := &remote.Command{Create: create, Delete: remove, OwnGuard: true}
	member, err := cluster.args.First.Run(ctx, name+"-member", command, pulumi.Parent(n), pulumi.DependsOn(n.Done))
	if err != nil {
		return err
	}
	n.Done = append(n.Done, member)
	return nil
}

// memberTexts returns the scripts that the first server runs about another node.
func memberTexts(node Member) (create, remove remote.Text) {
	vars := []remote.Var{{Name: "NODE_NAME", Value: node.Name}}
	return remote.Text{Vars: vars, Body: memberScript}, remote.Text{Vars: vars, Body: leaveScript + dismissScript}
}

// texts returns a node's own scripts.
func (a *ClusterArgs) texts(node Member, fqdn string) (create, remove remote.Text, err error) {
	s := &a.Spec
	config, err := s.Config(a.Nodes, node, fqdn)
	if err != nil {
		return create, remove, err
	}
	admission, err := s.Admission()
	if err != nil {
		return create, remove, err
	}
	role, audit, sysctl, members := "server", auditPolicy, kernelDefaults, ""
	if node.Agent {
		role, audit, admission = "agent", "", ""
	}
	if s.LooseKernelDefaults {
		sysctl = ""
	}
	first := node == servers(a.Nodes)[0]
	if first {
		// The first server keeps the list: by it a node that leaves is told from one whose resources are replaced.
		members = names(a.Nodes)
	}
	var peers []string
	for _, other := range servers(a.Nodes) {
		if other != node {
			peers = append(peers, bracket(other.Address))
		}
	}
	shared := []remote.Var{
		{Name: "ROLE", Value: role},
		{Name: "NODE_NAME", Value: node.Name},
	}
	create.Vars = slices.Concat(shared, []remote.Var{
		{Name: "PEERS", Value: strings.Join(peers, " ")},
		{Name: "FIRST", Value: yes(first)},
		{Name: "VERSION", Value: s.Version},
		{Name: "AMD64_URL", Value: s.Binaries["amd64"].URL},
		{Name: "AMD64_SHA256", Value: s.Binaries["amd64"].SHA256},
		{Name: "ARM64_URL", Value: s.Binaries["arm64"].URL},
		{Name: "ARM64_SHA256", Value: s.Binaries["arm64"].SHA256},
		{Name: "INSTALL_URL", Value: s.InstallScript.URL},
		{Name: "INSTALL_SHA256", Value: s.InstallScript.SHA256},
		{Name: "CLUSTER_CIDR", Value: s.ClusterCIDR},
		{Name: "SERVICE_CIDR", Value: s.ServiceCIDR},
		{Name: "CONFIG", Value: config},
		{Name: "AUDIT", Value: strings.TrimSuffix(audit, "\n")},
		{Name: "ADMISSION", Value: admission},
		{Name: "KERNEL", Value: strings.TrimSuffix(sysctl, "\n")},
		{Name: "UNIT_DROP_IN", Value: s.unit()},
		{Name: "RENEWAL", Value: s.Renewal},
		{Name: "NODES", Value: members},
	})
	create.Body = remote.Cluster + nodeScript
	remove = remote.Text{Vars: shared, Body: uninstallScript}
	return create, remove, nil
}

// renewalWarning says that a kubeconfig ends within 60 days. It changes no resource: a preview is the same on any day.
func renewalWarning(kubeconfig string, now time.Time) string {
	end := expiry(kubeconfig)
	if end.IsZero() || end.After(now.AddDate(0, 0, 60)) {
		return ""
	}
	return fmt.Sprintf("the kubeconfig's certificate ends on %s: from then on nothing could be deployed: write another "+
		"text into cluster.renewal, like %q", end.UTC().Format(time.DateOnly), now.UTC().Format("2006-01"))
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func names(nodes []Member) string {
	all := make([]string, len(nodes))
	for i, n := range nodes {
		all[i] = n.Name
	}
	return strings.Join(all, " ")
}

// generation names a server's installation: it changes with anything that makes k3s restart or renew its certificates.
func generation(text remote.Text) string {
	hash := sha256.New()
	for _, v := range text.Vars {
		fmt.Fprintf(hash, "%s=%s\n", v.Name, v.Value)
	}
	return fmt.Sprintf("%x", hash.Sum(nil))[:12]
}
