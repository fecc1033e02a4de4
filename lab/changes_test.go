//go:build e2e && growth

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// samples are changes of every kind: of settings, secrets, scripts, resources, names and the tree.
var samples = map[string]map[string]func(string) string{
	"a hostname more":       addHostname("wiki"),
	"another hostname":      replaceIn(stackFile, "hostname: forum."+layout.Zone, "hostname: talk."+layout.Zone),
	"another login":         replaceIn(stackFile, "accessEmails:\n    - admin@", "accessEmails:\n    - other@"),
	"another tunnel's name": replaceIn(stackFile, "tunnel: tinyrack-lab", "tunnel: another-lab"),
	"a hostname less": replaceIn(stackFile, "    - access: team\n      hostname: forum."+layout.Zone+
		"\n      service: http://discourse.discourse-system.svc.cluster.local:80\n", ""),
	"a package more":         replaceIn(stackFile, "      - nfs-common\n", "      - nfs-common\n      - jq\n"),
	"a script":               replaceIn("components/machine/packages.sh", "\nmain() {\n", "\nmain() {\n\ttrue\n"),
	"a variable of the tree": replaceIn(stackFile, "pool: 10.77.0.192/27", "pool: 10.77.0.192/28"),
	"another renewal":        replaceIn(stackFile, "    firstServer:", "    renewal: again\n    firstServer:"),
	"a tree":                 replaceIn("apps/base/memos/deployment.yaml", "replicas: 1", "replicas: 0"),
}

// TestPreviewsAgree compares what changes do against the real state, with its secrets, and against the published one,
// without: the same resources, operations and properties. With clouds and cluster gone it comes out the same.
func TestPreviewsAgree(t *testing.T) {
	succeed(t, "up")
	l := running(t)
	c := newCI(t, l)
	c.script(t, "apply.sh", "--publish", layout.DefaultStack).wants(t, 0)
	type plan struct {
		code int
		told any
	}
	preview := func(t *testing.T, edits map[string]func(string) string, state string) plan {
		t.Helper()
		dir := c.checkout(t, edits)
		report := filepath.Join(t.TempDir(), "report.json")
		ended := c.do(t, state, dir, c.secrets(), "scripts/preview.sh", "--state", state, "--report", report,
			layout.DefaultStack)
		text, err := os.ReadFile(report)
		if err != nil {
			t.Fatalf("%v\n%s", err, ended.out)
		}
		return plan{ended.code, operations(t, text)}
	}
	untrusted := map[string]plan{}
	for name, edits := range samples {
		t.Run(name, func(t *testing.T) {
			trusted, published := preview(t, edits, "real"), preview(t, edits, "published")
			if !reflect.DeepEqual(trusted, published) {
				t.Errorf("against the real state it is\n%v\nagainst the published one\n%v", trusted, published)
			}
			if published.code == 0 {
				t.Error("it changes nothing: the sample is none")
			}
			t.Logf("%d: %v", published.code, published.told)
			untrusted[name] = published
		})
	}
	onMachine(t, l, "systemctl stop k3s")
	t.Cleanup(func() { succeed(t, "up") })
	if err := l.runner.Stop(t.Context(), layout.CloudsProcess); err != nil {
		t.Fatal(err)
	}
	for name, edits := range samples {
		t.Run(name+", with nothing running", func(t *testing.T) {
			if now := preview(t, edits, "published"); !reflect.DeepEqual(now, untrusted[name]) {
				t.Errorf("it is\n%v\nand was\n%v", now, untrusted[name])
			}
		})
	}
	onMachine(t, l, "systemctl start k3s")
}

// operations are what a report says of the stack, without values. What does not depend on each other the engine takes
// in another order each time.
func operations(t *testing.T, text []byte) []string {
	t.Helper()
	var report struct {
		Stacks []struct {
			Error   string
			Changes []struct {
				Op, URN    string
				Properties []struct{ Path string }
			}
		}
	}
	if err := json.Unmarshal(text, &report); err != nil || len(report.Stacks) != 1 {
		t.Fatalf("%v in %s", err, text)
	}
	if e := report.Stacks[0].Error; e != "" {
		return []string{e}
	}
	var found []string
	for _, change := range report.Stacks[0].Changes {
		line := change.Op + " " + change.URN[strings.LastIndex(change.URN, "::")+2:]
		for _, p := range change.Properties {
			line += " " + p.Path
		}
		found = append(found, line)
	}
	slices.Sort(found)
	return found
}

// TestTwoApplies has two apply the same change at the same time, again and again: one waits, the change is made once,
// and the state is whole.
func TestTwoApplies(t *testing.T) {
	succeed(t, "up")
	l := running(t)
	c := newCI(t, l)
	const rounds = 20
	waited := 0
	for round := range rounds {
		began := time.Now()
		commit(t, l, stackFile, func(text string) string {
			_, rest, found := strings.Cut(text, "hostname: round-")
			if found {
				old, _, _ := strings.Cut(rest, ".")
				return strings.Replace(text, "hostname: round-"+old+".", fmt.Sprintf("hostname: round-%d.", round), 1)
			}
			return addHostname(fmt.Sprintf("round-%d", round))[stackFile](text)
		})
		dirs := []string{c.checkout(t, nil), c.checkout(t, nil)}
		ended := make(chan outcome)
		for _, dir := range dirs {
			go func() { ended <- c.do(t, "apply", dir, c.secrets(), "scripts/apply.sh", layout.DefaultStack) }()
		}
		codes := map[int]int{}
		for range dirs {
			one := <-ended
			codes[one.code]++
			if strings.Contains(one.out, "lock/"+layout.DefaultStack) || strings.Contains(one.out, "waits") {
				waited++
			}
			if one.code != 0 && one.code != 10 {
				t.Errorf("round %d: it ended with %d:\n%s", round, one.code, one.out)
			}
		}
		if codes[10] != 1 || codes[0] != 1 {
			t.Fatalf("round %d: the change was made %d times, the other %d times there was none", round, codes[10], codes[0])
		}
		t.Logf("round %d: %s", round, time.Since(began).Round(time.Second))
	}
	if waited < rounds {
		t.Errorf("of %d pairs one waited in %d: the test does not show what it should", rounds, waited)
	}
	c.script(t, "apply.sh", layout.DefaultStack).wants(t, 0)
	succeed(t, "up")
}
