package plugintest

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// SDK is the source of a plugin's official SDK, which is generated from the plugin's own schema. It is read, and not
// compiled.
type SDK struct {
	t       *testing.T
	structs map[string]*ast.StructType
	// required are the arguments without which a resource's constructor refuses, and secret its outputs, by the name of
	// the resource.
	required, secret map[string][]string
}

// OfficialSDK reads those Go files of the module, at the version that the program uses, that the patterns name. A
// missing module is downloaded: a comparison that skips itself protects nothing.
func OfficialSDK(t *testing.T, module string, patterns ...string) *SDK {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = "../../.." // the program, whose go.mod decides
	out, err := cmd.Output()
	var found struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &found); jsonErr != nil || err != nil || found.Dir == "" {
		t.Fatalf("the source of %s cannot be had, so nothing can be compared with it: %v %s", module, err, found.Error)
	}
	var files []string
	for _, pattern := range patterns {
		some, err := filepath.Glob(filepath.Join(found.Dir, pattern))
		if err != nil || len(some) == 0 {
			t.Fatalf("%s has no %s: has the SDK moved? %v", found.Dir, pattern, err)
		}
		files = append(files, some...)
	}
	sdk := &SDK{
		t: t, structs: map[string]*ast.StructType{}, required: map[string][]string{}, secret: map[string][]string{},
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			sdk.read(d)
		}
	}
	return sdk
}

var requiredArgument = regexp.MustCompile(`invalid value for required argument '([^']+)'`)

func (s *SDK) read(d ast.Decl) {
	switch d := d.(type) {
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if named, ok := spec.(*ast.TypeSpec); ok {
				if fields, ok := named.Type.(*ast.StructType); ok {
					s.structs[named.Name.Name] = fields
				}
			}
		}
	case *ast.FuncDecl:
		resource, isConstructor := strings.CutPrefix(d.Name.Name, "New")
		if !isConstructor || d.Recv != nil {
			return
		}
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if match := requiredArgument.FindStringSubmatch(n.Value); match != nil {
					s.required[resource] = append(s.required[resource], match[1])
				}
			case *ast.CallExpr:
				if strings.HasSuffix(types.ExprString(n.Fun), "AdditionalSecretOutputs") {
					for _, item := range n.Args[0].(*ast.CompositeLit).Elts {
						name, _ := strconv.Unquote(item.(*ast.BasicLit).Value)
						s.secret[resource] = append(s.secret[resource], name)
					}
				}
			}
			return true
		})
	}
}

// property is one of the schema's, as the SDK has it.
type property struct{ field, goType string }

// properties are those of a struct of the SDK, by name.
func (s *SDK) properties(name string) map[string]property {
	s.t.Helper()
	fields := s.structs[name]
	if fields == nil {
		s.t.Fatalf("the SDK has no %s", name)
	}
	found := map[string]property{}
	for _, f := range fields.Fields.List {
		if f.Tag == nil || len(f.Names) != 1 {
			continue
		}
		tag, _ := strconv.Unquote(f.Tag.Value)
		if at, _, _ := strings.Cut(reflect.StructTag(tag).Get("pulumi"), ","); at != "" {
			found[at] = property{f.Names[0].Name, types.ExprString(f.Type)}
		}
	}
	return found
}

// Check compares a double's resource with the official one: it has no property that the official one has not, each of
// the same type, what is required there is required here, and so is what is secret. A double may want more: what the
// cloud refuses without.
func (s *SDK) Check(name string, double schema.Resource) {
	s.t.Helper()
	official := s.properties(strings.ToLower(name[:1]) + name[1:] + "Args")
	s.Properties(name, official, double.Inputs)
	for input, p := range official {
		if slices.Contains(s.required[name], p.field) && !double.Inputs[input].Required {
			s.t.Errorf("%s.%s is required there and not here", name, input)
		}
	}
	outputs := s.properties(name)
	for _, output := range slices.Sorted(maps.Keys(double.Outputs)) {
		if _, has := outputs[output]; !has {
			s.t.Errorf("%s has no output %s", name, output)
		}
	}
	for _, output := range s.secret[name] {
		own, isOutput := double.Outputs[output]
		input, isInput := double.Inputs[output]
		if isOutput && !own.Secret || isInput && !input.Secret {
			s.t.Errorf("%s.%s is secret there and not here", name, output)
		}
	}
}

// Config compares a double's configuration with that of the official provider.
func (s *SDK) Config(double schema.Properties) {
	s.t.Helper()
	s.Properties("Provider", s.properties("providerArgs"), double)
}

// Properties compares names and types.
func (s *SDK) Properties(of string, official map[string]property, double schema.Properties) {
	s.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(double)) {
		p, has := official[name]
		if !has {
			s.t.Errorf("%s has no %s: the official plugin would refuse it", of, name)
		} else if kind := double[name].Type.String(); !slices.Contains(kinds(p.goType), kind) {
			s.t.Errorf("%s.%s is %s there, and %s here", of, name, p.goType, kind)
		}
	}
}

// kinds are the types of a double that a type of the SDK may be.
func kinds(goType string) []string {
	switch plain := strings.TrimPrefix(goType, "*"); {
	case plain == "string":
		return []string{"string"}
	case plain == "bool":
		return []string{"boolean"}
	case plain == "int":
		return []string{"integer"}
	case plain == "float64":
		return []string{"number", "integer"}
	case plain == "interface{}":
		return []string{"any"}
	case strings.HasPrefix(plain, "[]"):
		return []string{"list", "any"} // of a configuration, a list may come as text
	case strings.HasPrefix(plain, "map["):
		return []string{"map"}
	}
	return []string{"object", "string", "any"} // a named type: an object or an enumeration
}
