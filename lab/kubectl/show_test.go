package kubectl

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// answers are what the cluster says of a site in which memos' image is missing.
var answers = map[string]string{
	"nodes": `{"items": [
		{"metadata": {"name": "first"}, "status": {"nodeInfo": {"kubeletVersion": "v1.32.0+k3s1"},
			"conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}]}},
		{"metadata": {"name": "second"}, "status": {"nodeInfo": {"kubeletVersion": "v1.32.0+k3s1"},
			"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "gone quiet"}]}}]}`,
	"kustomizations.kustomize.toolkit.fluxcd.io": `{"items": [
		{"metadata": {"name": "apps"}, "spec": {"dependsOn": [{"name": "configs"}]}, "status": {
			"lastAppliedRevision": "main@sha1:0011223344556677", "conditions": [{"type": "Ready", "status": "False",
			"reason": "HealthCheckFailed", "message": "memos: InProgress"}]}},
		{"metadata": {"name": "configs"}, "spec": {"dependsOn": [{"name": "controllers"}, {"name": "root"}]},
			"status": {"lastAppliedRevision": "main@sha1:8899aabb", "conditions": [{"type": "Ready", "status": "True"}]}},
		{"metadata": {"name": "controllers"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
		{"metadata": {"name": "restore"}, "spec": {"suspend": true}, "status": {
			"conditions": [{"type": "Ready", "status": "True"}]}},
		{"metadata": {"name": "root"}, "status": {}}]}`,
	"helmreleases.helm.toolkit.fluxcd.io": `{"items": [{"metadata": {"namespace": "sealed-secrets", "name": "release"},
		"status": {"history": [{"chartVersion": "2.19.3"}, {"chartVersion": "2.19.2"}],
		"conditions": [{"type": "Ready", "status": "True"}]}}]}`,
	"clusters.postgresql.cnpg.io,mariadbs.k8s.mariadb.com": `{"items": [
		{"metadata": {"namespace": "a", "name": "well"}, "status": {"conditions": [{"type": "Ready", "status": "True"},
			{"type": "ContinuousArchiving", "status": "True"}]}},
		{"metadata": {"namespace": "a", "name": "alone"}, "status": {"conditions": [{"type": "Ready", "status": "True"},
			{"type": "ContinuousArchiving", "status": "False", "reason": "Failing", "message": "no such bucket"}]}}]}`,
	"objectstores.barmancloud.cnpg.io": `{"items": [{"metadata": {"namespace": "a", "name": "new"}}]}`,
	"backups.k8s.mariadb.com,cronjobs.batch": `{"items": [
		{"kind": "Backup", "metadata": {"namespace": "b", "name": "first"}, "status": {"conditions": [
			{"type": "Complete", "status": "True", "message": "Failed"}]}},
		{"kind": "Backup", "metadata": {"namespace": "b", "name": "hourly"}, "spec": {"schedule": {"cron": "7 * * * *"}}},
		{"kind": "CronJob", "metadata": {"namespace": "b", "name": "hourly", "ownerReferences": [{"kind": "Backup"}]}},
		{"kind": "CronJob", "metadata": {"namespace": "b", "name": "another"}}]}`,
	"pods": `{"items": [
		{"metadata": {"namespace": "kube-system", "name": "coredns"}, "status": {"phase": "Running",
			"conditions": [{"type": "Ready", "status": "True"}]}},
		{"metadata": {"namespace": "kube-system", "name": "job"}, "status": {"phase": "Succeeded",
			"conditions": [{"type": "Ready", "status": "False"}]}},
		{"metadata": {"namespace": "memos-system", "name": "memos"}, "status": {"phase": "Pending",
			"conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [
				{"restartCount": 2, "state": {"waiting": {"reason": "ErrImagePull", "message": "none"}}}]}},
		{"metadata": {"namespace": "memos-system", "name": "other"}, "status": {"phase": "Pending"}}]}`,
}

const drawn = `  nodes
    ✓ first                                  v1.32.0+k3s1
    ✗ second                                 v1.32.0+k3s1   NodeStatusUnknown: gone quiet

  layers
    ✓ controllers
    ✓   configs                              main@8899aab
    ✗     apps                               main@0011223   HealthCheckFailed: memos: InProgress
    ‖ restore                                               suspended
    ✗ root                                                  nothing is known yet

  charts
    ✓ sealed-secrets/release                 2.19.3

  databases
    ✓ a/well
    ✗ a/alone                                               Failing: no such bucket

  copies of PostgreSQL
    ✗ a/new                                  nothing was copied yet

  copies of MariaDB
    ✗ b/first                                nothing was copied yet; the last copy did not end well
    ✓ b/hourly                               waits for its first hour

  pods
    1 of 3 are ready
    ✗ memos-system/memos: ErrImagePull: none (2 restarts)
    ✗ memos-system/other: Pending

`

func TestShow(t *testing.T) {
	l := answering(t, answers)
	var out strings.Builder
	if err := Show(t.Context(), l, &out); err != nil || out.String() != drawn {
		t.Errorf("%v\n%s\nwant\n%s", err, out.String(), drawn)
	}
}

func TestShowAsksOnAfterAFailure(t *testing.T) {
	l := answering(t, map[string]string{"pods": `{"items": []}`})
	var out strings.Builder
	err := Show(t.Context(), l, &out)
	const want = "  pods\n    0 of 0 are ready\n\n"
	if err == nil || strings.Count(err.Error(), "no such kind") != 6 || out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestShowBeforeThereIsACluster(t *testing.T) {
	err := Show(t.Context(), layout.Layout{State: t.TempDir()}, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "run it again") {
		t.Errorf("got %v", err)
	}
}

func TestSince(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	r := resource{}
	r.Status.Conditions = []condition{{
		Type: "Ready", Status: "False", Reason: "Failed", LastTransitionTime: now.Add(-192 * time.Second),
	}}
	if got := line("apps", "", r, now); !strings.HasSuffix(got, " for 3m12s Failed") {
		t.Errorf("got %q", got)
	}
}

func TestDumps(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	var all []resource
	if err := json.Unmarshal([]byte(`[
		{"kind": "Backup", "metadata": {"name": "once"}, "status": {"conditions": [
			{"type": "Complete", "status": "True", "message": "Success", "lastTransitionTime": "2026-11-29T11:50:00Z"}]}},
		{"kind": "CronJob", "metadata": {"name": "well", "ownerReferences": [{"kind": "Backup"}]}, "status": {
			"lastScheduleTime": "2026-11-29T11:07:00Z", "lastSuccessfulTime": "2026-11-29T11:08:00Z"}},
		{"kind": "CronJob", "metadata": {"name": "failing", "ownerReferences": [{"kind": "Backup"}]}, "status": {
			"lastScheduleTime": "2026-11-29T11:07:00Z", "lastSuccessfulTime": "2026-11-29T10:08:00Z"}}]`), &all); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, line := range dumps(all, now) {
		got.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	const want = "✓ /once copied 10m0s ago\n✓ /well copied 52m0s ago\n" +
		"✗ /failing copied 1h52m0s ago; the last copy did not end well\n"
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

func TestCopies(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	var r resource
	text := `{"metadata": {"namespace": "a", "name": "store"}, "status": {"serverRecoveryWindow": {
		"b-2": {"firstRecoverabilityPoint": "2026-11-29T11:00:00Z", "lastSuccessfulBackupTime": "2026-11-29T11:30:00Z",
			"lastFailedBackupTime": "2026-11-29T11:45:00Z"},
		"b-1": {"firstRecoverabilityPoint": "2026-11-28T12:00:00Z", "lastSuccessfulBackupTime": "2026-11-29T11:30:00Z",
			"lastFailedBackupTime": "2026-11-29T11:00:00Z"},
		"b-3": {"lastFailedBackupTime": "2026-11-29T11:00:00Z"}}}}`
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(copies([]resource{r}, now), "\n")
	want := "✓ a/b-1                                  copied 30m0s ago, can be restored from 24h0m0s ago on\n" +
		"✗ a/b-2                                  copied 30m0s ago, can be restored from 1h0m0s ago on; " +
		"the last copy failed 15m0s ago\n" +
		"✗ a/b-3                                  nothing was copied yet"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// answering is a lab whose cluster gives these answers, by kind.
func answering(t *testing.T, answers map[string]string) layout.Layout {
	t.Helper()
	dir := t.TempDir()
	for kind, text := range answers {
		if err := os.WriteFile(filepath.Join(dir, kind), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return installed(t, `shift 2
[ "$1 $3 $4" = "get --all-namespaces --output=json" ] || exit 9
cat "`+dir+`/$2" 2>/dev/null || { echo no such kind >&2; exit 1; }`)
}
