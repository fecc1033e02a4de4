package gitops

import (
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestReferences takes each way in which a pod names a Secret or a ConfigMap.
func TestReferences(t *testing.T) {
	for text, want := range map[string][]reference{
		"valueFrom: {secretKeyRef: {name: a, key: k}}":              {{Kind: "Secret", Name: "a"}},
		"valueFrom: {configMapKeyRef: {name: a, key: k}}":           {{Kind: "ConfigMap", Name: "a"}},
		"envFrom: [{secretRef: {name: a}}, {secretRef: {name: b}}]": {{Kind: "Secret", Name: "a"}, {Kind: "Secret", Name: "b"}},
		"envFrom: [{configMapRef: {name: a}}]":                      {{Kind: "ConfigMap", Name: "a"}},
		"volumes: [{name: v, secret: {secretName: a}}]":             {{Kind: "Secret", Name: "a"}},
		"volumes: [{name: v, configMap: {name: a}}]":                {{Kind: "ConfigMap", Name: "a"}},
		"sources: [{secret: {name: a}}, {configMap: {name: b}}]":    {{Kind: "Secret", Name: "a"}, {Kind: "ConfigMap", Name: "b"}},
		"imagePullSecrets: [{name: a}]":                             {{Kind: "Secret", Name: "a"}},
		"valueFrom: {secretKeyRef: {name: a, optional: true}}":      nil,
		"volumes: [{name: v, emptyDir: {}}]":                        nil,
	} {
		var parsed map[string]any
		if err := yaml.Unmarshal([]byte(text), &parsed); err != nil {
			t.Fatal(err)
		}
		var got []reference
		walk(parsed, func(node map[string]any) { got = append(got, referencesOf(node)...) })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}
