package edge

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// problems returns what is wrong with a route of a zone. A zone that is itself
// no domain is reported elsewhere and not held against the hostname.
func (r Route) problems(zone string) []error {
	var problems []error
	refuse := func(format string, values ...any) {
		problems = append(problems, fmt.Errorf(format, values...))
	}

	name, written := strings.TrimPrefix(r.Hostname, "*."), punycode(r.Hostname)
	switch {
	case written != "":
		refuse("hostname: %q is not written as DNS has it: no request could match it: write %s", r.Hostname, written)
	case !isDomain(name):
		refuse("hostname: %q is not a host name in lower case: no request could match it: write name.%s or "+
			"*.%s", r.Hostname, zone, zone)
	case isDomain(zone) && name != zone && !strings.HasSuffix(name, "."+zone):
		refuse("hostname: %q is outside the zone %q: its record cannot be created there: use a name ending in "+
			".%s", r.Hostname, zone, zone)
	}

	if r.Path != "" && !routePath.MatchString(r.Path) {
		refuse("path: %q does not begin with / and name parts of letters, digits, dots, hyphens and underscores, without a "+
			"/ at its end: it would be unclear what it is a part of: write it as in /ghost", r.Path)
	}
	if err := checkService(r.Service); err != nil {
		refuse("service: %w", err)
	}

	switch {
	case r.Access != Public && r.Access != Team:
		refuse("access: %q is unknown: it would be unclear who may call %s: set %q or %q", r.Access, r.Hostname, Public, Team)
	case r.Access == Team && isWildcard(r.Hostname):
		// The tunnel and DNS match a wildcard at any depth, Access at one level:
		// https://developers.cloudflare.com/cloudflare-one/access-controls/policies/app-paths/
		refuse("access: %q is a wildcard: the login would guard one level of names and leave deeper ones open: list every "+
			"hostname with access %q", r.Hostname, Team)
	}
	return problems
}

var routePath = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)+$`)

// at is the hostname with the path, as a person would write it.
func (r Route) at() string { return r.Hostname + r.Path }

// originSchemes are the URLs a connector can forward to. Its bastion and
// socks-proxy services are left out: they reach whatever the caller asks for.
var originSchemes = []string{"http", "https", "tcp", "ssh", "rdp", "smb"}

// checkService accepts what cloudflared accepts as the service of a rule.
func checkService(service string) error {
	if strings.Contains(service, "@") {
		// Not quoted: what stands before the @ may be a password.
		return errors.New("the URL holds a user name: it would stand in clear in the tunnel's configuration: remove it")
	}
	const fix = "write http://<service>.<namespace>:<port>, another of the schemes https, tcp, ssh, rdp and smb, " +
		"unix:<path>, or http_status:<code>"
	scheme, rest, _ := strings.Cut(service, ":")
	switch scheme {
	case "http_status":
		if code, err := strconv.Atoi(rest); err != nil || code < 100 || code > 999 {
			return fmt.Errorf("%q has no three-digit status code: the connectors would refuse the whole "+
				"configuration: %s", service, fix)
		}
		return nil
	case "unix", "unix+tls":
		if !strings.HasPrefix(rest, "/") {
			return fmt.Errorf("%q has no absolute path: the connectors could not open the socket: %s", service, fix)
		}
		return nil
	}

	parsed, err := url.Parse(service)
	if err != nil || !slices.Contains(originSchemes, parsed.Scheme) || parsed.Hostname() == "" || !isPort(parsed.Port()) {
		return fmt.Errorf("%q is not the URL of a service: the connectors would refuse the whole "+
			"configuration: %s", service, fix)
	}
	if parsed.Path != "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		return fmt.Errorf("%q goes on after the port: connectors keep the path of the request and refuse another one: cut "+
			"it off", service)
	}
	return nil
}

// isPort accepts an absent port: every scheme has a default.
func isPort(port string) bool {
	if port == "" {
		return true
	}
	number, err := strconv.Atoi(port)
	return err == nil && number >= 1 && number <= 65535
}

// punycode is a name with letters beyond ASCII as DNS has it, and "" for any other.
func punycode(name string) string {
	rest, isWild := strings.CutPrefix(name, "*.")
	written, err := idna.Lookup.ToASCII(rest)
	beyond := strings.ContainsFunc(rest, func(r rune) bool { return r > unicode.MaxASCII })
	if err != nil || !beyond || !isDomain(written) {
		return ""
	}
	if isWild {
		return "*." + written
	}
	return written
}
