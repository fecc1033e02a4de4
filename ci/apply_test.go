package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tinyrack-net/infrastructure/ci/published"
)

const (
	shared = "config_--show-secrets stack_export"
	looked = shared + " preview_--json"
	whole  = looked + " up_--yes " + shared
)

// ran wants these commands to have been run, and no lock to be left behind.
func (s *site) ran(want string) {
	s.t.Helper()
	if got := s.calls(); got != want {
		s.t.Errorf("calls %q, want %q", got, want)
	}
	if refs := s.git("ls-remote", "origin", "refs/heads/lock/*"); refs != "" {
		s.t.Errorf("left behind: %s", refs)
	}
}

// published is what everybody sees of the stack.
func (s *site) published() *published.State {
	s.t.Helper()
	state := &published.State{}
	if err := json.Unmarshal([]byte(s.git("-C", s.remote, "show", "published/lab:state.json")), state); err != nil {
		s.t.Fatal(err)
	}
	return state
}

// From nothing, again, and what a stranger then sees.
func TestApply(t *testing.T) {
	s := newSite(t)
	s.tell("events", changing)
	s.want(10, []string{"create a:b:C two"}, "apply", "lab")
	s.ran(whole)
	refs, err := os.ReadFile(filepath.Join(s.fake, "refs"))
	if err != nil || !strings.Contains(string(refs), "refs/heads/lock/lab") {
		t.Errorf("while it is applied nobody holds the lock: %s, %v", refs, err)
	}
	first := s.git("rev-parse", "HEAD")
	if got := s.published(); got.Commit != first || strings.Contains(string(got.Deployment), canary) {
		t.Errorf("published is %s of %s", got.Deployment, got.Commit)
	}
	s.want(0, []string{"preview: no change"}, "apply", "lab")
	s.ran(looked) // published it is

	s.file("policy.hujson", "another")
	s.want(0, []string{"compared with the state published at " + first[:7], "0 changes, 1 the same"}, "preview")
	s.file("events.json", losing) // as the box's engine says it
	s.want(20, nil, "preview")
	s.file("clusters/README.md", "another")
	s.want(20, []string{"Flux: true"}, "preview")
	s.ran("")

	s.want(1, []string{"the checkout has changes that are not committed"}, "apply", "lab")
	s.ran("")
	s.git("checkout", "--quiet", "--", ".")
	s.file("policy.hujson", "third")
	second := s.commit()
	s.want(0, nil, "apply", "lab")
	s.ran(looked + " " + shared)
	if got := s.published(); got.Commit != second {
		t.Errorf("published is that of %s", got.Commit)
	}
	s.git("checkout", "--quiet", first)
	s.want(1, []string{second[:7] + " was applied last, which " + first[:7] + " does not have"}, "apply", "lab")
	s.ran("")
	s.git("checkout", "--quiet", "main")
	s.want(0, nil, "apply", "--publish", "lab")
	s.ran("preview_--json " + shared)
	s.tell("events", changing)
	s.want(1, []string{second[:7] + " is not what is applied, for 1 resources would change, two first"},
		"apply", "--publish", "lab")
	s.ran("preview_--json")
	if len(s.host.bodies()) > 0 {
		t.Errorf("told is %q", s.host.bodies())
	}
}

func TestApplyRefusesDanger(t *testing.T) {
	s := newSite(t)
	s.tell("events", losing)
	s.want(20, []string{"DANGEROUS: everything in it", "scripts/apply.sh --dangerous"}, "apply", "lab")
	s.ran(looked)
	s.want(10, nil, "apply", "--dangerous", "lab")
	s.ran(whole)
}

// What is applied is what the pull request was told, and it is told how that went.
func TestApplyHoldsToThePullRequest(t *testing.T) {
	s := newSite(t)
	last := func(want string) {
		t.Helper()
		bodies := s.host.bodies()
		if len(bodies) == 0 || !strings.Contains(bodies[len(bodies)-1], want) {
			t.Errorf("comments are %q, want the last to say %q", bodies, want)
		}
	}
	s.pull("proposed")
	s.tell("events", changing)
	s.want(10, nil, "preview", "--state", "real", "--pull", "7", "--comment")
	s.calls()
	s.merge()
	s.tell("events", changingMore)
	s.want(1, []string{"other than what pull request 7 was told"}, "apply", "--comment", "lab")
	s.ran(looked)
	last("nothing was applied")
	// A failure holds the lock no longer, and the next run goes on.
	s.tell("events", changing)
	s.tell("up", "echo half of it was done >&2; exit 3")
	s.want(1, []string{"half of it was done", "pulumi up: exit status 3"}, "apply", "--comment", "lab")
	s.ran(looked + " up_--yes stack_export")
	last("half of it was done\nRun it again: it goes on where it stopped.")
	s.tell("up", ":")
	s.want(0, []string{"create a:b:C two"}, "apply", "--comment", "--change-is-success", "lab")
	s.ran(whole)
	last("lab: " + s.host.merged[:7] + " applied: changes")
	// Interrupted, it lets the engine end, releases the lock and says so.
	s.tell("events", changing)
	s.tell("up", waiting)
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		before := len(s.host.bodies())
		s.interrupt(signal, "apply", "--comment", "lab")
		s.ran(looked + " up_--yes stack_export")
		last("failed")
		if len(s.host.bodies()) != before+1 {
			t.Errorf("%s: nothing was told", signal)
		}
	}
	s.tell("up", ":")
	s.tell("events", changingMore)
	s.want(10, nil, "apply", "--comment", "--another-plan", "lab")
	s.ran(whole)
	// The host's failure is no success, and no pull request is none.
	s.host.refuses = true
	s.want(1, []string{"gitea, POST"}, "apply", "--comment", "lab")
	s.host.refuses, s.host.merged = false, ""
	before := len(s.host.bodies())
	s.want(0, nil, "apply", "--comment", "lab")
	if len(s.host.bodies()) != before {
		t.Errorf("told is %q", s.host.bodies())
	}
}

// A plan has no values: it counts for the commit that was previewed, and without one nothing is applied unseen.
func TestApplyHoldsToThePreviewedCommit(t *testing.T) {
	s := newSite(t)
	s.tell("events", changing)
	s.pull("proposed")
	s.want(10, nil, "preview", "--state", "real", "--pull", "7", "--comment")
	s.pull("another value")
	s.merge()
	s.calls()
	told := s.git("ls-remote", "origin", "refs/pull/7/head")[:7]
	s.want(1, []string{"was told of a preview of ", ", and " + told + " was merged: nothing was applied"},
		"apply", "--comment", "lab")
	s.ran(looked)
	if got := s.host.bodies(); len(got) != 2 || strings.Contains(got[1], "Run it again") {
		t.Errorf("told is %q", got)
	}
	s.want(10, nil, "apply", "--comment", "--another-plan", "lab")
	s.ran(whole)
}

// What an apply that was cut off has left to do is a part of what was told.
func TestApplyGoesOn(t *testing.T) {
	s := newSite(t)
	s.tell("events", changingMore)
	s.pull("proposed")
	s.want(10, nil, "preview", "--state", "real", "--pull", "7", "--comment")
	s.merge()
	s.tell("up", "echo '  ::error::x'; exit 3")
	s.want(1, []string{"pulumi up: exit status 3", "\n|   ::error::x\n"}, "apply", "--comment", "lab")
	s.calls()
	s.tell("events", changing)
	s.tell("up", ":")
	s.want(10, nil, "apply", "--comment", "lab")
	s.ran(whole)
}

func TestApplyWantsAPreview(t *testing.T) {
	s := newSite(t)
	s.tell("events", changing)
	s.pull("proposed")
	s.merge()
	s.want(1, []string{"pull request 7 was told of no preview: nothing was applied"}, "apply", "--comment", "lab")
	s.ran(looked)
	s.tell("events", unchanged)
	s.want(0, nil, "apply", "--comment", "lab") // nothing changes
	s.calls()
	s.tell("events", changing)
	s.want(10, nil, "apply", "--comment", "--another-plan", "lab")
}

// What the state alone knows to be secret is neither shown nor told.
func TestApplyShowsNoSecretOfTheState(t *testing.T) {
	s := newSite(t)
	const generated = "generated0123456789abcdef"
	s.tell("state", strings.Replace(state, canary, generated, 1))
	s.pull("proposed")
	s.merge()
	s.tell("events", changing)
	s.tell("up", "echo 'it is "+generated+"'; echo 'and this'; exit 3")
	s.want(1, []string{"(a line with a secret in it)\nand this\n", "the reason holds a secret"},
		"apply", "--comment", "--another-plan", "lab")
	if all := s.stdout + s.stderr + strings.Join(s.host.bodies(), ""); strings.Contains(all, generated) {
		t.Errorf("told is %s", all)
	}
	// One that the up made itself.
	const made = "made0123456789abcdefabcdef"
	s.tell("made", strings.Replace(state, canary, made, 1))
	s.tell("up", `cp "$FAKE/made" "$FAKE/state"; echo 'it is `+made+`'; exit 3`)
	s.want(1, []string{"the reason holds a secret"}, "apply", "--comment", "--another-plan", "lab")
	if all := strings.Join(s.host.bodies(), ""); strings.Contains(all, made) {
		t.Errorf("told is %s", all)
	}
}

// A failure whose reason is a secret is told without it.
func TestApplyTellsNoSecret(t *testing.T) {
	s := newSite(t)
	s.pull("proposed")
	s.merge()
	s.tell("events", strings.Replace(failing, "the reason", "token "+canary+" is refused", 1))
	s.want(1, []string{"the reason holds a secret and is not told"}, "apply", "--comment", "lab")
	s.ran(looked)
	if got := s.host.bodies(); len(got) != 1 || !strings.Contains(got[0], "the reason holds a secret") {
		t.Errorf("told is %q", got)
	}
	// Of a preview that holds one nothing is shown. It is applied: everybody's preview has refused it.
	s.tell("events", leaking)
	s.want(10, []string{"it is not shown"}, "apply", "lab")
	s.ran(whole)
}

// What publishing needs is missed before anything is applied, and the pull request is told.
func TestApplyWantsABox(t *testing.T) {
	s := newSite(t)
	s.pull("proposed")
	s.merge()
	s.tell("events", changing)
	if err := os.RemoveAll(filepath.Join(os.Getenv("PULUMI_HOME"), "plugins")); err != nil {
		t.Fatal(err)
	}
	s.want(1, []string{"nothing was applied", "holds no plugin", "pulumi install"}, "apply", "--comment", "lab")
	s.ran("")
	if got := s.host.bodies(); len(got) != 1 || !strings.Contains(got[0], "nothing was applied") {
		t.Errorf("told is %q", got)
	}
}

// A lock is broken where there is nothing to apply with.
func TestUnlock(t *testing.T) {
	s := newSite(t)
	if err := os.Remove(filepath.Join(s.fake, "../bin/pulumi")); err != nil {
		t.Fatal(err)
	}
	s.git("push", "--quiet", "origin", "HEAD:refs/heads/lock/lab")
	s.want(0, []string{"breaking the lock"}, "apply", "--unlock", "lab")
	s.ran("")
}
