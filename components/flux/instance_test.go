package flux

import (
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestLayersPatch reads the patch as the operator, and then Flux, will: text within text.
func TestLayersPatch(t *testing.T) {
	if got := layersPatch(nil, nil); got != "" {
		t.Errorf("without a restore the layers are patched: %s", got)
	}
	type operation struct{ Op, Path string }
	type change struct {
		Target struct{ Kind, Namespace, Name, Group string }
		Patch  string
	}
	read := func(text string, value any) operation {
		t.Helper()
		var steps []struct {
			operation
			Value any
		}
		if err := yaml.Unmarshal([]byte(text), &steps); err != nil || len(steps) != 1 {
			t.Fatalf("%v: %s", err, text)
		}
		again, err := yaml.Marshal(steps[0].Value)
		if err == nil {
			err = yaml.Unmarshal(again, value)
		}
		if err != nil {
			t.Fatal(err)
		}
		return steps[0].operation
	}
	const text = "- op: move\n  from: /a\n  path: /b\n"
	patch := layersPatch([]string{"databases", "apps"}, map[string][]Patch{
		"databases": {{Group: "g", Kind: "K", Text: text}},
	})
	var changes []change
	if at := read(patch, &changes); at != (operation{"add", "/spec/patches"}) || len(changes) != 3 {
		t.Fatalf("at %v: %v", at, changes)
	}
	for i, layer := range []string{"apps", "databases"} {
		var suspended bool
		at := read(changes[i].Patch, &suspended)
		if changes[i].Target.Name != layer || at != (operation{"add", "/spec/suspend"}) || !suspended {
			t.Errorf("%s: %v %t", changes[i].Target.Name, at, suspended)
		}
	}
	for _, c := range changes {
		if c.Target.Kind != "Kustomization" || c.Target.Namespace != "flux-system" {
			t.Errorf("it changes %+v", c.Target)
		}
	}
	var own []change
	at := read(changes[2].Patch, &own)
	if changes[2].Target.Name != "databases" || at != (operation{"add", "/spec/patches"}) || len(own) != 1 ||
		own[0].Target.Group != "g" || own[0].Target.Kind != "K" || own[0].Patch != text {
		t.Errorf("%v %v: %+v", changes[2].Target, at, own)
	}
}

// TestRestoreReachesTheInstance compares the instance of a restore with that of none: only the root layer is patched.
func TestRestoreReachesTheInstance(t *testing.T) {
	patches := func(args *Args) []any {
		kustomize, _ := instanceSpec(args, Sync{})["kustomize"].(map[string]any)
		list, _ := kustomize["patches"].([]any)
		return list
	}
	none, restore := patches(&Args{}), patches(&Args{Suspended: []string{"apps"}})
	if len(restore) != len(none)+1 {
		t.Fatalf("%d patches, without a restore %d", len(restore), len(none))
	}
	last, _ := restore[len(none)].(map[string]any)
	target, _ := last["target"].(map[string]any)
	text, _ := last["patch"].(string)
	if target["kind"] != "Kustomization" || target["name"] != "flux-system" || !strings.Contains(text, "/spec/suspend") {
		t.Errorf("it patches %v: %s", target, text)
	}
}
