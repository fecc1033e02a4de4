//go:build e2e

package main

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestClusterRunsWhatItShould(t *testing.T) {
	l := running(t)
	ask := func(args ...string) string { return kube(t, l, args...) }
	const ready = `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`
	if got := ask("get", "nodes", "-o", ready); got != "True" {
		t.Errorf("nodes ready: %q", got)
	}
	pods := ask(
		"get",
		"pods",
		"-A",
		"-o",
		`jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.status.phase}{"\n"}{end}`,
	)
	for _, want := range []string{
		"flux-system/flux-operator-", "flux-system/source-controller-", "flux-system/kustomize-controller-",
		"flux-system/helm-controller-",
		"flux-system/notification-controller-", "sealed-secrets/sealed-secrets-controller-", "memos-system/memos-",
		"kube-system/coredns-", "metallb-system/metallb-controller-", "metallb-system/metallb-speaker-",
		"cnpg-system/cnpg-controller-manager-", "cnpg-system/barman-cloud-", "memos-system/memos-database-1",
		"mariadb-system/mariadb-operator-", "ghost-system/ghost-database-0", "ghost-system/ghost-",
	} {
		if !slices.ContainsFunc(
			strings.Split(pods, "\n"),
			func(l string) bool { return strings.HasPrefix(l, want) && strings.HasSuffix(l, " Running") },
		) {
			t.Errorf("no pod %s… is Running:\n%s", want, pods)
		}
	}
	canary, err := base64.StdEncoding.DecodeString(
		ask("-n", "sealed-secrets", "get", "secret", "canary", "-o", "jsonpath={.data.message}"),
	)
	if err != nil || string(canary) != "sealed for lab" {
		t.Errorf("the canary reads %q (%v): it was not opened with the restored key", canary, err)
	}
	server := ask("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
	if server != "https://"+first(l).FQDN()+":6443" {
		t.Errorf("the kubeconfig points at %s, not at the name in the tailnet", server)
	}
}

func TestPushedCommitIsApplied(t *testing.T) {
	l := running(t)
	replicas := func() string {
		out, err := kubectl.Run(
			t.Context(),
			l.Layout,
			"-n",
			"memos-system",
			"get",
			"deployment",
			"memos",
			"-o",
			"jsonpath={.spec.replicas}/{.status.readyReplicas}",
		)
		if err != nil {
			t.Log(err)
		}
		return out
	}
	for _, count := range []string{"2", "1"} {
		commit(t, l, "apps/lab/kustomization.yaml", func(text string) string { return setCount(text, count) })
		started := time.Now()
		for replicas() != count+"/"+count {
			if time.Since(started) > 4*time.Minute {
				t.Fatalf("memos has %s replicas (wanted/ready) after %s, want %s", replicas(), time.Since(started), count)
			}
			time.Sleep(200 * time.Millisecond)
		}
		t.Logf("from push to %s ready replicas: %s", count, time.Since(started).Round(100*time.Millisecond))
	}
}

func setCount(text, count string) string {
	head, tail, _ := strings.Cut(text, "count: ")
	_, rest, _ := strings.Cut(tail, "\n")
	return head + "count: " + count + "\n" + rest
}

// commit changes a file of the site in a clone of its own and pushes it, as any person with access would.
func commit(t *testing.T, l *lab, file string, edit func(string) string) {
	t.Helper()
	commitAll(t, l, map[string]func(string) string{file: edit})
}

// commitAll changes several files in one commit, and returns when it began to push it.
func commitAll(t *testing.T, l *lab, edits map[string]func(string) string) (pushed time.Time) {
	t.Helper()
	return commitTo(t, l, layout.GitURL, edits)
}

// commitTo does so in the repository at url.
func commitTo(t *testing.T, l *lab, url string, edits map[string]func(string) string) (pushed time.Time) {
	t.Helper()
	clone := edited(t, l, url, "main", edits)
	names := slices.Sorted(maps.Keys(edits))
	return push(t, l, clone, "e2e: "+names[0]+" and what belongs to it", url, "HEAD:main")
}

// edited is a clone of a branch of the repository at url, with changes that are not committed. A file that is not there
// is empty, and one that is left empty goes.
func edited(
	t *testing.T, l *lab, url, branch string, edits map[string]func(string) string,
) (clone string) {
	t.Helper()
	clone = filepath.Join(t.TempDir(), "clone")
	runGit(t, l, "clone", "--quiet", "--branch", branch, url, clone)
	for name, edit := range edits {
		path := filepath.Join(clone, name)
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		changed := edit(string(text))
		if changed == string(text) {
			t.Fatalf("nothing changes in %s", name)
		}
		if changed == "" {
			err = os.Remove(path)
		} else {
			err = file.Write(path, []byte(changed), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return clone
}

// push commits all that is changed in a clone and pushes it as git is told to. It returns when it began to push.
func push(t *testing.T, l *lab, clone, message string, to ...string) (pushed time.Time) {
	t.Helper()
	runGit(t, l, "-C", clone, "add", "--all")
	runGit(t, l, "-C", clone, "commit", "--quiet", "--message", message)
	pushed = time.Now()
	runGit(t, l, append([]string{"-C", clone, "push", "--quiet"}, to...)...)
	return pushed
}

// runGit runs git as a person with access would, on their own computer, and returns what it says.
func runGit(t *testing.T, l *lab, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{
		"-c", "user.name=e2e", "-c", "user.email=e2e@" + layout.Zone,
		"-c", "credential.helper=store --file=" + l.GitCredentials(),
	}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_SSL_CAINFO="+l.CA(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestSnapshotArrivesInTheBucket(t *testing.T) {
	l := running(t)
	out := onMachine(t, l, "k3s etcd-snapshot save --name e2e")
	found, err := filepath.Glob(filepath.Join(l.Buckets(), layout.Bucket, "*", "e2e*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no snapshot in the bucket: %v\n%s", err, out)
	}
	if info, err := os.Stat(found[0]); err != nil || info.Size() < 1<<20 {
		t.Errorf("%s is no snapshot: %v", found[0], err)
	}
}
