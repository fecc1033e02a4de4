//go:build e2e

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/gitserver"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// ci runs the repository's workflows as a runner of Gitea's would, by act: Gitea's own runner is in no registry. What
// the workflows take from GitHub is replaced: see standIns.
type ci struct {
	l    *lab
	act  string
	dir  string
	seen map[string]string // all that was printed or told, by where
}

// standIns are in the place of actions that cannot be had offline: they do what is needed of them.
var standIns = map[string]string{
	"actions/checkout": `git init --quiet .
      git remote add origin "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY.git"
      export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=http.extraHeader
      GIT_CONFIG_VALUE_0="Authorization: Basic $(printf 'x-access-token:%s' "$TOKEN" | base64 -w 0)"
      export GIT_CONFIG_VALUE_0
      git fetch --quiet origin main
      git checkout --quiet -B main FETCH_HEAD`,
	"actions/setup-go": "go version",
}

func newCI(t *testing.T, l *lab) *ci {
	t.Helper()
	cache, err := artifacts.Open(l.Cache)
	if err != nil {
		t.Fatal(err)
	}
	c := &ci{l: l, dir: t.TempDir(), seen: map[string]string{}}
	if c.act, err = cache.Act(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, script := range standIns {
		dir := c.standIn(name)
		action := "name: stand-in\nruns:\n  using: composite\n  steps:\n  - shell: sh\n" +
			"    env: {TOKEN: \"${{ github.token }}\"}\n    run: |\n      " + script + "\n"
		if err := file.Write(filepath.Join(dir, "action.yml"), []byte(action), 0o644); err != nil {
			t.Fatal(err)
		}
		runGit(t, l, "init", "--quiet", dir)
		runGit(t, l, "-C", dir, "add", "--all")
		runGit(t, l, "-C", dir, "commit", "--quiet", "--message", "stand-in")
	}
	return c
}

func (c *ci) standIn(name string) string {
	return filepath.Join(c.dir, strings.ReplaceAll(name, "/", "-"))
}

// outcome is how a workflow or a script ended.
type outcome struct {
	what, out string
	took      time.Duration
	code      int
}

func (r outcome) wants(t *testing.T, code int) {
	t.Helper()
	if r.code != code {
		t.Fatalf("%s ended with %d after %s, want %d:\n%s", r.what, r.code, r.took, code, r.out)
	}
}

// env is what a runner has: the tools, and addresses. Passwords are not among it.
func (c *ci) env(t *testing.T) map[string]string {
	t.Helper()
	env := map[string]string{
		"PATH": filepath.Dir(c.l.stack.Command()) + ":" + os.Getenv("PATH"), "HOME": filepath.Join(c.dir, "home"),
		"PULUMI_HOME":    filepath.Join(c.l.stack.Dir, "home"),
		"GIT_SSL_CAINFO": c.l.CA(), "SSL_CERT_FILE": c.l.CA(), "GITEA_ACTIONS": "true",
		"GITHUB_API_URL": "https://" + layout.GitAddr + "/api/v1", "GITHUB_SERVER_URL": "https://" + layout.GitAddr,
		"GITHUB_REPOSITORY":                           layout.GitUser + "/" + layout.GitRepo,
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
	}
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB").Output()
	if err != nil {
		t.Fatal(err)
	}
	var own map[string]string
	if err := json.Unmarshal(out, &own); err != nil {
		t.Fatal(err)
	}
	for name, value := range own {
		env[name] = value
	}
	return env
}

// secrets are those of an apply. A preview has the token alone.
func (c *ci) secrets() map[string]string {
	return map[string]string{
		"GITHUB_TOKEN": c.l.secrets.GitToken, "PULUMI_CONFIG_PASSPHRASE": c.l.secrets.Passphrase,
		"PULUMI_BACKEND_URL": c.l.stack.BackendURL(),
	}
}

// workflow runs a workflow for an event.
func (c *ci) workflow(t *testing.T, name, event string, payload any, secrets ...string) outcome {
	t.Helper()
	dir := c.checkout(t, nil)
	text, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	var env, secret strings.Builder
	values := c.env(t)
	values["HOME"] = filepath.Join(dir, ".home")
	for name, value := range values {
		fmt.Fprintf(&env, "%s=%s\n", name, value)
	}
	for _, name := range secrets {
		fmt.Fprintf(&secret, "%s=%s\n", name, c.secrets()[name])
	}
	at := func(name string) string { return filepath.Join(dir, "..", name) }
	if err := errors.Join(file.Write(at("event"), text, 0o600), file.Write(at("env"), []byte(env.String()), 0o600),
		file.Write(at("secrets"), []byte(secret.String()), 0o600)); err != nil {
		t.Fatal(err)
	}
	workflow := filepath.Join(".github", "workflows", name+".yaml")
	line := []string{
		c.act, event, "--workflows", workflow, "--eventpath", at("event"), "--env-file", at("env"),
		"--secret-file", at("secrets"), "--var", "STACK=" + layout.DefaultStack, "--no-skip-checkout", "--pull=false",
		"--platform", "ubuntu-latest=-self-hosted", "--platform", "self-hosted=-self-hosted",
		"--platform", "tinyrack=-self-hosted",
	}
	used, err := os.ReadFile(filepath.Join(dir, workflow))
	if err != nil {
		t.Fatal(err)
	}
	for name := range standIns {
		_, rest, found := strings.Cut(string(used), name+"@")
		if !found {
			t.Fatalf("%s does not use %s", workflow, name)
		}
		line = append(line, "--local-repository", name+"@"+strings.Fields(rest)[0]+"="+c.standIn(name))
	}
	return c.do(t, fmt.Sprintf("%s for %s", name, event), dir, nil, line...)
}

// script runs one of the repository's scripts by hand, in a clone of what the git server holds.
func (c *ci) script(t *testing.T, args ...string) outcome {
	t.Helper()
	dir := c.checkout(t, nil)
	line := append([]string{"scripts/" + args[0]}, args[1:]...)
	return c.do(t, strings.Join(args, " "), dir, c.secrets(), line...)
}

// do runs a command in the network of the operator's device.
func (c *ci) do(t *testing.T, what, dir string, secrets map[string]string, line ...string) outcome {
	t.Helper()
	return outcomeOf(t, what, c.command(t, dir, secrets, line...))
}

// command is one in the network of the operator's device. What stands in secrets comes after the environment of a
// runner, and counts.
func (c *ci) command(t *testing.T, dir string, secrets map[string]string, line ...string) *exec.Cmd {
	t.Helper()
	line = layout.OnOperator(line...)
	cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
	cmd.Dir = dir
	for _, values := range []map[string]string{c.env(t), secrets} {
		for name, value := range values {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	return cmd
}

// outcomeOf runs a command to its end.
func outcomeOf(t *testing.T, what string, cmd *exec.Cmd) outcome {
	t.Helper()
	started := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatalf("%s: %v", what, err)
	}
	return outcome{what: what, out: string(out), took: time.Since(started), code: cmd.ProcessState.ExitCode()}
}

// checkout is a clone with a change that is not committed.
func (c *ci) checkout(t *testing.T, edits map[string]func(string) string) (dir string) {
	t.Helper()
	return edited(t, c.l, layout.GitURL, "main", edits)
}

// propose pushes a branch with a change, and opens a pull request: its number.
func (c *ci) propose(t *testing.T, branch string, edits map[string]func(string) string) int {
	t.Helper()
	push(t, c.l, c.checkout(t, edits), branch, "--force", layout.GitURL, "HEAD:refs/heads/"+branch)
	var opened struct{ Number int }
	c.api(t, http.MethodPost, "/pulls", `{"head":"`+branch+`","base":"main","title":"`+branch+`"}`, &opened)
	if opened.Number == 0 {
		t.Fatalf("there is a pull request of %s already", branch)
	}
	return opened.Number
}

// again pushes one more change to a pull request's branch.
func (c *ci) again(t *testing.T, branch, name string, edit func(string) string) {
	t.Helper()
	clone := edited(t, c.l, layout.GitURL, branch, map[string]func(string) string{name: edit})
	push(t, c.l, clone, "again", layout.GitURL, "HEAD:refs/heads/"+branch)
}

// preview runs the workflow that a pull request starts.
func (c *ci) preview(t *testing.T, number int) outcome {
	t.Helper()
	return c.workflow(t, "preview", "pull_request_target", map[string]any{
		"action": "opened", "number": number,
		"pull_request": map[string]any{"number": number, "base": map[string]any{"ref": "main"}},
		"repository":   map[string]any{"default_branch": "main"},
	}, "GITHUB_TOKEN")
}

// merge merges a pull request, and runs the workflow that this starts.
func (c *ci) merge(t *testing.T, number int) outcome {
	t.Helper()
	eventually(t, time.Minute, "it is merged", func() error {
		server := gitserver.New(c.l.Layout)
		_, err := server.Repository(t.Context(), c.l.secrets.GitToken, http.MethodPost,
			fmt.Sprintf("/pulls/%d/merge", number), `{"Do":"merge"}`)
		return err
	})
	return c.workflow(t, "apply", "push", map[string]any{"ref": "refs/heads/main"},
		"GITHUB_TOKEN", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_BACKEND_URL")
}

// comments are what a pull request was told, oldest first.
func (c *ci) comments(t *testing.T, number int) []string {
	t.Helper()
	var found []struct{ Body string }
	c.api(t, http.MethodGet, fmt.Sprintf("/issues/%d/comments", number), "", &found)
	var bodies []string
	for _, comment := range found {
		bodies = append(bodies, comment.Body)
	}
	return bodies
}

func (c *ci) api(t *testing.T, method, path, body string, into any) {
	t.Helper()
	answer, err := gitserver.New(c.l.Layout).Repository(t.Context(), c.l.secrets.GitToken, method, path, body)
	if err == nil {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
