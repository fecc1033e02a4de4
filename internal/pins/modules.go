package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// catalogFolder is where the lab says what it builds.
const catalogFolder = "lab/artifacts"

// sumLine is what a go.sum would have: path, version, whether of its go.mod alone, hash.
var sumLine = regexp.MustCompile(`^(\S+) (v\S+?)(/go\.mod)? (h1:\S+)$`)

// catalog is a file of the lab's catalog with the values of its constants.
type catalog struct {
	file      string
	tokens    *token.FileSet
	syntax    *ast.File
	constants map[string]string
}

// readCatalogs reads the Go files of the lab's catalog, less tests. Constants are known in all of them.
func readCatalogs(root string) ([]*catalog, error) {
	paths, err := filepath.Glob(filepath.Join(root, catalogFolder, "*.go"))
	if err != nil {
		return nil, err
	}
	constants := map[string]string{}
	var catalogs []*catalog
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		tokens := token.NewFileSet()
		syntax, err := parser.ParseFile(tokens, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		ast.Inspect(syntax, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			for i := 0; ok && i < min(len(spec.Names), len(spec.Values)); i++ {
				if literal, ok := spec.Values[i].(*ast.BasicLit); ok && literal.Kind == token.STRING {
					constants[spec.Names[i].Name], _ = strconv.Unquote(literal.Value)
				}
			}
			return true
		})
		catalogs = append(catalogs, &catalog{catalogFolder + "/" + filepath.Base(path), tokens, syntax, constants})
	}
	return catalogs, nil
}

// text is the value of an expression of literals and constants, and the last literal in it.
func (c *catalog) text(e ast.Expr) (string, *ast.BasicLit) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			value, _ := strconv.Unquote(e.Value)
			return value, e
		}
	case *ast.Ident:
		return c.constants[e.Name], nil
	case *ast.BinaryExpr:
		left, _ := c.text(e.X)
		right, last := c.text(e.Y)
		return left + right, last
	}
	return "", nil
}

// literals are the values in a literal of the type, which has as many as wanted.
func (c *catalog) literals(node ast.Node, name string, count int) []ast.Expr {
	literal, ok := node.(*ast.CompositeLit)
	if !ok || len(literal.Elts) != count {
		return nil
	}
	if of, ok := literal.Type.(*ast.Ident); !ok || of.Name != name {
		return nil
	}
	return literal.Elts
}

// at is the checksum that the end of a literal is, from what its value ends with on.
func (c *catalog) at(literal *ast.BasicLit, value, what string, now func(context.Context) (string, error)) checksum {
	end := c.tokens.Position(literal.End()).Offset - 1 // the quote
	return checksum{file: c.file, what: what, from: end - len(value), to: end, now: now}
}

// findModules finds the hashes of Go modules in the lab's catalog.
func findModules(root string, u *upstream) ([]checksum, error) {
	catalogs, err := readCatalogs(root)
	if err != nil {
		return nil, err
	}
	var found []checksum
	for _, c := range catalogs {
		add := func(path, version, suffix string, hash ast.Expr) {
			value, literal := c.text(hash)
			_, value, ok := strings.Cut(value, "h1:")
			if literal == nil || !ok {
				return // a parameter
			}
			value = "h1:" + value
			now := func(ctx context.Context) (string, error) {
				return u.moduleSum(ctx, path, version, suffix != "", value)
			}
			found = append(found, c.at(literal, value, "module "+path+"@"+version+suffix, now))
		}
		ast.Inspect(c.syntax, func(node ast.Node) bool {
			if elements := c.literals(node, "Module", 3); elements != nil {
				path, _ := c.text(elements[0])
				version, _ := c.text(elements[1])
				add(path, version, "", elements[2])
			}
			if call, ok := node.(*ast.CallExpr); ok && len(call.Args) == 5 {
				if of, ok := call.Fun.(*ast.Ident); ok && of.Name == "fluxController" {
					name, _ := c.text(call.Args[0])
					version, _ := c.text(call.Args[1])
					path := "github.com/fluxcd/" + name
					add(path, version, "", call.Args[2])
					add(path+"/api", version, "", call.Args[3])
					add(path+"/api", version, "/go.mod", call.Args[4])
				}
			}
			if list, ok := node.(*ast.CompositeLit); ok {
				for _, element := range list.Elts {
					value, literal := c.text(element)
					if line := sumLine.FindStringSubmatch(value); line != nil && literal != nil {
						add(line[1], line[2], line[3], element)
					}
				}
			}
			return true
		})
	}
	return found, nil
}

// moduleSum is the hash of a module, or of its go.mod. The checksum database vouches for it. It lacks some modules:
// what is pinned is right then if it is what the registry gives, and nothing else is taken.
func (u *upstream) moduleSum(ctx context.Context, path, version string, goMod bool, pinned string) (string, error) {
	if database, err := u.run(ctx, ".", nil, "go", "env", "GOSUMDB"); err != nil {
		return "", err
	} else if strings.TrimSpace(string(database)) == "off" {
		return "", errors.New("the checksum database is off: nobody would vouch for the hash: unset GOSUMDB")
	}
	sum, err := u.download(ctx, path, version, goMod, "GONOSUMDB=", "GOPRIVATE=")
	if err == nil {
		return sum, nil
	}
	if given, unchecked := u.download(ctx, path, version, goMod, "GONOSUMDB="+path); unchecked == nil && given == pinned {
		return pinned, nil
	}
	return "", err
}

// download asks the go command for a module, outside of any module of ours.
func (u *upstream) download(ctx context.Context, path, version string, goMod bool, env ...string) (string, error) {
	dir, err := os.MkdirTemp("", "tinyrack-pin-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	env = append(env, "GOFLAGS=-mod=mod", "GOWORK=off")
	// It tells in its answer what went wrong, beside ending badly.
	out, err := u.run(ctx, dir, env, "go", "mod", "download", "-json", path+"@"+version)
	var got struct{ Sum, GoModSum, Error string }
	if jsonErr := json.Unmarshal(out, &got); jsonErr != nil {
		return "", fmt.Errorf("go mod download: %w", errors.Join(err, jsonErr))
	}
	if goMod {
		got.Sum = got.GoModSum
	}
	if got.Error != "" || err != nil {
		return "", fmt.Errorf("go mod download: %s", firstOf(got.Error, err))
	}
	if !strings.HasPrefix(got.Sum, "h1:") {
		return "", fmt.Errorf("go mod download: answers the hash %q, which is none", got.Sum)
	}
	return got.Sum, nil
}

func firstOf(text string, err error) string {
	if text != "" {
		return text
	}
	return err.Error()
}
