package k3s

import (
	"crypto/hmac"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

//go:embed leave.sh
var leaveScript string

//go:embed nodes.sh
var nodesScript string

// ClusterArgs describes a cluster.
type ClusterArgs struct {
	Spec Spec
	// Nodes are all of them. The first server initialises the cluster; NewNode is called for the servers in this order,
	// then for the agents.
	Nodes []Member
	// First is the host of the first server.
	First *remote.Host
	// Token is the cluster's, as it lies on a server in /var/lib/rancher/k3s/server/token or without what stands before
	// "::server:". Nil: a generated one. Secret.
	Token pulumi.StringInput
	// Protect keeps the token and the first server from being deleted or replaced by Pulumi. Other nodes leave the cluster
	// by leaving Nodes.
	Protect bool
	// DependsOn are resources that must be there before a node is taken out of the cluster.
	DependsOn []pulumi.Resource
}

// Cluster is what its nodes share. Its children:
//
//	<name>-token  a generated one, used where none is given
//	<name>-nodes  run on the first server: takes those out of the cluster that are no longer among Nodes
type Cluster struct {
	pulumi.ResourceState

	// Token lets servers join and opens restored snapshots (k3s-io/docs#454): keep a copy outside the cluster. Secret.
	Token pulumi.StringOutput
	// Done is what has to wait until those have left who leave: the firewalls of the hosts that stay, above all.
	Done []pulumi.Resource

	args *ClusterArgs
	// agentToken lets agents join and nothing else: who takes over an agent does not become a server.
	agentToken pulumi.StringOutput
	// last is the server that was registered last.
	last []pulumi.Resource
}

// Validate returns every problem with the arguments.
func (a *ClusterArgs) Validate() error {
	return errors.Join(a.Spec.Validate(), a.ValidateNodes())
}

// NewCluster registers the cluster.
func NewCluster(ctx *pulumi.Context, name string, args *ClusterArgs, opts ...pulumi.ResourceOption) (*Cluster, error) {
	fail := func(err error) (*Cluster, error) { return nil, fmt.Errorf("k3s cluster %q: %w", name, err) }
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	c := &Cluster{args: args}
	if err := ctx.RegisterComponentResource("tinyrack:k3s:Cluster", name, c, opts...); err != nil {
		return fail(err)
	}
	// Also beside a given one, which comes after a run that made this and was refused: it is protected, and its removal
	// would be refused as well. Letters and digits only: the token is a line of a file.
	generated, err := random.NewRandomPassword(ctx, name+"-token", &random.RandomPasswordArgs{
		Length:  pulumi.Int(48),
		Special: pulumi.Bool(false),
	}, pulumi.Parent(c), pulumi.Protect(args.Protect))
	if err != nil {
		return fail(err)
	}
	given := args.Token
	if given == nil {
		given = generated.Result
	}
	c.Token = pulumi.ToSecret(given.ToStringOutput().ApplyT(bareToken)).(pulumi.StringOutput)
	c.agentToken = pulumi.ToSecret(c.Token.ApplyT(agentToken)).(pulumi.StringOutput)
	nodes, err := args.First.Run(ctx, name+"-nodes", &remote.Command{Create: args.nodesText()}, pulumi.Parent(c),
		pulumi.DependsOn(args.DependsOn))
	if err != nil {
		return fail(err)
	}
	c.Done = []pulumi.Resource{nodes}
	if err := ctx.RegisterResourceOutputs(c, pulumi.Map{"token": c.Token}); err != nil {
		return fail(err)
	}
	return c, nil
}

// nodesText returns the script of <name>-nodes.
func (a *ClusterArgs) nodesText() remote.Text {
	return remote.Text{Vars: []remote.Var{{Name: "NODES", Value: names(a.Nodes)}}, Body: leaveScript + nodesScript}
}

// bareToken returns the part of a token that is the secret. Its error does not show it.
func bareToken(token string) (string, error) {
	token = strings.TrimSpace(token)
	if at := strings.LastIndex(token, "::server:"); strings.HasPrefix(token, "K10") && at > 0 {
		token = token[at+len("::server:"):]
	}
	switch {
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }):
		return "", errors.New("k3sToken: has blanks, colons or other characters that no token has: no node could log in: " +
			"copy the line of /var/lib/rancher/k3s/server/token from a server")
	case len(token) < 16:
		return "", errors.New("k3sToken: shorter than 16 characters: it could be guessed by whoever reaches the API: leave " +
			"it out and let one be generated")
	}
	return token, nil
}

// agentToken is derived, so that there is one secret to keep and not two.
func agentToken(token string) string {
	mac := hmac.New(sha256.New, []byte(token))
	mac.Write([]byte("tinyrack agent"))
	return hex.EncodeToString(mac.Sum(nil))
}

// member returns the node of a name.
func (c *Cluster) member(name string) (Member, error) {
	at := slices.IndexFunc(c.args.Nodes, func(m Member) bool { return m.Name == name })
	if at < 0 {
		return Member{}, fmt.Errorf("host %s: not among the cluster's nodes: the others would not admit it: this is a "+
			"defect of the caller", name)
	}
	return c.args.Nodes[at], nil
}
