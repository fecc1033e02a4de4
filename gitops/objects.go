package gitops

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
)

// pulumiOwned are the objects that the program makes before Flux exists, whatever the settings are. One of them in
// git would have two owners that undo each other's work.
var pulumiOwned = []string{
	"Namespace flux-system",
	"Namespace sealed-secrets",
	"Namespace cloudflared",
	"Namespace cnpg-system",
	"ConfigMap flux-system/cluster-vars",
	"Secret flux-system/flux-system",
	"Secret flux-system/flux-webhook",
	"Secret flux-system/flux-commit-status",
	"Secret kube-system/k3s-etcd-s3-secret",
	"Secret cloudflared/tunnel-token",
	"Secret cnpg-system/barman-cloud-server-tls",
	"Secret cnpg-system/barman-cloud-client-tls",
	"FluxInstance flux-system/flux",
	"GitRepository flux-system/flux-system",
	"Kustomization flux-system/flux-system",
}

// givenNamespaces exist without the tree: Kubernetes' own and Pulumi's.
var givenNamespaces = []string{
	"default", "kube-system", "flux-system", "sealed-secrets", "cloudflared", "cnpg-system",
}

// backupSecret is what the program makes in each namespace from which copies are sent, together with the namespace.
const backupSecret = "backup-credentials" //nolint:gosec // the name of a Secret, not one

// senders are those namespaces.
func (e *environment) senders() []string {
	if e.volumes {
		return append(slices.Clone(e.databases), volumesNamespace)
	}
	return e.databases
}

// ownedByPulumi tells whether the program makes an object before Flux exists.
func (e *environment) ownedByPulumi(id string) bool {
	return slices.Contains(pulumiOwned, id) || slices.ContainsFunc(e.senders(), func(namespace string) bool {
		return id == "Namespace "+namespace || id == "Secret "+namespace+"/"+backupSecret
	})
}

// given are the namespaces that exist without the tree.
func (e *environment) given() []string { return slices.Concat(givenNamespaces, e.senders()) }

func (e *environment) checkObjects(objects []object) {
	for _, o := range objects {
		if o.GetKind() == "Namespace" {
			e.namespaces[o.GetName()] = true
		}
	}
	copied := copiedClasses(objects)
	for _, o := range objects {
		if err := e.tree.schemas.check(o); err != nil {
			e.problem(o.layer, "%s: %v", o.id(), err)
		}
		e.checkOwner(o)
		e.checkNamespace(o)
		e.checkImages(o)
		switch o.GetKind() {
		case "Secret":
			e.checkSecret(o)
		case "SealedSecret":
			e.checkSealed(o)
			e.checkSealedHealth(o)
		case "Cluster":
			e.checkArchivingHealth(o)
		case "Backup", "MariaDB":
			e.checkMariaDBHealth(o)
		case "HelmRelease":
			e.checkChart(o)
		case "PersistentVolumeClaim":
			e.checkBackup(o, copied)
		case "SystemRestore":
			e.checkRestore(o)
		case "BackupTarget":
			e.checkTargetHealth(o)
		}
	}
	e.checkReferences(objects)
	e.checkDatabases(objects)
	e.checkWorkloads(objects)
	e.checkRoutes(objects)
	e.checkNetwork(objects)
}

func (e *environment) checkOwner(o object) {
	if e.ownedByPulumi(o.id()) {
		e.problem(o.layer, "%s: belongs to Pulumi: Flux and Pulumi would undo each other's changes: remove it from "+
			"git", o.id())
	}
	group, _, _ := strings.Cut(o.GetAPIVersion(), "/")
	key := group + " " + o.id()
	if other, ok := e.owner[key]; ok {
		e.problem(o.layer, "%s: is applied by %s too: the layers would undo each other's changes: keep it in "+
			"one", o.id(), other)
	}
	e.owner[key] = o.layer
}

func (e *environment) checkNamespace(o object) {
	namespace := o.GetNamespace()
	switch {
	case o.clusterScoped:
	case namespace == "":
		e.problem(o.layer, "%s: has no namespace: it would not be applied: set one", o.id())
	case !e.namespaces[namespace] && !slices.Contains(e.given(), namespace):
		e.problem(o.layer, "%s: nothing makes namespace %s: it would not be applied: add the Namespace", o.id(), namespace)
	}
}

func (e *environment) checkSecret(o object) {
	for _, field := range []string{"data", "stringData"} {
		if values, _, _ := unstructured.NestedMap(o.Object, field); len(values) > 0 {
			e.problem(o.layer, "%s: has its values in clear in git: everyone who can read the repository has them: seal them "+
				"with scripts/seal.sh %s, and replace them", o.id(), e.name)
			return
		}
	}
}

// looksAt tells whether the layer of an object calls it well only when it has a condition.
func (e *environment) looksAt(o object, condition string) bool {
	return slices.ContainsFunc(e.layers, func(l layer) bool {
		return l.Name == o.layer && slices.ContainsFunc(l.Spec.HealthCheckExprs, func(c healthCheck) bool {
			return c.Kind == o.GetKind() && strings.Contains(c.Current, condition)
		})
	})
}

// checkArchivingHealth wants the layer of a database to look whether what is written to it reaches S3.
func (e *environment) checkArchivingHealth(o object) {
	if !e.looksAt(o, "ContinuousArchiving") {
		e.problem(o.layer, "%s: the layer has no healthCheckExprs for Cluster that looks at ContinuousArchiving: it would "+
			"be Ready although nothing reaches S3", o.id())
	}
}

// checkMariaDBHealth wants the layer of a MariaDB to look whether a restored one has its data, and whether its copies
// succeed: both have been Ready before.
func (e *environment) checkMariaDBHealth(o object) {
	condition, otherwise := "BackupRestored", "before what was copied is in it"
	if o.GetKind() == "Backup" {
		condition, otherwise = "Complete", "although nothing reaches S3"
	}
	if !e.looksAt(o, condition) {
		e.problem(o.layer, "%s: the layer has no healthCheckExprs for %s that looks at %s: it would be Ready %s", o.id(),
			o.GetKind(), condition, otherwise)
	}
}

// checkSealedHealth wants the layer to look at the condition a SealedSecret does have.
func (e *environment) checkSealedHealth(o object) {
	if e.looksAt(o, "Synced") {
		return
	}
	e.problem(o.layer, "%s: the layer has no healthCheckExprs for SealedSecret: it would be Ready although the secret "+
		"could not be opened", o.id())
}

// checkNetwork wants every namespace shut, so that what its pods reach and who reaches them is what is allowed in git.
// Those of flux-system come with Flux.
func (e *environment) checkNetwork(objects []object) {
	shut := map[string]bool{"flux-system": true}
	for _, o := range objects {
		if o.GetKind() == "NetworkPolicy" && deniesAll(o) {
			shut[o.GetNamespace()] = true
		}
	}
	for _, namespace := range append(slices.Sorted(maps.Keys(e.namespaces)), e.given()...) {
		if !shut[namespace] && !e.tree.partial {
			e.problem("namespace "+namespace, "no NetworkPolicy denies all pods all traffic: pods of every namespace would "+
				"reach its pods, and these everything: add one, and one for each thing that is needed")
		}
	}
}

// deniesAll tells whether a policy selects all pods for both directions and allows nothing.
func deniesAll(o object) bool {
	var policy networking.NetworkPolicy
	if err := apiruntime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &policy); err != nil {
		return false // its schema has been refused
	}
	s := policy.Spec
	return len(s.PodSelector.MatchLabels)+len(s.PodSelector.MatchExpressions)+len(s.Ingress)+len(s.Egress) == 0 &&
		slices.Contains(s.PolicyTypes, networking.PolicyTypeIngress) &&
		slices.Contains(s.PolicyTypes, networking.PolicyTypeEgress)
}

// exactVersion is a version that names one chart, not a range.
var exactVersion = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`)

func (e *environment) checkChart(o object) {
	version, _, _ := unstructured.NestedString(o.Object, "spec", "chart", "spec", "version")
	if !exactVersion.MatchString(version) {
		e.problem(o.layer, "%s: chart version %q is not one exact version: the same commit could install something else "+
			"tomorrow", o.id(), version)
	}
}

// walk visits every map in a value, in a fixed order.
func walk(value any, visit func(map[string]any)) {
	switch value := value.(type) {
	case map[string]any:
		visit(value)
		keys := make([]string, 0, len(value))
		for key := range value {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			walk(value[key], visit)
		}
	case []any:
		for _, item := range value {
			walk(item, visit)
		}
	}
}

// checkBases holds every base to path = namespace = name: <layer>/base/<name> makes
// objects named after <name>, in namespace <name> or <name>-system.
func (t *tree) checkBases() {
	for _, pattern := range []string{"apps/base/*", "databases/base/*", "infrastructure/*/base/*"} {
		folders, _ := filepath.Glob(filepath.Join(t.root, pattern))
		for _, folder := range folders {
			relative, _ := filepath.Rel(t.root, folder)
			built, err := kustomizeBuild(t.files.FileSystem, folder)
			if err != nil {
				continue // the layer that uses it has said so; if none does, checkFiles has
			}
			name := filepath.Base(folder)
			for _, res := range built.Resources() {
				if problem := baseProblem(name, res.GetKind(), res.GetNamespace(), res.GetName(),
					clusterScoped(res)); problem != "" {
					t.problem("%s: %s %s %s", relative, res.GetKind(), res.GetName(), problem)
				}
			}
		}
	}
}

func baseProblem(base, kind, namespace, name string, clusterScoped bool) string {
	where := namespace
	if kind == "Namespace" {
		where = name
	}
	switch {
	case (!clusterScoped || kind == "Namespace") && where != base && where != base+"-system":
		return fmt.Sprintf("is in namespace %q: a folder's objects live in namespace %s or %s-system, so that one leads to "+
			"the other", where, base, base)
	case kind == "BackupTarget" && name == defaultTarget:
	case kind != "Namespace" && name != base && !strings.HasPrefix(name, base+"-"):
		return fmt.Sprintf("is not named after its folder: call it %s or %s-…", base, base)
	}
	return ""
}
