package report

import "fmt"

// Status is what a report comes to, as the exit status of a command.
type Status int

// Failed wins over Dangerous, that over Changed.
const (
	NoChange  Status = 0
	Failed    Status = 1 // some of it is not known
	Changed   Status = 10
	Dangerous Status = 20 // something that holds data would be replaced or deleted
)

func (s Status) String() string {
	switch s {
	case NoChange:
		return "no change"
	case Failed:
		return "failed"
	case Changed:
		return "changes"
	case Dangerous:
		return "DANGEROUS"
	}
	return fmt.Sprintf("status %d", int(s))
}

// Status is the worst of what the report tells. Where none of its stacks was previewed, nothing is known.
func (r Report) Status() Status {
	status, unknown := NoChange, 0
	for _, p := range r.parts() {
		status = worse(status, p.status())
		unknown += p.unknowns()
	}
	if unknown > 0 && unknown == len(r.Stacks) {
		return Failed
	}
	return status
}

func worse(a, b Status) Status {
	if a == Failed || b == Failed {
		return Failed
	}
	return max(a, b)
}

// part is a stack or a tree, as it is told.
type part struct {
	kind, name string
	// intro are sentences about it, site a text; what they quote is not ours.
	intro   []sentence
	site    string
	unknown string // why nothing is known, which is no failure
	failure string
	items   []item
	same    int // unknown where negative
}

// sentence is text of ours and what it quotes.
type sentence struct{ text, quoted string }

// item is a change of a resource or of an object. group is empty, or what several of them share.
type item struct {
	op, group string
	names     []string
	danger    string
	language  string // of the lines
	lines     []string
}

func (r Report) parts() []part {
	var parts []part
	for _, s := range r.Stacks {
		p := part{kind: "stack", name: s.Name, site: s.Site, unknown: s.NotPreviewed, failure: s.Error, same: s.Same}
		if s.State != "" {
			p.intro = append(p.intro, sentence{"Compared with", s.State})
		}
		if s.Behind != "" {
			p.intro = append(p.intro, sentence{"Behind:", s.Behind})
		}
		if s.NotPreviewed != "" {
			p.intro = append(p.intro, sentence{"Not previewed:", s.NotPreviewed})
		}
		for _, c := range s.Changes {
			i := item{op: c.Op, names: []string{c.Type, c.Name}, danger: c.Danger}
			for _, property := range c.Properties {
				i.lines = append(i.lines, property.line(valueLength))
			}
			p.items = append(p.items, i)
		}
		parts = append(parts, p)
	}
	for _, t := range r.Trees {
		p := part{kind: "tree", name: t.Environment, failure: t.Error, same: -1}
		if t.Note != "" {
			p.intro = append(p.intro, sentence{"Note:", t.Note})
		}
		for _, layer := range layers(t.Objects) {
			for _, o := range t.Objects {
				if o.Layer == layer {
					p.items = append(p.items, item{
						op: o.Op, group: o.Layer, names: []string{o.ID}, danger: o.Danger,
						language: "diff", lines: o.lines(),
					})
				}
			}
		}
		parts = append(parts, p)
	}
	return parts
}

// lines are what is told below the object's name: as context of its difference what that does not say.
func (o Object) lines() []string {
	lines := diffLines(o.Diff)
	if o.Note == "" {
		return lines
	}
	return append([]string{" " + oneLine(o.Note)}, lines...)
}

// layers are those of the objects, in their order.
func layers(objects []Object) []string {
	var found []string
	seen := map[string]bool{}
	for _, o := range objects {
		if !seen[o.Layer] {
			found = append(found, o.Layer)
		}
		seen[o.Layer] = true
	}
	return found
}

func (p part) status() Status {
	switch {
	case p.failure != "":
		return Failed
	case p.dangers() > 0:
		return Dangerous
	case len(p.items) > 0:
		return Changed
	}
	return NoChange
}

func (p part) failures() int {
	if p.failure != "" {
		return 1
	}
	return 0
}

func (p part) unknowns() int {
	if p.unknown != "" && p.failure == "" {
		return 1
	}
	return 0
}

func (p part) dangers() int {
	n := 0
	for _, i := range p.items {
		if i.danger != "" {
			n++
		}
	}
	return n
}

// operations are those that are counted, in this order; whatever else there is counts as other.
var operations = []string{Create, Update, Replace, Delete}

const other = "other"

func (p part) counts() map[string]int {
	counts := map[string]int{}
	for _, i := range p.items {
		switch i.op {
		case Create, Update, Replace, Delete:
			counts[i.op]++
		default:
			counts[other]++
		}
	}
	return counts
}
