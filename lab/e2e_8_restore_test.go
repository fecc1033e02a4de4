//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/s3"
)

const (
	notesNamespace = "memos-system"
	notesDatabase  = "memos-database"
)

// postgresqlBackup is the kind of a copy in full: MariaDB's operator has one of the same name.
const postgresqlBackup = "backups.postgresql.cnpg.io"

const (
	blogNamespace = "ghost-system"
	blogDatabase  = "ghost-database"
)

// TestALostDatabaseComesBack takes the object storage away, then the database with its volume, and restores it by the
// stack's settings, phase by phase: what was written while copies arrived is there, what came after is not. Another
// database, which is well all the while, keeps what no copy has. The stack keeps its new incarnation for the tests that
// follow.
func TestALostDatabaseComesBack(t *testing.T) {
	l := running(t)
	a, b := signUp(t, "writer"), takeOver(t)
	const early, late = "before the storage went", "while nothing was copied"
	before, err := a.note(early)
	if err != nil {
		t.Fatal(err)
	}
	copied(t, l, "e2e-before")

	was := incarnation(t, l)
	next := was + 1
	returnStorage := stopStorage(t, l)
	after, err := a.note(late)
	if err != nil {
		t.Fatal(err)
	}
	post, err := b.post(late)
	if err != nil {
		t.Fatal(err)
	}
	withoutStorage(t, l)
	if err := errors.Join(a.read(before, early), a.read(after, late)); err != nil {
		t.Errorf("the application is not served while nothing is copied: %v", err)
	}
	if err := recoverInPlace(t, l); err == nil || !strings.Contains(err.Error(), "its changes do not reach S3") {
		t.Errorf("a restore would take a database that nothing is copied of for the one that was restored: %v", err)
	}
	loseDatabase(t, l)
	returnStorage()
	// Flux knows nothing of what is to come.
	reconcile(t, l, "kustomization", "databases")
	eventually(t, 2*time.Minute, "an empty database stands in its place", func() error {
		_, err := kubectl.Run(t.Context(), l.Layout, "-n", notesNamespace, "get", "cluster", notesDatabase)
		return err
	})

	out := output(l)
	up := func(phase string) {
		t.Helper()
		restore(t, l, phase, was, next)
		started := time.Now()
		if err := l.stack.Up(t.Context()); err != nil {
			t.Fatalf("phase %s: %v\n%s", phase, err, out)
		}
		t.Logf("phase %s: %s", phase, time.Since(started).Round(time.Second))
	}
	up("infrastructure")
	suspended := func(layer string) bool {
		t.Helper()
		return kube(t, l, "-n", "flux-system", "get", "kustomization", layer, "-o", "jsonpath={.spec.suspend}") == "true"
	}
	if !suspended("databases") || !suspended("apps") {
		t.Error("databases and applications go on")
	}
	loseDatabase(t, l)
	up("databases")
	cluster := func(field string) string {
		t.Helper()
		return kube(t, l, "-n", notesNamespace, "get", "cluster", notesDatabase, "-o", "jsonpath={"+field+"}")
	}
	if got := cluster(".spec.bootstrap.recovery.source"); got != "origin" {
		t.Errorf("the database came from %q", got)
	}
	uid := cluster(".metadata.uid")
	if suspended("databases") || !suspended("apps") {
		t.Error("the databases are suspended, or the applications go on")
	}
	up("apps")
	up("none")
	if cluster(".metadata.uid") != uid {
		t.Error("the end of the restore made the database anew")
	}
	eventually(t, 2*time.Minute, "the note from before is there", func() error {
		return a.read(before, early)
	})
	if _, err := a.call(http.MethodGet, after, nil); err == nil {
		t.Error("a note that was never copied is there")
	}
	if err := b.read(post, late); err != nil {
		t.Errorf("the database that was well is another one: %v", err)
	}
	copied(t, l, "e2e-after")
	if err := recoverInPlace(t, l); err != nil {
		t.Errorf("a restore of another database would be refused: %v", err)
	}
	for _, n := range []int{was, next} {
		folder := filepath.Join(l.Buckets(), layout.BackupBucket, "memos", fmt.Sprintf("%s-%d", notesDatabase, n))
		if found, err := filepath.Glob(filepath.Join(folder, "base", "*")); err != nil || len(found) == 0 {
			t.Errorf("no copy is in %s (%v)", folder, err)
		}
	}
	nothingToDo(t, l)
}

// TestALostBlogComesBack loses the other kind of database with its volume, which comes back as it was at its last copy,
// by one up, while nothing of memos is lost.
func TestALostBlogComesBack(t *testing.T) {
	l := running(t)
	a, b := signUp(t, "writer"), takeOver(t)
	const early, late, note = "before the last copy", "after the last copy", "in the other database"
	before, err := b.post(early)
	if err != nil {
		t.Fatal(err)
	}
	was := incarnation(t, l)
	dumped(t, l, was)
	after, lateErr := b.post(late)
	kept, noteErr := a.note(note)
	if err := errors.Join(lateErr, noteErr, b.read(after, late)); err != nil {
		t.Fatal(err)
	}

	out := output(l)
	for _, phase := range []string{"infrastructure", "apps", "none"} {
		if phase == "apps" {
			loseBlog(t, l)
		}
		restore(t, l, phase, was, was+1)
		started := time.Now()
		if err := l.stack.Up(t.Context()); err != nil {
			t.Fatalf("phase %s: %v\n%s", phase, err, out)
		}
		t.Logf("phase %s: %s", phase, time.Since(started).Round(time.Second))
	}
	eventually(t, 2*time.Minute, "the post from before is there", func() error { return b.read(before, early) })
	if err := b.read(after, late); err == nil {
		t.Error("a post that was never copied is there")
	}
	eventually(t, time.Minute, "the note is there", func() error { return a.read(kept, note) })
	if _, err := b.post("after the restore"); err != nil {
		t.Errorf("nothing can be written: %v", err)
	}
	dumped(t, l, was+1)
	nothingToDo(t, l)
}

// dumped has the blog's database copied now, as its schedule would.
func dumped(t *testing.T, l *lab, incarnation int) {
	t.Helper()
	const job = "e2e"
	kube(t, l, "-n", blogNamespace, "create", "job", job,
		fmt.Sprintf("--from=cronjob/%s-hourly-%d", blogDatabase, incarnation))
	kube(t, l, "-n", blogNamespace, "wait", "--for=condition=Complete", "job/"+job, "--timeout=120s")
	discard(t, l, "--namespace="+blogNamespace, "job", job)
	folder := filepath.Join(l.Buckets(), layout.BackupBucket, "ghost", fmt.Sprintf("%s-%d", blogDatabase, incarnation))
	if found, err := filepath.Glob(filepath.Join(folder, "backup.*.gzip.sql")); err != nil || len(found) < 2 {
		t.Errorf("%d copies are in %s (%v)", len(found), folder, err)
	}
}

// loseBlog deletes the blog's database and its volume at once.
func loseBlog(t *testing.T, l *lab) {
	t.Helper()
	kube(t, l, "-n", blogNamespace, "delete", "mariadb", blogDatabase, "--wait=false")
	kube(t, l, "-n", blogNamespace, "delete", "pod", blogDatabase+"-0", "--force", "--grace-period=0")
	kube(t, l, "-n", blogNamespace, "delete", "pvc", "storage-"+blogDatabase+"-0", "--wait=false")
	eventually(t, 2*time.Minute, "the database and its volume are gone", func() error {
		left := kube(t, l, "-n", blogNamespace, "get", "mariadb,pods,pvc", "-o", "name", "-l",
			"app.kubernetes.io/instance="+blogDatabase)
		left += kube(t, l, "-n", blogNamespace, "get", "mariadb", "-o", "name")
		if strings.TrimSpace(left) != "" {
			return errors.New(left)
		}
		return nil
	})
}

// restore changes how far the site is brought back, and from where, for good.
func restore(t *testing.T, l *lab, phase string, from, incarnation int) {
	t.Helper()
	changeForGood(t, l, func(config map[string]map[string]any) {
		config["tinyrack:backups"]["incarnation"] = incarnation
		config["tinyrack:restore"] = map[string]any{"phase": phase, "from": from}
	})
}

// copied waits until a whole copy of the database that is made now is in S3, with all that was written before it.
func copied(t *testing.T, l *lab, name string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "backup.yaml")
	text := "apiVersion: postgresql.cnpg.io/v1\nkind: Backup\n" +
		"metadata: {name: " + name + ", namespace: " + notesNamespace + "}\nspec:\n" +
		"  cluster: {name: " + notesDatabase + "}\n  method: plugin\n" +
		"  pluginConfiguration: {name: barman-cloud.cloudnative-pg.io}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	kube(t, l, "apply", "-f", path)
	eventually(t, 3*time.Minute, "the database is copied", func() error {
		got := kube(t, l, "-n", notesNamespace, "get", postgresqlBackup, name,
			"-o", "jsonpath={.status.phase} {.status.error}")
		if !strings.HasPrefix(got, "completed") {
			return errors.New(got)
		}
		return nil
	})
	discard(t, l, "--namespace="+notesNamespace, postgresqlBackup, name) // the copy stays
}

// stopStorage takes the object storage away, as a dead network or a full disk there would.
func stopStorage(t *testing.T, l *lab) (returnIt func()) {
	t.Helper()
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", l.runner.PID(layout.S3Process)))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.runner.Stop(t.Context(), layout.S3Process); err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	returnIt = func() {
		t.Helper()
		if err := s3.Start(ctx, l.runner, program, l.Buckets(), l.secrets); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if !l.runner.Running(layout.S3Process) {
			returnIt()
		}
	})
	return returnIt
}

// withoutStorage waits until the cluster tells that nothing is copied any more: the database, and the layer that it is
// in. Only what nobody asked for in the last minutes has to be asked for.
func withoutStorage(t *testing.T, l *lab) {
	t.Helper()
	kube(t, l, "-n", notesNamespace, "exec", notesDatabase+"-1", "-c", "postgres", "--",
		"psql", "--quiet", "--command", "select pg_switch_wal()")
	eventually(t, 5*time.Minute, "the database says that nothing is copied", func() error {
		got := kube(t, l, "-n", notesNamespace, "get", "cluster", notesDatabase,
			"-o", `jsonpath={.status.conditions[?(@.type=="ContinuousArchiving")].status}`)
		if got != "False" {
			return fmt.Errorf("continuous archiving: %q", got)
		}
		return nil
	})
	reconcile(t, l, "kustomization", "databases")
	eventually(t, 3*time.Minute, "the layer of the databases is not Ready", func() error {
		got := kube(t, l, "-n", "flux-system", "get", "kustomization", "databases",
			"-o", `jsonpath={.status.conditions[?(@.type=="Ready")]}`)
		if !strings.Contains(got, `"status":"False"`) || !strings.Contains(got, notesDatabase) {
			return errors.New(got)
		}
		return nil
	})
}

// recoverInPlace asks whether the database may get a restore's manifest where it stands. Nothing is changed.
func recoverInPlace(t *testing.T, l *lab) error {
	t.Helper()
	_, err := kubectl.Run(t.Context(), l.Layout, "-n", notesNamespace, "patch", "cluster", notesDatabase,
		"--dry-run=server", "--type=merge", `--patch={"spec":{"bootstrap":{"initdb":null,"recovery":{"source":"origin"}}}}`)
	return err
}

// loseDatabase deletes the database and its volume at once, as with a dead disk.
func loseDatabase(t *testing.T, l *lab) {
	t.Helper()
	kube(t, l, "-n", notesNamespace, "delete", "cluster", notesDatabase, "--wait=false")
	kube(t, l, "-n", notesNamespace, "delete", "pod", notesDatabase+"-1", "--force", "--grace-period=0")
	// An instance whose pod was deleted by force goes on for some seconds, and would send what it still has.
	eventually(t, 2*time.Minute, "its processes have ended", func() error {
		if found := onMachine(t, l, "pgrep --exact postgres || true"); strings.TrimSpace(found) != "" {
			return errors.New(found)
		}
		return nil
	})
	eventually(t, 2*time.Minute, "the database and its volume are gone", func() error {
		left := kube(t, l, "-n", notesNamespace, "get", "cluster,pvc", "-o", "name")
		if strings.TrimSpace(left) != "" {
			return errors.New(left)
		}
		return nil
	})
}

// incarnation is that of the databases that run.
func incarnation(t *testing.T, l *lab) int {
	t.Helper()
	text := kube(t, l, "-n", "flux-system", "get", "kustomization", "databases",
		"-o", "jsonpath={.spec.postBuild.substitute.incarnation}")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
