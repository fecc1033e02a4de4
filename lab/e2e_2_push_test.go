//go:build e2e

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/gitserver"
	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// marked are an object of the first layer and one of the fourth, which waits for the three before it, with the files
// that they are in.
var marked = []struct{ file, namespace, kind, name string }{
	{"infrastructure/controllers/base/metallb/network.yaml", "metallb-system", "networkpolicy", "metallb"},
	{"apps/base/memos/service.yaml", notesNamespace, "service", "memos"},
}

// TestAPushIsApplied pushes commits that change an object of the first and one of the last layer, and measures how long
// each takes: told by the webhook, which comes from the git server through the edge and the tunnel; and by looking,
// with the webhook gone. How fast it is stands in docs/benchmarks.md; here it has to be sooner than by looking once a
// minute. Something that nobody signed changes nothing. TINYRACK_E2E_PUSHES is how many there are.
func TestAPushIsApplied(t *testing.T) {
	l := running(t)
	outputs, err := l.stack.Outputs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	url, _ := outputs["webhookUrl"].(string)
	client := browser(t, l)
	unsigned, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{"ref": "x"}`))
	if err != nil {
		t.Fatal(err)
	}
	unsigned.Header.Set("X-GitHub-Event", "push")
	unsigned.Header.Set("Content-Type", "application/json")
	unsigned.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
	if resp, err := client.Do(unsigned); err != nil {
		t.Error(err)
	} else if resp.Body.Close(); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("what nobody signed is answered with %s", resp.Status)
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
	for _, path := range []string{"/", "/hooks", "/metrics"} {
		if got := visited(t, client, "https://"+host+path); got.status != http.StatusNotFound {
			t.Errorf("beside the webhook: %s", got)
		}
	}

	pushes := 8 // each takes some ten seconds
	if text := os.Getenv("TINYRACK_E2E_PUSHES"); text != "" {
		if pushes, err = strconv.Atoi(text); err != nil || pushes < 2 {
			t.Fatalf("TINYRACK_E2E_PUSHES: %q is no number above one", text)
		}
	}
	var times [2][]time.Duration
	for i := range pushes {
		for layer, took := range pushMark(t, l, i+1, time.Minute) {
			times[layer] = append(times[layer], took)
		}
	}
	for layer, limit := range []time.Duration{15 * time.Second, 30 * time.Second} {
		slices.Sort(times[layer])
		p95 := times[layer][pushes*95/100-1]
		t.Logf("%s: median %s, p95 %s, longest %s", marked[layer].file, round(times[layer][pushes/2]), round(p95),
			round(times[layer][pushes-1]))
		if p95 > limit {
			t.Errorf("%s: of %d pushes 95%% took up to %s: not told by the webhook", marked[layer].file, pushes, round(p95))
		}
	}

	for _, layer := range []string{"infrastructure-controllers", "apps"} {
		hasStatus(t, l, head(t, l), layer, "success", "")
	}

	setWebhook(t, l, false)
	defer setWebhook(t, l, true)
	took := pushMark(t, l, pushes+1, 2*time.Minute)
	t.Logf("without the webhook: %s and %s", round(took[0]), round(took[1]))
	commitAll(t, l, unmark())
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

var mark = regexp.MustCompile(`  labels:\n    e2e.tinyrack.net/push: "[0-9]+"\n`)

// unmark are the edits that take the marks away.
func unmark() map[string]func(string) string {
	edits := map[string]func(string) string{}
	for _, m := range marked {
		edits[m.file] = func(text string) string { return mark.ReplaceAllString(text, "") }
	}
	return edits
}

// pushMark pushes one commit with the n-th mark on all objects, and returns how long each took to have it.
func pushMark(t *testing.T, l *lab, n int, limit time.Duration) []time.Duration {
	t.Helper()
	edits := unmark()
	arrived := make([]chan time.Time, len(marked))
	failed := make(chan error, len(marked))
	for i, m := range marked {
		plain := edits[m.file]
		edits[m.file] = func(text string) string {
			return strings.Replace(plain(text), "  name: "+m.name+"\n",
				fmt.Sprintf("  name: %s\n  labels:\n    e2e.tinyrack.net/push: %q\n", m.name, strconv.Itoa(n)), 1)
		}
		arrived[i] = make(chan time.Time, 1)
		go func() {
			_, err := kubectl.Run(t.Context(), l.Layout, "-n", m.namespace, "wait", m.kind+"/"+m.name,
				`--for=jsonpath={.metadata.labels.e2e\.tinyrack\.net/push}=`+strconv.Itoa(n), "--timeout="+limit.String())
			arrived[i] <- time.Now()
			failed <- err
		}()
	}
	time.Sleep(time.Second) // until the two look
	pushed := commitAll(t, l, edits)
	var took []time.Duration
	for i := range marked {
		took = append(took, (<-arrived[i]).Sub(pushed))
	}
	if err := errors.Join(<-failed, <-failed); err != nil {
		t.Fatal(err)
	}
	return took
}

// setWebhook has the git server tell of pushes, or not.
func setWebhook(t *testing.T, l *lab, active bool) {
	t.Helper()
	var found []struct{ ID int }
	gitea(t, l, http.MethodGet, "/hooks", "", &found)
	if len(found) != 1 {
		t.Fatalf("%d webhooks", len(found))
	}
	gitea(t, l, http.MethodPatch, fmt.Sprintf("/hooks/%d", found[0].ID), fmt.Sprintf(`{"active": %t}`, active), &struct{}{})
}

// gitea asks the git server about the repository.
func gitea(t *testing.T, l *lab, method, path, body string, answer any) {
	t.Helper()
	text, err := gitserver.New(l.Layout).Repository(t.Context(), l.secrets.GitToken, method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// hasStatus waits until the git server shows what became of a commit in a layer.
func hasStatus(t *testing.T, l *lab, commit, layer, state, says string) {
	t.Helper()
	eventually(t, 2*time.Minute, "the git server shows "+state+" of "+layer, func() error {
		var found struct {
			Statuses []struct{ Context, Status, Description string }
		}
		gitea(t, l, http.MethodGet, "/commits/"+commit+"/status", "", &found)
		for _, s := range found.Statuses {
			if s.Context == layer+"/lab" && s.Status == state && strings.Contains(s.Description, says) {
				return nil
			}
		}
		return fmt.Errorf("%+v", found.Statuses)
	})
}

// head is the commit that the git server has.
func head(t *testing.T, l *lab) string {
	t.Helper()
	return strings.Fields(runGit(t, l, "ls-remote", layout.GitURL, "refs/heads/main"))[0]
}
