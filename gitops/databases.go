package gitops

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// barmanPlugin is the name under which the operator of PostgreSQL knows the plugin for copies in S3.
const barmanPlugin = "barman-cloud.cloudnative-pg.io"

// restoreOrigin is the name of the external cluster from which the program restores: components/databases.
const restoreOrigin = "origin"

// originAnnotation is where a MariaDB says from which folder the program restores it: components/databases.
const originAnnotation = "databases.tinyrack.net/origin"

// clientLabel stands on the pods of jobs that copy or restore a MariaDB, with its name: components/databases.
const clientLabel = "databases.tinyrack.net/client"

// madeOf are the Secrets that an operator makes of a database, or none where the object is no database:
// https://cloudnative-pg.io/documentation/1.30/applications/#secrets
// https://github.com/mariadb-operator/mariadb-operator/blob/v25.10.4/docs/tls.md
func madeOf(o object) []string {
	switch o.GetKind() {
	case "Cluster":
		return []string{o.GetName() + "-app", o.GetName() + "-ca", o.GetName() + "-server"}
	case "MariaDB":
		made := []string{o.GetName() + "-ca-bundle"}
		for _, field := range []string{"rootPasswordSecretKeyRef", "passwordSecretKeyRef"} {
			ref, _, _ := unstructured.NestedMap(o.Object, "spec", field)
			if name, _ := ref["name"].(string); ref["generate"] == true {
				made = append(made, name)
			}
		}
		return made
	}
	return nil
}

// checkMariaDBs wants copies of every MariaDB, elsewhere, in a folder of its own for each incarnation, and a way back.
func (e *environment) checkMariaDBs(objects []object) {
	for _, o := range objects {
		switch o.GetKind() {
		case "Backup":
			if label, _, _ := unstructured.NestedString(o.Object, "spec", "podMetadata", "labels", clientLabel); label !=
				nameOf(o, "mariaDbRef") {
				e.problem(o.layer, "%s: its pods have no label %s with the database's name: no NetworkPolicy would let them reach "+
					"it: set spec.podMetadata.labels", o.id(), clientLabel)
			}
		case "MariaDB":
			for _, problem := range mariadbProblems(o, objects) {
				e.problem(o.layer, "%s: %s", o.id(), problem)
			}
			e.checkPlanned(o)
		}
	}
}

func nameOf(o object, field string) string {
	name, _, _ := unstructured.NestedString(o.Object, "spec", field, "name")
	return name
}

// mariadbProblems says why what is written to a MariaDB would not be in S3, or not come back.
func mariadbProblems(o object, objects []object) []string {
	var problems []string
	var first, scheduled bool
	folder := o.GetAnnotations()[originAnnotation]
	if folder == "" {
		problems = append(problems, "has no annotation "+originAnnotation+": a restore would not know what to read, and the "+
			"layer could not be applied then: set it to the folder of its copies, <folder>/<name>-${restore_from}")
	}
	for _, backup := range objects {
		if backup.GetKind() != "Backup" || backup.GetNamespace() != o.GetNamespace() ||
			nameOf(backup, "mariaDbRef") != o.GetName() {
			continue
		}
		prefix, _, _ := unstructured.NestedString(backup.Object, "spec", "storage", "s3", "prefix")
		cron, _, _ := unstructured.NestedString(backup.Object, "spec", "schedule", "cron")
		first, scheduled = first || cron == "", scheduled || cron != ""
		if want := strings.TrimSuffix(folder, "none") + "1"; folder != "" && prefix != want {
			problems = append(problems, fmt.Sprintf("%s copies it to %q, and a restore would read from %q: make them the same "+
				"but for ${incarnation} in the one and ${restore_from} in the other", backup.id(), prefix, folder))
		}
	}
	if !first {
		problems = append(problems, "no Backup without a schedule copies it at once: until the first one by the clock "+
			"nothing could be restored, and the layer would not say so: add one")
	}
	if !scheduled {
		problems = append(problems, "no Backup with a schedule copies it: what is written is lost with its disk: add one")
	}
	return problems
}

// checkPlanned wants a database to say what it needs.
func (e *environment) checkPlanned(o object) {
	for _, field := range [][]string{{"requests", "cpu"}, {"requests", "memory"}, {"limits", "memory"}} {
		if value, _, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "resources", field[0], field[1]); value == nil {
			e.problem(o.layer, "%s: resources.%s.%s is not set: its node would be planned without it: set it", o.id(),
				field[0], field[1])
		}
	}
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
		e.checkPlanned(o)
	}
	e.checkMariaDBs(objects)
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
		for _, name := range madeOf(o) {
			made[o.GetNamespace()+"/"+name] = true
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
	initdb, _, _ := unstructured.NestedMap(cluster.Object, "spec", "bootstrap", "initdb")
	if initdb["database"] == nil || initdb["owner"] == nil {
		return "has no bootstrap.initdb with database and owner, which a restore turns into a recovery: the layer could " +
			"not be applied then: name both there"
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
