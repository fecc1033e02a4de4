package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const troubleshooting = "docs/troubleshooting.md"

// message is what a person may read when something is refused or fails, and the line that says it.
type message struct{ where, text string }

var (
	plainWord = regexp.MustCompile(`(?:^|[\s(,:])[A-Za-z][a-z']*`)
	// A command of a script that speaks, up to the end of its line, which a backslash continues.
	shellCommand = regexp.MustCompile(`(?m)(?:^|[\s|&({])(?:(?:die|problem|refusal) |say "(?:error|warning): )((?:[^\\\n]|\\(?s:.))*)`)
	shellComment = regexp.MustCompile(`(?m)^[ \t]*#.*`)
	shellJoin    = regexp.MustCompile(`"?[ \t]*\\\n\s*"?`)
	// A line that is made of code spans and dots alone: the words by which an entry is found.
	keyLine = regexp.MustCompile("^`[^`]+`(?: · `[^`]+`)*(?: ·)?$")
	keySpan = regexp.MustCompile("`([^`]+)`")
)

// words counts plain ones. What passes a text on, and what only says where, has few.
func words(text string) int { return len(plainWord.FindAllString(text, -1)) }

func shellMessages(path, source string) []message {
	var found []message
	source = shellComment.ReplaceAllString(source, "")
	for _, at := range shellCommand.FindAllStringSubmatchIndex(source, -1) {
		text := shellJoin.ReplaceAllString(source[at[2]:at[3]], " ")
		if words(text) >= 3 {
			line := 1 + strings.Count(source[:at[2]], "\n")
			found = append(found, message{fmt.Sprintf("%s:%d", path, line), text})
		}
	}
	return found
}

// goMessages are the texts of the form "what: what follows: what to do", wherever they stand. An error may do without
// the last, and what is given to a report lacks the first, the place.
func goMessages(path, source string) ([]message, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []message
	ast.Inspect(file, func(node ast.Node) bool {
		var text string
		colons := 2
		switch node := node.(type) {
		case *ast.CallExpr:
			text, colons = refusal(node)
		case ast.Expr:
			text, _ = constant(node)
		}
		parts := strings.Split(text, ": ")
		isMessage := len(parts) > colons && words(text) >= 6 && !strings.Contains(text, "\n") &&
			(colons != 1 || words(parts[len(parts)-1]) >= 3)
		if isMessage {
			found = append(found, message{files.Position(node.Pos()).String(), text})
		}
		return !isMessage
	})
	return found, nil
}

// refusal is what a call says that refuses something, and how many colons a message has there.
func refusal(call *ast.CallExpr) (text string, colons int) {
	name := ""
	if method, isMethod := call.Fun.(*ast.SelectorExpr); isMethod {
		name = method.Sel.Name
	}
	var parts []string
	for _, argument := range call.Args {
		if part, isText := constant(argument); isText {
			parts = append(parts, part)
		}
	}
	switch name {
	case "invalid", "problem", "refuse":
		return strings.Join(parts, ": "), 0
	case "Errorf", "New":
		return strings.Join(parts, ": "), 1
	}
	return "", 2
}

// constant is what an expression of strings says; what is known only later is a dot in it.
func constant(expression ast.Expr) (string, bool) {
	switch expression := expression.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(expression.Value)
		return text, err == nil && expression.Kind == token.STRING
	case *ast.BinaryExpr:
		left, leftIsText := constant(expression.X)
		right, rightIsText := constant(expression.Y)
		if !leftIsText {
			left = "·"
		}
		if !rightIsText {
			right = "·"
		}
		return left + right, expression.Op == token.ADD && (leftIsText || rightIsText)
	}
	return "", false
}

// fixtureMessages are the refusals of settings as they are printed: some are put together from parts. What is missing
// is the command that sets it.
func fixtureMessages(path, source string) []message {
	var found []message
	for at, line := range strings.Split(source, "\n") {
		if strings.HasPrefix(line, "  ") && !strings.HasPrefix(line, "  pulumi") {
			found = append(found, message{fmt.Sprintf("%s:%d", path, at+1), line})
		}
	}
	return found
}

// listMessages leaves out the lab's emulators and doubles, which speak as the clouds and plugins do, and what helps
// tests.
func listMessages(t *testing.T) (sources, fixtures []message) {
	t.Helper()
	doubles := []string{"lab/cloudflare", "lab/cmd", "lab/emulator", "lab/plugins", "lab/s3", "lab/tailscale"}
	for _, folder := range []string{"ci", "components", "gitops", "internal", "lab", "scripts", "stacks"} {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() {
				if slices.Contains(doubles, path) {
					return filepath.SkipDir
				}
				return nil
			}
			isFixture := strings.HasPrefix(path, "stacks/testdata/invalid/") && filepath.Ext(path) == ".txt"
			inTests := strings.HasSuffix(path, "_test.go") || strings.Contains(path, "test/") ||
				strings.Contains(path, "/testdata/")
			if !isFixture && (inTests || filepath.Ext(path) != ".go" && filepath.Ext(path) != ".sh") {
				return nil
			}
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			switch filepath.Ext(path) {
			case ".txt":
				fixtures = append(fixtures, fixtureMessages(path, string(source))...)
			case ".sh":
				sources = append(sources, shellMessages(path, string(source))...)
			default:
				found, err := goMessages(path, string(source))
				sources = append(sources, found...)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return sources, fixtures
}

// key is words by which an entry of the page is found.
type key struct {
	text, entry string
	line        int
}

func readKeys(page string) []key {
	var found []key
	entry := ""
	for at, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(line, "#") {
			entry = strings.TrimLeft(line, "# ")
		}
		if keyLine.MatchString(line) {
			for _, span := range keySpan.FindAllStringSubmatch(line, -1) {
				found = append(found, key{span[1], entry, at + 1})
			}
		}
	}
	return found
}

// unexplained is what is wrong between the page and the messages. Fixtures repeat sources, so they are not counted.
func unexplained(page string, sources, fixtures []message) []string {
	const tooMany = 15
	var wrong []string
	problem := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	keys := readKeys(page)
	entries := make(map[message][]string)
	for _, k := range keys {
		uses := map[bool]int{}
		for at, m := range slices.Concat(sources, fixtures) {
			if strings.Contains(m.text, k.text) {
				uses[at < len(sources)]++
				if !slices.Contains(entries[m], k.entry) {
					entries[m] = append(entries[m], k.entry)
				}
			}
		}
		where := fmt.Sprintf("%s:%d: %q", troubleshooting, k.line, k.text)
		if strings.ContainsAny(k.text, "%$") {
			problem("%s has what is printed otherwise: nobody will look for it: take words from beside it", where)
		}
		if words(k.text) < 2 {
			problem("%s is less than two words: it could be found anywhere: add one", where)
		}
		if uses[true] > tooMany {
			problem("%s is in %d messages: they have more than one cause: take words that %d have at most",
				where, uses[true], tooMany)
		}
		if len(uses) == 0 {
			problem("%s is in no message any more: nobody will look for it: correct it, or remove it and what it explains",
				where)
		}
	}
	for _, m := range slices.Concat(sources, fixtures) {
		switch of := entries[m]; len(of) {
		case 0:
			problem("%s: %s: is not in %s: nobody who meets it finds help there: add words of it, without names and numbers, "+
				"below the heading of its cause, or a new entry", m.where, strings.TrimSpace(m.text), troubleshooting)
		case 1:
		default:
			problem("%s: %s: is in several entries of %s: %s: nobody would know which is meant: take longer words",
				m.where, strings.TrimSpace(m.text), troubleshooting, strings.Join(of, "; "))
		}
	}
	return wrong
}

// TestEveryMessageIsExplained: who searches docs/troubleshooting.md for a message finds its entry, by the words that
// stand below the entry's heading.
func TestEveryMessageIsExplained(t *testing.T) {
	page, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	sources, fixtures := listMessages(t)
	if len(sources) < 400 || len(fixtures) < 150 {
		t.Errorf("%d messages and %d fixtures: the others are not seen", len(sources), len(fixtures))
	}
	for _, problem := range unexplained(string(page), sources, fixtures) {
		t.Error(problem)
	}
}

// TestUnexplainedMessagesAreNoticed keeps the comparison itself from being empty.
func TestUnexplainedMessagesAreNoticed(t *testing.T) {
	const page = "# Page\n\n### Full\n\n`disk is full` · `no room` ·\n`read-only after`\n\nIt `is full`.\n"
	sources := []message{{"a:1", "the disk is full"}, {"a:2", "no room here"}, {"a:3", "read-only after all"}}
	for name, c := range map[string]struct {
		page              string
		sources, fixtures []message
		want              string
	}{
		"all is explained":   {page, sources, []message{{"f:1", "no room there"}}, ""},
		"a new message":      {page, append(sources[:3:3], message{"b:7", "it is gone"}), nil, "b:7: it is gone: is not in"},
		"a new fixture":      {page, sources, []message{{"f:2", "it is gone"}}, "f:2: it is gone: is not in"},
		"a message that was": {page, sources[1:], nil, `:5: "disk is full" is in no message`},
		"one word":           {strings.Replace(page, "no room", "room", 1), sources, nil, `:5: "room" is less than two`},
		"a placeholder": {
			strings.Replace(page, "no room", "no room $1", 1),
			[]message{sources[0], {"a:2", "no room $1 here"}, sources[2]},
			nil, `"no room $1" has what is printed otherwise`,
		},
		"words of many": {page, append(slices.Repeat(sources[1:2], 16), sources...), nil, `"no room" is in 17 messages`},
		"two entries":   {page + "### Disk\n\n`the disk`\n", sources, nil, "a:1: the disk is full: is in several"},
	} {
		got := strings.Join(unexplained(c.page, c.sources, c.fixtures), "\n")
		if !strings.Contains(got, c.want) || c.want == "" && got != "" || strings.Contains(got, "\n") {
			t.Errorf("%s: %q, wanted %q alone", name, got, c.want)
		}
	}
}

// TestMessagesAreSeen keeps the lists of messages from being empty.
func TestMessagesAreSeen(t *testing.T) {
	const script = "fails() {\n\tworks || die \"$1 cannot be written: nothing \" \\\n\t\t\"was changed: try again\"\n" +
		"\tcase x in a) problem \"the disk is full\" ;; esac\n\tsay \"error: $*\"\n\tsay \"warning: the end is near\"\n" +
		"\tdie \"$@\"\n\tsay \"going on as before\"\n}\n"
	const program = "package p\n\nvar a = fmt.Errorf(\"port %d: %w: nothing could be reached: \"+\n\tfix()+\"then run " +
		"it again\", 1, err)\n\n// a: b: a comment is not told.\nvar b = errors.New(\"reading: the: file\")\n" +
		"var c = append(c, \"is no name: nobody would find the machine: take letters\")\n" +
		"var d = log(\"one colon: is not enough where nothing is refused\")\n" +
		"var e = errors.New(\"one colon: is enough where something is refused\")\n" +
		"var f = errors.New(\"reading the file of the lab: %w\")\n" +
		"var g = r.refuse(key+path, \"is no name\", \"nobody would find the machine\", \"take \"+letters)\n"
	inGo, err := goMessages("p.go", program)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ got, want []message }{
		"shell": {shellMessages("a.sh", script), []message{
			{"a.sh:2", `"$1 cannot be written: nothing  was changed: try again"`},
			{"a.sh:4", `"the disk is full" ;; esac`},
			{"a.sh:6", `the end is near"`},
		}},
		"go": {inGo, []message{
			{"p.go:3:9", "port %d: %w: nothing could be reached: ·then run it again"},
			{"p.go:8:19", "is no name: nobody would find the machine: take letters"},
			{"p.go:10:9", "one colon: is enough where something is refused"},
			{"p.go:12:9", "is no name: nobody would find the machine: take ·"},
		}},
		"fixture": {fixtureMessages("f.txt", "stack: 2 problems\n\nwrong:\n  a: b: c: d\n\nmissing:\n  pulumi\n"), []message{
			{"f.txt:4", "  a: b: c: d"},
		}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %q, wanted %q", name, c.got, c.want)
		}
	}
}
