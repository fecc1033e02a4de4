package gitops

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// barmanPlugin is the name under which the operator of PostgreSQL knows the plugin for copies in S3.
const barmanPlugin = "barman-cloud.cloudnative-pg.io"

// restoreOrigin is the name of the external cluster from which the program restores: components/databases.
const restoreOrigin = "origin"

// madeOf are the Secrets that the operator of PostgreSQL makes of a Cluster:
// https://cloudnative-pg.io/documentation/1.30/applications/#secrets
func madeOf(cluster object) []string {
	return []string{cluster.GetName() + "-app", cluster.GetName() + "-ca", cluster.GetName() + "-server"}
}

// checkDatabases wants copies of every database, elsewhere, and what it needs to be said.
func (e *environment) checkDatabases(objects []object) {
	if e.incomplete {
		return
	}
	stores, scheduled := map[string]bool{}, map[string]bool{}
	for _, o := range objects {
		switch o.GetKind() {
		case "ObjectStore":
			stores[o.GetNamespace()+"/"+o.GetName()] = true
		case "ScheduledBackup":
			name, _, _ := unstructured.NestedString(o.Object, "spec", "cluster", "name")
			plugin, _, _ := unstructured.NestedString(o.Object, "spec", "pluginConfiguration", "name")
			scheduled[o.GetNamespace()+"/"+name] = plugin == barmanPlugin
		}
	}
	for _, o := range objects {
		if o.GetKind() != "Cluster" {
			continue
		}
		if problem := copyProblem(o, stores); problem != "" {
			e.problem(o.layer, "%s: %s", o.id(), problem)
		}
		if problem := originProblem(o); problem != "" {
			e.problem(o.layer, "%s: %s", o.id(), problem)
		}
		if !scheduled[o.GetNamespace()+"/"+o.GetName()] {
			e.problem(o.layer, "%s: no ScheduledBackup copies it whole by the plugin %s: its log alone restores nothing: add "+
				"one", o.id(), barmanPlugin)
		}
		for _, field := range [][]string{{"requests", "cpu"}, {"requests", "memory"}, {"limits", "memory"}} {
			if value, _, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "resources", field[0], field[1]); value == nil {
				e.problem(o.layer, "%s: resources.%s.%s is not set: its node would be planned without it: set it", o.id(),
					field[0], field[1])
			}
		}
	}
}

// IncarnationAnnotation stands on the pods that log in to a database: a restored one has another password.
const IncarnationAnnotation = "databases.tinyrack.net/incarnation"

// checkLogins wants pods that log in to a database to be replaced when it is restored.
func (e *environment) checkLogins(objects []object, workloads []workload) {
	if e.incomplete {
		return
	}
	made := map[string]bool{}
	for _, o := range objects {
		if o.GetKind() == "Cluster" {
			for _, name := range madeOf(o) {
				made[o.GetNamespace()+"/"+name] = true
			}
		}
	}
	for _, w := range workloads {
		if w.GetKind() == "Job" || w.GetKind() == "CronJob" || w.pods.Annotations[IncarnationAnnotation] != "" {
			continue
		}
		walk(w.Object, func(node map[string]any) {
			for _, ref := range referencesOf(node) {
				if ref.Kind == "Secret" && made[w.GetNamespace()+"/"+ref.Name] {
					e.problem(w.layer, "%s: its pods log in with Secret %s and would keep the former password when the database is "+
						"restored: give them the annotation %s: incarnation-${incarnation}", w.id(), ref.Name, IncarnationAnnotation)
				}
			}
		})
	}
}

// originProblem says why the program could not have a Cluster come out of its copies, or nothing.
func originProblem(cluster object) string {
	if initdb, _, _ := unstructured.NestedMap(cluster.Object, "spec", "bootstrap", "initdb"); initdb == nil {
		return "has no bootstrap.initdb, which a restore turns into a recovery: the layer could not be applied then: name " +
			"its database and owner there"
	}
	others, _, _ := unstructured.NestedSlice(cluster.Object, "spec", "externalClusters")
	for _, item := range others {
		other, _ := item.(map[string]any)
		plugin, _ := other["plugin"].(map[string]any)
		parameters, _ := plugin["parameters"].(map[string]any)
		if other["name"] == restoreOrigin && plugin["name"] == barmanPlugin && parameters["serverName"] != nil {
			return ""
		}
	}
	return "has no external cluster " + restoreOrigin + " with the plugin " + barmanPlugin + " and a serverName: a " +
		"restore would not know what to read: add it, with the serverName <name>-${restore_from}"
}

// copyProblem says why what is written to a Cluster would not be in S3, or nothing.
func copyProblem(cluster object, stores map[string]bool) string {
	const lost = "what is written between two copies is lost with its disk"
	plugins, _, _ := unstructured.NestedSlice(cluster.Object, "spec", "plugins")
	for _, item := range plugins {
		plugin, _ := item.(map[string]any)
		if plugin["name"] != barmanPlugin || plugin["isWALArchiver"] != true {
			continue
		}
		parameters, _ := plugin["parameters"].(map[string]any)
		store, _ := parameters["barmanObjectName"].(string)
		server, _ := parameters["serverName"].(string)
		switch {
		case !stores[cluster.GetNamespace()+"/"+store]:
			return fmt.Sprintf("sends its log to ObjectStore %q, which is not in its namespace: %s: add it, or correct the "+
				"name", store, lost)
		case server == "":
			return "its log has no serverName: restored, it would write into the folder that it was restored from, and be " +
				"refused: set <name>-${incarnation}"
		}
		return ""
	}
	return "sends its log nowhere: " + lost + ": add the plugin " + barmanPlugin + " with isWALArchiver: true"
}
