package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers are the packages from the bottom up. A package imports those of lower layers alone, and this one, with the
// verbs, is known to none.
var layers = [][]string{
	{"emulator", "file", "layout", "progress", "scan"},
	{"artifacts", "authority", "kubectl", "process", "programs", "secret"},
	{"cloudflare", "gitserver", "host", "machine", "pulumi", "s3", "site", "tailscale"},
	{"clouds", "settings", "summary"},
	{"benchmark", "preview"},
	{"."},
}

// apart are programs of their own. They import nothing of the lab but themselves.
var apart = []string{"cmd", "plugins"}

const module = "github.com/tinyrack-net/infrastructure/lab"

func TestImportsPointDown(t *testing.T) {
	layer := map[string]int{}
	for i, names := range layers {
		for _, name := range names {
			layer[name] = i
		}
	}
	looked := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") ||
			strings.Contains(path, "testdata") {
			return err
		}
		own := part(filepath.Dir(path))
		looked[own] = true
		if _, known := layer[own]; !known && !slices.Contains(apart, own) {
			t.Errorf("%s: give the package %s its layer in this test", path, own)
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			relative, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			other := part(strings.TrimPrefix(relative, "/"))
			if other == own {
				continue
			}
			if slices.Contains(apart, own) || slices.Contains(apart, other) || layer[other] >= layer[own] {
				t.Errorf("%s imports %s, which is not below it", path, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range layer {
		if !looked[name] {
			t.Errorf("%s is no package", name)
		}
	}
}

// part is the first element of a package's path in the module.
func part(path string) string {
	first, _, _ := strings.Cut(filepath.ToSlash(path), "/")
	if first == "" {
		return "."
	}
	return first
}
