package flux

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
// every 5 seconds instead of every 30 (fluxcd/flux2#4808).
const requeuePatch = `- op: add
  path: /spec/template/spec/containers/0/args/-
  value: --requeue-dependency=5s
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

// instanceSpec returns the spec of the FluxInstance: which Flux, and what it
// syncs. The operator carries the manifests of the versions it knows, so no
// artifact is fetched at run time.
func instanceSpec(version string, sync Sync) map[string]any {
	return map[string]any{
		"distribution": map[string]any{
			"version":  version,
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
			"patches": []any{
				map[string]any{
					"target": map[string]any{
						"kind": "Deployment",
						"name": "(kustomize|helm)-controller",
					},
					"patch": requeuePatch,
				},
				map[string]any{
					"target": map[string]any{
						"kind": "NetworkPolicy",
						"name": "allow-(scraping|webhooks)",
					},
					"patch": shutPatch,
				},
			},
		},
	}
}
