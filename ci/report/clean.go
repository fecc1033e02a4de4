package report

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// colour is what a terminal is told with. Nothing that takes text along is removed: what is hidden is not reviewed.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// clean leaves text, line ends and tabs: no control characters and none that are not seen or turn the direction.
func clean(s string) string {
	s = colour.ReplaceAllString(strings.ToValidUTF8(s, "\uFFFD"), "")
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t':
			return c
		case unicode.In(c, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			return -1
		}
		return c
	}, s)
}

var lineEnds = strings.NewReplacer("\n", `\n`, "\t", " ")

// oneLine is clean text without line ends.
func oneLine(s string) string { return lineEnds.Replace(clean(s)) }

// OneLine is text of others as a part of a message: without control characters, of at most length characters and their
// number.
func OneLine(text string, length int) string { return cut(oneLine(text), length) }

// cleanLines are the lines of a text, without an empty last one.
func cleanLines(s string) []string {
	s = strings.TrimRight(clean(s), "\n")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// diffLines are those of a unified difference. A line that is none of it counts as context: it can be no header.
func diffLines(diff string) []string {
	lines := cleanLines(diff)
	for i, line := range lines {
		if line == "" || !strings.ContainsRune(" +-@\\", rune(line[0])) {
			lines[i] = " " + line
		}
	}
	return lines
}

// cut leaves at most the given number of characters.
func cut(s string, length int) string {
	characters := []rune(s)
	if len(characters) <= length {
		return s
	}
	return fmt.Sprintf("%s… (%d characters)", string(characters[:length]), len(characters))
}

// line tells the property in one line. Values longer than length are cut, from shortly before they differ; a length of
// zero leaves them whole.
func (p Property) line(length int) string {
	path := oneLine(p.Path)
	if length > 0 {
		path = cut(path, length)
	}
	if p.Replaces {
		path += " (replaces)"
	}
	if p.Secret {
		return path + ": secret, changes"
	}
	before, after := oneLine(p.Before), oneLine(p.After)
	if length > 0 {
		before, after = cutBoth(before, after, length)
	}
	switch {
	case before == "" && after == "":
		return path + ": changes"
	case before == "":
		before = "(none)"
	case after == "":
		after = "(none)"
	}
	return path + ": " + before + " → " + after
}

// cutBoth cuts two values to what is different.
func cutBoth(before, after string, length int) (string, string) {
	const lead = 40
	b, a := []rune(before), []rune(after)
	same := 0
	for same < len(b) && same < len(a) && b[same] == a[same] {
		same++
	}
	if len(b) > length || len(a) > length {
		if skip := same - lead; skip > 0 {
			return "…" + cut(string(b[skip:]), length), "…" + cut(string(a[skip:]), length)
		}
	}
	return cut(before, length), cut(after, length)
}
