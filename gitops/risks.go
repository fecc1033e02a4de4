package gitops

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// pruneKey stands on what Flux does not delete, as an annotation or a label, with the value disabled:
// https://fluxcd.io/flux/components/kustomize/kustomizations/#controlling-the-apply-behavior-of-resources
const pruneKey = "kustomize.toolkit.fluxcd.io/prune"

// held is what goes with an object of a kind that holds data, or says where it is.
var held = map[string]string{
	"PersistentVolumeClaim":                         "its volume and all in it",
	"PersistentVolume":                              "where its data is",
	"Namespace":                                     "everything in it, volumes and databases too, kept or not",
	"Cluster.postgresql.cnpg.io":                    "the database and all in it",
	"Database.postgresql.cnpg.io":                   "the database and all in it, where its policy says so",
	"MariaDB.k8s.mariadb.com":                       "the database and all in it",
	"Database.k8s.mariadb.com":                      "the database and all in it, where its policy says so",
	"ObjectStore.barmancloud.cnpg.io":               "where the copies of a database are: none is made any more",
	"ScheduledBackup.postgresql.cnpg.io":            "the copies of a database: none is made any more",
	"Backup.k8s.mariadb.com":                        "the copies of a database: none is made any more",
	"PhysicalBackup.k8s.mariadb.com":                "the copies of a database: none is made any more",
	"BackupTarget.longhorn.io":                      "where the copies of volumes are: none is made any more",
	"RecurringJob.longhorn.io":                      "the copies of volumes: none is made any more",
	"CustomResourceDefinition.apiextensions.k8s.io": "every object of its kind, and what they hold",
	"StorageClass.storage.k8s.io":                   "how volumes are made: a claim that names it waits for ever",
}

// operators keep the objects of others, by what is in the names of theirs.
var operators = []string{"longhorn", "cnpg", "cloudnative-pg", "mariadb"}

// operatorGoes is what goes with one.
const operatorGoes = "the operator of what holds data: nobody looks after it, and with definitions of its kinds that " +
	"are not kept it goes"

// sources are the kinds by which they come.
var sources = []string{
	"HelmRelease.helm.toolkit.fluxcd.io", "Kustomization.kustomize.toolkit.fluxcd.io",
	"HelmRepository.source.toolkit.fluxcd.io", "GitRepository.source.toolkit.fluxcd.io",
	"OCIRepository.source.toolkit.fluxcd.io",
}

// databaseKinds are those of which another name means another, empty database.
var databaseKinds = []string{"Cluster.postgresql.cnpg.io", "MariaDB.k8s.mariadb.com"}

// groupKind names a kind as CustomResourceDefinitions do.
func (o object) groupKind() string {
	group, _, found := strings.Cut(o.GetAPIVersion(), "/")
	if !found {
		return o.GetKind()
	}
	return o.GetKind() + "." + group
}

// kept tells whether Flux leaves the object in the cluster when it is no longer in git.
func (o object) kept() bool {
	return o.GetAnnotations()[pruneKey] == "disabled" || o.GetLabels()[pruneKey] == "disabled"
}

// holds is what would be lost with the object, or nothing.
func holds(o *object) string {
	if reason := held[o.groupKind()]; reason != "" {
		return reason
	}
	if templates, _, _ := unstructured.NestedSlice(o.Object, "spec", "volumeClaimTemplates"); len(templates) > 0 &&
		o.groupKind() == "StatefulSet.apps" {
		if when, _, _ := unstructured.NestedString(o.Object, "spec", "persistentVolumeClaimRetentionPolicy",
			"whenDeleted"); when == "Delete" {
			return "its volumes and all in them"
		}
		return "who uses its volumes: they stay, and nobody looks after them"
	}
	if o.layer != rootLayer && slices.Contains(sources, o.groupKind()) {
		chart, _, _ := unstructured.NestedString(o.Object, "spec", "chart", "spec", "chart")
		for _, operator := range operators {
			if strings.Contains(o.GetName()+" "+chart, operator) {
				return operatorGoes
			}
		}
	}
	return ""
}

// risks weighs one object's change by all the others.
type risks struct {
	old, now rendered
	all      []change
}

func find(layers []layer, name string) *layer {
	if i := slices.IndexFunc(layers, func(l layer) bool { return l.Name == name }); i >= 0 {
		return &layers[i]
	}
	return nil
}

// stays says why Flux leaves in the cluster what is no longer in git, or nothing.
func (r risks) stays(o *object) string {
	if o.kept() {
		return "prune: disabled is written on it"
	}
	if o.layer == rootLayer {
		return "" // the FluxInstance's, which prunes
	}
	if l := find(r.now.layers, o.layer); l != nil {
		if !l.Spec.Prune {
			return "its layer does not prune"
		}
		return ""
	}
	for _, c := range r.all { // the layer went, too: by what it was
		if c.before != nil && c.before.layer == rootLayer && c.before.GetName() == o.layer && c.before.kept() {
			return "its layer stays, too"
		}
	}
	if l := find(r.old.layers, o.layer); l != nil && !l.Spec.Prune {
		return "its layer does not prune"
	}
	return ""
}

// deleted says what is lost with an object that is no longer in git, or that it stays.
func (r risks) deleted(o *object) (danger, note string) {
	why := r.stays(o)
	if why != "" && r.goesWithNamespace(o) {
		return strings.TrimSuffix("goes with its namespace, whatever is written on it: "+holds(o), ": "), ""
	}
	if why != "" {
		return "", "stays behind as an orphan, for " + why + ": delete it by hand when nobody needs it"
	}
	if o.layer == rootLayer {
		return r.layerDeleted(o)
	}
	danger = holds(o)
	if other := r.renamed(o, func(c change) *object {
		if c.before == nil {
			return c.after
		}
		return nil
	}); danger != "" && other != nil {
		danger += ": " + other.id() + " begins empty"
	}
	return danger, ""
}

// goesWithNamespace tells whether the namespace of an object is deleted.
func (r risks) goesWithNamespace(o *object) bool {
	return slices.ContainsFunc(r.all, func(c change) bool {
		return c.after == nil && c.before.groupKind() == "Namespace" && c.before.GetName() == o.GetNamespace() &&
			r.stays(c.before) == ""
	})
}

// layerDeleted says what goes with a layer: what no other layer takes over.
func (r risks) layerDeleted(o *object) (danger, note string) {
	goes, moves := 0, 0
	for _, c := range r.all {
		switch {
		case c.before == nil || c.before.layer != o.GetName():
		case c.after != nil:
			moves++
		case r.stays(c.before) == "":
			goes++
		}
	}
	if moves > 0 {
		note = fmt.Sprintf("%d of its objects move to other layers", moves)
	}
	if goes == 0 {
		return "", note
	}
	return fmt.Sprintf("all that it applied and no other layer does: %d objects", goes), note
}

// created says that a database begins empty in the place of another.
func (r risks) created(o *object) string {
	if other := r.renamed(o, func(c change) *object {
		if c.after == nil {
			return c.before
		}
		return nil
	}); other != nil {
		return "an empty database in the place of " + other.id() + ": what is in that one does not come along"
	}
	return ""
}

// renamed finds another database of the namespace among those that side picks.
func (r risks) renamed(o *object, side func(change) *object) *object {
	if !slices.Contains(databaseKinds, o.groupKind()) {
		return nil
	}
	for _, c := range r.all {
		if other := side(c); other != nil && other.groupKind() == o.groupKind() && other.GetNamespace() == o.GetNamespace() {
			return other
		}
	}
	return nil
}

// moved says what is lost where the layer that an object leaves is applied before the one that it comes to: whatever
// still has the label of a layer is deleted by it.
func (r risks) moved(before *object) string {
	reason := holds(before)
	if reason == "" || r.stays(before) != "" {
		return ""
	}
	return "deleted and made anew if " + before.layer + " is applied first: " + reason
}

// updated says what is lost, or cannot be, by the change of an object that stays.
func updated(before, after *object) string {
	var dangers []string
	if before.kept() && !after.kept() {
		danger := "no longer kept: the commit that removes it will delete it"
		if reason := holds(after); reason != "" {
			danger += ", with " + reason
		}
		dangers = append(dangers, danger)
	}
	dangers = append(dangers, storage("", before.Object, after.Object)...)
	same := func(fields ...string) bool {
		was, _, _ := unstructured.NestedFieldNoCopy(before.Object, fields...)
		is, _, _ := unstructured.NestedFieldNoCopy(after.Object, fields...)
		return equality.Semantic.DeepEqual(was, is)
	}
	switch after.groupKind() {
	case "StatefulSet.apps":
		if !same("spec", "volumeClaimTemplates") {
			dangers = append(dangers, "volumeClaimTemplates cannot change: it is refused, or the StatefulSet made anew")
		}
	case "Cluster.postgresql.cnpg.io":
		if !same("spec", "bootstrap") {
			dangers = append(dangers, "bootstrap is read once: the database that there is does not change, the next one begins "+
				"otherwise")
		}
	case "MariaDB.k8s.mariadb.com":
		if !same("spec", "bootstrapFrom") {
			dangers = append(dangers, "bootstrapFrom is read once: the database that there is does not change, the next one "+
				"begins otherwise")
		}
	}
	// By these patches what an operator brings keeps its definitions: infrastructure/controllers.
	for _, patch := range []string{"kustomize.toolkit.fluxcd.io~1prune", "helm.sh~1resource-policy"} {
		if mentions(before.Object, patch) && !mentions(after.Object, patch) {
			dangers = append(dangers, "definitions are no longer kept: with them would go every object of their kinds")
		}
	}
	return strings.Join(dangers, "; ")
}

// mentions tells whether a text is anywhere in an object.
func mentions(object map[string]any, text string) bool {
	found := false
	walk(object, func(node map[string]any) {
		for _, value := range node {
			if value, ok := value.(string); ok && strings.Contains(value, text) {
				found = true
			}
		}
	})
	return found
}

// storage says where what asks for room asks for less of it than before, or for some of another class. parent is the
// field that both values stand in.
func storage(parent string, before, after any) []string {
	var dangers []string
	switch was := before.(type) {
	case map[string]any:
		is, _ := after.(map[string]any)
		if is == nil {
			return nil
		}
		all := slices.Sorted(maps.Keys(was))
		for field := range is {
			if _, both := was[field]; !both {
				all = append(all, field)
			}
		}
		for _, field := range all {
			switch {
			case field == "storageClassName" || field == "storageClass":
				if was, is := orNone(was[field]), orNone(is[field]); was != is {
					dangers = append(dangers, fmt.Sprintf("%s %s → %s: no volume changes its class: it is refused, or begins empty",
						field, was, is))
				}
			case parent == "requests" && field == "storage",
				field == "size" && slices.Contains([]string{"storage", "walStorage", "persistence"}, parent):
				if was, is := orNone(was[field]), orNone(is[field]); shrinks(was, is) {
					dangers = append(dangers, fmt.Sprintf("asks for less storage, %s → %s: no volume shrinks: it is refused, or "+
						"begins empty", was, is))
				}
			default:
				dangers = append(dangers, storage(field, was[field], is[field])...)
			}
		}
	case []any:
		is, _ := after.([]any)
		for i := range min(len(was), len(is)) {
			dangers = append(dangers, storage(parent, was[i], is[i])...)
		}
	}
	return dangers
}

func shrinks(before, after string) bool {
	was, err := resource.ParseQuantity(before)
	if err != nil {
		return false
	}
	is, err := resource.ParseQuantity(after)
	return err == nil && is.Cmp(was) < 0
}

func orNone(value any) string {
	if value == nil {
		return "none"
	}
	return fmt.Sprint(value)
}
