//go:build e2e

package main

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// The stack's settings, as the git server holds them.
const stackFile = "Pulumi." + layout.DefaultStack + ".yaml"

func replaceIn(name, from, to string) map[string]func(string) string {
	return map[string]func(string) string{name: func(text string) string { return strings.Replace(text, from, to, 1) }}
}

// addHostname is one hostname more, for the team. It comes after memos' own, which memos goes on to know itself by.
func addHostname(label string) map[string]func(string) string {
	const service = "      service: http://memos.memos-system.svc.cluster.local:5230\n"
	return replaceIn(stackFile, service, service+"    - access: team\n      hostname: "+label+"."+layout.Zone+"\n"+service)
}

// spy is a program that tries to give away what it can reach, in a message that its pull request is told. It knows the
// sha256 of the words that it looks for, in files, environments and arguments.
const spy = `package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const wanted = "WANTED"

func init() {
	found := []string{strings.Join(os.Environ(), "\n")}
	told := map[string]bool{}
	look := func(where, text string) {
		for _, word := range words(text) {
			sum := sha256.Sum256([]byte(word))
			if digits := hex.EncodeToString(sum[:]); strings.Contains(wanted, digits) && !told[digits] {
				told[digits] = true
				found = append(found, "HOLDS "+digits[:8]+" "+where)
			}
		}
	}
	look("environment", found[0])
	for _, pattern := range []string{"/proc/*/environ", "/proc/*/cmdline", "/proc/*/maps"} {
		files, _ := filepath.Glob(pattern)
		for _, name := range files {
			text, _ := os.ReadFile(name)
			look(name, string(text))
		}
	}
	files := 0
	filepath.WalkDir("/", func(path string, entry os.DirEntry, err error) error {
		for _, known := range []string{"/usr", "/proc", "/dev", "/box/go", "/box/modules"} {
			if path == known {
				return filepath.SkipDir
			}
		}
		if err != nil || !entry.Type().IsRegular() {
			return nil
		}
		files++
		if !strings.HasPrefix(path, "/box/") {
			found = append(found, "FILE "+path)
		}
		text, _ := os.ReadFile(path)
		look(path, string(text))
		return nil
	})
	_, err := net.DialTimeout("tcp", "10.77.0.1:3000", 2*time.Second)
	found = append(found, fmt.Sprintf("FILES %d", files), fmt.Sprintf("NETWORK %v", err))
	panic(strings.Join(found, "\n"))
}

func words(text string) []string {
	return strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \t\r\n\x00=:,\"'{}[]\\\\", c) })
}
`

// control is a word that the box does hold, the passphrase of its own backend: a spy that does not find it is blind.
const control = "published"

// spyOn is the spy that looks for the lab's secrets, and for what stands encrypted in the stack's settings.
func spyOn(t *testing.T, l *lab) string {
	t.Helper()
	settings, err := os.ReadFile(l.stack.Config())
	if err != nil {
		t.Fatal(err)
	}
	texts := slices.Collect(maps.Values(everySecret(t, l)))
	for _, line := range strings.Split(string(settings), "\n") {
		if strings.Contains(line, "encryptionsalt: ") || strings.Contains(line, "secure: ") {
			texts = append(texts, line)
		}
	}
	sums := fmt.Sprintf("%x ", sha256.Sum256([]byte(control)))
	for _, text := range texts {
		for _, word := range strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \n:=", c) }) {
			if len(word) >= 16 { // shorter ones are words of anybody
				sums += fmt.Sprintf("%x ", sha256.Sum256([]byte(word)))
			}
		}
	}
	if strings.Count(sums, " ") < 30 {
		t.Fatalf("only %d words to look for", strings.Count(sums, " "))
	}
	return strings.Replace(spy, "WANTED", sums, 1)
}

// TestPullRequests proposes changes at the lab's git server and runs the workflow of the repository for each: each is
// told what it does, in one comment, and none has a secret in reach. Then one is merged and applied.
func TestPullRequests(t *testing.T) {
	l := running(t)
	c := newCI(t, l)
	c.script(t, "apply.sh", "--publish", layout.DefaultStack).wants(t, 0)

	hostname := c.propose(t, "hostname", addHostname("wiki"))
	documents := c.propose(t, "documents", replaceIn("README.md", "\n", "\nMore.\n"))
	tunnel := c.propose(t, "tunnel", replaceIn(stackFile, "accountId: ac", "accountId: bc"))
	database := c.propose(t, "database",
		replaceIn("databases/"+layout.DefaultStack+"/kustomization.yaml", "  - ../base/memos\n", ""))
	hostile := c.propose(t, "hostile", map[string]func(string) string{
		"spy.go":                         func(string) string { return spyOn(t, l) },
		".github/workflows/preview.yaml": func(string) string { return "on: [pull_request_target]\n" },
		"scripts/preview.sh":             func(string) string { return "#!/bin/sh\nenv; exit 0\n" },
	})
	reader := c.propose(t, "reader", map[string]func(string) string{
		"apps/" + layout.DefaultStack + "/kustomization.yaml": func(text string) string {
			return text + "configMapGenerator:\n- name: spy\n  namespace: memos-system\n  files: [/proc/self/environ]\n"
		},
	})

	// Three at once.
	results := map[int]outcome{}
	var mu sync.Mutex
	for _, batch := range [][]int{{hostname, documents, tunnel}, {database, hostile, reader}} {
		var group sync.WaitGroup
		for _, number := range batch {
			group.Go(func() {
				result := c.preview(t, number)
				mu.Lock()
				defer mu.Unlock()
				results[number] = result
			})
		}
		group.Wait()
	}
	held := fmt.Sprintf("HOLDS %.4x", sha256.Sum256([]byte(control)))
	t.Logf("one of three at once was told %s after its workflow's start", results[hostname].took.Round(time.Second))
	for number, want := range map[int]struct {
		what string
		code int
		told []string
	}{
		hostname: {"a hostname more", 0, []string{
			"**changes**: 4 changes, none of which loses data", "| stack <code>lab</code> | 2 | 2 | 0 | 0 |", "wiki",
		}},
		documents: {"documents", 0, []string{"**no change**", "Nothing was previewed", "README"}},
		tunnel:    {"another tunnel", 1, []string{"**DANGEROUS**", "the tunnel that all visitors come through"}},
		database:  {"a database less", 1, []string{"**DANGEROUS**", "<code>Cluster memos-system/"}},
		hostile:   {"a spy", 1, []string{"**failed**", held + " environment", "NETWORK dial tcp", "unreachable"}},
		reader:    {"a tree that reads this machine", 0, []string{"ConfigMap memos-system/spy"}},
	} {
		results[number].wants(t, want.code)
		comments := c.comments(t, number)
		if len(comments) != 1 {
			t.Fatalf("%s: %d comments", want.what, len(comments))
		}
		for _, text := range want.told {
			if !strings.Contains(comments[0], text) {
				t.Errorf("%s: it was not told %q:\n%s", want.what, text, comments[0])
			}
		}
		for line := range strings.Lines(comments[0]) {
			if strings.HasPrefix(line, "FILE ") || strings.HasPrefix(line, "HOLDS ") && !strings.HasPrefix(line, held) {
				t.Errorf("%s: it reads more than is its own: %s", want.what, line)
			}
		}
		for name, secret := range everySecret(t, l) {
			for encoding, form := range encodings(secret) {
				if strings.Contains(results[number].out+comments[0], form) {
					t.Errorf("%s: %s was told or logged, %s", want.what, name, encoding)
				}
			}
		}
	}

	// One push more changes the comment, and makes no other.
	c.again(t, "hostname", stackFile, func(text string) string { return strings.Replace(text, "wiki.", "docs.", 1) })
	c.preview(t, hostname).wants(t, 0)
	comments := c.comments(t, hostname)
	if len(comments) != 1 || !strings.Contains(comments[0], "docs") || strings.Contains(comments[0], "wiki") {
		t.Fatalf("after another push: %q", comments)
	}

	applied := c.merge(t, hostname)
	applied.wants(t, 0)
	t.Logf("applied %s after the workflow's start", applied.took.Round(time.Second))
	if comments = c.comments(t, hostname); len(comments) != 2 || !strings.Contains(comments[1], "applied: changes") {
		t.Errorf("what it was told of the apply: %q", comments[1:])
	}
	if got := visited(t, browser(t, l), "https://docs."+layout.Zone+"/"); got.status == http.StatusOK {
		t.Errorf("a stranger enters the new hostname: %s", got)
	}
	if left := runGit(t, l, "ls-remote", layout.GitURL, "refs/heads/lock/*"); left != "" {
		t.Errorf("the lock is held: %s", left)
	}
	published := "refs/heads/published/" + layout.DefaultStack
	if runGit(t, l, "ls-remote", layout.GitURL, published) == "" {
		t.Error("no state is published")
	}
	c.script(t, "apply.sh", layout.DefaultStack).wants(t, 0)

	// As it was: what was merged is taken back by the settings of this checkout.
	succeed(t, "up")
	if got := changes(t); len(got) == 0 {
		t.Error("nothing was applied: there is nothing to take back")
	}
	upChangesNothing(t)
}
