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

// goMessages are the texts of the form "what: what follows: what to do", wherever they stand.
func goMessages(path, source string) ([]message, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []message
	ast.Inspect(file, func(node ast.Node) bool {
		expression, isExpression := node.(ast.Expr)
		if !isExpression {
			return true
		}
		text, isText := constant(expression)
		if call, isCall := expression.(*ast.CallExpr); isCall {
			text, isText = refusal(call)
		}
		if isText && strings.Count(text, ": ") >= 2 && !strings.Contains(text, "\n") && words(text) >= 6 {
			found = append(found, message{files.Position(expression.Pos()).String(), text})
		}
		return !isText
	})
	return found, nil
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

// refusal is what stacks makes of the parts that it gives its report.
func refusal(call *ast.CallExpr) (string, bool) {
	method, isMethod := call.Fun.(*ast.SelectorExpr)
	if !isMethod || method.Sel.Name != "refuse" && method.Sel.Name != "invalid" {
		return "", false
	}
	var parts []string
	for _, argument := range call.Args {
		if part, isText := constant(argument); isText {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": "), true
}

// fixtureMessages are the refusals of settings as they are printed: some are put together from parts.
func fixtureMessages(path, source string) []message {
	var found []message
	for at, line := range strings.Split(source, "\n") {
		if strings.HasPrefix(line, "  ") {
			found = append(found, message{fmt.Sprintf("%s:%d", path, at+1), line})
		}
	}
	return found
}

// listMessages leaves out the lab's emulators and doubles, which speak as the clouds and plugins do, and what helps
// tests.
func listMessages(t *testing.T) (sources, fixtures []message) {
	t.Helper()
	folders := []string{
		"ci", "components", "gitops", "lab/artifacts", "lab/host", "lab/kubectl", "lab/layout", "lab/machine", "scripts",
		"stacks",
	}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
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

// matching are the messages that say the words.
func matching(messages []message, key string) []message {
	return slices.DeleteFunc(slices.Clone(messages), func(m message) bool { return !strings.Contains(m.text, key) })
}

// TestEveryMessageIsInTheTroubleshooting: who searches the page for a message has to find its entry, by the words that
// stand below the entry's heading.
func TestEveryMessageIsInTheTroubleshooting(t *testing.T) {
	const tooMany = 15
	page, err := os.ReadFile(troubleshooting)
	if err != nil {
		t.Fatal(err)
	}
	sources, fixtures := listMessages(t)
	if len(sources) < 400 || len(fixtures) < 150 {
		t.Errorf("%d messages and %d fixtures: the others are not seen", len(sources), len(fixtures))
	}
	all := slices.Concat(sources, fixtures)
	first := map[string]int{}
	for at, line := range strings.Split(string(page), "\n") {
		if !keyLine.MatchString(line) {
			continue
		}
		for _, span := range keySpan.FindAllStringSubmatch(line, -1) {
			key, where := span[1], fmt.Sprintf("%s:%d: %q", troubleshooting, at+1, span[1])
			if first[key] != 0 {
				t.Errorf("%s is on line %d too: nobody would know which entry is meant: keep one", where, first[key])
			}
			first[key] = at + 1
			if words(key) < 2 {
				t.Errorf("%s is less than two words: it could be found anywhere: add one", where)
			}
			if found := len(matching(sources, key)); found > tooMany {
				t.Errorf("%s is in %d messages, of more than one cause: take longer ones, of %d at most", where, found, tooMany)
			}
			if len(matching(all, key)) == 0 {
				t.Errorf("%s is in no message any more: correct it, or remove it and what it explains", where)
			}
		}
	}
	for _, m := range all {
		found := false
		for key := range first {
			found = found || strings.Contains(m.text, key)
		}
		if !found {
			t.Errorf("%s: %s\nis not in %s: nobody who meets it finds help there: add words of it, without names and "+
				"numbers, below the heading of its cause, or a new entry", m.where, strings.TrimSpace(m.text), troubleshooting)
		}
	}
}

// TestMessagesAreSeen keeps the lists of messages from being empty.
func TestMessagesAreSeen(t *testing.T) {
	const script = "fails() {\n\tworks || die \"$1 cannot be written: nothing \" \\\n\t\t\"was changed: try again\"\n" +
		"\tcase x in a) problem \"the disk is full\" ;; esac\n\tsay \"error: $*\"\n\tsay \"warning: the end is near\"\n" +
		"\tdie \"$@\"\n\tsay \"going on as before\"\n}\n"
	const program = "package p\n\nvar a = fmt.Errorf(\"port %d: %w: nothing could be reached: \"+\n\tfix()+\"then run it " +
		"again\", 1, err)\n\n// for: example: not one that anybody is told.\nvar b = errors.New(\"reading: the: file\")\n" +
		"var c = problem(key, \"is no name: nobody would find the machine: take letters\")\n"
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
			{"p.go:3:20", "port %d: %w: nothing could be reached: ·then run it again"},
			{"p.go:8:22", "is no name: nobody would find the machine: take letters"},
		}},
		"fixture": {fixtureMessages("f.txt", "stack: 1 problem\n\nwrong:\n  a: b: c: d\n"), []message{
			{"f.txt:4", "  a: b: c: d"},
		}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %q, wanted %q", name, c.got, c.want)
		}
	}
}
