package flux

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/internal/golden"
)

func sum(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func TestOperatorManifest(t *testing.T) {
	objects, err := parseManifest(operatorManifest, operatorSHA256)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&out, "%s %s\n", o.token(), o.resourceName("flux"))
	}
	golden.Check(t, testdata, "operator.txt", out.String())

	// The version is pinned in the manifest itself, and everything namespaced is
	// where the component's namespace is.
	if !strings.Contains(string(operatorManifest), "image: ghcr.io/controlplaneio-fluxcd/flux-operator:v0.58.0\n") {
		t.Error("the operator's image is not pinned to v0.58.0")
	}
	for _, o := range objects {
		metadata := o.fields["metadata"].(map[string]any)
		if namespace, ok := metadata["namespace"]; ok && namespace != namespaceName {
			t.Errorf("%s %s is in namespace %v", o.kind, o.name, namespace)
		}
	}
}

func TestParseManifest(t *testing.T) {
	const two = "# header\n---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n---\n---\napiVersion: " +
		"apps/v1\nkind: Deployment\nmetadata:\n  name: b\nspec:\n  replicas: 1\n"
	objects, err := parseManifest([]byte(two), sum(two))
	if err != nil || len(objects) != 2 {
		t.Fatalf("got %v, %v", objects, err)
	}
	if got := objects[0].token(); got != "kubernetes:core/v1:Namespace" {
		t.Error(got)
	}
	if got := objects[1].token() + " " + objects[1].resourceName("flux"); got != "kubernetes:apps/v1:Deployment "+
		"flux-deployment-b" {
		t.Error(got)
	}
	for name, tt := range map[string]struct{ text, sum, want string }{
		"changed":   {two + "\n", sum(two), "not the text that was reviewed"},
		"not YAML":  {"a: [", sum("a: ["), "object 1"},
		"no object": {"a: b\n", sum("a: b\n"), "not a Kubernetes object"},
	} {
		if _, err := parseManifest([]byte(tt.text), tt.sum); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
