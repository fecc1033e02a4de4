package report

import (
	"fmt"
	"strings"
)

// Text tells everything, uncut, as text for a terminal or a log. Lines that are not ours begin with "| ", so that no
// runner of a git host takes one for a command to it: those begin with "::", behind blanks too, or hold "##[".
func (r Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "preview: %s", r.Status())
	if r.Head != "" {
		fmt.Fprintf(&b, ": %s onto %s", oneLine(r.Head), oneLine(r.Base))
	}
	b.WriteString("\n")
	if r.Untouched != "" {
		fmt.Fprintf(&b, "nothing was previewed: %s\n", oneLine(r.Untouched))
	}
	for _, s := range r.Stacks {
		fmt.Fprintf(&b, "\nstack %s: %s\n", oneLine(s.Name), told(s.Error, s.NotPreviewed, len(s.Changes), s.Same))
		if s.State != "" {
			fmt.Fprintf(&b, "  compared with %s\n", oneLine(s.State))
		}
		if s.Behind != "" {
			fmt.Fprintf(&b, "  behind: %s\n", oneLine(s.Behind))
		}
		if s.NotPreviewed != "" {
			fmt.Fprintf(&b, "  not previewed: %s\n", oneLine(s.NotPreviewed))
		}
		quote(&b, "  ", cleanLines(s.Site))
		quote(&b, "  ", cleanLines(s.Error))
		for _, c := range s.Changes {
			fmt.Fprintf(&b, "  - %s %s %s\n", oneLine(c.Op), oneLine(c.Type), oneLine(c.Name))
			fmt.Fprintf(&b, "    urn %s\n", oneLine(c.URN))
			tellDanger(&b, c.Danger)
			var lines []string
			for _, p := range c.Properties {
				lines = append(lines, p.line(0))
			}
			quote(&b, "    ", lines)
		}
	}
	for _, t := range r.Trees {
		fmt.Fprintf(&b, "\ntree %s: %s\n", oneLine(t.Environment), told(t.Error, "", len(t.Objects), -1))
		quote(&b, "  ", cleanLines(t.Error))
		for _, o := range t.Objects {
			fmt.Fprintf(&b, "  - %s %s, in %s\n", oneLine(o.Op), oneLine(o.ID), oneLine(o.Layer))
			tellDanger(&b, o.Danger)
			quote(&b, "    ", diffLines(o.Diff))
		}
	}
	return strings.ReplaceAll(b.String(), "##[", "## [")
}

func tellDanger(b *strings.Builder, danger string) {
	if danger != "" {
		fmt.Fprintf(b, "    DANGEROUS: %s\n", oneLine(danger))
	}
}

func quote(b *strings.Builder, indent string, lines []string) {
	for _, line := range lines {
		b.WriteString(indent + "| " + line + "\n")
	}
}

// told sums up a stack or a tree.
func told(failure, unknown string, changes, same int) string {
	switch {
	case failure != "":
		return "failed"
	case unknown != "":
		return "not previewed"
	case same < 0:
		return count(changes, "change")
	}
	return fmt.Sprintf("%s, %d the same", count(changes, "change"), same)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
