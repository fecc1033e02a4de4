package edge

import (
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/sdks/cloudflare"
)

// rule is one line of a tunnel's configuration. An empty hostname matches all.
type rule struct {
	Hostname string `json:"hostname,omitempty"`
	Service  string `json:"service"`
}

// ingressConfig makes the tunnel's rules from the routes. Connectors use the
// first rule that matches, so full names stand before wildcards and longer
// wildcards before shorter ones, sorted so that the order of the list changes
// nothing. The last rule answers 404 to everything else.
func ingressConfig(routes []Route) []rule {
	sorted := slices.SortedFunc(slices.Values(routes), func(a, b Route) int {
		if isWildcard(a.Hostname) != isWildcard(b.Hostname) {
			if isWildcard(b.Hostname) {
				return -1
			}
			return 1
		}
		if depth := strings.Count(b.Hostname, ".") - strings.Count(a.Hostname, "."); isWildcard(a.Hostname) && depth != 0 {
			return depth
		}
		return strings.Compare(a.Hostname, b.Hostname)
	})
	rules := make([]rule, 0, len(routes)+1)
	for _, route := range sorted {
		rules = append(rules, rule{Hostname: route.Hostname, Service: route.Service})
	}
	return append(rules, rule{Service: "http_status:404"})
}

// ingressArgs hands rules to the provider.
func ingressArgs(rules []rule) []cloudflare.TunnelIngressArgs {
	args := make([]cloudflare.TunnelIngressArgs, 0, len(rules))
	for _, r := range rules {
		arg := cloudflare.TunnelIngressArgs{Service: pulumi.String(r.Service)}
		if r.Hostname != "" {
			arg.Hostname = pulumi.String(r.Hostname)
		}
		args = append(args, arg)
	}
	return args
}
