package stacks

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

// describe returns everything the engine was asked for, as text to compare with a golden file: every input of every
// resource, its options, hooks and dependencies. Secrets are masked by their names and marked as secret; the bodies of
// scripts, which are files of their own, are named by their first comment.
func (e *engine) describe() string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(e.resources)) {
		res := e.resources[name]
		if res.kind == "pulumi:pulumi:Stack" {
			continue
		}
		described := map[string]any{"inputs": readable(resource.NewProperty(res.inputs))}
		if ofOperator(res) {
			text, err := yaml.Marshal(described)
			must(err)
			described = map[string]any{"inputs": fmt.Sprintf("of the operator's manifest, sha256 %x", sha256.Sum256(text))}
		}
		maps.Copy(described, res.options)
		text, err := yaml.Marshal(described)
		must(err)
		fmt.Fprintf(&out, "## %s %s\n%s", res.kind, name, text)
	}
	text, err := yaml.Marshal(readable(resource.NewProperty(e.exports)))
	must(err)
	fmt.Fprintf(&out, "## exports\n%s", text)
	return out.String()
}

// ofOperator tells the objects of the Flux Operator's own manifest, which are long and the same for every stack.
func ofOperator(res registered) bool {
	own := []string{
		"flux-credentials", "flux-variables", "flux-instance", "flux-webhook", "flux-commit-status",
	}
	object := strings.HasPrefix(res.kind, "kubernetes:") && strings.HasPrefix(res.name, "flux-")
	return object && !slices.Contains(own, res.name)
}

// readable is a property as plain data.
func readable(v resource.PropertyValue) any {
	switch {
	case v.IsSecret():
		return map[string]any{"SECRET": readable(v.SecretValue().Element)}
	case v.IsOutput():
		inner := map[string]any{"UNKNOWN": !v.OutputValue().Known}
		if v.OutputValue().Known {
			inner = map[string]any{"OUTPUT": readable(v.OutputValue().Element)}
		}
		if v.OutputValue().Secret {
			return map[string]any{"SECRET": inner}
		}
		return inner
	case v.IsComputed():
		return "UNKNOWN"
	case v.IsObject():
		out := map[string]any{}
		for key, inner := range v.ObjectValue() {
			out[string(key)] = readable(inner)
		}
		return out
	case v.IsArray():
		out := []any{}
		for _, inner := range v.ArrayValue() {
			out = append(out, readable(inner))
		}
		return out
	case v.IsString():
		return mask(v.StringValue())
	}
	text, err := json.Marshal(v.V)
	must(err)
	var out any
	must(json.Unmarshal(text, &out))
	return out
}

var (
	comment   = regexp.MustCompile(`(?m)^# (.*)$`)
	digest    = regexp.MustCompile(`SETTINGS='[0-9a-f]{16}'`)
	printed   = regexp.MustCompile(`(?m)^[0-9a-f]{64}$`) // a fingerprint with secrets in it
	testCloud = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)
	receive   = regexp.MustCompile(`'umask 077; [^']*exec sh /dev/fd/3'`) // remote's own, which its tests run
	positions = regexp.MustCompile(`('tinyrack' )('[0-9]+' ?)+`)
)

// mask takes out what differs from run to run, or belongs to a file of its own.
func mask(text string) string {
	for name, value := range newMaterial() {
		text = strings.ReplaceAll(text, value, "<"+name+">")
		text = strings.ReplaceAll(text, strings.TrimSpace(value), "<"+name+">")
	}
	// An upload: header, library, body, for each script in it.
	parts := strings.Split(text, remote.Library)
	for i := 1; i < len(parts); i++ {
		body, header := parts[i], ""
		if at := strings.LastIndex(body, "\nOWNER='"); at >= 0 && i < len(parts)-1 {
			body, header = body[:at], body[at+1:]
		}
		title := ""
		if found := comment.FindStringSubmatch(body); found != nil {
			title = found[1]
		}
		guard, _, _ := strings.Cut(body, "\n")
		if strings.HasPrefix(guard, "#!") {
			guard = ""
		}
		rest := ""
		if at := strings.LastIndex(body, "|| main\n"); at >= 0 {
			rest = body[at+len("|| main\n"):]
		}
		parts[i] = fmt.Sprintf("<library> %s <script: %s>\n%s%s", guard, title, rest, header)
	}
	text = strings.Join(parts, "")
	text = receive.ReplaceAllString(text, "<receive>")
	text = printed.ReplaceAllString(text, "<fingerprint>")
	text = digest.ReplaceAllString(testCloud.ReplaceAllString(text, "<cloud>"), "SETTINGS='<digest>'")
	return positions.ReplaceAllString(text, "$1<sizes>")
}
