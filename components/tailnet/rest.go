package tailnet

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// rest is the part of the policy that a person wrote.
type rest struct {
	policy   Policy
	text     []byte
	sections []section
	problems []error
}

// section is one top-level key of a policy file, or one key of an object in it.
type section struct {
	key   string
	value *hujson.Value
}

func (p Policy) restName() string { return cmp.Or(p.RestName, "the policy file") }

// parseRest reads the rest and returns everything in it that takes from, or adds to, what the policy says of the hosts.
func (p Policy) parseRest() (*rest, error) {
	r := &rest{policy: p, text: p.Rest}
	if len(bytes.TrimSpace(p.Rest)) == 0 {
		return r, nil
	}
	root, err := hujson.Parse(p.Rest)
	if err != nil {
		return nil, fmt.Errorf("policyFile: %s: %w: the policy cannot be written: correct the file", p.restName(), err)
	}
	object, isObject := root.Value.(*hujson.Object)
	if !isObject {
		return nil, fmt.Errorf("policyFile: %s: not an object: the policy cannot be written: "+
			"write {…} with sections such as groups and grants", p.restName())
	}
	r.checkDuplicates("", &root)
	for _, s := range members(object) {
		// Tailscale does not mind the case of keys: "ACLs" and "acls" are one section.
		for _, known := range sectionOrder {
			if strings.EqualFold(s.key, known) {
				s.key = known
			}
		}
		if literal, isLiteral := s.value.Value.(hujson.Literal); isLiteral && literal.Kind() == 'n' {
			continue // null is no section at all
		}
		r.sections = append(r.sections, s)
	}
	r.check()
	return r, errors.Join(r.problems...)
}

// refuse notes a problem at a value: its place in the file, what is wrong, the consequence and the fix.
func (r *rest) refuse(at *hujson.Value, format string, values ...any) {
	line := 1 + bytes.Count(r.text[:min(at.StartOffset, len(r.text))], []byte("\n"))
	r.problems = append(r.problems,
		fmt.Errorf("policyFile: %s:%d: %s", r.policy.restName(), line, fmt.Sprintf(format, values...)))
}

// checkDuplicates refuses a key that an object has twice: which of the two would count is anybody's guess.
func (r *rest) checkDuplicates(path string, value *hujson.Value) {
	switch value := value.Value.(type) {
	case *hujson.Object:
		seen := map[string]bool{}
		for _, m := range members(value) {
			where := strings.TrimPrefix(path+"."+m.key, ".")
			if key := strings.ToLower(m.key); seen[key] {
				r.refuse(m.value, "%s is there twice: one of the two would be ignored: make them one", where)
			} else {
				seen[key] = true
			}
			r.checkDuplicates(where, m.value)
		}
	case *hujson.Array:
		for i := range value.Elements {
			r.checkDuplicates(fmt.Sprintf("%s[%d]", path, i), &value.Elements[i])
		}
	}
}

func (r *rest) check() {
	for _, s := range r.sections {
		object, isObject := s.value.Value.(*hujson.Object)
		array, isArray := s.value.Value.(*hujson.Array)
		switch s.key {
		case "groups", "tagOwners", "hosts", "ipsets", "autoApprovers":
			if !isObject {
				r.refuse(s.value, "%s is not an object: Tailscale would refuse the policy: write {…}", s.key)
				continue
			}
		case "grants", "acls", "ssh", "nodeAttrs", "tests", "sshTests":
			if !isArray {
				r.refuse(s.value, "%s is not a list: Tailscale would refuse the policy: write […]", s.key)
				continue
			}
		}
		switch s.key {
		case "groups":
			r.checkNames(s.key, object, r.policy.group())
		case "tagOwners":
			r.checkNames(s.key, object, r.ourTags()...)
		case "grants":
			r.checkRules(s.key, array, "dst")
		case "acls":
			r.checkRules(s.key, array, "dst", "ports") // "ports" is its older name
		case "ssh":
			r.checkRules(s.key, array, "dst")
		case "nodeAttrs":
			r.checkFunnel(array)
		case "autoApprovers":
			r.checkApprovers(s.key, s.value)
		case "defaultSrcPosture":
			r.refuse(s.value, "defaultSrcPosture holds for the admins' rules too: an admin whose device does not fit would "+
				"be shut out: write srcPosture on the rules it is meant for")
		}
	}
}

func (r *rest) ourTags() []string {
	return append([]string{r.policy.ManagerTag}, r.policy.roleTags()...)
}

func (r *rest) isOurs(name string) bool {
	return slices.ContainsFunc(r.ourTags(), func(tag string) bool { return strings.EqualFold(tag, name) })
}

// checkNames refuses a definition of what the policy itself defines.
func (r *rest) checkNames(section string, object *hujson.Object, ours ...string) {
	for _, m := range members(object) {
		if slices.ContainsFunc(ours, func(name string) bool { return strings.EqualFold(name, m.key) }) {
			r.refuse(m.value, "%s: %q is defined by this program: one of the two definitions would be lost: "+
				"remove it here, or choose another managerTag", section, m.key)
		}
	}
}

// checkRules refuses a rule that leads to the hosts.
func (r *rest) checkRules(section string, rules *hujson.Array, keys ...string) {
	for i := range rules.Elements {
		for _, m := range membersOf(&rules.Elements[i]) {
			if !slices.ContainsFunc(keys, func(key string) bool { return strings.EqualFold(key, m.key) }) {
				continue
			}
			for _, dst := range elementsOf(m.value) {
				target := text(dst)
				if section == "acls" {
					if colon := strings.LastIndex(target, ":"); colon >= 0 {
						target = strings.NewReplacer("[", "", "]", "").Replace(target[:colon])
					}
				}
				if !r.leadsToHosts(target) {
					continue
				}
				r.refuse(dst, "%s[%d].%s: %q leads to the hosts of this program (%s-…): they would be open to whom this rule "+
					"names: name your own devices instead, such as autogroup:member, autogroup:internet or a tag of yours",
					section, i, m.key, text(dst), r.policy.ManagerTag)
			}
		}
	}
}

// leadsToHosts tells whether a destination holds hosts of ours. Their addresses are unknown, so a range in the tailnet
// counts; a single address does not, since whoever writes one knows the device.
func (r *rest) leadsToHosts(target string) bool {
	switch lower := strings.ToLower(target); {
	case lower == "*", lower == "autogroup:tagged", lower == "autogroup:danger-all", r.isOurs(target):
		return true
	case strings.HasPrefix(lower, "ipset:"):
		return slices.ContainsFunc(r.definition("ipsets", target), func(entry string) bool {
			fields := strings.Fields(entry)
			if len(fields) == 0 || fields[0] == "remove" {
				return false
			}
			inner := fields[len(fields)-1]
			// An IP set cannot hold another: without this a set that names itself would never end.
			return !strings.HasPrefix(inner, "ipset:") && r.leadsToHosts(strings.TrimPrefix(inner, "host:"))
		})
	default:
		return slices.ContainsFunc(append(r.definition("hosts", target), target), holdsTailnetRange)
	}
}

// definition returns the texts that a name stands for in a section.
func (r *rest) definition(key, name string) []string {
	var texts []string
	for _, s := range r.sections {
		if s.key != key {
			continue
		}
		for _, m := range membersOf(s.value) {
			if m.key == name {
				for _, element := range elementsOf(m.value) {
					texts = append(texts, text(element))
				}
			}
		}
	}
	return texts
}

// holdsTailnetRange tells whether text is a range with more than one address of the tailnet.
func holdsTailnetRange(text string) bool {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return !prefix.IsSingleIP() && (prefix.Overlaps(IPv4Range) || prefix.Overlaps(IPv6Range))
	}
	low, high, _ := strings.Cut(text, "-")
	first, errFirst := netip.ParseAddr(low)
	last, errLast := netip.ParseAddr(high)
	if errFirst != nil || errLast != nil || first == last {
		return false
	}
	return slices.ContainsFunc([]netip.Prefix{IPv4Range, IPv6Range}, func(tailnet netip.Prefix) bool {
		return first.BitLen() == tailnet.Addr().BitLen() &&
			(tailnet.Contains(first) || tailnet.Contains(last) || first.Less(tailnet.Addr()) && tailnet.Addr().Less(last))
	})
}

// checkFunnel refuses to let the hosts publish themselves on the internet.
func (r *rest) checkFunnel(attributes *hujson.Array) {
	for i := range attributes.Elements {
		var funnel bool
		var target *hujson.Value
		for _, m := range membersOf(&attributes.Elements[i]) {
			for _, element := range elementsOf(m.value) {
				switch value := text(element); {
				case strings.EqualFold(m.key, "attr") && value == "funnel":
					funnel = true
				case strings.EqualFold(m.key, "target") && r.leadsToHosts(value):
					target = element
				}
			}
		}
		if funnel && target != nil {
			r.refuse(target, "nodeAttrs[%d]: %q with funnel: the hosts of this program could be published on the internet: "+
				"name your own devices instead, such as autogroup:member", i, text(target))
		}
	}
}

// checkApprovers refuses to let the hosts advertise routes, be an exit node or serve without approval, at any depth.
func (r *rest) checkApprovers(path string, value *hujson.Value) {
	for _, m := range membersOf(value) {
		r.checkApprovers(path+"."+m.key, m.value)
	}
	if _, isObject := value.Value.(*hujson.Object); isObject {
		return
	}
	for _, approver := range elementsOf(value) {
		if name := text(approver); r.isOurs(name) || name == "*" || strings.EqualFold(name, "autogroup:tagged") {
			r.refuse(approver, "%s: %q: a host of this program that is taken over could draw the traffic of your devices: "+
				"name your own devices instead", path, name)
		}
	}
}

// sectionOrder is that of the file that is written; sections that are not in it follow in their own order.
var sectionOrder = []string{
	"groups", "hosts", "ipsets", "postures", "tagOwners", "grants", "acls", "ssh", "nodeAttrs", "autoApprovers",
	"tests", "sshTests", "defaultSrcPosture",
}

// merge returns one document: in a section that both have, ours come first.
func (r *rest) merge(ours object) object {
	merged := slices.Clone(ours)
	for _, s := range r.sections {
		theirs := plain(s.value)
		i := slices.IndexFunc(merged, func(m member) bool { return m.key == s.key })
		if i < 0 {
			merged = append(merged, member{s.key, theirs})
			continue
		}
		merged[i].value = join(merged[i].value, theirs)
	}
	rank := func(m member) int {
		if i := slices.Index(sectionOrder, m.key); i >= 0 {
			return i
		}
		return len(sectionOrder)
	}
	slices.SortStableFunc(merged, func(a, b member) int { return rank(a) - rank(b) })
	return merged
}

// join makes one of two JSON objects or two JSON lists.
func join(a, b json.RawMessage) json.RawMessage {
	inner := func(text json.RawMessage) []byte { return bytes.TrimSpace(text[1 : len(text)-1]) }
	parts := slices.DeleteFunc([][]byte{inner(a), inner(b)}, func(part []byte) bool { return len(part) == 0 })
	return slices.Concat(a[:1], bytes.Join(parts, []byte(",")), a[len(a)-1:])
}

// plain is a value as JSON, without comments.
func plain(value *hujson.Value) json.RawMessage {
	clone := value.Clone()
	clone.Standardize()
	return bytes.TrimSpace(clone.Pack())
}

func members(o *hujson.Object) []section {
	var all []section
	for i := range o.Members {
		name, _ := o.Members[i].Name.Value.(hujson.Literal)
		all = append(all, section{name.String(), &o.Members[i].Value})
	}
	return all
}

// membersOf is empty for what is not an object.
func membersOf(value *hujson.Value) []section {
	if o, isObject := value.Value.(*hujson.Object); isObject {
		return members(o)
	}
	return nil
}

// elementsOf takes what is not a list for a list of one.
func elementsOf(value *hujson.Value) []*hujson.Value {
	array, isArray := value.Value.(*hujson.Array)
	if !isArray {
		return []*hujson.Value{value}
	}
	var all []*hujson.Value
	for i := range array.Elements {
		all = append(all, &array.Elements[i])
	}
	return all
}

// text is empty for what is not a string.
func text(value *hujson.Value) string {
	if literal, isLiteral := value.Value.(hujson.Literal); isLiteral && literal.Kind() == '"' {
		return literal.String()
	}
	return ""
}

// object is a JSON object whose keys keep their order.
type (
	object []member
	member struct {
		key   string
		value json.RawMessage
	}
)

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	parts := make([][]byte, len(o))
	for i, m := range o {
		parts[i] = slices.Concat(raw(m.key), []byte(":"), m.value)
	}
	return slices.Concat([]byte("{"), bytes.Join(parts, []byte(",")), []byte("}")), nil
}

// raw is a value as JSON.
func raw(value any) json.RawMessage {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // only strings, numbers and lists of them come here
	}
	return text
}
