// Package stacks turns the settings of one environment into its resources.
package stacks

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Run deploys the selected stack.
func Run(ctx *pulumi.Context) error {
	src, err := fromEnvironment(ctx)
	if err != nil {
		return err
	}
	cfg, err := Load(src)
	if err != nil {
		return err
	}
	if ctx.DryRun() {
		if err := ctx.Log.Info(summary(cfg), nil); err != nil {
			return err
		}
	}
	s := &stack{ctx: ctx, cfg: cfg}
	return s.deploy()
}

// deploy takes the steps of the system in their order.
func (s *stack) deploy() error {
	for _, step := range []func() error{
		s.connectClouds,    // Cloudflare and Tailscale, by explicit providers
		s.reachHosts,       // the one way to each machine
		s.preflight,        // look at everything before changing anything
		s.secureTailnet,    // policy, DNS and a join key for each host
		s.publish,          // tunnel, DNS records and Access for the hostnames
		s.gatherCluster,    // its token; nodes that are no longer listed leave it
		s.prepareHosts,     // firewall, packages, tailnet
		s.installNodes,     // k3s on servers and agents, and the kubeconfig
		s.connectCluster,   // Kubernetes, by an explicit provider
		s.storeCredentials, // what k3s and Flux expect as Secrets
		s.unlockSecrets,    // the key that opens what is sealed in git
		s.startFlux,        // from here on git says what runs
		s.holdHosts,        // until they leave, no delete undoes anything on them
		s.export,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
