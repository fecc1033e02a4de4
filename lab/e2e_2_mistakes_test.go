//go:build e2e

package main

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/kubectl"
)

// TestAMistakeInGitHurtsNobody pushes commits that cannot be applied, one after another: what they break says so and
// why, in the cluster and in `make status`, the application goes on as it was before, and taking the commit back ends
// it.
func TestAMistakeInGitHurtsNobody(t *testing.T) {
	l := running(t)
	const (
		overlay    = "apps/lab/kustomization.yaml"
		deployment = "apps/base/memos/deployment.yaml"
		metallb    = "infrastructure/controllers/base/metallb/release.yaml"
	)
	for _, tt := range []struct {
		name, file, old, mistake string
		says                     []string // what `make status` shows, on one line each
	}{
		{
			"a file that is not there", overlay, "resources:\n", "resources:\n  - nothing.yaml\n",
			[]string{"apps|nothing.yaml"},
		},
		{
			"a value of another kind", deployment,
			"automountServiceAccountToken: false", "automountServiceAccountToken: no-text",
			[]string{"apps|automountServiceAccountToken"},
		},
		{
			"a variable that nobody defines", deployment, "${hostname_memos}", "${hostname_memo}",
			[]string{"apps|hostname_memo"},
		},
		{
			"an image that is nowhere", deployment, "docker.io/neosmemo/memos:", "docker.io/neosmemo/memos:9",
			[]string{"memos-system/memos-|memos:9"},
		},
		{
			"a chart that is nowhere", metallb, "version: 0.16.1", "version: 99.16.1",
			[]string{"metallb-system/metallb|99.16.1", "infrastructure-controllers|"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			replace := func(from, to string) func(string) string {
				return func(text string) string { return strings.Replace(text, from, to, 1) }
			}
			commit(t, l, tt.file, replace(tt.old, tt.mistake))
			reconcile(t, l, "gitrepository", "flux-system")
			for _, says := range tt.says {
				where, what, _ := strings.Cut(says, "|")
				eventually(t, 3*time.Minute, "status tells of "+where, func() error { return told(t, l, where, what) })
			}
			if layer, _, ok := strings.Cut(tt.says[0], "|"); ok && !strings.Contains(layer, "/") {
				hasStatus(t, l, head(t, l), layer, "failure", "")
			}
			if visit, err := ask(t.Context(), browser(t, l), notes+"/healthz"); err != nil || visit.status != http.StatusOK {
				t.Errorf("a visitor gets %v, %v", visit, err)
			}
			commit(t, l, tt.file, replace(tt.mistake, tt.old))
			reconcile(t, l, "gitrepository", "flux-system")
			wellAgain(t, l)
		})
	}
}

// wellAgain waits until all layers are Ready.
func wellAgain(t *testing.T, l *lab) {
	t.Helper()
	eventually(t, 3*time.Minute, "all layers are Ready again", func() error {
		got := kube(t, l, "-n", "flux-system", "get", "kustomizations",
			"-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`)
		if strings.Trim(got, "True ") != "" {
			return errors.New(got)
		}
		return nil
	})
}

// reconcile asks Flux to look at an object now, as a webhook would. It returns what the object's status names when that
// is done.
func reconcile(t *testing.T, l *lab, kind, name string) (request string) {
	t.Helper()
	request = strconv.FormatInt(time.Now().UnixNano(), 10)
	kube(t, l, "-n", "flux-system", "annotate", "--overwrite", kind, name, "reconcile.fluxcd.io/requestedAt="+request)
	return request
}

// told looks for a line of `make status` about what is not well that names where and what.
func told(t *testing.T, l *lab, where, what string) error {
	t.Helper()
	var shown strings.Builder
	if err := kubectl.Show(t.Context(), l.Layout, &shown); err != nil {
		return err
	}
	for line := range strings.Lines(shown.String()) {
		if strings.Contains(line, where) && strings.Contains(line, what) && strings.Contains(line, "✗") {
			return nil
		}
	}
	return errors.New(shown.String())
}
