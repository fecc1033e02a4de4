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
	s := &stack{ctx: ctx, cfg: cfg}
	return s.deploy()
}

// deploy takes the steps of the system in their order.
func (s *stack) deploy() error {
	for _, step := range []func() error{
		s.connectClouds,  // Cloudflare and Tailscale, by explicit providers
		s.preflight,      // look at everything before changing anything
		s.publish,        // tunnel, DNS records and Access for the hostnames
		s.secureTailnet,  // policy, DNS and the machine's join key
		s.prepareMachine, // packages, kernel, tailnet, firewall
		s.installK3s,     // the cluster and its kubeconfig
		s.connectCluster, // Kubernetes, by an explicit provider
		s.storeSnapshots, // credentials for etcd snapshots
		s.unlockSecrets,  // the key that opens what is sealed in git
		s.startFlux,      // from here on git says what runs
		s.export,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
