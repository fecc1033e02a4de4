package gitops

import (
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestReferences takes each way in which a pod names a Secret or a ConfigMap.
func TestReferences(t *testing.T) {
	secret := func(name string) reference { return reference{Kind: "Secret", Name: name} }
	configMap := func(name string) reference { return reference{Kind: "ConfigMap", Name: name} }
	for text, want := range map[string][]reference{
		"valueFrom: {secretKeyRef: {name: a, key: k}}":              {secret("a")},
		"valueFrom: {configMapKeyRef: {name: a, key: k}}":           {configMap("a")},
		"envFrom: [{secretRef: {name: a}}, {secretRef: {name: b}}]": {secret("a"), secret("b")},
		"envFrom: [{configMapRef: {name: a}}]":                      {configMap("a")},
		"volumes: [{name: v, secret: {secretName: a}}]":             {secret("a")},
		"volumes: [{name: v, configMap: {name: a}}]":                {configMap("a")},
		"sources: [{secret: {name: a}}, {configMap: {name: b}}]":    {secret("a"), configMap("b")},
		"accessKeyId: {name: a, key: k}":                            {secret("a")},
		"secretAccessKey: {name: a, key: k}":                        {secret("a")},
		"region: {name: a, key: k}":                                 {secret("a")},
		"region: us-east-1":                                         nil,
		"credentialSecret: a":                                       {secret("a")},
		"imagePullSecrets: [{name: a}]":                             {secret("a")},
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
