package edge

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/sdks/cloudflare"
)

// rule is one line of a tunnel's configuration. An empty hostname matches all.
type rule struct {
	Hostname string `json:"hostname,omitempty"`
	Path     string `json:"path,omitempty"`
	Service  string `json:"service"`
}

// ingressConfig makes the tunnel's rules from the routes. Connectors use the
// first rule that matches, so full names stand before wildcards, longer
// wildcards before shorter ones and longer paths before shorter ones, sorted so
// that the order of the list changes nothing. The last rule answers 404 to
// everything else.
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
		return cmp.Or(strings.Compare(a.Hostname, b.Hostname), strings.Count(b.Path, "/")-strings.Count(a.Path, "/"),
			strings.Compare(a.Path, b.Path))
	})
	rules := make([]rule, 0, len(routes)+1)
	for _, route := range sorted {
		rules = append(rules, rule{Hostname: route.Hostname, Path: pathPattern(route.Path), Service: route.Service})
	}
	return append(rules, rule{Service: "http_status:404"})
}

// pathPattern matches a path and all below it, and not one that only begins like it.
func pathPattern(path string) string {
	if path == "" {
		return ""
	}
	return "^" + regexp.QuoteMeta(path) + "(/|$)"
}

// ingressArgs hands rules to the provider.
func ingressArgs(rules []rule) []cloudflare.TunnelIngressArgs {
	args := make([]cloudflare.TunnelIngressArgs, 0, len(rules))
	for _, r := range rules {
		arg := cloudflare.TunnelIngressArgs{Service: pulumi.String(r.Service)}
		if r.Hostname != "" {
			arg.Hostname = pulumi.String(r.Hostname)
		}
		if r.Path != "" {
			arg.Path = pulumi.String(r.Path)
		}
		args = append(args, arg)
	}
	return args
}
