package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tinyrack-net/infrastructure/ci/report"
)

func TestPreview(t *testing.T) {
	s := newSite(t)
	for name, test := range map[string]struct {
		file, events string
		status       int
		want         string
		calls        string
	}{
		"nothing":   {"", unchanged, 0, "preview: no change", ""},
		"documents": {"docs/a.md", unchanged, 0, "nothing that Flux applies depends on what changes: docs/a.md", ""},
		"Flux":      {"clusters/README.md", unchanged, 0, "files that change: 1; stacks: none; Flux: true", ""},
		"none":      {"policy.hujson", unchanged, 0, "stack lab: 0 changes, 1 the same", looked},
		"a change":  {"policy.hujson", changing, 10, "create a:b:C two", looked},
		"danger":    {"policy.hujson", losing, 20, "DANGEROUS: everything in it", looked},
		"a failure": {"policy.hujson", failing, 1, "| the reason", looked},
		"no events": {"policy.hujson", "", 1, "without a summary", looked},
		"a secret":  {"policy.hujson", leaking, 1, "a secret is in the report", looked},
		"a secret in a failure": {
			"policy.hujson", strings.Replace(failing, "the reason", canary, 1), 1, "a secret is in the report",
			looked,
		},
	} {
		if test.file != "" {
			s.file(test.file, name)
		}
		s.tell("events", test.events)
		whole := filepath.Join(t.TempDir(), "report.json")
		s.want(test.status, []string{test.want}, "preview", "--state", "real", "--report", whole)
		if got := s.calls(); got != test.calls {
			t.Errorf("%s: calls %q, want %q", name, got, test.calls)
		}
		text, err := os.ReadFile(whole)
		var found report.Report
		if err == nil {
			err = json.Unmarshal(text, &found)
		}
		if err != nil || int(found.Status()) != test.status || strings.Contains(string(text), canary) {
			t.Errorf("%s: the report is %s, %v", name, text, err)
		}
		s.git("checkout", "--quiet", "--", ".")
	}
	// A stack that is named is previewed, whatever changes.
	s.tell("events", unchanged)
	s.want(0, []string{"stack lab: 0 changes"}, "preview", "--state", "real", "lab")
	s.want(1, []string{"origin has no branch none"}, "preview", "--base", "none")
	s.want(1, []string{"does not appear to be a git repository"}, "preview", "--remote", "none")
	s.file("policy.hujson", "another")
	s.want(1, []string{"not previewed: no state of it is published"}, "preview")
	s.want(1, []string{"lab: not previewed: no state of it is published"}, "preview", "lab")
}

// A stack that is applied is not left to itself without a word.
func TestSettingsAreTakenAway(t *testing.T) {
	s := newSite(t)
	s.want(0, nil, "apply", "lab")
	s.git("mv", "Pulumi.lab.yaml", "Pulumi.other.yaml")
	s.want(1, []string{"Pulumi.lab.yaml is taken away, and the stack", "stack other: not previewed"}, "preview")
	s.git("push", "--quiet", "origin", ":refs/heads/published/lab")
	s.want(1, []string{"stack other: not previewed"}, "preview")
	if strings.Contains(s.stdout, "taken away") {
		t.Errorf("nothing of it is applied, and it says\n%s", s.stdout)
	}
}

// A preview that is ended from outside says so: the comment before it would be taken for this one's.
func TestInterruptedPreview(t *testing.T) {
	s := newSite(t)
	s.pull("proposed")
	s.tell("events", changing)
	s.want(0, nil, "preview", "--state", "real", "--pull", "7", "--comment", "--change-is-success")
	s.tell("preview", waiting)
	s.interrupt(syscall.SIGTERM, "preview", "--state", "real", "--pull", "7", "--comment")
	if got := s.host.bodies(); len(got) != 1 || !strings.Contains(got[0], "**failed**") ||
		!strings.Contains(got[0], "the preview was ended before it was done") {
		t.Errorf("told is %q", got)
	}
}

// A pull request has one comment, which says what is true now.
func TestPullRequest(t *testing.T) {
	s := newSite(t)
	preview := []string{"preview", "--state", "real", "--pull", "7", "--comment"}
	said := func(want string) {
		t.Helper()
		got := s.host.bodies()
		if len(got) != 1 || !strings.HasPrefix(got[0], report.Marker) || !strings.Contains(got[0], want) {
			t.Errorf("comments are %q, want one with %q", got, want)
		}
	}
	s.want(1, []string{"origin has no pull request 7"}, preview...)
	said("no pull request 7")
	s.pull("proposed")
	s.tell("events", changing)
	s.want(10, nil, preview...)
	said("two")
	// What was merged meanwhile is no part of it.
	s.file("main.go", "package main\n\nfunc main() { println() }\n")
	s.commit()
	s.git("push", "--quiet", "origin", "main")
	s.want(10, []string{"files that change: 1;"}, preview...)
	s.tell("events", leaking)
	s.want(1, nil, preview...)
	said("a secret is in the report")
	s.file("policy.hujson", "merged meanwhile")
	s.commit()
	s.git("push", "--quiet", "origin", "main")
	s.want(1, []string{"conflicts with what was merged since"}, preview...)
	said("conflicts with what was merged since")
	s.tell("events", changing)
	s.pull("rebased")
	s.host.refuses = true
	s.want(1, []string{"tell pull request 7: gitea, PATCH", "write:issue"}, preview...)
	said("conflicts with what was merged since")
	s.host.refuses = false
	s.git("push", "--quiet", "origin", "FETCH_HEAD:refs/merge-requests/8/head")
	s.want(10, nil, "preview", "--state", "real", "--pull", "8")
	t.Setenv("GIT_HOST_API", "")
	s.want(1, []string{"set GIT_HOST"}, preview...)
}
