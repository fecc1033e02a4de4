package engine

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/tinyrack-net/infrastructure/ci/report"
)

// site begins the message in which the program says whose site a stack is.
const site = "is this site:"

// Site is what the program says of the site that it is about to change.
func (d *Digest) Site() string {
	for _, diagnostic := range d.Diagnostics {
		if diagnostic.Severity == "info" && strings.Contains(diagnostic.Message, site) {
			return strings.TrimSpace(diagnostic.Message)
		}
	}
	return ""
}

// quiet are the engine's operations that change nothing.
var quiet = []string{"same", "read", "refresh", "diff"}

// ops are the engine's other operations, in the words of a report; one that is not known here is told by its own name.
// A replacement is told by its first or its only step of these.
var ops = map[string]string{
	"create": report.Create, "update": report.Update, "delete": report.Delete,
	"replace": report.Replace, "create-replacement": report.Replace, "delete-replaced": report.Replace,
	"discard-replaced": report.Replace, "remove-pending-replace": report.Replace,
	"import": "import", "import-replacement": report.Replace, "discard": "forget", "read-replacement": report.Replace,
}

// Changes are the resources that do not stay the same, in the engine's order, and the number of those that do.
func (d *Digest) Changes() (changes []report.Change, same int) {
	seen := map[string]int{}
	for _, step := range d.Steps {
		if slices.Contains(quiet, step.Op) {
			same++
			continue
		}
		op := cmp.Or(ops[step.Op], step.Op)
		change := step.change(op)
		if i, twice := seen[step.URN]; twice {
			// The steps of one replacement; or what is pending from an earlier run beside what is done now.
			if len(changes[i].Properties) == 0 {
				changes[i].Properties = change.Properties
			}
			if op == report.Replace {
				changes[i].Op = op
			}
			// Not every step of it knows what was there before.
			changes[i].Danger = cmp.Or(changes[i].Danger, danger(changes[i].Op, step))
			continue
		}
		seen[step.URN] = len(changes)
		changes = append(changes, change)
	}
	return changes, same
}

func (s Step) change(op string) report.Change {
	name := s.URN[strings.LastIndex(s.URN, "::")+len("::"):]
	change := report.Change{Op: op, URN: s.URN, Type: s.Type, Name: name, Danger: danger(op, s)}
	// A replacement's delete knows nothing of what comes: all would look as if it went.
	if (op == report.Update || op == report.Replace) && s.Old != nil && s.New != nil {
		change.Properties = s.properties()
	}
	return change
}

// properties are the inputs that differ. Of a secret no more is known than what the engine says: that it differs.
func (s Step) properties() []report.Property {
	var found []report.Property
	before, after := s.Old.Inputs, s.New.Inputs
	named := map[string]bool{}
	differ("", before, after, func(path string, old, now any) {
		property := report.Property{Path: path, Secret: hasSecret(old) || hasSecret(now)}
		if !property.Secret {
			property.Before = text(old)
			property.After = strings.ReplaceAll(text(now), strconv.Quote(Unknown), "(known after the apply)")
		}
		top := topOf(path)
		named[top] = true
		property.Replaces = slices.ContainsFunc(s.Keys, func(r string) bool { return topOf(r) == top })
		found = append(found, property)
	})
	for _, reason := range s.Diffs {
		top := topOf(reason)
		if named[top] {
			continue
		}
		named[top] = true
		found = append(found, report.Property{
			Path: reason, Secret: hasSecret(before[top]) || hasSecret(after[top]),
			Replaces: slices.ContainsFunc(s.Keys, func(r string) bool { return topOf(r) == top }),
		})
	}
	return found
}

// topOf is the first name of a property's path.
func topOf(path string) string {
	if end := strings.IndexAny(path, ".["); end > 0 {
		return path[:end]
	}
	return path
}

// data are the types whose resources hold what cannot be made again, and what would be lost. The rest is what the
// program protects; see docs/adr/0016-what-is-protected.md.
var data = map[string]string{
	"cloudflare:index/zeroTrustTunnelCloudflared:ZeroTrustTunnelCloudflared": "the tunnel that all visitors come through",
	"kubernetes:core/v1:Namespace":                                           "everything in it, volumes included",
	"kubernetes:core/v1:PersistentVolumeClaim":                               "its volume and all in it",
	"random:index/randomPassword:RandomPassword":                             "a secret that others were made with",
}

// danger says what a change would lose. Nothing is lost by making or changing something.
func danger(op string, s Step) string {
	if op != report.Delete && op != report.Replace {
		return ""
	}
	state := s.Old
	if what := data[s.Type]; what != "" {
		return what
	}
	if state != nil && state.Protect {
		return "it is protected: the engine refuses this"
	}
	return ""
}
