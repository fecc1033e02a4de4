package stacks

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/flux"
)

// export publishes what a person or the next tool needs from the stack. What
// opens something is secret: `pulumi stack output NAME --show-secrets`.
func (s *stack) export() error {
	hostnames := pulumi.StringArray{}
	for _, route := range s.cfg.Cloudflare.Ingress {
		hostnames = append(hostnames, pulumi.String(route.Hostname+route.Path))
	}
	// Where the git host tells of a push, and the key that it signs with. Without a route nobody can.
	for _, route := range s.cfg.Cloudflare.Ingress {
		if route.Service == flux.ReceiverService {
			s.ctx.Export("webhookUrl", pulumi.Sprintf("https://%s%s", route.Hostname, s.flux.WebhookPath))
			s.ctx.Export("webhookSecret", s.flux.WebhookToken)
		}
	}
	addresses := pulumi.StringMap{}
	for name, prepared := range s.machines {
		addresses[name] = prepared.TailnetAddress
	}
	for name, value := range map[string]pulumi.Input{
		// The cluster.
		"apiServer":  pulumi.Sprintf("https://%s:%d", s.hosts[s.cfg.firstServer()].FQDN(), apiPort),
		"kubeconfig": pulumi.ToSecret(s.server.Kubeconfig),
		// Restoring etcd on another machine takes the original token: keep it with the sealing key (k3s-io/docs#454).
		"k3sToken": pulumi.ToSecret(s.cluster.Token),
		// The hosts, by name.
		"tailnetAddresses": addresses,
		// The public side.
		"hostnames":   hostnames,
		"tunnelId":    s.edge.TunnelID,
		"tunnelToken": pulumi.ToSecret(s.edge.TunnelToken),
		// What Flux was Ready on when the stack last changed.
		"fluxRevision": s.flux.Revision,
	} {
		s.ctx.Export(name, value)
	}
	return nil
}
