package tailnet

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

// replaceable tells whether a tailnet's policy may be replaced without a word: it is the wanted one already, or the one
// that every new tailnet has. Declaring the tag of the OAuth client is the one change to it that is needed before the
// first deployment, and makes Tailscale count it as changed; so the tags that this program declares do not matter.
func (p Policy) replaceable(found, wanted string) bool {
	has, err := parsePolicy(found)
	if err != nil {
		return false
	}
	want, err := parsePolicy(wanted)
	if err != nil {
		return false
	}
	return reflect.DeepEqual(has, want) || p.isDefault(has)
}

// parsePolicy reads a policy file without its comments and layout.
func parsePolicy(text string) (policy map[string]any, err error) {
	standard, err := hujson.Standardize([]byte(text))
	if err == nil {
		err = json.Unmarshal(standard, &policy)
	}
	return policy, err
}

// isDefault tells whether a policy says what Tailscale's default one says, in any of the forms it has had: everybody
// reaches everything, and everybody's own devices over SSH.
func (p Policy) isDefault(policy map[string]any) bool {
	allowsAll := false
	for key, value := range policy {
		if isEmpty(value) {
			continue
		}
		switch key {
		case "grants", "acls", "ACLs":
			if !isOne(value, allowAll) {
				return false
			}
			allowsAll = true
		case "ssh":
			if !isOne(value, sshToOwn) {
				return false
			}
		case "nodeAttrs":
			if !isOne(value, funnelOwn) {
				return false
			}
		case "tagOwners", "TagOwners":
			if !holdsOnly(value, append([]string{p.ManagerTag}, p.roleTags()...)...) {
				return false
			}
		case "groups", "Groups":
			if !holdsOnly(value, "group:example") {
				return false
			}
		case "hosts", "Hosts":
			if !holdsOnly(value, "example-host-1", "example-host-2") {
				return false
			}
		default:
			return false
		}
	}
	return allowsAll
}

// The rules of the default policy: https://tailscale.com/kb/1192/acl-samples#allow-all-default-acl
var (
	allowAll = []string{
		`{"src":["*"],"dst":["*"],"ip":["*"]}`,
		`{"action":"accept","src":["*"],"dst":["*:*"]}`,
		`{"action":"accept","users":["*"],"ports":["*:*"]}`,
		`{"Action":"accept","Users":["*"],"Ports":["*:*"]}`,
	}
	sshToOwn = []string{
		`{"action":"check","src":["autogroup:member"],"dst":["autogroup:self"],"users":["autogroup:nonroot","root"]}`,
		`{"action":"check","src":["autogroup:members"],"dst":["autogroup:self"],"users":["autogroup:nonroot","root"]}`,
	}
	funnelOwn = []string{
		`{"target":["autogroup:member"],"attr":["funnel"]}`,
		`{"target":["autogroup:members"],"attr":["funnel"]}`,
	}
)

// isOne tells whether value is a list of one element that is one of the forms.
func isOne(value any, forms []string) bool {
	list, isList := value.([]any)
	return isList && len(list) == 1 && slices.ContainsFunc(forms, func(form string) bool {
		var want any
		return json.Unmarshal([]byte(form), &want) == nil && reflect.DeepEqual(list[0], want)
	})
}

func isEmpty(value any) bool {
	switch value := value.(type) {
	case nil:
		return true
	case []any:
		return len(value) == 0
	case map[string]any:
		return len(value) == 0
	}
	return false
}

// holdsOnly tells whether value is an object without any other key.
func holdsOnly(value any, keys ...string) bool {
	object, isObject := value.(map[string]any)
	return isObject && !slices.ContainsFunc(slices.Collect(maps.Keys(object)), func(key string) bool {
		return !slices.Contains(keys, key)
	})
}

// sections names what a policy holds, for a message.
func sections(text string) string {
	policy, err := parsePolicy(text)
	if err != nil {
		return "unreadable"
	}
	return strings.Join(slices.Sorted(maps.Keys(policy)), ", ")
}
