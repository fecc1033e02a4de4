package flux

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestLayersPatch reads the patch as the operator, and then Flux, will: text within text.
func TestLayersPatch(t *testing.T) {
	if got := layersPatch(map[string]Layer{"apps": {}}); got != "" {
		t.Errorf("layers are patched for nothing: %s", got)
	}
	type change struct {
		Target struct{ Kind, Namespace, Name, Group string }
		Patch  string
	}
	type layer struct {
		Kind     string
		Metadata struct{ Name string }
		Spec     struct {
			Suspend   bool
			PostBuild struct{ Substitute map[string]string }
			Patches   []change
		}
	}
	const own = "- op: move\n  from: /a\n  path: /b\n"
	patch := layersPatch(map[string]Layer{
		"databases": {Variables: map[string]string{"incarnation": "2"}, Patches: []Patch{{Group: "g", Kind: "K", Text: own}}},
		"apps":      {Suspended: true},
		"other":     {},
	})
	var steps []struct {
		Op, Path string
		Value    []change
	}
	if err := yaml.Unmarshal([]byte(patch), &steps); err != nil || len(steps) != 1 || steps[0].Op != "add" ||
		steps[0].Path != "/spec/patches" || len(steps[0].Value) != 2 {
		t.Fatalf("%v: %s", err, patch)
	}
	layers := map[string]layer{}
	for _, c := range steps[0].Value {
		var l layer
		if err := yaml.Unmarshal([]byte(c.Patch), &l); err != nil {
			t.Fatal(err)
		}
		if c.Target.Kind != "Kustomization" || c.Target.Namespace != "flux-system" || l.Kind != c.Target.Kind ||
			l.Metadata.Name != c.Target.Name {
			t.Errorf("%+v is for %+v", l, c.Target)
		}
		layers[l.Metadata.Name] = l
	}
	if apps := layers["apps"].Spec; !apps.Suspend || apps.PostBuild.Substitute != nil || apps.Patches != nil {
		t.Errorf("apps: %+v", apps)
	}
	databases := layers["databases"].Spec
	if databases.Suspend || databases.PostBuild.Substitute["incarnation"] != "2" || len(databases.Patches) != 1 {
		t.Fatalf("databases: %+v", databases)
	}
	if p := databases.Patches[0]; p.Target.Group != "g" || p.Target.Kind != "K" || p.Patch != own {
		t.Errorf("databases: %+v", p)
	}
}

// TestRestoreReachesTheInstance compares the instance of a restore with that of none: only the root layer is patched.
func TestRestoreReachesTheInstance(t *testing.T) {
	patches := func(args *Args) []any {
		kustomize, _ := instanceSpec(args, Sync{})["kustomize"].(map[string]any)
		list, _ := kustomize["patches"].([]any)
		return list
	}
	none, restore := patches(&Args{}), patches(&Args{Layers: map[string]Layer{"apps": {Suspended: true}}})
	if len(restore) != len(none)+1 {
		t.Fatalf("%d patches, without a restore %d", len(restore), len(none))
	}
	last, _ := restore[len(none)].(map[string]any)
	target, _ := last["target"].(map[string]any)
	text, _ := last["patch"].(string)
	if target["kind"] != "Kustomization" || target["name"] != "flux-system" || !strings.Contains(text, "suspend: true") {
		t.Errorf("it patches %v: %s", target, text)
	}
}

// TestLayersAreInTheFolders compares the folders that Flux takes with those that the layers read: one that it did not
// take would be missing, and one that nobody reads slows every push.
func TestLayersAreInTheFolders(t *testing.T) {
	files, err := filepath.Glob("../../clusters/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	read := map[string]bool{"clusters": true}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range layerFolder.FindAllStringSubmatch(string(text), -1) {
			read[found[1]] = true
		}
	}
	if got := slices.Sorted(maps.Keys(read)); !slices.Equal(got, folders) {
		t.Errorf("the layers read %v, Flux takes %v", got, folders)
	}
}

var layerFolder = regexp.MustCompile(`(?m)^  path: \./([^/\n]+)`)
