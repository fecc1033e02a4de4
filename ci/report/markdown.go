package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Marker is the first line of the comment, by which it is found again.
const Marker = "<!-- tinyrack: preview -->"

const (
	// valueLength is how much of a name or a value is shown, in characters; lineLength how much of a line of a text,
	// blockLines how many of its lines.
	valueLength = 200
	lineLength  = 800
	blockLines  = 80
	// leastLimit is what the verdict, the notice that all else was left out, and the digest take.
	leastLimit = 1000
	// noticeLength is kept free for the notice of what was left out and the end of what is open.
	noticeLength = 300
)

// Markdown is the body of the comment of a pull request, for Gitea, Forgejo, GitHub and GitLab, of at most limit bytes;
// a limit below 1000 counts as 1000. What does not fit is left out from the end, and said to be.
//
// Names, values, differences and errors come from whoever made the change. They stand in <code> with everything escaped
// that means something to Markdown or HTML, or in a fence longer than what they hold: in code no host looks for people
// to notify, links, or issues.
func (r Report) Markdown(limit int) string {
	limit = max(limit, leastLimit)
	tail := "<!-- digest: " + r.Digest() + " -->"
	if commitHash.MatchString(r.Proposed) {
		tail = "<!-- proposed: " + r.Proposed + " -->\n" + tail
	}
	tail = r.plans(limit/4) + tail
	parts := r.parts()
	b := &body{limit: limit - len(tail) - noticeLength}
	b.text.WriteString(Marker + "\n" + r.verdict(parts) + "\n\n")
	b.table(parts, limit/3)
	b.dangers(parts, min(limit*2/3, b.limit))
	if r.Untouched != "" {
		b.sentence(sentence{"Nothing was previewed:", r.Untouched})
	}
	slices.SortStableFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(b.failures(), a.failures()), cmp.Compare(b.unknowns(), a.unknowns()))
	})
	for _, p := range parts {
		b.details(p)
	}
	if b.leftItems+b.leftLines > 0 {
		fmt.Fprintf(&b.text, "**Left out**: %s and %s of text. The log of this run has the whole.\n\n",
			count(b.leftItems, "change"), count(b.leftLines, "line"))
	}
	b.text.WriteString(tail)
	return b.text.String()
}

// verdict is one line.
func (r Report) verdict(parts []part) string {
	var changes, dangers, failures, unknown int
	for _, p := range parts {
		changes += len(p.items)
		dangers += p.dangers()
		failures += p.failures()
		unknown += p.unknowns()
	}
	status := r.Status()
	line := "**" + status.String() + "**: "
	switch status {
	case Failed:
		if failures == 0 {
			line += "no stack was previewed: what the change does is not known."
			break
		}
		line += fmt.Sprintf("%s of %d could not be made: what the change does is not known.",
			count(failures, "preview"), len(parts))
	case Dangerous:
		line += fmt.Sprintf("%d of %s would lose what holds data. Read them before merging.",
			dangers, count(changes, "change"))
	case Changed:
		line += count(changes, "change") + ", none of which loses data."
	default:
		if unknown > 0 {
			line += "what was previewed stays as it is."
			break
		}
		line += "everything stays as it is."
	}
	if unknown > 0 && status != Failed {
		line += fmt.Sprintf(" **Not previewed: %d of %s.**", unknown, count(len(r.Stacks), "stack"))
	}
	if r.Head != "" {
		line += " Previewed is " + code(short(r.Head)) + " onto " + code(short(r.Base)) + "."
	}
	return line
}

// Code is a text of others as a block of a comment, cut to limit bytes.
func Code(text string, limit int) string {
	b := &body{limit: limit}
	b.fence("", cleanLines(text))
	return b.text.String()
}

// short is the first digits of a commit.
func short(commit string) string {
	digits := []rune(oneLine(commit))
	return string(digits[:min(12, len(digits))])
}

// body is the comment as far as it is written. leftItems and leftLines count what is not.
type body struct {
	text                 strings.Builder
	limit                int
	full                 bool
	leftItems, leftLines int
}

// add writes a block that stands for itself, or nothing: after the first one that does not fit, none is written.
func (b *body) add(text string) bool {
	b.full = b.full || b.text.Len()+len(text) > b.limit
	if !b.full {
		b.text.WriteString(text)
	}
	return !b.full
}

func (b *body) sentence(s sentence) {
	if !b.add(s.text + " " + code(s.quoted) + "\n\n") {
		b.leftLines++
	}
}

// table counts what happens in each part.
func (b *body) table(parts []part, ceiling int) {
	if len(parts) == 0 {
		return
	}
	columns := operations
	for _, p := range parts {
		if p.counts()[other] > 0 {
			columns = append(operations[:len(operations):len(operations)], other)
		}
	}
	b.text.WriteString("| | " + strings.Join(columns, " | ") + " | same |\n|---|" +
		strings.Repeat("---:|", len(columns)+1) + "\n")
	for n, p := range parts {
		row := "| " + p.kind + " " + code(p.name) + " |"
		counts := p.counts()
		for _, column := range columns {
			if p.failure != "" || p.unknown != "" {
				row += " ? |"
			} else {
				row += fmt.Sprintf(" %d |", counts[column])
			}
		}
		if p.failure != "" || p.unknown != "" || p.same < 0 {
			row += " |\n"
		} else {
			row += fmt.Sprintf(" %d |\n", p.same)
		}
		if b.text.Len()+len(row) > ceiling {
			fmt.Fprintf(&b.text, "| and %d more |\n", len(parts)-n)
			break
		}
		b.text.WriteString(row)
	}
	b.text.WriteString("\n")
}

// dangers lists what would lose data, so that nobody has to unfold it.
func (b *body) dangers(parts []part, ceiling int) {
	all, written := 0, 0
	for _, p := range parts {
		all += p.dangers()
	}
	if all == 0 {
		return
	}
	b.text.WriteString("**What would be lost:**\n\n")
	for _, p := range parts {
		for _, i := range p.items {
			if i.danger == "" {
				continue
			}
			line := "- " + i.title() + " in " + p.kind + " " + code(p.name) + ": " + code(i.danger) + "\n"
			if b.text.Len()+len(line) > ceiling {
				fmt.Fprintf(&b.text, "- and %d more\n\n", all-written)
				return
			}
			b.text.WriteString(line)
			written++
		}
	}
	b.text.WriteString("\n")
}

// title is one line, "**update** type name".
func (i item) title() string {
	title := "**" + i.op + "**"
	if !plainOperation(i.op) {
		title = code(i.op)
	}
	for _, name := range i.names {
		title += " " + code(name)
	}
	return title
}

func plainOperation(op string) bool {
	switch op {
	case Create, Update, Replace, Delete:
		return true
	}
	return false
}

// details folds one part up.
func (b *body) details(p part) {
	if p.kind == "tree" && len(p.items)+len(p.intro) == 0 && p.failure == "" {
		return
	}
	open := "<details>"
	if p.failure != "" || p.unknown != "" {
		open = "<details open>"
	}
	if !b.add(open + "<summary>" + p.kind + " " + code(p.name) + ": " +
		told(p.failure, p.unknown, len(p.items), p.same) + "</summary>\n\n") {
		b.leftItems += len(p.items)
		b.leftLines += 1 + len(p.intro) + len(cleanLines(p.site)) + len(cleanLines(p.failure))
		return
	}
	for _, s := range p.intro {
		b.sentence(s)
	}
	b.fence("", cleanLines(p.site))
	b.fence("", cleanLines(p.failure))
	group := ""
	for _, i := range p.items {
		title := i.title() + "\n\n"
		if i.group != group {
			title = "Layer " + code(i.group) + "\n\n" + title
		}
		group = i.group
		if !b.add(title) {
			b.leftItems++
			continue
		}
		b.fence(i.language, i.lines)
	}
	b.text.WriteString("</details>\n\n") // a part of what noticeLength keeps free
}

// fence adds a code block of as many of the lines as are shown and fit.
func (b *body) fence(language string, lines []string) {
	if len(lines) == 0 {
		return
	}
	const notice = len("99999999 lines more in the log.\n\n")
	shown := make([]string, 0, blockLines)
	ticks, size := 3, len(language)+notice
	for _, line := range lines[:min(len(lines), blockLines)] {
		line = quoted(line)
		longer := max(ticks, longestRun(line)+1)
		if b.full || b.text.Len()+size+len(line)+1+2*longer+2 > b.limit {
			b.full = true
			break
		}
		ticks = longer
		size += len(line) + 1
		shown = append(shown, line)
	}
	left := len(lines) - len(shown)
	b.leftLines += left
	if len(shown) > 0 {
		fence := strings.Repeat("`", ticks)
		b.text.WriteString(fence + language + "\n" + strings.Join(shown, "\n") + "\n" + fence + "\n\n")
		if left > 0 {
			fmt.Fprintf(&b.text, "%s more in the log.\n\n", count(left, "line"))
		}
	}
}

// quoted is a line in a fence. A comment of HTML would do nothing there, but it could be taken for the marker or the
// digest; and GitLab acts on lines like "/close" in a fence that is longer than three ticks, so none begins that way:
// https://gitlab.com/gitlab-org/gitlab/-/blob/master/lib/gitlab/quick_actions/extractor.rb
func quoted(line string) string {
	line = strings.ReplaceAll(cut(line, lineLength), "<!--", "<! --")
	if strings.HasPrefix(line, "/") {
		return " " + line
	}
	return line
}

func longestRun(line string) int {
	longest, run := 0, 0
	for _, c := range line {
		if c != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

// code is text within a line of Markdown or HTML. All of ASCII but letters, digits and what means nothing anywhere is
// escaped; what else there is means nothing.
func code(s string) string {
	var b strings.Builder
	b.WriteString("<code>")
	for _, c := range cut(oneLine(s), valueLength) {
		switch {
		case c >= utf8.RuneSelf, c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z',
			c == ' ', c == '-', c == '/':
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, "&#%d;", c)
		}
	}
	b.WriteString("</code>")
	return b.String()
}
