package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// unleash lets gremlins change the Go code of one package and of those below it. A change that no test reaches counts
// as a survivor, one that makes the tests hang as caught. The conditions of cases and what stands outside functions are
// left out: coverage does not tell whether a test reaches them, and gremlins leaves them alone.
func unleash(ctx context.Context, gremlins, root, folder string) (score, error) {
	result := score{area: folder, kind: "Go"}
	say("%s: gremlins", folder)
	// Outside the checkout: gremlins copies that.
	work, err := os.MkdirTemp("", "tinyrack-gremlins-")
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(work)
	output := filepath.Join(work, "result.json")
	// One worker: each copies the module and links the tests anew. The time-out is a multiple of the first run's time.
	arguments := []string{
		"unleash", "--workers=1", "--timeout-coefficient=10", "--output=" + output,
		// What tests are written with is no code of the program.
		"--exclude-files=[a-z]+test/", "./" + folder,
	}
	command := exec.CommandContext(ctx, gremlins, arguments...) //nolint:gosec // the program that was just built
	command.Dir = root
	flags := []string{os.Getenv("GOFLAGS"), "-ldflags=-w"}
	if tests := left[folder]; tests != "" {
		flags = append(flags, "-skip="+tests)
	}
	command.Env = append(os.Environ(), "TMPDIR="+work, "GOFLAGS="+strings.TrimSpace(strings.Join(flags, " ")))
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	if err := command.Run(); err != nil {
		return result, fmt.Errorf("%s: gremlins: %w: see its message above", folder, err)
	}
	text, err := os.ReadFile(output) //nolint:gosec // our own folder's
	if err != nil {
		return result, fmt.Errorf("%s: gremlins has no result: are the tests green? %w", folder, err)
	}
	err = result.add(text, filepath.Join(root, folder))
	return result, err
}

// add counts what gremlins reports of the files in folder.
func (s *score) add(text []byte, folder string) error {
	var report struct {
		Files []struct {
			Name      string `json:"file_name"`
			Mutations []struct {
				Type, Status string
				Line, Column int
			}
		}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return fmt.Errorf("%s: the result of gremlins cannot be read: %w", s.area, err)
	}
	for _, file := range report.Files {
		reachable, err := statements(filepath.Join(folder, file.Name))
		if err != nil {
			return err
		}
		for _, m := range file.Mutations {
			switch {
			case m.Status == "NOT VIABLE", m.Status == "SKIPPED":
				continue
			case m.Status == "NOT COVERED" && !reachable(m.Line, m.Column):
				continue
			case m.Status == "KILLED", m.Status == "TIMED OUT":
				s.caught++
			default:
				where := fmt.Sprintf("%s:%d:%d: %s %s", file.Name, m.Line, m.Column, m.Type, m.Status)
				s.survivors = append(s.survivors, where)
			}
			s.total++
		}
	}
	slices.Sort(s.survivors)
	return nil
}

// statements reads a file and returns what tells whether coverage is known of a place in it: inside a function, and not
// in the condition of a case.
func statements(file string) (func(line, column int) bool, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	type span struct{ from, to token.Position }
	var inside, outside []span
	add := func(spans *[]span, node ast.Node) {
		*spans = append(*spans, span{files.Position(node.Pos()), files.Position(node.End())})
	}
	ast.Inspect(parsed, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.BlockStmt:
			add(&inside, node)
		case *ast.CaseClause:
			for _, condition := range node.List {
				add(&outside, condition)
			}
		}
		return true
	})
	return func(line, column int) bool {
		in := func(s span) bool {
			after := line > s.from.Line || line == s.from.Line && column >= s.from.Column
			return after && (line < s.to.Line || line == s.to.Line && column < s.to.Column)
		}
		return slices.ContainsFunc(inside, in) && !slices.ContainsFunc(outside, in)
	}, nil
}
