package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	module       = "github.com/tinyrack-net/infrastructure"
	architecture = "docs/architecture.md"
	diagramStart = "<!-- packages: UPDATE_GOLDEN=1 go test -run TestPackages . -->\n"
	diagramEnd   = "<!-- end of packages -->\n"
)

// goPackage is a package of this module: its name below the module, "main" for the top, and those of the module that it
// imports. Tests are the imports of its tests.
type goPackage struct {
	name           string
	imports, tests []string
}

// listPackages reads the import clauses of every file of the module. It opens the files itself, and not through the go
// command, so that Go's test cache knows of them.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	found := map[string]*goPackage{}
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, err := os.Stat(filepath.Join(path, "go.mod"))
			if path != "." && (err == nil || entry.Name()[0] == '.' || entry.Name() == "testdata") {
				return filepath.SkipDir // another module, or none
			}
			return nil
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(filepath.Dir(path))
		if name == "." {
			name = "main"
		}
		if found[name] == nil {
			found[name] = &goPackage{name: name}
		}
		imports := &found[name].imports
		if strings.HasSuffix(path, "_test.go") {
			imports = &found[name].tests
		}
		for _, spec := range file.Imports {
			if name := shortName(strings.Trim(spec.Path.Value, `"`)); name != "" && !slices.Contains(*imports, name) {
				*imports = append(*imports, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var packages []goPackage
	for _, name := range slices.Sorted(maps.Keys(found)) {
		packages = append(packages, *found[name])
	}
	return packages
}

// shortName is the name in the diagram, or "" for another module's package.
func shortName(path string) string {
	if path == module {
		return "main"
	}
	name, _ := strings.CutPrefix(path, module+"/")
	if name == path {
		return ""
	}
	return name
}

// diagram draws what the program is made of; what only tests import is left out.
func diagram(packages []goPackage) string {
	imported := map[string]bool{}
	for _, p := range packages {
		for _, name := range p.imports {
			imported[name] = true
		}
	}
	id := func(name string) string { return strings.NewReplacer("/", "_", "-", "_").Replace(name) }
	groups, arrows := map[string][]string{}, []string{}
	for _, p := range packages {
		if !imported[p.name] && p.name != "main" && len(p.imports) == 0 {
			continue
		}
		group, _, _ := strings.Cut(p.name, "/")
		groups[group] = append(groups[group], fmt.Sprintf("%s[\"%s\"]", id(p.name), p.name))
		for _, name := range p.imports {
			arrows = append(arrows, "    "+id(p.name)+" --> "+id(name)+"\n")
		}
	}
	var out strings.Builder
	out.WriteString("```mermaid\nflowchart TB\n")
	for _, group := range slices.Sorted(maps.Keys(groups)) {
		nodes := groups[group]
		slices.Sort(nodes)
		if len(nodes) == 1 {
			out.WriteString("    " + nodes[0] + "\n")
			continue
		}
		out.WriteString("    subgraph " + group + "\n")
		for _, node := range nodes {
			out.WriteString("        " + node + "\n")
		}
		out.WriteString("    end\n")
	}
	slices.Sort(arrows)
	out.WriteString(strings.Join(arrows, "") + "```\n")
	return out.String()
}

// TestPackagesAreAsDrawn compares the diagram in docs/architecture.md with the imports. UPDATE_GOLDEN=1 draws it anew,
// but not in CI: there nothing would be compared.
func TestPackagesAreAsDrawn(t *testing.T) {
	document, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, started := strings.Cut(string(document), diagramStart)
	drawn, after, ended := strings.Cut(rest, diagramEnd)
	if !started || !ended {
		t.Fatalf("%s has no diagram between %q and %q", architecture, diagramStart, diagramEnd)
	}
	want := diagram(listPackages(t))
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if os.Getenv("CI") != "" {
			t.Fatal("UPDATE_GOLDEN is set in CI: nothing would be compared: unset it")
		}
		drawn = want
		if err := os.WriteFile(architecture, []byte(before+diagramStart+drawn+diagramEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if drawn != want {
		t.Errorf("%s differs from the imports (UPDATE_GOLDEN=1 go test . draws it). They are:\n%s", architecture, want)
	}
}

// misplaced says why a package may not import another, or "" when it may.
//
// A component is what lies in one folder of components/, with folders of its own below. It takes remote, which is the
// way to a machine, and internal, which helps its tests, and no other component: stacks hands outputs from one to the
// next.
func misplaced(from, to string) string {
	top := func(name string) (folder, component string) {
		folder, rest, _ := strings.Cut(name, "/")
		component, _, _ = strings.Cut(rest, "/")
		return folder, component
	}
	fromFolder, fromComponent := top(from)
	toFolder, toComponent := top(to)
	switch {
	case from == to: // its tests
		return ""
	case fromFolder == "main", fromFolder == "stacks" && toFolder != "main":
		return ""
	case fromFolder == "components" && toFolder == "components":
		if fromComponent == toComponent || toComponent == "internal" ||
			toComponent == "remote" && fromComponent != "internal" {
			return ""
		}
		return "one component imports another: stacks hands outputs from one to the next"
	case fromFolder == "components" && (toFolder == "sdks" || toFolder == "internal"):
		return ""
	}
	return "an import that points up: what is below does not know who uses it"
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, name := range slices.Concat(p.imports, p.tests) {
			if why := misplaced(p.name, name); why != "" {
				t.Errorf("%s imports %s: %s", p.name, name, why)
			}
		}
	}
}

// TestMisplacedImportsAreNoticed keeps the rules themselves from being empty.
func TestMisplacedImportsAreNoticed(t *testing.T) {
	for _, c := range []struct {
		from, to string
		allowed  bool
	}{
		{"main", "stacks", true},
		{"stacks", "components/k3s", true},
		{"components/k3s", "components/remote", true},
		{"components/k3s", "components/remote/remotetest", true},
		{"components/tailnet/forget", "components/tailnet/internal/cloud", true},
		{"components/edge", "sdks/cloudflare", true},
		{"components/k3s", "internal/golden", true},
		{"components/k3s", "components/machine", false},
		{"components/machine", "components/tailnet/internal/cloud", false},
		{"components/remote", "components/machine", false},
		{"components/internal/pulumitest", "components/remote", false},
		{"components/k3s", "stacks", false},
		{"sdks/cloudflare", "components/edge", false},
		{"internal/golden", "stacks", false},
		{"stacks", "main", false},
	} {
		if why := misplaced(c.from, c.to); (why == "") != c.allowed {
			t.Errorf("%s imports %s: %q, allowed: %t", c.from, c.to, why, c.allowed)
		}
	}
}

// TestNamedTestsExist: docs/safety.md names the test that proves each finding. A test that is renamed or dropped takes
// its proof with it.
func TestNamedTestsExist(t *testing.T) {
	const document = "docs/safety.md"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	for _, found := range regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1) {
		missing[found[1]] = true
	}
	if len(missing) < 50 {
		t.Errorf("%s names %d tests: the others are not seen", document, len(missing))
	}
	declared := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
	// The lab and the tree's checks are modules of their own in folders of this one.
	err = filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && path != "." && entry.Name()[0] == '.' {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range declared.FindAllStringSubmatch(string(source), -1) {
			delete(missing, found[1])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		t.Errorf("%s names %s, and there is no such test", document, name)
	}
}
