//go:build e2e && growth

package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/kubectl"
)

// sample is an application as the tree's are, without pods: what is measured is what Flux has to do, and a node takes
// no more than 110 of them.
const sample = `apiVersion: v1
kind: Namespace
metadata:
  name: %[1]s
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: %[1]s
  namespace: %[1]s
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: %[1]s
  namespace: %[1]s
data:
  settings: first
---
apiVersion: v1
kind: Service
metadata:
  name: %[1]s
  namespace: %[1]s
spec:
  selector:
    app.kubernetes.io/name: %[1]s
  ports:
    - name: http
      port: 80
      targetPort: http
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
  namespace: %[1]s
spec:
  replicas: 0
  selector:
    matchLabels:
      app.kubernetes.io/name: %[1]s
  template:
    metadata:
      labels:
        app.kubernetes.io/name: %[1]s
    spec:
      automountServiceAccountToken: false
      containers:
        - name: sample
          image: sample.invalid/sample:1.0.0
          envFrom:
            - configMapRef:
                name: %[1]s
          ports:
            - name: http
              containerPort: 8080
          resources:
            requests: {cpu: 10m, memory: 16Mi}
            limits: {memory: 32Mi}
`

const (
	samplesBase   = "apps/base/%s/application.yaml"
	samplesFolder = "apps/base/%s/kustomization.yaml"
	appsOverlay   = "apps/lab/kustomization.yaml"
)

// TestApplications has ten more applications in the tree, and then a hundred: how long Flux takes to apply them, to
// apply a change of one, and to find that there is nothing to do, and what its controllers need for that.
func TestApplications(t *testing.T) {
	succeed(t, "up")
	l := running(t)
	before := restarts(t, l)
	rows := []string{
		"applications more, all applied, one changed, nothing to do, " + strings.Join(controllers, " MiB, ") + " MiB",
	}
	row := func(n int, times ...time.Duration) {
		t.Helper()
		text := strconv.Itoa(n)
		for _, d := range times {
			text += ", " + round(d).String()
		}
		for _, controller := range controllers {
			text += ", " + strconv.Itoa(residentMiB(t, l, controller))
		}
		rows = append(rows, text)
	}
	there := 0
	for _, n := range []int{10, 100} {
		edits := map[string]func(string) string{appsOverlay: func(text string) string {
			var names string
			for i := there; i < n; i++ {
				names += "  - ../base/" + sampleName(i) + "\n"
			}
			return strings.Replace(text, "resources:\n", "resources:\n"+names, 1)
		}}
		for i := there; i < n; i++ {
			name := sampleName(i)
			edits[fmt.Sprintf(samplesBase, name)] = func(string) string { return fmt.Sprintf(sample, name) }
			edits[fmt.Sprintf(samplesFolder, name)] = func(string) string {
				return "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - application.yaml\n"
			}
		}
		all := applied(t, l, edits)
		if got := len(strings.Fields(kube(t, l, "get", "deployments.apps", "-A", "-o",
			`jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}`))); got < n {
			t.Errorf("%d of %d are there", got, n)
		}
		there = n
		one := applied(t, l, map[string]func(string) string{
			fmt.Sprintf(samplesBase, sampleName(n-1)): func(text string) string {
				return strings.Replace(text, "settings: first", "settings: second", 1)
			},
		})
		row(n, all, one, lookedAgain(t, l))
	}
	gone := map[string]func(string) string{appsOverlay: func(text string) string {
		return regexp.MustCompile(`  - \.\./base/sample-\d+\n`).ReplaceAllString(text, "")
	}}
	for i := range there {
		for _, name := range []string{samplesBase, samplesFolder} {
			gone[fmt.Sprintf(name, sampleName(i))] = func(string) string { return "" }
		}
	}
	row(0, applied(t, l, gone))
	// Their namespaces take longer, and the next test would find them.
	left := []string{"wait", "--for=delete", "--timeout=5m"}
	for i := range there {
		left = append(left, "namespace/"+sampleName(i))
	}
	kube(t, l, left...)
	t.Log("\n" + strings.Join(rows, "\n"))
	if after := restarts(t, l); after != before {
		t.Errorf("containers of Flux were started anew: before\n%s\nnow\n%s", before, after)
	}
	upChangesNothing(t)
}

func sampleName(i int) string { return fmt.Sprintf("sample-%03d", i) }

// applied pushes a commit and returns how long it took until the last layer was Ready with it.
func applied(t *testing.T, l *lab, edits map[string]func(string) string) (took time.Duration) {
	t.Helper()
	pushed := commitAll(t, l, edits)
	commit := head(t, l)
	eventually(t, 10*time.Minute, "apps is Ready with the commit", func() error {
		got := kube(t, l, "-n", "flux-system", "get", "kustomization", "apps", "-o",
			`jsonpath={.status.lastAppliedRevision} {.status.conditions[?(@.type=="Ready")].status} `+
				`{.status.conditions[?(@.type=="Ready")].message}`)
		took = time.Since(pushed)
		if !strings.HasPrefix(got, "refs/heads/main@sha1:"+commit+" True") {
			return errors.New(got)
		}
		return nil
	})
	return took
}

// lookedAgain has the last layer looked at once more, with nothing to do, and returns how long that took.
func lookedAgain(t *testing.T, l *lab) time.Duration {
	t.Helper()
	started := time.Now()
	kube(t, l, "-n", "flux-system", "wait", "kustomization/apps",
		"--for=jsonpath={.status.lastHandledReconcileAt}="+reconcile(t, l, "kustomization", "apps"), "--timeout=300s")
	return time.Since(started)
}

// controllers are those of Flux that a tree's size matters to.
var controllers = []string{"kustomize-controller", "source-controller"}

var resident = regexp.MustCompile(`(?m)^process_resident_memory_bytes (\S+)$`)

// residentMiB is the memory that a controller says it has.
func residentMiB(t *testing.T, l *lab, controller string) int {
	t.Helper()
	pod := strings.TrimSpace(kube(t, l, "-n", "flux-system", "get", "pods", "-l", "app="+controller,
		"-o", "jsonpath={.items[0].metadata.name}"))
	metrics, err := kubectl.Run(t.Context(), l.Layout, "get", "--raw",
		"/api/v1/namespaces/flux-system/pods/"+pod+":8080/proxy/metrics")
	if err != nil {
		t.Fatal(err)
	}
	found := resident.FindStringSubmatch(metrics)
	if found == nil {
		t.Fatalf("%s does not say how much memory it has", controller)
	}
	bytes, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(bytes) >> 20
}

// restarts are how often each of Flux' containers was started anew.
func restarts(t *testing.T, l *lab) string {
	t.Helper()
	lines := strings.Split(kube(t, l, "-n", "flux-system", "get", "pods", "-o",
		`jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount}{"\n"}{end}`), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
