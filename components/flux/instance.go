package flux

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Names within the namespace. The operator accepts no other instance name, and
// the sync objects are called like the namespace, as `flux bootstrap` does it.
const (
	namespaceName = "flux-system"
	instanceName  = "flux"
	syncName      = namespaceName
	pullSecret    = namespaceName
	variablesName = "cluster-vars"
)

// requeuePatch makes a Kustomization or HelmRelease look at what it depends on
// every second instead of every 30 (fluxcd/flux2#4808): a commit passes four
// layers, and each waits that long for the one before.
const requeuePatch = `- op: add
  path: /spec/template/spec/containers/0/args/-
  value: --requeue-dependency=1s
`

// cancelPatch has a Kustomization give up waiting for what a commit broke as soon as the next one is there: else the
// correction would wait for the timeout of the mistake.
const cancelPatch = `- op: add
  path: /spec/template/spec/containers/0/args/-
  value: --feature-gates=CancelHealthCheckOnNewRevision=true
`

// shutPatch takes away two of the policies that Flux ships: they let pods of every namespace read the controllers'
// metrics and reach the notification-controller, which nothing of the site does. What is left lets the controllers
// alone reach each other, and them everything.
const shutPatch = `$patch: delete
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: target
`

// folders are those with manifests. Flux writes no others of a commit to its disk, and none to what each layer unpacks:
// a push is applied a second and a half sooner.
var folders = []string{"apps", "clusters", "databases", "infrastructure"}

// sourcePatch keeps Flux to the folders.
func sourcePatch() string {
	return text([]any{map[string]any{"op": "add", "path": "/spec/sparseCheckout", "value": folders}})
}

// layersPatch returns the patch that has Flux change the layers it reads from git on their way to the cluster, or ""
// where nothing is changed.
func layersPatch(layers map[string]Layer) string {
	var changes []any
	for _, name := range slices.Sorted(maps.Keys(layers)) {
		spec := map[string]any{}
		if layers[name].Suspended {
			spec["suspend"] = true
		}
		if variables := layers[name].Variables; len(variables) > 0 {
			spec["postBuild"] = map[string]any{"substitute": variables}
		}
		var patches []any
		for _, p := range layers[name].Patches {
			patches = append(patches, map[string]any{
				"target": map[string]any{"group": p.Group, "kind": p.Kind}, "patch": p.Text,
			})
		}
		if len(patches) > 0 {
			spec["patches"] = patches
		}
		if len(spec) == 0 {
			continue
		}
		changes = append(changes, map[string]any{
			"target": map[string]any{"kind": "Kustomization", "namespace": namespaceName, "name": name},
			"patch": text(map[string]any{
				"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
				"metadata": map[string]any{"name": name}, "spec": spec,
			}),
		})
	}
	if len(changes) == 0 {
		return ""
	}
	return text([]any{map[string]any{"op": "add", "path": "/spec/patches", "value": changes}})
}

// text is a value as YAML.
func text(value any) string {
	text, err := yaml.Marshal(value)
	if err != nil {
		panic(fmt.Sprintf("flux: %v is no YAML: %v", value, err)) // texts, and lists and maps of them alone
	}
	return strings.TrimSpace(string(text)) + "\n"
}

// instanceSpec returns the spec of the FluxInstance: which Flux, and what it
// syncs. The operator carries the manifests of the versions it knows, so no
// artifact is fetched at run time.
func instanceSpec(args *Args, sync Sync) map[string]any {
	patches := []any{
		map[string]any{
			"target": map[string]any{
				"kind": "Deployment",
				"name": "(kustomize|helm)-controller",
			},
			"patch": requeuePatch,
		},
		map[string]any{
			"target": map[string]any{"kind": "Deployment", "name": "kustomize-controller"},
			"patch":  cancelPatch,
		},
		map[string]any{
			"target": map[string]any{
				"kind": "NetworkPolicy",
				"name": "allow-(scraping|webhooks)",
			},
			"patch": shutPatch,
		},
		map[string]any{
			"target": map[string]any{"kind": "GitRepository", "name": syncName},
			"patch":  sourcePatch(),
		},
	}
	if patch := layersPatch(args.Layers); patch != "" {
		patches = append(patches, map[string]any{
			"target": map[string]any{"kind": "Kustomization", "name": syncName}, "patch": patch,
		})
	}
	return map[string]any{
		"distribution": map[string]any{
			"version":  args.Version,
			"registry": "ghcr.io/fluxcd",
		},
		"components": []any{
			"source-controller",
			"kustomize-controller",
			"helm-controller",
			"notification-controller",
		},
		"cluster": map[string]any{
			"type":          "kubernetes",
			"domain":        "cluster.local",
			"multitenant":   false,
			"networkPolicy": true,
		},
		"sync": map[string]any{
			"kind":       "GitRepository",
			"url":        sync.URL,
			"ref":        "refs/heads/" + sync.Branch,
			"path":       sync.Path,
			"interval":   sync.Interval,
			"pullSecret": pullSecret,
		},
		"kustomize": map[string]any{
			"patches": patches,
		},
	}
}
