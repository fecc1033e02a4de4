// Package changes tells from the names of changed files what a change can touch.
package changes

import (
	"path"
	"slices"
	"strings"
)

// Touched is what has to be looked at.
type Touched struct {
	// Stacks are the stacks whose resources may change, sorted.
	Stacks []string
	// Tree says that what Flux applies may change.
	Tree bool
}

// None tells whether nothing has to be looked at.
func (t Touched) None() bool { return len(t.Stacks) == 0 && !t.Tree }

// tree are the folders that Flux reads.
var tree = []string{"clusters", "infrastructure", "databases", "apps"}

// beside are folders that neither the program nor Flux reads.
var beside = []string{"docs", "lab", "gitops", "ci", "scripts", "internal"}

// Of is what files touch, of these stacks. What is not known to be harmless touches all of them: the program may read
// any file.
func Of(files, stacks []string) Touched {
	var t Touched
	all := false
	for _, file := range files {
		folder, _, below := strings.Cut(file, "/")
		stack := Stack(file)
		switch {
		case stack != "":
			// The variables of the tree are settings, too. A stack that is gone is no stack to preview.
			t.Tree = true
			t.add(stack, stacks)
		case below && slices.Contains(tree, folder):
			t.Tree = true
			// A certificate is read by the program.
			if folder == "clusters" && path.Ext(file) != ".yaml" && path.Ext(file) != ".md" {
				t.add(strings.Split(file, "/")[1], stacks)
			}
		case harmless(file, folder, below):
		default:
			all = true
		}
	}
	if all {
		t.Stacks = slices.Clone(stacks)
	}
	slices.Sort(t.Stacks)
	return t
}

// Stack is the stack that a file holds the settings of: none where it is another kind of file.
func Stack(file string) string {
	name, settings := strings.CutPrefix(file, "Pulumi.")
	name, yaml := strings.CutSuffix(name, ".yaml")
	if !settings || !yaml || strings.Contains(name, "/") {
		return ""
	}
	return name
}

func (t *Touched) add(stack string, known []string) {
	if slices.Contains(known, stack) && !slices.Contains(t.Stacks, stack) {
		t.Stacks = append(t.Stacks, stack)
	}
}

// harmless tells of a file that nothing that is provisioned depends on.
func harmless(file, folder string, below bool) bool {
	name := path.Base(file)
	switch {
	case below && (slices.Contains(beside, folder) || strings.HasPrefix(folder, ".")):
		return true
	case strings.HasPrefix(name, ".") || strings.HasSuffix(name, "_test.go") || path.Ext(name) == ".md":
		return true
	case strings.Contains(file, "/testdata/"):
		return true
	}
	return slices.Contains([]string{"Makefile", "LICENSE", "renovate.json5", "renovate.json"}, file)
}
