package gitops

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// volumesNamespace is Longhorn's. The program makes it with backups.volumes: components/databases.
const volumesNamespace = "longhorn-system"

// longhornDriver makes the volumes that Longhorn's recurring jobs copy.
const longhornDriver = "driver.longhorn.io"

// defaultTarget is the BackupTarget that Longhorn itself has from the start, and where its own objects are copied to.
const defaultTarget = "default"

// copiedClasses are the StorageClasses whose volumes a recurring job sends to a place of the tree:
// https://longhorn.io/docs/1.12.0/snapshots-and-backups/scheduling-backups-and-snapshots/
func copiedClasses(objects []object) []string {
	var targets, jobs, groups []string
	for _, o := range objects {
		switch task, _, _ := unstructured.NestedString(o.Object, "spec", "task"); {
		case o.GetKind() == "BackupTarget":
			targets = append(targets, o.GetName())
		case o.GetKind() == "RecurringJob" && (task == "backup" || task == "backup-force-create"):
			of, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "groups")
			jobs, groups = append(jobs, o.GetName()), append(groups, of...)
		}
	}
	var copied []string
	for _, o := range objects {
		provisioner, _, _ := unstructured.NestedString(o.Object, "provisioner")
		parameters, _, _ := unstructured.NestedStringMap(o.Object, "parameters")
		target := cmp.Or(parameters["backupTargetName"], defaultTarget)
		if o.GetKind() != "StorageClass" || provisioner != longhornDriver || !slices.Contains(targets, target) {
			continue
		}
		var selected []struct {
			Name    string `json:"name"`
			IsGroup bool   `json:"isGroup"`
		}
		if json.Unmarshal([]byte(parameters["recurringJobSelector"]), &selected) != nil {
			continue // Longhorn would make no volume of it
		}
		for _, s := range selected {
			if s.IsGroup && slices.Contains(groups, s.Name) || !s.IsGroup && slices.Contains(jobs, s.Name) {
				copied = append(copied, o.GetName())
			}
		}
	}
	return copied
}

// NoBackupAnnotation stands on a PersistentVolumeClaim of which no copy is kept elsewhere, and says why.
const NoBackupAnnotation = "backup.tinyrack.net/none"

// checkBackup wants somebody to have thought of what is on a volume. copied are the classes whose volumes are copied.
func (e *environment) checkBackup(o object, copied []string) {
	if e.incomplete {
		return
	}
	reason := o.GetAnnotations()[NoBackupAnnotation]
	class, _, _ := unstructured.NestedString(o.Object, "spec", "storageClassName")
	switch is := slices.Contains(copied, class); {
	case !is && reason == "":
		e.problem(o.layer, "%s: nothing backs it up: what is on it is lost with its disk: keep the data in a database "+
			"with a backup, or on a volume of a class that a RecurringJob copies, or say in the annotation %s why none is "+
			"needed", o.id(), NoBackupAnnotation)
	case is && reason != "":
		e.problem(o.layer, "%s: says in the annotation %s that nothing backs it up, and a RecurringJob copies the volumes "+
			"of its class %s: whoever reads it would not look for the copies: remove the annotation", o.id(), NoBackupAnnotation,
			class)
	}
}

// checkRestore wants a SystemRestore to stay out of the cluster until the program has it stay.
func (e *environment) checkRestore(o object) {
	i := slices.IndexFunc(e.layers, func(l layer) bool { return l.Name == o.layer })
	patches := e.layers[i].Spec.Patches
	if len(patches) != 1 || patches[0].Target.Group != "longhorn.io" || patches[0].Target.Kind != o.GetKind() ||
		!strings.HasPrefix(patches[0].Patch, "$patch: delete\n") {
		e.problem(o.layer, "%s: the one patch of its layer does not take it out ($patch: delete): every site would begin "+
			"with the volumes of another, or wait for them for ever", o.id())
	}
	if !e.looksAt(o, "Completed") {
		e.problem(o.layer, "%s: the layer has no healthCheckExprs for SystemRestore that looks at Completed: what claims a "+
			"volume would make an empty one meanwhile", o.id())
	}
}

// checkTargetHealth wants the layer of a BackupTarget to look whether Longhorn reaches it.
func (e *environment) checkTargetHealth(o object) {
	if !e.looksAt(o, "available") {
		e.problem(o.layer, "%s: the layer has no healthCheckExprs for BackupTarget that looks at available: it would be "+
			"Ready although no copy of a volume reaches S3", o.id())
	}
}
