package gitops

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// rootLayer is the Kustomization that the FluxInstance makes for clusters/<environment>.
const rootLayer = "flux-system"

// layer is a Flux Kustomization, as far as the rules read it.
type layer struct {
	Name, Path string
	Spec       layerSpec
}

type layerSpec struct {
	Interval      string      `json:"interval"`
	RetryInterval string      `json:"retryInterval"`
	Timeout       string      `json:"timeout"`
	Path          string      `json:"path"`
	Prune         bool        `json:"prune"`
	Wait          bool        `json:"wait"`
	SourceRef     reference   `json:"sourceRef"`
	DependsOn     []reference `json:"dependsOn"`
	PostBuild     struct {
		Substitute     map[string]string `json:"substitute"`
		SubstituteFrom []reference       `json:"substituteFrom"`
	} `json:"postBuild"`
	HealthCheckExprs []healthCheck `json:"healthCheckExprs"`
	Patches          []layerPatch  `json:"patches"`
}

type layerPatch struct {
	Patch  string `json:"patch"`
	Target struct {
		Group string `json:"group"`
		Kind  string `json:"kind"`
	} `json:"target"`
}

type healthCheck struct {
	Kind    string `json:"kind"`
	Current string `json:"current"`
}

type reference struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Optional  bool   `json:"optional"`
}

// addLayer takes an object of the root layer, where nothing but layers belongs.
func (e *environment) addLayer(o object) {
	if o.GetKind() != "Kustomization" || o.GetAPIVersion() != "kustomize.toolkit.fluxcd.io/v1" {
		e.problem(rootLayer, "%s: only Flux Kustomizations belong in clusters/%s: nothing orders or waits for it there: "+
			"move it into a layer", o.id(), e.name)
		return
	}
	if o.GetNamespace() != "flux-system" {
		e.problem(rootLayer, "%s: is not in namespace flux-system: it finds neither its source nor cluster-vars", o.id())
	}
	if err := e.tree.schemas.check(o); err != nil {
		e.problem(rootLayer, "%s: %v", o.id(), err)
		e.tree.partial, e.incomplete = true, true
		return
	}
	l := layer{Name: o.GetName()}
	text, err := yaml.Marshal(o.Object["spec"])
	if err == nil {
		err = yaml.Unmarshal(text, &l.Spec)
	}
	if err != nil {
		e.problem(rootLayer, "%s: %v", o.id(), err)
		return
	}
	l.Path = l.Spec.Path
	e.layers = append(e.layers, l)
}

func (e *environment) checkLayers() {
	names := make([]string, len(e.layers))
	for i, l := range e.layers {
		names[i] = l.Name
	}
	for _, l := range e.layers {
		e.checkLayer(l, names)
	}
	e.checkOrder()
}

func (e *environment) checkLayer(l layer, names []string) {
	s := l.Spec
	if want := "./" + strings.ReplaceAll(l.Name, "-", "/") + "/" + e.name; l.Path != want {
		e.problem(l.Name, "path is %q, want %q: a layer is found by its name, and only in its own environment", l.Path, want)
	}
	if s.SourceRef != (reference{Kind: "GitRepository", Name: "flux-system"}) {
		e.problem(l.Name, "sourceRef is not GitRepository flux-system: the layer would not follow the commits of this "+
			"repository")
	}
	if !s.Prune {
		e.problem(l.Name, "prune is not true: what is deleted in git would stay in the cluster")
	}
	if !s.Wait {
		e.problem(l.Name, "wait is not true: the layer would be Ready before its objects are, and the next one would start "+
			"too early")
	}
	for _, field := range []struct{ name, value string }{{"retryInterval", s.RetryInterval}, {"timeout", s.Timeout}} {
		if field.value == "" {
			e.problem(l.Name, "%s is not set: it would default to the interval (%s), too long for a failed first "+
				"start", field.name, s.Interval)
		}
	}
	if !slices.Contains(s.PostBuild.SubstituteFrom, reference{Kind: "ConfigMap", Name: "cluster-vars"}) {
		e.problem(l.Name, "postBuild does not substitute from ConfigMap cluster-vars, or only optionally: without it "+
			"variables would have no value")
	}
	if len(s.PostBuild.Substitute) > 0 || len(s.PostBuild.SubstituteFrom) > 1 {
		e.problem(l.Name, "postBuild has variables besides ConfigMap cluster-vars: they would hide facts of the program: "+
			"set them in Pulumi.%s.yaml", e.name)
	}
	for _, dependency := range s.DependsOn {
		if !slices.Contains(names, dependency.Name) || (dependency.Namespace != "" && dependency.Namespace != "flux-system") {
			e.problem(l.Name, "depends on %s, which is not a layer of this environment: it would wait for ever", dependency.Name)
		}
	}
}

// checkOrder refuses layers that wait for each other in a circle.
func (e *environment) checkOrder() {
	waiting := map[string][]string{}
	for _, l := range e.layers {
		waiting[l.Name] = nil
		for _, dependency := range l.Spec.DependsOn {
			waiting[l.Name] = append(waiting[l.Name], dependency.Name)
		}
	}
	for progress := true; progress; {
		progress = false
		for name, dependencies := range waiting {
			if !slices.ContainsFunc(dependencies, func(d string) bool { _, ok := waiting[d]; return ok }) {
				delete(waiting, name)
				progress = true
			}
		}
	}
	if len(waiting) > 0 {
		var circle []string
		for name := range waiting {
			circle = append(circle, name)
		}
		slices.Sort(circle)
		e.problem(rootLayer, "layers wait for each other: %s: none of them would ever start", strings.Join(circle, ", "))
	}
}

// checkFiles finds what no environment reads, and private keys anywhere in the tree.
func (t *tree) checkFiles() {
	for _, folder := range []string{"clusters", "infrastructure", "databases", "apps"} {
		base := filepath.Join(t.root, folder)
		err := filepath.WalkDir(base, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path) //nolint:gosec // the checkout's own files
			if err != nil {
				return err
			}
			relative, _ := filepath.Rel(t.root, path)
			if strings.Contains(string(text), "PRIVATE KEY-----") {
				t.problem("%s: holds a private key: everyone who can read the repository has it: remove it, and replace the "+
					"key", relative)
			}
			extension := filepath.Ext(path)
			if t.partial || (extension != ".yaml" && extension != ".yml") {
				return nil
			}
			resolved, err := filepath.EvalSymlinks(path)
			if !t.files.read[resolved] {
				t.problem("%s: is read by no environment: what it says never reaches a cluster: add it to a kustomization.yaml "+
					"or delete it", relative)
			}
			return err
		})
		if err != nil {
			t.problem("%s: %w", folder, err)
		}
	}
}
