package gitops

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/fluxcd/pkg/envsubst"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// object is one resource as Flux would apply it.
type object struct {
	unstructured.Unstructured
	layer         string // the Flux Kustomization that applies it
	clusterScoped bool
}

// id names the object in messages: "Kind namespace/name".
func (o object) id() string {
	name := o.GetName()
	if o.GetNamespace() != "" {
		name = o.GetNamespace() + "/" + name
	}
	return o.GetKind() + " " + name
}

// kustomizeBuild renders a folder with the options kustomize-controller uses.
func kustomizeBuild(files filesys.FileSystem, path string) (resmap.ResMap, error) {
	return krusty.MakeKustomizer(&krusty.Options{
		LoadRestrictions: types.LoadRestrictionsNone,
		PluginConfig:     types.DisabledPluginConfig(),
	}).Run(files, path)
}

// clusterScoped says of a kind that it has no namespace. What kustomize knows of it is of Kubernetes 1.21.
func clusterScoped(res *resource.Resource) bool {
	return res.GetGvk().IsClusterScoped() || res.GetGvk().Group == "admissionregistration.k8s.io"
}

// build renders a layer's path and substitutes its variables. Flux would make up a
// kustomization.yaml where there is none; here it is required, so that what is applied
// is written down.
func (e *environment) build(l layer) []object {
	built, err := kustomizeBuild(e.tree.files, filepath.Join(e.tree.root, l.Path))
	if err != nil {
		e.problem(l.Name, "%s cannot be built: %s", l.Path, strings.ReplaceAll(err.Error(),
			e.tree.root+string(filepath.Separator), ""))
		e.tree.partial, e.incomplete = true, true
		return nil
	}
	var objects []object
	for _, res := range built.Resources() {
		o, err := e.render(l, res)
		if err != nil {
			e.problem(l.Name, "%s %s: %v", res.GetKind(), res.GetName(), err)
			e.tree.partial, e.incomplete = e.tree.partial || l.Name == rootLayer, true
			continue
		}
		objects = append(objects, o)
	}
	return objects
}

func (e *environment) render(l layer, res *resource.Resource) (object, error) {
	o := object{layer: l.Name, clusterScoped: clusterScoped(res)}
	text, err := res.AsYAML()
	if err != nil {
		return o, err
	}
	if l.Name == rootLayer {
		if strings.Contains(string(text), "${") {
			return o, fmt.Errorf("has a ${variable}: nothing substitutes it in %s: write the value, or move it into a "+
				"layer", l.Path)
		}
	} else if text, err = e.substitute(l.Name, text); err != nil {
		return o, err
	}
	return o, yaml.Unmarshal(text, &o.Object)
}

// undefined is how envsubst words a strict failure.
var undefined = regexp.MustCompile(`variable not set \(strict mode\): "([^"]+)"`)

// substitute does what spec.postBuild does: a variable without a value is an error there, too, since
// kustomize-controller 1.9.
func (e *environment) substitute(layer string, text []byte) ([]byte, error) {
	out, err := envsubst.Eval(string(text), func(name string) (string, bool) {
		value, ok := e.variables[name]
		return value, ok && knows(layer, name)
	})
	if err == nil {
		return []byte(out), nil
	}
	match := undefined.FindStringSubmatch(err.Error())
	if match == nil {
		return nil, fmt.Errorf("substitution: %w: Flux would refuse the whole layer", err)
	}
	name := match[1]
	service, isHostname := strings.CutPrefix(name, ofHostnames)
	switch {
	case !knows(layer, name):
		return nil, fmt.Errorf("${%s} is known in the layers %s alone: Flux would refuse the layer: move the object "+
			"there", name, strings.Join(restoredLayers, " and "))
	case isHostname:
		return nil, fmt.Errorf("${%s} is not defined, for no hostname of cloudflare.ingress leads to one Service %s: Flux "+
			"would refuse the layer: add the hostname, or the variable to tinyrack:flux variables in Pulumi.%s.yaml", name,
			strings.ReplaceAll(service, "_", "-"), e.name)
	}
	return nil, fmt.Errorf("${%s} is not defined: Flux would refuse the layer: add it to tinyrack:flux "+
		"variables in Pulumi.%s.yaml", name, e.name)
}

// recorder remembers which files the builds read, so that the ones nothing reads show.
type recorder struct {
	filesys.FileSystem
	read map[string]bool
}

// ReadFile implements filesys.FileSystem.
func (r *recorder) ReadFile(path string) ([]byte, error) {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		r.read[resolved] = true
	}
	return r.FileSystem.ReadFile(path)
}
