package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// section is a group of planted mistakes and the tests that have to notice them.
type section struct {
	area     string
	test     []string // arguments of go test
	mistakes []mistake
}

// mistake replaces a text that stands in the file exactly once. Without an old text the file is written anew.
type mistake struct{ file, old, text string }

func (m mistake) String() string {
	return m.file + ": " + strings.ReplaceAll(m.old+" => "+m.text, "\n", lineBreak)
}

const (
	arrow     = " => "
	lineBreak = "⏎"
)

// readList reads the planted mistakes. Their form is explained in the list itself.
func readList(path string) ([]section, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the checkout's own file
	if err != nil {
		return nil, err
	}
	var sections []section
	var problems []error
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if area, test, ok := strings.Cut(strings.TrimPrefix(line, "["), "] "); ok && line[0] == '[' {
			sections = append(sections, section{area: area, test: strings.Fields(test)})
			continue
		}
		m, ok := parseMistake(line)
		if !ok || len(sections) == 0 {
			problems = append(problems, fmt.Errorf("%s:%d: %q: neither a section nor a mistake in one: write [area] "+
				"arguments of go test, then file: old => new", path, i+1, line))
			continue
		}
		last := &sections[len(sections)-1]
		last.mistakes = append(last.mistakes, m)
	}
	return sections, errors.Join(problems...)
}

func parseMistake(line string) (mistake, bool) {
	file, change, ok := strings.Cut(line, ": ")
	// A text may end in what looks like the arrow's first half: nothing takes its place then.
	old, text, found := strings.Cut(" "+change+" ", arrow)
	unescape := func(s string) string { return strings.ReplaceAll(s, lineBreak, "\n") }
	old, text = unescape(strings.TrimPrefix(old, " ")), unescape(strings.TrimSuffix(text, " "))
	return mistake{file, old, text}, ok && found && file != "" && old != text
}

// run plants the mistakes of the section one after the other.
func (s section) run(ctx context.Context, root string) (score, error) {
	result := score{area: s.area, kind: "planted"}
	say("%s: %d planted, tests %s", s.area, len(s.mistakes), strings.Join(s.test, " "))
	if red, output, err := test(ctx, root, s.test); err != nil || red {
		return result, errors.Join(err, fmt.Errorf("%s: the tests are red without a mistake: nothing was planted: "+
			"repair them first:\n%s", s.area, output))
	}
	var problems []error
	for _, m := range s.mistakes {
		red, err := m.noticed(ctx, root, s.test)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			say("  INVALID   %s: %v", m, err)
			problems = append(problems, fmt.Errorf("%s: %w", m, err))
			continue
		}
		result.total++
		if red {
			result.caught++
			say("  caught    %s", m)
		} else {
			result.survivors = append(result.survivors, m.String())
			say("  SURVIVED  %s", m)
		}
	}
	return result, errors.Join(problems...)
}

// noticed plants the mistake, runs the tests and puts the file back.
func (m mistake) noticed(ctx context.Context, root string, arguments []string) (bool, error) {
	path := filepath.Join(root, m.file)
	before, err := os.ReadFile(path) //nolint:gosec // a file of the copy
	switch {
	case m.old == "" && errors.Is(err, os.ErrNotExist):
		defer os.Remove(path)
	case err != nil:
		return false, err
	default:
		defer os.WriteFile(path, before, 0o600) //nolint:errcheck // the next mistake there would not apply
	}
	after, err := m.change(string(before))
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(path, []byte(after), 0o600); err != nil {
		return false, err
	}
	// A text that no shell reads would be noticed by anything.
	if strings.HasSuffix(path, ".sh") {
		said, err := exec.CommandContext(ctx, "sh", "-n", path).CombinedOutput() //nolint:gosec // the copy's own file
		if err != nil {
			return false, fmt.Errorf("sh cannot read the result: %s", said)
		}
	}
	red, output, err := test(ctx, root, arguments)
	if err == nil && red && (strings.Contains(output, "[build failed]") || strings.Contains(output, "[setup failed]")) {
		return false, fmt.Errorf("the result does not compile: %s", output)
	}
	return red, err
}

// change returns the file's text with the mistake in it.
func (m mistake) change(before string) (string, error) {
	if m.old == "" {
		return m.text, nil
	}
	if n := strings.Count(before, m.old); n != 1 {
		return "", fmt.Errorf("the old text stands there %d times: not planted: correct %s", n, list)
	}
	return strings.Replace(before, m.old, m.text, 1), nil
}

// test runs go test and reports whether it was red. Tests that hang are red too.
func test(ctx context.Context, root string, arguments []string) (bool, string, error) {
	command := exec.CommandContext(ctx, "go", goTest(arguments)...) //nolint:gosec // from the list
	command.Dir = root
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return true, output.String(), ctx.Err()
	}
	return false, output.String(), err
}

// goTest are the arguments of go: -C has to come first. Without debugging tables linking takes half the time.
func goTest(arguments []string) []string {
	var words []string
	if len(arguments) > 1 && arguments[0] == "-C" {
		words, arguments = append(words, arguments[:2]...), arguments[2:]
	}
	return append(append(words, "test", "-count=1", "-failfast", "-vet=off", "-timeout=5m", "-ldflags=-s -w"),
		arguments...)
}

// copyCheckout copies the files that git would commit to a throw-away folder.
func copyCheckout(ctx context.Context) (string, error) {
	names, err := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return "", fmt.Errorf("git cannot list the files of this checkout: nothing was run: %w", err)
	}
	root, err := os.MkdirTemp("", "tinyrack-mutants-")
	if err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if err := copyFile(name, filepath.Join(root, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", errors.Join(err, os.RemoveAll(root))
		}
	}
	return root, nil
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(from) //nolint:gosec // the checkout's own file
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

func say(format string, values ...any) {
	fmt.Printf(format+"\n", values...)
}
