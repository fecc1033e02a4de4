package gitops

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// The document with the picture of the tree, and the lines between which it stands.
const (
	siteDocument = "../docs/site.md"
	drawingStart = "<!-- layers: UPDATE_GOLDEN=1 go -C gitops test -run TestLayersAreAsDrawn . -->\n"
	drawingEnd   = "<!-- layers end -->\n"
)

// undrawn are the kinds that say how the others run, and not what runs.
var undrawn = []string{
	"ConfigMap", "HelmRepository", "Namespace", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount",
	"Provider", "ValidatingAdmissionPolicyBinding",
}

// TestLayersAreAsDrawn compares the picture in docs/site.md with production's tree. UPDATE_GOLDEN=1 draws it anew, but
// not in CI: there nothing would be compared.
func TestLayersAreAsDrawn(t *testing.T) {
	document := readFile(t, siteDocument)
	before, rest, started := strings.Cut(document, drawingStart)
	drawn, after, ended := strings.Cut(rest, drawingEnd)
	if !started || !ended {
		t.Fatalf("%s has no picture between %q and %q", siteDocument, drawingStart, drawingEnd)
	}
	want := drawLayers(t, "..", "production")
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		if os.Getenv("CI") != "" {
			t.Fatal("UPDATE_GOLDEN is set in CI: nothing would be compared: unset it")
		}
		drawn = want
		if err := os.WriteFile(siteDocument, []byte(before+drawingStart+drawn+drawingEnd+after), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if drawn != want {
		t.Errorf("%s differs from the tree (UPDATE_GOLDEN=1 draws it). It is:\n%s", siteDocument, want)
	}
}

// drawLayers draws an environment: its layers, an arrow from each to those that wait for it, what each applies by
// namespace, and the way of a visitor from each hostname.
func drawLayers(t *testing.T, root, environmentName string) string {
	t.Helper()
	schemas, err := loadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	settings, err := loadStack(root, environmentName)
	if err != nil {
		t.Fatal(err)
	}
	e := &environment{
		tree: newTree(root, schemas), name: environmentName, variables: settings.variables(environmentName),
	}
	id := strings.NewReplacer("-", "_", ".", "_", "*", "any", " ", "_").Replace
	var boxes, arrows strings.Builder
	drawn := map[string]string{} // namespace → its box in the layer that applies the Services
	layers := layersOf(t, root, environmentName)
	for _, l := range layers {
		within := map[string][]string{}
		for _, o := range e.build(l) {
			namespace := cmp.Or(o.GetNamespace(), "whole cluster")
			if o.GetKind() == "Service" {
				drawn[o.GetNamespace()] = id(l.Name + "_" + namespace)
			}
			if slices.Contains(undrawn, o.GetKind()) {
				continue
			}
			text := o.GetKind() + " " + o.GetName()
			if version, _, _ := unstructured.NestedString(o.Object, "spec", "chart", "spec", "version"); version != "" {
				text += " " + version
			}
			within[namespace] = append(within[namespace], text)
		}
		fmt.Fprintf(&boxes, "    subgraph %s[\"%s\"]\n", id(l.Name), l.Name)
		for _, namespace := range slices.Sorted(maps.Keys(within)) {
			fmt.Fprintf(&boxes, "        %s[\"<b>%s</b><br/>%s\"]\n", id(l.Name+"_"+namespace), namespace,
				strings.Join(within[namespace], "<br/>"))
		}
		boxes.WriteString("    end\n")
		for _, before := range l.Spec.DependsOn {
			fmt.Fprintf(&arrows, "    %s --> %s\n", id(before.Name), id(l.Name))
		}
	}
	for _, r := range settings.Config.Cloudflare.Ingress {
		match := clusterService.FindStringSubmatch(r.Service)
		if match == nil || drawn[match[3]] == "" {
			continue
		}
		visitor := id("visitor_" + r.Hostname + r.Path)
		fmt.Fprintf(&boxes, "    %s([\"%s\"])\n", visitor, r.Hostname+r.Path)
		fmt.Fprintf(&arrows, "    %s -.-> infrastructure_connectors_%s -.-> %s\n", visitor, id(connectors),
			drawn[match[3]])
	}
	if len(e.tree.problems) > 0 {
		t.Fatal(e.tree.problems)
	}
	return "```mermaid\nflowchart LR\n" + boxes.String() + arrows.String() + "```\n"
}
