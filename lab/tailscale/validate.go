package tailscale

import (
	"fmt"
	"maps"
	"net/http"
	"net/mail"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

var labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// validate refuses names that are not defined and rules that can have no meaning.
// Like the service, it reports the first problem.
func (p *policy) validate() error {
	for field, value := range map[string][]byte{
		"postures": p.Postures, "defaultSrcPosture": p.DefaultSrcPosture,
		"ipsets": p.IPSets,
	} {
		if value != nil {
			return notEmulated(field)
		}
	}
	for _, check := range []func() error{
		p.validateNames, p.validateACLs, p.validateGrants, p.validateSSH,
		p.validateApprovers,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func badPolicy(format string, args ...any) error {
	return refuse(http.StatusBadRequest, format, args...)
}

// notEmulated is loud: a rule that the evaluator skips would make tests pass or
// fail by chance.
func notEmulated(field string) error {
	return refuse(http.StatusNotImplemented, "%s in a policy is not emulated by the lab: add it to the emulator", field)
}

func (p *policy) validateNames() error {
	for _, group := range slices.Sorted(maps.Keys(p.Groups)) {
		if !strings.HasPrefix(group, "group:") || len(group) == len("group:") {
			return badPolicy("groups: %q does not start with group:", group)
		}
		for _, member := range p.Groups[group] {
			if !isUser(member) {
				return badPolicy("groups: %q: member %q is not a user: groups cannot be nested", group, member)
			}
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(p.TagOwners)) {
		if !strings.HasPrefix(tag, "tag:") || !labelPattern.MatchString(strings.TrimPrefix(tag, "tag:")) {
			return badPolicy("tagOwners: %q is not a valid tag", tag)
		}
		for _, owner := range p.TagOwners[tag] {
			if err := p.known("tagOwners", owner, "user", "group", "tag", "autogroup"); err != nil {
				return err
			}
		}
	}
	for _, host := range slices.Sorted(maps.Keys(p.Hosts)) {
		if _, err := parsePrefix(p.Hosts[host]); err != nil {
			return badPolicy("hosts: %q: %q is not an IP address or prefix", host, p.Hosts[host])
		}
	}
	return nil
}

func (p *policy) validateACLs() error {
	for i, rule := range p.ACLs {
		where := fmt.Sprintf("acls[%d]", i)
		if rule.SrcPosture != nil {
			return notEmulated("srcPosture")
		}
		if rule.Action != "accept" {
			return badPolicy("%s: action %q: only accept is supported", where, rule.Action)
		}
		if len(rule.Src) == 0 || len(rule.Dst) == 0 {
			return badPolicy("%s: src and dst are required", where)
		}
		for _, src := range rule.Src {
			if err := p.known(where+".src", src, endpoints...); err != nil {
				return err
			}
		}
		for _, dst := range rule.Dst {
			host, _, err := splitPorts(dst)
			if err != nil {
				return badPolicy("%s.dst: %v", where, err)
			}
			if err := p.known(where+".dst", host, endpoints...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *policy) validateGrants() error {
	for i, rule := range p.Grants {
		where := fmt.Sprintf("grants[%d]", i)
		switch {
		case rule.SrcPosture != nil:
			return notEmulated("srcPosture")
		case rule.Via != nil:
			return notEmulated("via")
		case len(rule.Src) == 0 || len(rule.Dst) == 0:
			return badPolicy("%s: src and dst are required", where)
		case len(rule.IP) == 0 && len(rule.App) == 0:
			return badPolicy("%s: ip or app is required", where)
		}
		for _, src := range rule.Src {
			if err := p.known(where+".src", src, endpoints...); err != nil {
				return err
			}
		}
		for _, dst := range rule.Dst {
			if err := p.known(where+".dst", dst, endpoints...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *policy) validateSSH() error {
	for i, rule := range p.SSH {
		where := fmt.Sprintf("ssh[%d]", i)
		if rule.Action != "accept" && rule.Action != "check" {
			return badPolicy("%s: action %q must be accept or check", where, rule.Action)
		}
		if len(rule.Src) == 0 || len(rule.Dst) == 0 || len(rule.Users) == 0 {
			return badPolicy("%s: src, dst and users are required", where)
		}
		if rule.SrcPosture != nil {
			return notEmulated("srcPosture")
		}
		for _, src := range rule.Src {
			if err := p.known(where+".src", src, "user", "group", "tag", "autogroup"); err != nil {
				return err
			}
		}
		for _, dst := range rule.Dst {
			if err := p.known(where+".dst", dst, "user", "tag", "autogroup"); err != nil {
				return err
			}
			if dst == "autogroup:self" && slices.ContainsFunc(rule.Src,
				func(src string) bool { return strings.HasPrefix(src, "tag:") }) {
				return badPolicy("%s: a tag in src cannot have autogroup:self in dst: tagged devices belong to nobody",
					where)
			}
		}
	}
	return nil
}

func (p *policy) validateApprovers() error {
	for _, route := range slices.Sorted(maps.Keys(p.AutoApprovers.Routes)) {
		if _, err := netip.ParsePrefix(route); err != nil {
			return badPolicy("autoApprovers.routes: %q is not a prefix", route)
		}
	}
	lists := slices.Collect(maps.Values(p.AutoApprovers.Routes))
	lists = append(lists, p.AutoApprovers.ExitNode)
	lists = append(lists, slices.Collect(maps.Values(p.AutoApprovers.Services))...)
	for _, approver := range slices.Sorted(slices.Values(slices.Concat(lists...))) {
		if err := p.known("autoApprovers", approver, "user", "group", "tag", "autogroup"); err != nil {
			return err
		}
	}
	return nil
}

// endpoints are the kinds of selectors that rules for traffic take on both sides.
var endpoints = []string{"any", "user", "group", "tag", "autogroup", "address", "host"}

var autogroups = []string{
	"autogroup:admin", "autogroup:auditor", "autogroup:billing-admin", "autogroup:danger-all", "autogroup:internet",
	"autogroup:it-admin", "autogroup:member", "autogroup:members", "autogroup:network-admin", "autogroup:owner",
	"autogroup:self", "autogroup:shared", "autogroup:tagged",
}

// known refuses a selector that is not defined or not of an allowed kind.
func (p *policy) known(where, selector string, kinds ...string) error {
	kind := p.kind(selector)
	_, isTag := p.TagOwners[selector]
	_, isGroup := p.Groups[selector]
	switch {
	case kind == "tag" && !isTag:
		return badPolicy("%s: tag not found: %q", where, selector)
	case kind == "group" && !isGroup:
		return badPolicy("%s: group not found: %q", where, selector)
	case kind == "autogroup" && !slices.Contains(autogroups, selector):
		return badPolicy("%s: autogroup not found: %q", where, selector)
	case kind == "":
		return badPolicy("%s: %q is not a user, group, tag, host or address", where, selector)
	}
	if !slices.Contains(kinds, kind) {
		return badPolicy("%s: %q is not allowed here", where, selector)
	}
	return nil
}

// kind tells what a selector is, or nothing if it is not defined.
func (p *policy) kind(selector string) string {
	_, host := p.Hosts[selector]
	_, addressErr := parsePrefix(selector)
	switch {
	case selector == "*":
		return "any"
	case strings.HasPrefix(selector, "tag:"):
		return "tag"
	case strings.HasPrefix(selector, "group:"):
		return "group"
	case strings.HasPrefix(selector, "autogroup:"):
		return "autogroup"
	case host:
		return "host"
	case addressErr == nil:
		return "address"
	case isUser(selector):
		return "user"
	}
	return ""
}

// isUser is true for an email address and for the login names of the GitHub and
// passkey identity providers, which look alike.
func isUser(name string) bool {
	if rest, found := strings.CutSuffix(name, "@"); found { // any domain
		return rest != ""
	}
	if strings.Contains(name, " ") {
		return false
	}
	address, err := mail.ParseAddress(name)
	return err == nil && address.Address == name
}

// parsePrefix takes a prefix or a single address.
func parsePrefix(text string) (netip.Prefix, error) {
	text = strings.Trim(text, "[]")
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		return prefix.Masked(), err
	}
	address, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(address, address.BitLen()), nil
}
