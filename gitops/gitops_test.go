package gitops

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v5"
)

// TestTree checks the tree of this checkout, for every environment.
func TestTree(t *testing.T) {
	if err := Check(".."); err != nil {
		t.Errorf("the GitOps tree has problems:\n%v", err)
	}
}

// TestTreeOrder pins the order of the layers, the same in every environment, but for volumes where there are any.
func TestTreeOrder(t *testing.T) {
	want := []string{
		"infrastructure-controllers []", "infrastructure-configs [infrastructure-controllers]",
		"infrastructure-connectors [infrastructure-controllers]", "databases [infrastructure-configs]", "apps [databases]",
	}
	const volumes = "infrastructure-volumes"
	environments, err := filepath.Glob("../clusters/*/kustomization.yaml")
	if err != nil || len(environments) == 0 {
		t.Fatalf("found no environment in clusters/ (%v)", err)
	}
	for _, file := range environments {
		var got []string
		for _, l := range layersOf(t, "..", filepath.Base(filepath.Dir(file))) {
			var after []string
			for _, dependency := range l.Spec.DependsOn {
				if dependency.Name != volumes {
					after = append(after, dependency.Name)
				}
			}
			if l.Name == volumes {
				if !slices.Equal(after, []string{"infrastructure-configs"}) {
					t.Errorf("%s: %s is after %q", file, volumes, after)
				}
				continue
			}
			got = append(got, l.Name+" ["+strings.Join(after, " ")+"]")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", file, got, want)
		}
	}
}

func TestValidTree(t *testing.T) {
	if err := Check("testdata/valid"); err != nil {
		t.Fatalf("the base of the refusal tests has problems:\n%v", err)
	}
}

// TestNewEnvironmentIsChecked shows that an environment is found by its folder: one more, of any name, is checked like
// the others, and none at all is a problem of its own.
func TestNewEnvironmentIsChecked(t *testing.T) {
	root := copyTree(t)
	if err := os.CopyFS(filepath.Join(root, "clusters/acme"), os.DirFS(filepath.Join(root, "clusters/lab"))); err != nil {
		t.Fatal(err)
	}
	err := Check(root)
	if err == nil || !strings.Contains(err.Error(), "acme: Pulumi.acme.yaml cannot be read") {
		t.Errorf("an environment without its stack: %v", err)
	}
	stack := filepath.Join(root, "Pulumi.acme.yaml")
	if err := os.WriteFile(stack, []byte(readFile(t, filepath.Join(root, "Pulumi.lab.yaml"))), 0o600); err != nil {
		t.Fatal(err)
	}
	err = Check(root)
	if err == nil || !strings.Contains(err.Error(), `acme: apps: path is "./apps/lab", want "./apps/acme"`) {
		t.Errorf("a copied environment that points at another one: %v", err)
	}
	for _, name := range []string{"acme", "lab"} {
		if err := os.RemoveAll(filepath.Join(root, "clusters", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(root); err == nil || !strings.Contains(err.Error(), "there is no environment") {
		t.Errorf("no environment at all: %v", err)
	}
}

// TestSubstitution shows that a variable of the stack wins over the default in the tree
// and that the program's own ones arrive.
func TestSubstitution(t *testing.T) {
	root := "testdata/valid"
	schemas, err := loadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	settings, err := loadStack(root, "lab")
	if err != nil {
		t.Fatal(err)
	}
	variables := settings.variables("lab")
	for _, name := range ProgramVariables {
		if variables[name] == "" {
			t.Errorf("the program's variable %s is not read from the stack", name)
		}
	}
	e := &environment{tree: newTree(root, schemas), name: "lab", variables: variables}
	var text strings.Builder
	for _, path := range []string{"./infrastructure/controllers/lab", "./apps/lab"} {
		for _, o := range e.build(layer{Name: "layer", Path: path}) {
			encoded, err := o.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			text.Write(encoded)
		}
	}
	for _, want := range []string{`"url":"http://10.77.0.1:7703/charts"`, `"value":"https://notes.lab.test"`} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%s is not in what Flux would apply", want)
		}
	}
	delete(e.variables, "sealed_secrets_chart_repository")
	for _, o := range e.build(layer{Name: "layer", Path: "./infrastructure/controllers/lab"}) {
		if spec, _ := o.Object["spec"].(map[string]any); o.GetKind() == "HelmRepository" &&
			spec["url"] != "https://bitnami.github.io/sealed-secrets" {
			t.Errorf("without the variable the chart comes from %v, want upstream", spec["url"])
		}
	}
	if len(e.tree.problems) > 0 {
		t.Errorf("problems: %v", e.tree.problems)
	}
}

// TestSchemaRefusesUnknownFieldsAnywhere misspells a field in an object, in a list's item and in a map's value.
func TestSchemaRefusesUnknownFieldsAnywhere(t *testing.T) {
	const entry = `{"type": "object", "properties": {"name": {"type": "string"}}}`
	s := &schemas{custom: map[string]*jsonschema.Schema{}}
	if err := s.add([]byte(`{"spec": {"group": "g", "names": {"kind": "K"}, "versions": [{"name": "v1", "served": true,
		"schema": {"openAPIV3Schema": {"type": "object", "properties": {
			"object": ` + entry + `, "list": {"type": "array", "items": ` + entry + `},
			"map": {"type": "object", "additionalProperties": ` + entry + `}}}}}]}}`)); err != nil {
		t.Fatal(err)
	}
	wrong := map[string]any{"nam": "x"}
	for field, value := range map[string]any{
		"object": wrong, "list": []any{wrong}, "map": map[string]any{"key": wrong}, "nothing": "x",
	} {
		if err := s.custom["g/v1/K"].Validate(map[string]any{field: value}); err == nil {
			t.Errorf("%s: an unknown field was taken", field)
		}
	}
}

func layersOf(t *testing.T, root, environmentName string) []layer {
	t.Helper()
	schemas, err := loadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	e := &environment{tree: newTree(root, schemas), name: environmentName}
	for _, o := range e.build(layer{Name: rootLayer, Path: "./clusters/" + environmentName}) {
		e.addLayer(o)
	}
	if len(e.tree.problems) > 0 {
		t.Fatal(e.tree.problems)
	}
	return e.layers
}

// says compares everything that Check says of a tree.
func says(t *testing.T, root string, want []string) {
	t.Helper()
	got := ""
	if err := Check(root); err != nil {
		got = err.Error()
	}
	if want := strings.Join(want, "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// copyTree gives a test its own copy of testdata/valid.
func copyTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS("testdata/valid")); err != nil {
		t.Fatal(err)
	}
	return root
}
