package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// Digest is a checksum, in hexadecimal digits, of what the change does: two reports that show the same changes have the
// same, whatever their commits, states and sites, and in whatever order they list them. Of an error it has that there
// is one, not its text.
func (r Report) Digest() string {
	var all struct {
		Stacks []Stack
		Trees  []Tree
	}
	is := func(word, text string) string {
		if text != "" {
			return word
		}
		return ""
	}
	for _, s := range r.Stacks {
		same := Stack{Name: s.Name, NotPreviewed: is("unknown", s.NotPreviewed), Error: is("failed", s.Error)}
		for _, c := range s.Changes {
			change := Change{Op: c.Op, URN: c.URN}
			for _, p := range c.Properties {
				change.Properties = append(change.Properties, Property{
					Path: p.Path, Before: canonical(p.Before), After: canonical(p.After), Secret: p.Secret,
				})
			}
			change.Properties = ordered(change.Properties)
			same.Changes = append(same.Changes, change)
		}
		same.Changes = ordered(same.Changes)
		all.Stacks = append(all.Stacks, same)
	}
	for _, t := range r.Trees {
		same := Tree{Environment: t.Environment, Note: t.Note, Error: is("failed", t.Error)}
		for _, o := range t.Objects {
			same.Objects = append(same.Objects, Object{Op: o.Op, Layer: o.Layer, ID: o.ID, Note: o.Note, Diff: o.Diff})
		}
		same.Objects = ordered(same.Objects)
		all.Trees = append(all.Trees, same)
	}
	all.Stacks = ordered(all.Stacks)
	all.Trees = ordered(all.Trees)
	sum := sha256.Sum256(marshal(all))
	return hex.EncodeToString(sum[:])
}

// Plan is a checksum of what happens to the resources of a stack: operations, and names of properties. It has no
// values, which an up may know and a preview against placeholders may not.
func (s Stack) Plan() string {
	plan := Stack{Name: s.Name}
	for _, c := range s.Changes {
		plan.Changes = append(plan.Changes, c.planned())
	}
	plan.Changes = ordered(plan.Changes)
	sum := sha256.Sum256(marshal(plan))
	return hex.EncodeToString(sum[:])
}

// steps are checksums of what happens to each resource, by which what is left of a plan is known.
func (s Stack) steps() []string {
	var all []string
	for _, c := range s.Changes {
		sum := sha256.Sum256(marshal(Stack{Name: s.Name, Changes: []Change{c.planned()}}))
		all = append(all, hex.EncodeToString(sum[:stepBytes]))
	}
	slices.Sort(all)
	return all
}

// stepBytes are enough to tell one step from whatever somebody makes up.
const stepBytes = 16

// planned is what a plan has of a change.
func (c Change) planned() Change {
	change := Change{Op: c.Op, URN: c.URN}
	for _, p := range c.Properties {
		change.Properties = append(change.Properties, Property{Path: p.Path})
	}
	change.Properties = ordered(change.Properties)
	return change
}

// Told tells whether a comment that Markdown made is of a report with this stack's plan, or with one that this is a
// part of: what an apply that was cut off has left to do.
func (s Stack) Told(body string) bool {
	told := map[string]bool{}
	for _, found := range planLine.FindAllStringSubmatch(body, -1) {
		if found[1] == s.Plan() {
			return true
		}
		for _, step := range strings.Fields(found[2]) {
			told[step] = true
		}
	}
	return !slices.ContainsFunc(s.steps(), func(step string) bool { return !told[step] }) && len(s.Changes) > 0
}

// Proposed is the commit that a comment that Markdown made is about: empty where it names none. The last one counts.
func Proposed(body string) string {
	found := proposedLine.FindAllStringSubmatch(body, -1)
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1][1]
}

var (
	commitHash   = regexp.MustCompile(`^[0-9a-f]{40,64}$`)
	proposedLine = regexp.MustCompile(`(?m)^<!-- proposed: ([0-9a-f]{40,64}) -->\r?$`)
)

var planLine = regexp.MustCompile(`(?m)^<!-- plan: ([0-9a-f]{64})((?: [0-9a-f]{32})*) -->\r?$`)

// plans are the lines by which Told knows a comment's stacks, with their steps where there is room for them.
func (r Report) plans(room int) string {
	whole, short := "", ""
	for _, s := range r.Stacks {
		if s.Error == "" && s.NotPreviewed == "" {
			plan := "<!-- plan: " + s.Plan()
			short += plan + " -->\n"
			whole += strings.Join(append([]string{plan}, s.steps()...), " ") + " -->\n"
		}
	}
	switch {
	case len(whole) < room:
		return whole
	case len(short) < room:
		return short
	}
	return ""
}

// ordered sorts by all that is in an element.
func ordered[T any](all []T) []T {
	type keyed struct {
		key     []byte
		element T
	}
	var byKey []keyed
	for _, element := range all {
		byKey = append(byKey, keyed{marshal(element), element})
	}
	slices.SortFunc(byKey, func(a, b keyed) int { return bytes.Compare(a.key, b.key) })
	for i, k := range byKey {
		all[i] = k.element
	}
	return all
}

func marshal(plain any) []byte {
	text, err := json.Marshal(plain)
	if err != nil {
		panic(err) // structs of strings: cannot be
	}
	return text
}

// canonical is JSON with the keys of its objects in order; what is no JSON stays.
func canonical(value string) string {
	decoder := json.NewDecoder(bytes.NewReader([]byte(value)))
	decoder.UseNumber()
	var parsed any
	if decoder.Decode(&parsed) != nil || decoder.More() {
		return value
	}
	text, err := json.Marshal(parsed)
	if err != nil {
		return value
	}
	return string(text)
}

var digestLine = regexp.MustCompile(`(?m)^<!-- digest: ([0-9a-f]{64}) -->\r?$`)

// DigestOf reads the digest out of a comment that Markdown made. The last one counts, and nothing that Markdown quotes
// can look like one.
func DigestOf(body string) (string, bool) {
	found := digestLine.FindAllStringSubmatch(body, -1)
	if len(found) == 0 {
		return "", false
	}
	return found[len(found)-1][1], true
}
