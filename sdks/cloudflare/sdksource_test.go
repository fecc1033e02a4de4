package cloudflare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

const sdkModule = "github.com/pulumi/pulumi-cloudflare/sdk/v6"

// sdkSource is the text of the generated SDK. Its single package has hundreds
// of thousands of lines; only the declarations asked for are parsed, none is
// compiled.
type sdkSource struct {
	version string
	text    []byte
}

// loadSDK reads the SDK at the version of go.mod. A missing module is downloaded:
// a contract that skips itself protects nothing.
func loadSDK(t *testing.T) *sdkSource {
	t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", sdkModule).Output()
	var module struct{ Dir, Version, Error string }
	if jsonErr := json.Unmarshal(out, &module); jsonErr != nil || err != nil || module.Dir == "" {
		t.Fatalf("the source of %s cannot be had, so nothing can be compared with it: run \"go mod download %s\" with a "+
			"network: %v %s",
			sdkModule, sdkModule, err, module.Error)
	}
	files, err := filepath.Glob(filepath.Join(module.Dir, "go", "cloudflare", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s holds no Go files under go/cloudflare: has the SDK moved? %v", module.Dir, err)
	}
	sdk := &sdkSource{version: strings.TrimPrefix(module.Version, "v")}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sdk.text = append(append(sdk.text, text...), '\n')
	}
	return sdk
}

// declaration parses the one top-level declaration that starts with head. The
// SDK is gofmt'd, so it ends at the first closing brace in the first column.
func (s *sdkSource) declaration(head string) (ast.Decl, error) {
	_, rest, found := bytes.Cut(s.text, []byte("\n"+head))
	if !found {
		return nil, fmt.Errorf("the SDK has no %q", strings.TrimSuffix(head, " {"))
	}
	body, _, found := bytes.Cut(rest, []byte("\n}\n"))
	if !found {
		return nil, fmt.Errorf("the SDK's %q has no end", head)
	}
	text := "package p\n" + head + string(body) + "\n}\n"
	file, err := parser.ParseFile(token.NewFileSet(), "", text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return file.Decls[0], nil
}

// field is one field of a struct of the SDK.
type field struct {
	name     string
	property string // of the pulumi tag, "" when there is none
	typ      string
}

// optional says whether a field of a plain struct can be left out.
func (f field) optional() bool {
	return strings.HasPrefix(f.typ, "*") || strings.HasPrefix(f.typ, "[]") || strings.HasPrefix(f.typ, "map[")
}

func (s *sdkSource) fields(structName string) ([]field, error) {
	decl, err := s.declaration("type " + structName + " struct {")
	if err != nil {
		return nil, err
	}
	structType := decl.(*ast.GenDecl).Specs[0].(*ast.TypeSpec).Type.(*ast.StructType)
	var fields []field
	for _, f := range structType.Fields.List {
		property := ""
		if f.Tag != nil {
			tag, err := strconv.Unquote(f.Tag.Value)
			if err != nil {
				return nil, err
			}
			property = reflect.StructTag(tag).Get("pulumi")
		}
		for _, name := range f.Names {
			fields = append(fields, field{name: name.Name, property: property, typ: types.ExprString(f.Type)})
		}
	}
	return fields, nil
}

// constructor is what New<Resource> of the SDK does beside passing args on.
type constructor struct {
	token         string
	required      map[string]bool // Go names of args refused when nil
	secretInputs  map[string]bool // Go names of args wrapped in ToSecret
	secretOutputs map[string]bool // properties
}

func (s *sdkSource) constructor(resource string) (*constructor, error) {
	decl, err := s.declaration("func New" + resource + "(")
	if err != nil {
		return nil, err
	}
	c := &constructor{required: map[string]bool{}, secretInputs: map[string]bool{}, secretOutputs: map[string]bool{}}
	ast.Inspect(decl, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.IfStmt:
			// if args.X == nil { return nil, … }: a default instead of a return
			// would make the argument optional.
			name, isNilCheck := strings.CutSuffix(types.ExprString(n.Cond), " == nil")
			name, isArg := strings.CutPrefix(name, "args.")
			if _, returns := n.Body.List[0].(*ast.ReturnStmt); isNilCheck && isArg && returns {
				c.required[name] = true
			}
		case *ast.AssignStmt:
			name, isArg := strings.CutPrefix(types.ExprString(n.Lhs[0]), "args.")
			if isArg && strings.HasPrefix(types.ExprString(n.Rhs[0]), "pulumi.ToSecret(") {
				c.secretInputs[name] = true
			}
		case *ast.CallExpr:
			switch types.ExprString(n.Fun) {
			case "ctx.RegisterResource":
				c.token = unquote(n.Args[0])
			case "pulumi.AdditionalSecretOutputs":
				for _, element := range n.Args[0].(*ast.CompositeLit).Elts {
					c.secretOutputs[unquote(element)] = true
				}
			}
		}
		return true
	})
	return c, nil
}

func unquote(literal ast.Expr) string {
	text, err := strconv.Unquote(types.ExprString(literal))
	if err != nil {
		return types.ExprString(literal)
	}
	return text
}
