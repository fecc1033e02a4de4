package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The events of a preview, as `pulumi preview --json` prints them one by one: apitype.EngineEvent of
// github.com/pulumi/pulumi/sdk/v3.
const (
	prelude = `{"sequence":0,"timestamp":1,"preludeEvent":{"config":{"tinyrack:gitToken":"[secret]"}}}` + "\n"
	siteSay = `{"sequence":1,"timestamp":1,"diagnosticEvent":{"prefix":"info: ","message":"is this site: lab.test\n",` +
		`"color":"never","severity":"info"}}` + "\n"
	downloading = `{"sequence":1,"timestamp":1,"diagnosticEvent":{"message":"Downloading","color":"never",` +
		`"severity":"info#err","ephemeral":true}}` + "\n"
	step = `{"sequence":2,"timestamp":1,"resourcePreEvent":{"metadata":{"op":"update",` +
		`"urn":"urn:pulumi:lab::tinyrack::a:b:C::one","type":"a:b:C","old":{"type":"a:b:C","id":"1","parent":"",` +
		`"protect":true,"inputs":{"n":1},"outputs":{},"provider":""},"new":{"type":"a:b:C","inputs":{"n":2}},` +
		`"keys":["n"],"diffs":["n"],"detailedDiff":null,"logical":true,"provider":""},"planning":true}}` + "\n"
	outputs = `{"sequence":3,"timestamp":1,"resOutputsEvent":{"metadata":{"op":"update",` +
		`"urn":"urn:pulumi:lab::tinyrack::a:b:C::one","type":"a:b:C"},"planning":true}}` + "\n"
	failure = `{"sequence":4,"timestamp":1,"diagnosticEvent":{"message":"hosts.one.address: is missing\n","color":"never",` +
		`"severity":"error"}}` + "\n"
	summary = `{"sequence":5,"timestamp":1,"summaryEvent":{"maybeCorrupt":false,"durationSeconds":1,` +
		`"resourceChanges":{"update":1},"PolicyPacks":{},"isPreview":true}}` + "\n"
	end = `{"sequence":6,"timestamp":1,"cancelEvent":{}}` + "\n"
)

func TestReadEvents(t *testing.T) {
	digest, err := readEvents(prelude + siteSay + downloading + step + outputs + summary + end)
	if err != nil {
		t.Fatal(err)
	}
	if len(digest.Steps) != 1 || len(digest.Diagnostics) != 1 || digest.Site() != "is this site: lab.test" {
		t.Fatalf("got %+v", digest)
	}
	if s := digest.Steps[0]; s.Op != "update" || s.Type != "a:b:C" || !s.Old.Protect || s.New.Inputs["n"] != 2.0 ||
		!slices.Equal(s.Keys, []string{"n"}) || !slices.Equal(s.Diffs, []string{"n"}) {
		t.Errorf("the step is %+v", s)
	}
	for name, test := range map[string]struct{ text, want string }{
		"nothing":       {"", "without a summary"},
		"cut off":       {prelude + step, "without a summary"},
		"in the middle": {prelude + step + summary[:20], "no events"},
		"a digest":      {"{\n  \"steps\": []\n}\n", "no events"},
		"words":         {step + "error: no stack\n" + summary, "no events"},
	} {
		digest, err := readEvents(test.text)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		if want := strings.Count(test.text, "resourcePreEvent"); len(digest.Steps) != want {
			t.Errorf("%s: %d steps, want %d", name, len(digest.Steps), want)
		}
	}
}

// fake puts a script in the place of the Pulumi command line. It writes down its arguments and environment and then
// does what body says.
func fake(t *testing.T, body string) (e *Engine, calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\nprintf '%s|' \"$@\" >>" + dir + "/calls\necho >>" + dir + "/calls\nenv >" + dir + "/env\n" + body
	if err := os.WriteFile(filepath.Join(dir, "pulumi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	e = &Engine{Command: filepath.Join(dir, "pulumi"), Project: dir, Env: os.Environ()}
	return e, func() []string {
		text, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

func TestArguments(t *testing.T) {
	e, calls := fake(t, "case $1 in config) echo '{}' ;; preview) echo '{\"summaryEvent\":{}}' ;; esac\n")
	ctx := t.Context()
	_, preview := e.Preview(ctx, "lab", "--save-plan", "plan")
	_, export := e.Export(ctx, "lab")
	_, secrets := e.Secrets(ctx, "lab")
	if err := errors.Join(preview, export, secrets, e.Import(ctx, "lab", "state.json"), e.Init(ctx, "lab"),
		e.SetPublicSecrets(ctx, "lab", map[string]string{"a:two": "x\ny", "a:one": "b=c"}),
		e.SetPublicSecrets(ctx, "lab", nil), e.Up(ctx, "lab", os.Stderr, "--refresh")); err != nil {
		t.Fatal(err)
	}
	common := "--stack|lab|--cwd|" + e.Project + "|--non-interactive|"
	want := []string{
		"preview|--json|--save-plan|plan|" + common,
		"stack|export|--show-secrets|" + common,
		"config|--show-secrets|--json|" + common,
		"stack|import|--file|state.json|" + common,
		"stack|init|" + common,
		"config|set-all|--secret|a:one=b=c|--secret|a:two=x", "y|" + common,
		"up|--yes|--skip-preview|--color|never|--suppress-outputs|--refresh|" + common,
	}
	if got := calls(); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Events alone tell what is secret, and what they tell is asked for; the engine's other settings stay the caller's.
func TestAPreviewStreams(t *testing.T) {
	e, _ := fake(t, "echo '{\"summaryEvent\":{}}'\n")
	e.Env = []string{"PATH=" + os.Getenv("PATH"), "KEPT=yes"}
	if _, err := e.Preview(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(e.Project, "env"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"PULUMI_ENABLE_STREAMING_JSON_PREVIEW=true\n", "KEPT=yes\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in its environment:\n%s", want, text)
		}
	}
	if len(e.Env) != 2 {
		t.Errorf("other commands get %q", e.Env)
	}
}

func TestWrapAndFolder(t *testing.T) {
	e, calls := fake(t, "pwd >cwd\n")
	e.Dir, e.Wrap, e.Project = t.TempDir(), []string{"env", "WRAPPED=yes"}, "/in/the/box"
	if err := e.Init(t.Context(), "lab"); err != nil {
		t.Fatal(err)
	}
	if cwd, err := os.ReadFile(filepath.Join(e.Dir, "cwd")); err != nil || strings.TrimSpace(string(cwd)) != e.Dir {
		t.Errorf("it runs in %s (%v), want %s", cwd, err, e.Dir)
	}
	if got := calls()[0]; got != "stack|init|--stack|lab|--cwd|/in/the/box|--non-interactive|" {
		t.Errorf("got %s", got)
	}
	env, err := os.ReadFile(filepath.Join(filepath.Dir(e.Command), "env"))
	if err != nil || !strings.Contains(string(env), "WRAPPED=yes\n") {
		t.Errorf("it is not wrapped: %s, %v", env, err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	t.Setenv("GOFLAGS", "-mod=mod")
	if _, err := Find("/project"); err == nil || !strings.Contains(err.Error(), "install the version that go.mod") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pulumi"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	e, err := Find("/project")
	if err != nil || e.Command != filepath.Join(dir, "pulumi") || e.Project != "/project" {
		t.Fatalf("%+v, %v", e, err)
	}
	for _, want := range []string{"GOFLAGS=-mod=mod -trimpath", "GOWORK=off", "CGO_ENABLED=0", "PATH=" + dir} {
		if !slices.Contains(e.Env, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestFailuresSayWhatTheEngineSaid(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"diagnostics": {
			"cat <<'E'\n" + prelude + step + failure + summary + "E\necho 'error: preview failed' >&2; exit 255\n",
			"hosts.one.address: is missing",
		},
		"no diagnostics": {
			"echo 'error: no stack named lab' >&2; exit 255\n", "pulumi preview: exit status 255: error: no stack",
		},
		"no events": {"echo welcome\n", "pulumi preview of lab: what it printed are no events"},
		"nothing":   {"exit 0\n", "pulumi preview of lab: its events end without a summary"},
	} {
		e, _ := fake(t, test.body)
		digest, err := e.Preview(t.Context(), "lab")
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		if name == "diagnostics" && (digest == nil || len(digest.Steps) != 1) {
			t.Errorf("what was said until then is gone: %+v", digest)
		}
	}
}

// What was said until a command was ended is not why.
func TestWhatLastsTooLongIsEnded(t *testing.T) {
	e, _ := fake(t, "cat <<'E'\n"+prelude+failure+"E\nexec sleep 60\n")
	e.Patience = 300 * time.Millisecond
	_, err := e.Preview(t.Context(), "lab")
	if err == nil || !strings.HasPrefix(err.Error(), "pulumi preview: it lasted longer than 300ms: it was ended") {
		t.Errorf("got %v", err)
	}
}

// What is printed in clear is not quoted when the command fails afterwards.
func TestASecretIsInNoError(t *testing.T) {
	e, _ := fake(t, "echo canary-value; echo 'the reason' >&2; exit 1\n")
	_, export := e.Export(t.Context(), "lab")
	_, secrets := e.Secrets(t.Context(), "lab")
	for _, err := range []error{export, secrets} {
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "the reason") {
			t.Errorf("got %v", err)
		}
	}
	e, _ = fake(t, "echo canary-value\n")
	if _, err := e.Secrets(t.Context(), "lab"); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
	// Of a long message the end, which says why.
	e, _ = fake(t, "head -c 9999 /dev/zero | tr '\\0' a >&2; echo because >&2; exit 1\n")
	err := e.Init(t.Context(), "lab")
	if err == nil || len(err.Error()) > 5000 || !strings.HasSuffix(err.Error(), "because") {
		t.Errorf("%v", err)
	}
}

func TestSecrets(t *testing.T) {
	e, _ := fake(t, `echo '{"a:one":{"value":"canary","secret":true},"a:two":{"value":"x","secret":false},`+
		`"a:three":{"value":"{\"b\":1}","objectValue":{"b":1},"secret":false}}'`)
	got, err := e.Secrets(t.Context(), "lab")
	if err != nil || len(got) != 1 || got["a:one"] != "canary" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestUpShowsWhatItDoes(t *testing.T) {
	e, _ := fake(t, "echo out; echo err >&2; exit 3\n")
	var out strings.Builder
	err := e.Up(t.Context(), "lab", &out)
	if err == nil || err.Error() != "pulumi up: exit status 3:\nout\nerr" || out.String() != "out\nerr\n" {
		t.Errorf("%v, %q", err, out.String())
	}
}

// The engine ends a resource's operation when it is interrupted once, and none when it is twice.
func TestAnInterruptIsPassedOnOnceAndWaitedFor(t *testing.T) {
	e, _ := fake(t, `trap 'echo interrupted >>"$D/signals"' INT
echo started >"$D/started"
i=0
while [ $i -lt 100 ] && ! [ -s "$D/signals" ]; do sleep 0.1; i=$((i+1)); done
sleep 1
echo ended >>"$D/signals"
ps -o pgid= -p $$ >"$D/group"
exit 130
`)
	e.Env = append(e.Env, "D="+e.Project)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(e.Project, "started")); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	if err := e.Up(ctx, "lab", os.Stderr); err == nil {
		t.Error("what was interrupted is no failure")
	}
	text, err := os.ReadFile(filepath.Join(e.Project, "signals"))
	if err != nil || string(text) != "interrupted\nended\n" {
		t.Errorf("it had %q, %v", text, err)
	}
	group, err := os.ReadFile(filepath.Join(e.Project, "group"))
	if err != nil || strings.TrimSpace(string(group)) == strconv.Itoa(syscall.Getpgrp()) {
		t.Errorf("a terminal's interrupt would reach it a second time: group %s, %v", group, err)
	}
}

func TestStacks(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Pulumi.yaml", "Pulumi.lab.yaml", "Pulumi.a.b.yaml", "Pulumi.other.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Stacks(dir); err != nil || !slices.Equal(got, []string{"a.b", "lab"}) {
		t.Errorf("%v, %v", got, err)
	}
}

// A change may have files whose names are none of a stack, or stacks without end.
func TestStacksAreRefused(t *testing.T) {
	write := func(dir, name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"", "a b", "::error title=x::y", "a\n::error::y", "lab\n", "ünï", strings.Repeat("a", 101),
	} {
		dir := t.TempDir()
		write(dir, "Pulumi."+name+".yaml")
		got, err := Stacks(dir)
		if err == nil || !strings.Contains(err.Error(), strconv.Quote(name)+" is no name of a stack") ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
	dir := t.TempDir()
	for i := range 51 {
		if got, err := Stacks(dir); err != nil || len(got) != i {
			t.Fatalf("%d stacks: %q, %v", i, got, err)
		}
		write(dir, fmt.Sprintf("Pulumi.%d.yaml", i))
	}
	if _, err := Stacks(dir); err == nil || !strings.Contains(err.Error(), "51 files Pulumi.*.yaml, and at most 50") {
		t.Errorf("51 stacks: %v", err)
	}
}
