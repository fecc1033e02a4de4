//go:build e2e && growth

package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/kubectl"
)

// TestADatabaseInTrouble has PostgreSQL refuse its application's password, the application's migration, and what is to
// be written to a full volume: `make status` names what is not well, the layer is not Ready, whoever served before goes
// on, and all is well again once the cause is gone, with what was written before.
func TestADatabaseInTrouble(t *testing.T) {
	succeed(t, "up")
	t.Run("another password", anotherPassword)
	t.Run("a migration that fails", failedMigration)
	t.Run("a full volume", fullVolume)
	upChangesNothing(t)
}

func anotherPassword(t *testing.T) {
	l := running(t)
	w := write(t, "before the password was another")
	encoded := kube(t, l, "-n", notesNamespace, "get", "secret", notesDatabase+"-app", "-o", "jsonpath={.data.password}")
	password, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	sql(t, l, "postgres", "ALTER ROLE memos PASSWORD 'forgotten'")
	takeBack := troubled(t, l)
	sql(t, l, "postgres", "ALTER ROLE memos PASSWORD '"+string(password)+"'")
	takeBack()
	w.isThere(t, 2*time.Minute, "before the password was another")
}

// failedMigration has memos take the database for that of a former version: what it would change is changed already.
func failedMigration(t *testing.T) {
	l := running(t)
	w := write(t, "before the migration")
	version := strings.TrimSpace(sql(t, l, "memos",
		`SELECT substring(value FROM '"schemaVersion": *"([^"]*)"') FROM system_setting WHERE name = 'BASIC'`))
	set := func(version string) {
		t.Helper()
		sql(t, l, "memos", `UPDATE system_setting SET value = regexp_replace(value, '("schemaVersion": *")[^"]*', '\1`+
			version+`') WHERE name = 'BASIC'`)
	}
	set("0.25.1")
	takeBack := troubled(t, l)
	set(version)
	takeBack()
	w.isThere(t, 2*time.Minute, "before the migration")
}

// troubled pushes another version of memos, which cannot start, and looks at what is to be seen. It returns what takes
// that version back once the cause is gone, and waits until all is well.
func troubled(t *testing.T, l *lab) (takeBack func()) {
	t.Helper()
	const (
		file, template = "apps/base/memos/deployment.yaml", "  template:\n    metadata:\n      annotations:\n"
		version        = "        e2e.tinyrack.net/version: next\n"
	)
	commit(t, l, file, func(text string) string { return strings.Replace(text, template, template+version, 1) })
	eventually(t, 2*time.Minute, "status tells of the new pod", func() error {
		return told(t, l, notesNamespace+"/memos-", "CrashLoopBackOff")
	})
	eventually(t, 7*time.Minute, "the layer is not Ready, and says why", func() error {
		return told(t, l, "apps", "Deployment/"+notesNamespace+"/memos")
	})
	if visit, err := ask(t.Context(), browser(t, l), notes+"/healthz"); err != nil || visit.status != http.StatusOK {
		t.Errorf("a visitor gets %v, %v", visit, err)
	}
	return func() {
		t.Helper()
		commit(t, l, file, func(text string) string { return strings.Replace(text, version, "", 1) })
		recovered(t, l)
		kube(t, l, "-n", notesNamespace, "delete", "pod", "-l", "app.kubernetes.io/name=memos")
		kube(t, l, "-n", notesNamespace, "rollout", "status", "deployment", "memos", "--timeout=180s")
	}
}

// recovered has the layers of an application looked at now, and waits until all are Ready.
func recovered(t *testing.T, l *lab) {
	t.Helper()
	for _, layer := range []string{"databases", "apps"} {
		reconcile(t, l, "kustomization", layer)
	}
	wellAgain(t, l)
}

// fullVolume moves the database to a file system of its own, small enough to be filled. The volume of a claim is a
// folder of the machine's disk here, which nobody should fill.
func fullVolume(t *testing.T) {
	l := running(t)
	w := write(t, "before the volume was full")
	volume := strings.TrimSpace(kube(t, l, "get", "persistentvolume", strings.TrimSpace(kube(t, l, "-n", notesNamespace,
		"get", "persistentvolumeclaim", notesDatabase+"-1", "-o", "jsonpath={.spec.volumeName}")),
		"-o", "jsonpath={.spec.hostPath.path}{.spec.local.path}"))
	if volume == "" {
		t.Fatal("the database's volume is no folder")
	}
	isReady := func(want string) {
		t.Helper()
		eventually(t, 8*time.Minute, "of the database is ready: "+strconv.Quote(want), func() error {
			got := kube(t, l, "-n", notesNamespace, "get", "pods", "-l", "cnpg.io/cluster="+notesDatabase, "-o",
				`jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
			if strings.TrimSpace(got) != want {
				return fmt.Errorf("ready: %q", got)
			}
			return nil
		})
	}
	hibernate := func(annotation, ready string) {
		t.Helper()
		kube(t, l, "-n", notesNamespace, "annotate", "cluster", notesDatabase, "--overwrite",
			"cnpg.io/hibernation"+annotation)
		isReady(ready)
	}
	// While the folder is being changed under it, nothing may start the database.
	hibernate("=on", "")
	onMachine(t, l, "set -e; size=$(($(du -sm "+volume+" | cut -f1) + 64)); mv "+volume+" "+volume+".kept; mkdir "+volume+
		"; mount -t tmpfs -o size=${size}m tmpfs "+volume+"; cp -a "+volume+".kept/. "+volume+
		"; chown --reference="+volume+".kept "+volume+"; chmod --reference="+volume+".kept "+volume)
	hibernate("=off", "True")
	w.isThere(t, 2*time.Minute, "before the volume was full")

	onMachine(t, l, "fallocate --length 1G "+volume+"/e2e || dd if=/dev/zero of="+volume+"/e2e bs=1M || true")
	eventually(t, 8*time.Minute, "status tells of the database", func() error {
		// Whether the log has room is seen when it grows.
		_, _ = kubectl.Run(t.Context(), l.Layout, "-n", notesNamespace, "exec", notesDatabase+"-1", "-c", "postgres", "--",
			"psql", "--quiet", "--dbname=memos", "--command=CREATE TABLE IF NOT EXISTS e2e (t text)",
			"--command=INSERT INTO e2e VALUES ('full')", "--command=SELECT pg_switch_wal()")
		return told(t, l, notesNamespace+"/"+notesDatabase, "")
	})
	reconcile(t, l, "kustomization", "databases")
	eventually(t, 7*time.Minute, "the layer is not Ready, and says why", func() error {
		return told(t, l, "databases", notesDatabase)
	})
	if visit, err := ask(t.Context(), browser(t, l), blog+"/"); err != nil || visit.status != http.StatusOK {
		t.Errorf("a visitor of the blog gets %v, %v", visit, err)
	}
	onMachine(t, l, "rm "+volume+"/e2e")
	isReady("True")
	sql(t, l, "memos", "DROP TABLE IF EXISTS e2e")
	recovered(t, l)
	w.isThere(t, 3*time.Minute, "before the volume was full")

	hibernate("=on", "")
	onMachine(t, l, "set -e; rm -r "+volume+".kept; mkdir "+volume+".kept; cp -a "+volume+"/. "+volume+".kept; "+
		"chown --reference="+volume+" "+volume+".kept; chmod --reference="+volume+" "+volume+".kept; "+
		"umount "+volume+"; rmdir "+volume+"; mv "+volume+".kept "+volume)
	hibernate("-", "True")
	recovered(t, l)
	w.isThere(t, 3*time.Minute, "before the volume was full")
}

// sql has the database of memos do something, as its superuser, and returns what it says.
func sql(t *testing.T, l *lab, database, command string) string {
	t.Helper()
	return kube(t, l, "-n", notesNamespace, "exec", notesDatabase+"-1", "-c", "postgres", "--",
		"psql", "--quiet", "--tuples-only", "--no-align", "--dbname="+database, "--command", command)
}
