package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The test binary is the command itself, too: so its exit status, what it prints and what it runs in a box are real.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (verbs[os.Args[1]] != nil || os.Args[1] == "none") {
		main()
	}
	os.Exit(m.Run())
}

const (
	hostToken = "host-token-0123456789"
	canary    = "canary0123456789abcdef0123456789abcdef01"
)

// site is a clone with a bare remote, a Pulumi command line that does as told, and a git host.
type site struct {
	t              *testing.T
	dir, remote    string
	fake           string // what the command line is told, and tells
	host           *host
	stdout, stderr string // of the last run
}

// The events of previews: of what stays, of what changes, of what would be lost, and of one that holds a secret.
const (
	summed       = `{"summaryEvent":{}}` + "\n"
	unchanged    = `{"resourcePreEvent":{"metadata":{"op":"same","urn":"u::a:b:C::one","type":"a:b:C"}}}` + "\n" + summed
	changing     = `{"resourcePreEvent":{"metadata":{"op":"create","urn":"u::a:b:C::two","type":"a:b:C"}}}` + "\n" + unchanged
	changingMore = `{"resourcePreEvent":{"metadata":{"op":"create","urn":"u::a:b:C::more","type":"a:b:C"}}}` + "\n" + changing
	losing       = `{"resourcePreEvent":{"metadata":{"op":"delete","urn":"u::kubernetes:core/v1:Namespace::three",` +
		`"type":"kubernetes:core/v1:Namespace"}}}` + "\n" + unchanged
	leaking = `{"resourcePreEvent":{"metadata":{"op":"update","urn":"u::a:b:C::two","type":"a:b:C","old":{"inputs":{"a":"x"}},` +
		`"new":{"inputs":{"a":"https://` + canary + `@host"}}}}}` + "\n" + unchanged
	failing = `{"diagnosticEvent":{"severity":"error","message":"the reason"}}` + "\n" + summed
)

// pulumi does what the files of a folder say. In a box it has none, and every preview is without changes.
const pulumi = `#!/bin/sh
if [ -z "${FAKE:-}" ]; then
	case "$1 $2" in
	"stack init") printf '\nencryptionsalt: v1:box\n' >>Pulumi.lab.yaml ;;
	"stack import" | "config set-all") ;;
	"preview --json") cat events.json ;;
	*) exit 2 ;;
	esac
	exit
fi
echo "$1 $2" >>"$FAKE/calls"
case "$1 $2" in
"config --show-secrets") echo '{"p:gitToken":{"value":"` + canary + `","secret":true}}' ;;
"preview --json")
	. "$FAKE/preview"
	cat "$FAKE/events"
	! grep -q '"error"' "$FAKE/events" || exit 255
	;;
"stack export") cat "$FAKE/state" ;;
"up --yes")
	git -C "$FAKE/../remote.git" for-each-ref >"$FAKE/refs"
	. "$FAKE/up" # in this very process, which the engine is told by to stop
	cp "$FAKE/same" "$FAKE/events"
	;;
*) exit 2 ;;
esac
`

const state = `{"version":3,"deployment":{"resources":[{"urn":"u::a:b:C::one","type":"a:b:C","inputs":{"token":` +
	`{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","plaintext":"\"` + canary + `\""}}}]}}`

func newSite(t *testing.T) *site {
	t.Helper()
	top := t.TempDir()
	s := &site{
		t: t, dir: filepath.Join(top, "clone"), remote: filepath.Join(top, "remote.git"), fake: filepath.Join(top, "fake"),
		host: newHost(t),
	}
	bin, home := filepath.Join(top, "bin"), filepath.Join(top, "home")
	for path, text := range map[string]string{
		"clone/Pulumi.yaml": "name: p\nruntime: go\n", "clone/go.mod": "module example.org/p\n\ngo 1.26.0\n",
		"clone/main.go": "package main\n\nfunc main() {}\n", "clone/docs/a.md": "a\n", "clone/clusters/README.md": "a\n",
		"clone/Pulumi.lab.yaml": "config:\n  p:gitToken:\n    secure: v1:x\nencryptionsalt: v1:y\n",
		"clone/events.json":     unchanged, "clone/policy.hujson": "{}\n",
		"fake/events": unchanged, "fake/same": unchanged, "fake/state": state, "fake/up": ":",
		"fake/preview": ":",
		"bin/pulumi":   pulumi, "bin/pulumi-language-go": "", "home/plugins/resource-x-v1.0.0/pulumi-resource-x": "",
	} {
		s.write(filepath.Join(top, path), text)
	}
	for name, value := range map[string]string{
		"PATH": bin + ":" + os.Getenv("PATH"), "PULUMI_HOME": home, "FAKE": s.fake, "GIT_CONFIG_GLOBAL": "/dev/null",
		"GIT_HOST": "gitea", "GIT_HOST_API": s.host.URL, "GIT_HOST_REPOSITORY": "owner/name", "GIT_HOST_TOKEN": hostToken,
	} {
		t.Setenv(name, value)
	}
	s.git("init", "--quiet", "--bare", "--initial-branch=main", s.remote)
	s.git("init", "--quiet", "--initial-branch=main")
	s.git("remote", "add", "origin", s.remote)
	s.commit()
	s.git("push", "--quiet", "origin", "main")
	return s
}

func (s *site) write(path, text string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) git(args ...string) string {
	s.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
	cmd.Dir = s.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *site) commit() string {
	s.t.Helper()
	s.git("add", "--all")
	s.git("commit", "--quiet", "--message", "a change")
	return s.git("rev-parse", "HEAD")
}

// file changes a file of the clone.
func (s *site) file(name, text string) { s.t.Helper(); s.write(filepath.Join(s.dir, name), text) }

// tell sets what the command line answers.
func (s *site) tell(name, text string) { s.t.Helper(); s.write(filepath.Join(s.fake, name), text) }

// pull proposes a text of policy.hujson as pull request 7, and leaves the clone without it.
func (s *site) pull(text string) {
	s.t.Helper()
	s.git("checkout", "--quiet", "--detach")
	s.file("policy.hujson", text)
	s.commit()
	s.git("push", "--quiet", "origin", "+HEAD:refs/pull/7/head")
	s.git("checkout", "--quiet", "main")
}

// merge merges pull request 7, and says so at the host.
func (s *site) merge() {
	s.t.Helper()
	s.git("fetch", "--quiet", "origin", "refs/pull/7/head")
	s.git("merge", "--quiet", "--no-ff", "FETCH_HEAD")
	s.git("push", "--quiet", "origin", "main")
	s.host.merged = s.git("rev-parse", "HEAD")
}

// calls are the commands that were run since the last time.
func (s *site) calls() string {
	s.t.Helper()
	path := filepath.Join(s.fake, "calls")
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.t.Fatal(err)
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(string(text), " ", "_")), " ")
}

func (s *site) command(args ...string) (cmd *exec.Cmd, out, errs *strings.Builder) {
	cmd = exec.Command(os.Args[0], args...)
	out, errs = &strings.Builder{}, &strings.Builder{}
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, out, errs
	cmd.WaitDelay = 10 * time.Second // what it leaves running holds its output
	return cmd, out, errs
}

// run runs the command and returns its exit status. No run tells a secret to anybody.
func (s *site) run(args ...string) int {
	s.t.Helper()
	cmd, out, errs := s.command(args...)
	return s.ended(cmd.Run(), out, errs)
}

func (s *site) ended(err error, out, errs *strings.Builder) int {
	s.t.Helper()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	s.stdout, s.stderr = out.String(), errs.String()
	for _, secret := range []string{canary, hostToken} {
		if text := s.stdout + s.stderr + strings.Join(s.host.bodies(), "\n"); strings.Contains(text, secret) {
			s.t.Errorf("a secret is told:\n%s", text)
		}
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// interrupt runs the command, sends it a signal once the engine has begun to wait, and wants it to fail.
func (s *site) interrupt(signal os.Signal, args ...string) {
	s.t.Helper()
	started := filepath.Join(s.fake, "started")
	cmd, out, errs := s.command(args...)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(10 * time.Millisecond) {
		if os.Remove(started) == nil {
			break
		}
	}
	if err := cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
	if got := s.ended(cmd.Wait(), out, errs); got != 1 {
		s.t.Errorf("exit status %d:\n%s\n%s", got, s.stdout, s.stderr)
	}
}

// waiting is an engine that waits until it is interrupted.
const waiting = `touch "$FAKE/started"; trap 'exit 130' INT; while :; do sleep 0.1; done`

// want runs the command, and wants an exit status and texts in what it prints.
func (s *site) want(status int, texts []string, args ...string) {
	s.t.Helper()
	if got := s.run(args...); got != status {
		s.t.Errorf("%q: exit status %d, want %d:\n%s\n%s", args, got, status, s.stdout, s.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(s.stdout+s.stderr, text) {
			s.t.Errorf("%q: no %q in\n%s\n%s", args, text, s.stdout, s.stderr)
		}
	}
}

// host is a Gitea with one repository and pull request 7. It fails the test for a request that Gitea does not know.
type host struct {
	*httptest.Server
	t        *testing.T
	mutex    sync.Mutex
	comments []map[string]any
	merged   string // the commit that the pull request became
	refuses  bool
}

func newHost(t *testing.T) *host {
	h := &host{t: t}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *host) bodies() []string {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	var bodies []string
	for _, comment := range h.comments {
		bodies = append(bodies, comment["body"].(string))
	}
	return bodies
}

func (h *host) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	const repository, comments = "/repos/owner/name", "/repos/owner/name/issues/7/comments"
	if r.Header.Get("Authorization") != "token "+hostToken || h.refuses && r.Method != http.MethodGet {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	body := func() any {
		var form struct{ Body string }
		if err := json.NewDecoder(r.Body).Decode(&form); err != nil || form.Body == "" {
			h.t.Errorf("%s %s: %v, %q", r.Method, r.URL, err, form.Body)
		}
		return form.Body
	}
	id, _ := strings.CutPrefix(r.URL.Path, repository+"/issues/comments/")
	number, _ := strconv.Atoi(id)
	var answer any
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/user":
		answer = map[string]any{"id": 1, "login": "previewer"}
	case r.Method == http.MethodGet && r.URL.Path == comments:
		answer = h.comments
	case r.Method == http.MethodPost && r.URL.Path == comments:
		comment := map[string]any{"id": len(h.comments) + 1, "body": body(), "user": map[string]any{"id": 1}}
		h.comments = append(h.comments, comment)
		answer = comment
	case r.Method == http.MethodPatch && number > 0 && number <= len(h.comments):
		h.comments[number-1]["body"] = body()
		answer = h.comments[number-1]
	case r.Method == http.MethodGet && r.URL.Path == repository:
		answer = map[string]any{}
	case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, repository+"/commits/"):
		if r.URL.Path != repository+"/commits/"+h.merged+"/pull" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer = map[string]any{"number": 7, "merged": true}
	default:
		h.t.Errorf("unknown request: %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func TestUsage(t *testing.T) {
	s := newSite(t)
	s.want(1, []string{`unknown command "none"`, "usage: go -C ci run ."}, "none")
	s.want(0, []string{"-pull"}, "preview", "--help")
	s.want(1, []string{"--comment: needs --pull"}, "preview", "--comment")
	s.want(1, []string{"--state=lab: is neither real nor published"}, "preview", "--state=lab")
	s.want(1, []string{"wants the name of one stack"}, "apply")
	s.want(1, []string{"wants the name of one stack"}, "apply", "lab", "other")
	s.want(1, []string{"compare: wants two folders"}, "compare", "one")
	s.dir = t.TempDir()
	s.want(1, []string{"run it in a clone"}, "preview")
	if got := s.calls(); got != "" {
		t.Errorf("calls %s", got)
	}
}

func TestGitHost(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing":  {nil, "whose pull request it is is not known"},
		"no token": {map[string]string{"GITHUB_API_URL": "https://a", "GITHUB_REPOSITORY": "a/b"}, "is not known"},
		"GitHub": {map[string]string{
			"GITHUB_API_URL": "https://a", "GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "t",
		}, "65000"},
		"Gitea, by GitHub's names": {map[string]string{
			"GITHUB_API_URL": "https://a", "GITHUB_REPOSITORY": "a/b", "GITHUB_TOKEN": "t", "GITEA_ACTIONS": "true",
		}, "60000"},
		"GitLab": {map[string]string{
			"GITLAB_CI": "true", "CI_API_V4_URL": "https://a", "CI_PROJECT_PATH": "a/b/c", "GITLAB_TOKEN": "t",
		}, "1000000"},
		"a person's": {map[string]string{
			"GIT_HOST": "forgejo", "GIT_HOST_API": "https://a", "GIT_HOST_REPOSITORY": "a/b", "GIT_HOST_TOKEN": "t",
			"GITLAB_CI": "true",
		}, "60000"},
		"an unknown one": {map[string]string{
			"GIT_HOST": "other", "GIT_HOST_API": "https://a", "GIT_HOST_REPOSITORY": "a/b", "GIT_HOST_TOKEN": "t",
		}, `git host "other": unknown`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, name := range []string{
				"GIT_HOST", "GIT_HOST_API", "GIT_HOST_REPOSITORY", "GIT_HOST_TOKEN", "GITHUB_TOKEN", "GITLAB_TOKEN", "GITLAB_CI",
				"GITEA_ACTIONS", "FORGEJO_ACTIONS", "CI_API_V4_URL", "GITHUB_API_URL", "CI_PROJECT_PATH", "GITHUB_REPOSITORY",
			} {
				t.Setenv(name, test.env[name])
			}
			h, err := gitHost()
			got := fmt.Sprint(err)
			if err == nil {
				got = strconv.Itoa(h.Limit())
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestList(t *testing.T) {
	if got := list([]string{"a", "b"}); got != "a, b" {
		t.Errorf("got %s", got)
	}
	if got := list(slices.Repeat([]string{"a"}, 12)); !strings.HasSuffix(got, ", a and 2 more") {
		t.Errorf("got %s", got)
	}
}
