package edge

import (
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// What may be asked of who calls a hostname.
const (
	// Public lets everybody through.
	Public = "public"
	// Team lets those through who log in with one of the AccessEmails.
	Team = "team"
)

// Args describes an Edge.
type Args struct {
	// AccountID and ZoneID are Cloudflare's 32 hexadecimal digits.
	AccountID string
	ZoneID    string
	// Zone is the domain of ZoneID. Every hostname lies in it.
	Zone string
	// TunnelName is shown in the dashboard and is unique in the account.
	TunnelName string
	// Ingress is the one list that tunnel rules, DNS records and Access
	// applications are made of. Its order has no meaning.
	Ingress []Route
	// AccessEmails are the people who may use the team's hostnames.
	AccessEmails []string
	// API finds what an interrupted deployment created without noting it down,
	// so that the next one goes on. Without its token nothing is looked for, and
	// Cloudflare refuses a second tunnel, record or login of the same name.
	API API
	// Protect keeps the tunnel from being deleted or replaced by Pulumi: every record leads to its ID.
	Protect bool
	// DependsOn is waited for before anything is created. It is an argument
	// because children do not inherit a component's own dependencies.
	DependsOn []pulumi.Resource
}

// Route leads one hostname, or a part of it, to one service.
type Route struct {
	// Hostname is the zone itself, a name in it, or *.<such a name>.
	Hostname string
	// Path is where the part begins, such as /ghost: it and all below it. Empty is the hostname, but for the parts that
	// other routes name.
	Path string
	// Service is where a connector finds the service, seen from the cluster:
	// http, https, tcp, ssh, rdp or smb with host and port, unix:<path>,
	// unix+tls:<path>, or http_status:<code>.
	Service string
	// Access is Public or Team.
	Access string
}

var (
	cloudflareID = regexp.MustCompile(`^[0-9a-f]{32}$`)
	domain       = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

const maxDomain = 253

func isDomain(name string) bool { return len(name) <= maxDomain && domain.MatchString(name) }

func isWildcard(hostname string) bool { return strings.HasPrefix(hostname, "*.") }

// guardOf is the route whose login a route of a path lies behind.
func (a *Args) guardOf(r Route) (guard string, found bool) {
	for _, other := range a.Ingress {
		if other.Access == Team && other.Hostname == r.Hostname && other.Path != r.Path &&
			strings.HasPrefix(r.Path+"/", other.Path+"/") {
			return other.at(), true
		}
	}
	return "", false
}

// Validate returns everything that is wrong with the arguments, joined. Each
// line reads "key: value: consequence: fix".
func (a *Args) Validate() error {
	var problems []error
	refuse := func(format string, values ...any) {
		problems = append(problems, fmt.Errorf(format, values...))
	}
	for _, id := range []struct{ key, value string }{{"accountId", a.AccountID}, {"zoneId", a.ZoneID}} {
		if !cloudflareID.MatchString(id.value) {
			refuse("%s: %q is not 32 lower-case hexadecimal digits: Cloudflare would refuse every request: copy it from the "+
				"zone's overview page", id.key, id.value)
		}
	}
	if written := punycode(a.Zone); written != "" {
		refuse("zone: %q is not written as DNS has it: no hostname could be checked against it: write %s", a.Zone, written)
	} else if !isDomain(a.Zone) {
		refuse("zone: %q is not a domain name in lower case: no hostname could be checked against it: set the domain of "+
			"zoneId", a.Zone)
	}
	if strings.TrimSpace(a.TunnelName) == "" {
		refuse("tunnel: empty: Cloudflare refuses a tunnel without a name: set one that is unique in the account")
	}

	seen, team := map[string]int{}, false
	for i, route := range a.Ingress {
		key := fmt.Sprintf("ingress[%d]", i)
		for _, err := range route.problems(a.Zone) {
			refuse("%s.%w", key, err)
		}
		if first, found := seen[route.at()]; found {
			refuse("%s.hostname: %q is already ingress[%d]: only the first rule would ever be used: remove one of "+
				"them", key, route.at(), first)
		} else {
			seen[route.at()] = i
		}
		if guard, found := a.guardOf(route); found && route.Access == Public {
			refuse("%s.access: %q, and all of %s asks for a login: nobody would get to %s without one: give both the same "+
				"access, or the path a hostname of its own", key, Public, guard, route.at())
		}
		team = team || route.Access == Team
	}

	if team && len(a.AccessEmails) == 0 {
		refuse("accessEmails: empty: nobody could pass the login of a hostname with access %q: list who may, or set "+
			"access %q", Team, Public)
	}
	for i, email := range a.AccessEmails {
		if address, err := mail.ParseAddress(email); err != nil || address.Address != email {
			refuse("accessEmails[%d]: %q is not an e-mail address: this person could not log in: write it as "+
				"name@domain", i, email)
		}
		if slices.Contains(a.AccessEmails[:i], email) {
			refuse("accessEmails[%d]: %q is listed twice: removing it once would leave the access open: remove one of "+
				"them", i, email)
		}
	}
	return errors.Join(problems...)
}
