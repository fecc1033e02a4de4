package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadList(t *testing.T) {
	list := write(t, filepath.Join(t.TempDir(), "list"), "# a word\n\n[a] ./a -run=TestA\n"+
		"a.sh: one: 1 => two⏎three\nb.yml: => text\nc.sh: gone =>\n[b] -C b .\nd.go: x => y\n")
	sections, err := readList(list)
	if err != nil || len(sections) != 2 {
		t.Fatalf("got %v, %v", sections, err)
	}
	want := []mistake{{"a.sh", "one: 1", "two\nthree"}, {"b.yml", "", "text"}, {"c.sh", "gone", ""}}
	if a := sections[0]; a.area != "a" || !slices.Equal(a.test, []string{"./a", "-run=TestA"}) ||
		!slices.Equal(a.mistakes, want) {
		t.Errorf("got %q", a)
	}
	words := strings.Join(goTest(sections[1].test), " ")
	if !strings.HasPrefix(words, "-C b test ") || !strings.HasSuffix(words, " .") {
		t.Errorf("the arguments of go are %s", words)
	}
	for _, text := range []string{"a.sh: one => two\n", "[a] .\nnonsense\n", "[a] .\na.sh: same => same\n"} {
		if _, err := readList(write(t, list, text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

// TestEveryMistakeHasItsPlace keeps the list beside the files it changes: a run of all takes hours to say so.
func TestEveryMistakeHasItsPlace(t *testing.T) {
	sections, err := readList(filepath.Join("../..", list))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sections {
		for _, m := range s.mistakes {
			before, err := os.ReadFile(filepath.Join("../..", m.file))
			if m.old == "" && os.IsNotExist(err) {
				continue
			}
			if err == nil {
				_, err = m.change(string(before))
			}
			if err != nil {
				t.Errorf("%s: %v", m, err)
			}
		}
	}
}

// TestPlanted plants mistakes in a module of the test's own: one that its test notices, one that it does not, and three
// that measure nothing.
func TestPlanted(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "go.mod"), "module m\n\ngo 1.26\n")
	code := write(t, filepath.Join(root, "m.go"), "package m\n\nfunc F() int { return 1 }\n\nfunc G() int { return 2 }\n")
	write(t, filepath.Join(root, "m_test.go"), "package m\n\nimport \"testing\"\n\nfunc TestF(t *testing.T) {\n"+
		"\tif F() != 1 {\n\t\tt.Fail()\n\t}\n}\n")
	script := write(t, filepath.Join(root, "m.sh"), "if true; then\n\techo\nfi\n")
	s := section{area: "m", test: []string{"."}, mistakes: []mistake{
		{"m.go", "return 1", "return 3"},
		{"m.go", "return 2", "return 3"},
		{"m.go", "return", "return 4 +"},
		{"m.go", "return 1", "return"},
		{"m.sh", "fi", ""},
		{"new.go", "", "package m\n\nfunc init() { panic(\"\") }\n"},
	}}
	got, err := s.run(t.Context(), root)
	if got.caught != 2 || got.total != 3 || !slices.Equal(got.survivors, []string{"m.go: return 2 => return 3"}) {
		t.Errorf("got %+v", got)
	}
	for _, want := range []string{"stands there 2 times", "does not compile", "sh cannot read"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("problems are %v, want one with %q", err, want)
		}
	}
	for path, want := range map[string]string{code: "return 1", script: "fi\n"} {
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s was not put back: %s", path, text)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "new.go")); err == nil {
		t.Error("a planted file stays")
	}

	s.test = []string{"./nowhere"}
	if got, err := s.run(t.Context(), root); err == nil || got.total != 0 {
		t.Errorf("red without a mistake: %+v, %v", got, err)
	}
}

// TestGremlins counts a report: what coverage cannot tell is left out.
func TestGremlins(t *testing.T) {
	folder := t.TempDir()
	write(t, filepath.Join(folder, "m.go"), "package m\n\nconst a = 1 + 1\n\nfunc F(b int) int {\n\tswitch {\n"+
		"\tcase b > 1:\n\t\treturn b + 1\n\t}\n\treturn 0\n}\n")
	s := score{area: "m"}
	err := s.add([]byte(`{"files": [{"file_name": "m.go", "mutations": [
		{"type": "A", "status": "NOT COVERED", "line": 3, "column": 13},
		{"type": "A", "status": "NOT COVERED", "line": 7, "column": 9},
		{"type": "A", "status": "NOT COVERED", "line": 8, "column": 12},
		{"type": "A", "status": "NOT VIABLE", "line": 8, "column": 12},
		{"type": "B", "status": "LIVED", "line": 8, "column": 12},
		{"type": "C", "status": "TIMED OUT", "line": 8, "column": 12},
		{"type": "D", "status": "KILLED", "line": 8, "column": 12}]}]}`), folder)
	if err != nil || s.caught != 2 || s.total != 4 ||
		!slices.Equal(s.survivors, []string{"m.go:8:12: A NOT COVERED", "m.go:8:12: B LIVED"}) {
		t.Errorf("got %+v, %v", s, err)
	}
}

func TestUnknownAreaIsRefused(t *testing.T) {
	if err := known([]string{"stacks", "tree"}, []section{{area: "tree"}}); err != nil {
		t.Error(err)
	}
	if err := known([]string{"stack"}, nil); err == nil {
		t.Error("a misspelt area was taken")
	}
}
