package stacks

import (
	"fmt"
	"strings"
)

// summary is what a person can check before anything is changed: whose site this is, and who gets what. Nothing in it
// is secret.
func summary(c Config) string {
	var out strings.Builder
	line := func(what, format string, a ...any) {
		if what != "" {
			what += ":"
		}
		fmt.Fprintf(&out, "\n  %-10s %s", what, fmt.Sprintf(format, a...))
	}
	fmt.Fprintf(&out, "stack %s is this site:", c.Stack)
	line("cloud", "zone %s, tunnel %s, account %s", c.Cloudflare.Zone, c.Cloudflare.Tunnel, c.Cloudflare.AccountID)
	what := "visitors"
	for _, route := range c.Cloudflare.Ingress {
		who := "everybody"
		if route.Access != "public" {
			who = strings.Join(c.Cloudflare.AccessEmails, ", ")
		}
		line(what, "%s%s for %s", route.Hostname, route.Path, who)
		what = ""
	}
	policy := "its whole policy is written anew from the roles"
	if c.Tailnet.PolicyFile != "" {
		policy += " and " + c.Tailnet.PolicyFile
	}
	line("tailnet", "%s, admins %s: %s", c.Tailnet.Domain, strings.Join(c.Tailnet.Admins, ", "), policy)
	what = "machines"
	for _, name := range sortedKeys(c.Hosts) {
		host := c.Hosts[name]
		open := "shut to the Internet"
		if len(host.BootstrapSources) > 0 {
			open = "SSH open to " + strings.Join(host.BootstrapSources, ", ")
		}
		line(what, "%s (%s) %s@%s port %d, %s",
			name, strings.Join(host.Roles, ", "), host.User, host.Address, host.Port, open)
		what = ""
	}
	line("git", "%s, branch %s, %s", c.Flux.URL, c.Flux.Branch, c.Flux.Path)
	if s := c.Cluster.Snapshots; s != nil {
		line("snapshots", "%s, bucket %s", s.Endpoint, s.Bucket)
	}
	if b := c.Backups; b != nil {
		line("copies", "%s, bucket %s, of %s", b.Endpoint, b.Bucket, strings.Join(b.Namespaces, ", "))
	}
	if c.restoring() {
		line("restore", "phase %s, from incarnation %d", c.Restore.Phase, c.Restore.From)
	}
	return out.String()
}
