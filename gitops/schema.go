package gitops

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v5"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

//go:embed schemas/*.yaml
var schemaFiles embed.FS

// schemas knows the shape of every kind that may appear in the tree: custom resources
// from their CRDs, the kinds of Kubernetes from the types of client-go.
type schemas struct {
	custom map[string]*jsonschema.Schema // by apiVersion/kind
	core   apiruntime.Decoder
}

// loadSchemas compiles them all, once: that takes longer than a whole check.
var loadSchemas = sync.OnceValues(func() (*schemas, error) {
	s := &schemas{
		custom: map[string]*jsonschema.Schema{},
		core:   serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer(),
	}
	files, err := schemaFiles.ReadDir("schemas")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := schemaFiles.ReadFile("schemas/" + file.Name())
		if err != nil {
			return nil, err
		}
		if err := s.add(text); err != nil {
			return nil, fmt.Errorf("schemas/%s: %w", file.Name(), err)
		}
	}
	return s, nil
})

func (s *schemas) add(text []byte) error {
	var crd struct {
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Served bool
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				}
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		return err
	}
	for _, version := range crd.Spec.Versions {
		if !version.Served {
			continue
		}
		id := crd.Spec.Group + "/" + version.Name + "/" + crd.Spec.Names.Kind
		closeObjects(version.Schema.OpenAPIV3Schema)
		encoded, err := json.Marshal(version.Schema.OpenAPIV3Schema)
		if err != nil {
			return err
		}
		if s.custom[id], err = jsonschema.CompileString(id, string(encoded)); err != nil {
			return err
		}
	}
	return nil
}

// closeObjects makes the schema refuse unknown fields. The API server drops them
// without a word, so a misspelt field would do nothing.
func closeObjects(node map[string]any) {
	properties, _ := node["properties"].(map[string]any)
	_, additional := node["additionalProperties"]
	if open, _ := node["x-kubernetes-preserve-unknown-fields"].(bool); properties != nil && !additional && !open {
		node["additionalProperties"] = false
	}
	for _, property := range properties {
		if child, ok := property.(map[string]any); ok {
			closeObjects(child)
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if child, ok := node[key].(map[string]any); ok {
			closeObjects(child)
		}
	}
}

// check compares an object with the schema of its kind and returns all differences.
func (s *schemas) check(o object) error {
	if schema := s.custom[o.GetAPIVersion()+"/"+o.GetKind()]; schema != nil {
		var invalid *jsonschema.ValidationError
		if err := schema.Validate(o.Object); errors.As(err, &invalid) {
			return fmt.Errorf("does not fit its schema: %s", strings.Join(leaves(invalid), "; "))
		} else if err != nil {
			return err
		}
		return nil
	}
	text, err := json.Marshal(o.Object)
	if err != nil {
		return err
	}
	_, _, err = s.core.Decode(text, nil, nil)
	switch {
	case apiruntime.IsNotRegisteredError(err):
		return fmt.Errorf("nothing is known of %s in %s, so it cannot be checked: is it misspelt? otherwise add its CRD to "+
			"gitops/schemas", o.GetKind(), o.GetAPIVersion())
	case err != nil:
		return fmt.Errorf("does not fit its schema: %s", strings.TrimPrefix(err.Error(), "strict decoding error: "))
	}
	return nil
}

// leaves are the concrete complaints at the bottom of a validation error.
func leaves(e *jsonschema.ValidationError) []string {
	if len(e.Causes) == 0 {
		return []string{e.InstanceLocation + ": " + e.Message}
	}
	var all []string
	for _, cause := range e.Causes {
		all = append(all, leaves(cause)...)
	}
	sort.Strings(all)
	return all
}
