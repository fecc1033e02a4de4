//go:build e2e

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

const (
	forumNamespace = "discourse-system"
	forumDatabase  = "discourse-database"
	forumRedis     = "discourse-redis"
)

// forumGround is what the forum's databases find in production: the namespace, and in it the credentials for the
// copies. The application's own NetworkPolicy is not there, so the test's clients get one.
const forumGround = `apiVersion: v1
kind: Namespace
metadata: {name: ` + forumNamespace + `, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Secret
metadata: {name: backup-credentials, namespace: ` + forumNamespace + `}
data: %s
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: e2e, namespace: ` + forumNamespace + `}
spec:
  podSelector: {matchLabels: {e2e.tinyrack.net/client: forum}}
  policyTypes: [Egress]
  egress: [{}]
`

// What the commit adds. The distribution has no package with the extension vector.
const (
	forumBase     = "  - ../base/discourse\n"
	withoutVector = `patches:
  - target:
      kind: Cluster
      name: ` + forumDatabase + `
    patch: |
      - op: test
        path: /spec/bootstrap/initdb/postInitApplicationSQL/3
        value: CREATE EXTENSION vector
      - op: remove
        path: /spec/bootstrap/initdb/postInitApplicationSQL/3
`
)

// TestTheForumsDatabasesRun adds Discourse's PostgreSQL and Redis by a commit, and takes them away by another.
// Discourse itself cannot be built here. What is written to the database reaches S3, Redis answers the forum's pods and
// no others, and what it was told outlives its pod.
func TestTheForumsDatabasesRun(t *testing.T) {
	l := running(t)
	ground := filepath.Join(t.TempDir(), "ground.yaml")
	credentials := kube(t, l, "-n", notesNamespace, "get", "secret", "backup-credentials", "-o", "jsonpath={.data}")
	if err := os.WriteFile(ground, fmt.Appendf(nil, forumGround, credentials), 0o600); err != nil {
		t.Fatal(err)
	}
	kube(t, l, "apply", "-f", ground)
	const overlay = "databases/lab/kustomization.yaml"
	commit(t, l, overlay, func(text string) string {
		return strings.Replace(text, "resources:\n", "resources:\n"+forumBase, 1) + withoutVector
	})
	defer func() {
		commit(t, l, overlay, func(text string) string {
			return strings.Replace(strings.Replace(text, withoutVector, "", 1), forumBase, "", 1)
		})
		forumIsGone(t, l)
	}()
	reconcile(t, l, "gitrepository", "flux-system")

	eventually(t, 5*time.Minute, "the database runs and is copied", func() error {
		return forumStatus(t, l, "cluster", forumDatabase, "True True",
			`{.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="ContinuousArchiving")].status}`)
	})
	folder := filepath.Join(l.Buckets(), layout.BackupBucket, "discourse",
		fmt.Sprintf("%s-%d", forumDatabase, incarnation(t, l)))
	eventually(t, 3*time.Minute, "a whole copy is in S3", func() error {
		found, err := filepath.Glob(filepath.Join(folder, "base", "*"))
		if err == nil && len(found) == 0 {
			err = errors.New("none in " + folder)
		}
		return err
	})
	extensions := kube(t, l, "-n", forumNamespace, "exec", forumDatabase+"-1", "-c", "postgres", "--",
		"psql", "--quiet", "--tuples-only", "--no-align", "--dbname=discourse",
		"--command", "select string_agg(extname, ' ' order by extname) from pg_extension")
	if got := strings.TrimSpace(extensions); got != "hstore pg_trgm plpgsql unaccent" {
		t.Errorf("its extensions are %q", got)
	}
	eventually(t, 2*time.Minute, "Redis is ready", func() error {
		return forumStatus(t, l, "statefulset", forumRedis, "1", "{.status.readyReplicas}")
	})

	const clients = "e2e.tinyrack.net/client=forum"
	startClient(t, l, forumNamespace, "discourse", clients+",app.kubernetes.io/name=discourse")
	startClient(t, l, forumNamespace, "other", clients)
	redis, database := forumService(t, l, forumRedis, 6379), forumService(t, l, forumDatabase+"-rw", 5432)
	for _, target := range []netip.AddrPort{redis, database} {
		expect(t, l, forumNamespace, "discourse", target, true)
		expect(t, l, forumNamespace, "other", target, false)
	}
	ask := func(command, want string) {
		t.Helper()
		eventually(t, time.Minute, "Redis answers "+command, func() error {
			said, err := inPod(t, l, forumNamespace, "discourse", "sh", "-c", fmt.Sprintf(
				`printf '%s\r\nQUIT\r\n' | busybox nc -w 5 %s %d`, command, redis.Addr(), redis.Port()))
			if err == nil && !strings.Contains(said, want) {
				err = fmt.Errorf("it says %q", said)
			}
			return err
		})
	}
	ask("PING", "+PONG")
	ask("SET e2e waits", "+OK")
	kube(t, l, "-n", forumNamespace, "delete", "pod", forumRedis+"-0", "--wait=false")
	eventually(t, 2*time.Minute, "Redis has another pod", func() error {
		return forumStatus(t, l, "pod", forumRedis+"-0", " True",
			`{.metadata.deletionTimestamp} {.status.conditions[?(@.type=="Ready")].status}`)
	})
	ask("GET e2e", "waits")
}

// forumStatus compares a part of an object of the forum's namespace.
func forumStatus(t *testing.T, l *lab, kind, name, want, path string) error {
	t.Helper()
	got, err := kubectl.Run(t.Context(), l.Layout, "-n", forumNamespace, "get", kind, name, "-o", "jsonpath="+path)
	if err == nil && got != want {
		err = fmt.Errorf("%s %s: %q, not %q", kind, name, got, want)
	}
	return err
}

// forumService is the address of a Service of the forum's namespace.
func forumService(t *testing.T, l *lab, name string, port uint16) netip.AddrPort {
	t.Helper()
	address, err := netip.ParseAddr(kube(t, l, "-n", forumNamespace, "get", "service", name,
		"-o", "jsonpath={.spec.clusterIP}"))
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(address, port)
}

// forumIsGone waits until Flux has removed what the commit took away, which is all but the database: that goes with the
// namespace, and then its copies, into whose folder no other database could write.
func forumIsGone(t *testing.T, l *lab) {
	t.Helper()
	reconcile(t, l, "gitrepository", "flux-system")
	left := func(kinds string) string {
		t.Helper()
		return strings.TrimSpace(kube(t, l, "-n", forumNamespace, "get", kinds, "-o", "name"))
	}
	eventually(t, 3*time.Minute, "Redis is gone", func() error {
		const kinds = "statefulsets,scheduledbackups.postgresql.cnpg.io,objectstores.barmancloud.cnpg.io"
		if found := left(kinds); found != "" {
			return errors.New(found)
		}
		return nil
	})
	if !strings.Contains(left("clusters.postgresql.cnpg.io"), forumDatabase) {
		t.Error("a commit took the database away")
	}
	// It would take three minutes to shut down: its copies go with it, so nothing waits for it.
	kube(t, l, "-n", forumNamespace, "delete", "cluster", forumDatabase, "--wait=false")
	kube(t, l, "-n", forumNamespace, "delete", "pod", forumDatabase+"-1", "--force", "--grace-period=0")
	kube(t, l, "delete", "namespace", forumNamespace, "--wait=false")
	eventually(t, 3*time.Minute, "the namespace is gone", func() error {
		found := kube(t, l, "get", "namespace", forumNamespace, "--ignore-not-found", "-o", "name")
		if strings.TrimSpace(found) != "" {
			return errors.New(found)
		}
		return nil
	})
	if err := os.RemoveAll(filepath.Join(l.Buckets(), layout.BackupBucket, "discourse")); err != nil {
		t.Error(err)
	}
	wellAgain(t, l)
}
