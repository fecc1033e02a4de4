package tailscale

import (
	"encoding/json"
	"slices"
	"strings"
)

// controlPolicy is the part of a policy that headscale knows, in its JSON.
type controlPolicy struct {
	Groups        map[string][]string `json:"groups,omitempty"`
	Hosts         map[string]string   `json:"hosts,omitempty"`
	TagOwners     map[string][]string `json:"tagOwners,omitempty"`
	ACLs          []controlRule       `json:"acls,omitempty"`
	Grants        []controlRule       `json:"grants"`
	AutoApprovers *controlApprovers   `json:"autoApprovers,omitempty"`

	RandomizeClientPort bool `json:"randomizeClientPort,omitempty"`
}

// controlRule is a rule of either language.
type controlRule struct {
	Action string   `json:"action,omitempty"`
	Proto  string   `json:"proto,omitempty"`
	Src    []string `json:"src"`
	Dst    []string `json:"dst"`
	IP     []string `json:"ip,omitempty"`
}

type controlApprovers struct {
	Routes   map[string][]string `json:"routes,omitempty"`
	ExitNode []string            `json:"exitNode,omitempty"`
}

// forControl returns what headscale is to enforce of the policy. Left out is what it does not know: the policy's own
// tests (the emulator has run them; headscale fails those whose ends have no device yet), Tailscale SSH, application
// capabilities, node attributes, services, and the roles of the tailnet's people. All of that only ever admits more, so
// that what is left out stays closed.
func (p *policy) forControl() (string, error) {
	out := controlPolicy{
		Groups: p.Groups, Hosts: p.Hosts, TagOwners: map[string][]string{}, RandomizeClientPort: p.RandomizeClientPort,
		// Without a single rule headscale would admit everything; Tailscale admits nothing then.
		Grants: []controlRule{},
	}
	for tag, owners := range p.TagOwners {
		out.TagOwners[tag] = without(owners, func(owner string) bool { return strings.HasPrefix(owner, "autogroup:") })
	}
	for _, rule := range p.ACLs {
		src, dst := knownToControl(rule.Src), knownToControl(rule.Dst)
		if len(src) > 0 && len(dst) > 0 {
			out.ACLs = append(out.ACLs, controlRule{Action: rule.Action, Proto: rule.Proto, Src: src, Dst: dst})
		}
	}
	for _, rule := range p.Grants {
		src, dst := knownToControl(rule.Src), knownToControl(rule.Dst)
		if len(src) > 0 && len(dst) > 0 && len(rule.IP) > 0 {
			out.Grants = append(out.Grants, controlRule{Src: src, Dst: dst, IP: rule.IP})
		}
	}
	if len(p.AutoApprovers.Routes)+len(p.AutoApprovers.ExitNode) > 0 {
		out.AutoApprovers = &controlApprovers{Routes: p.AutoApprovers.Routes, ExitNode: p.AutoApprovers.ExitNode}
	}
	text, err := json.MarshalIndent(out, "", "\t")
	return string(text), err
}

// knownToControl keeps the selectors that headscale knows, an acl's with their ports.
func knownToControl(selectors []string) []string {
	var kept []string
	for _, selector := range selectors {
		if rest, found := strings.CutPrefix(selector, "autogroup:members"); found {
			selector = "autogroup:member" + rest
		}
		if name, found := strings.CutPrefix(selector, "autogroup:"); found {
			name, _, _ = strings.Cut(name, ":")
			if !slices.Contains([]string{"member", "tagged", "self", "internet", "danger-all"}, name) {
				continue
			}
		}
		kept = append(kept, selector)
	}
	return kept
}

// without returns a copy that is never nil.
func without(list []string, drop func(string) bool) []string {
	return append([]string{}, slices.DeleteFunc(slices.Clone(list), drop)...)
}
