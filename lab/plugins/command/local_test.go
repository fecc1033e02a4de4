package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/tinyrack-net/infrastructure/lab/plugins/command"
	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

const localToken = "command:local:Command"

// A command with nothing but a delete, as the program has one: it runs then and only then, in the plugin's directory,
// with a long standard input.
func TestLocalDelete(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	p := plugintest.Start(t, command.New, nil)
	long := strings.Repeat(canary, 100_000)
	in := plugintest.Map(map[string]any{"delete": "cat > said; pwd >> where", "addPreviousOutputInEnv": false})
	in["stdin"] = resource.MakeSecret(resource.NewProperty(long))
	checked := p.Check(localToken, in)
	id, state := p.Create(localToken, checked)
	if !state["stdin"].IsSecret() || len(id) != 9 {
		t.Errorf("id %q, stdin %v", id, state["stdin"].TypeString())
	}
	if stdout := state["stdout"]; !stdout.IsSecret() || stdout.SecretValue().Element.V != "" {
		t.Errorf("stdout %v", stdout)
	}
	if _, err := os.Stat("said"); err == nil {
		t.Fatal("it ran at its creation")
	}
	if err := p.Delete(localToken, id, checked, state); err != nil {
		t.Fatal(err)
	}
	if said, err := os.ReadFile("said"); err != nil || string(said) != long {
		t.Errorf("%d bytes on standard input (%v), want %d", len(said), err, len(long))
	}
	if where, err := os.ReadFile("where"); err != nil || strings.TrimSpace(string(where)) != dir {
		t.Errorf("it ran in %q (%v), want %s", where, err, dir)
	}
	if strings.Contains(p.Logs(), canary) {
		t.Error("the secret is in the log")
	}
}

func TestLocalEnvironment(t *testing.T) {
	t.Setenv("INHERITED", "kept")
	p := plugintest.Start(t, command.New, nil)
	dir := t.TempDir()
	in := p.Check(localToken, plugintest.Map(map[string]any{
		"create": `echo "$INHERITED $GIVEN [$PULUMI_COMMAND_STDOUT]"; echo err >&2; pwd > here`, "dir": dir,
		"environment": map[string]any{"GIVEN": "new"},
	}))
	id, state := p.Create(localToken, in)
	if state["stdout"].V != "kept new []" || state["stderr"].V != "err" {
		t.Errorf("stdout %v, stderr %v", state["stdout"], state["stderr"])
	}
	if _, err := os.Stat(filepath.Join(dir, "here")); err != nil {
		t.Error(err)
	}
	updated, err := p.Update(localToken, id, state, in, in, false)
	if err != nil || updated["stdout"].V != "kept new [kept new []]" {
		t.Errorf("update: %v, stdout %v", err, updated["stdout"])
	}
	other := p.Check(localToken, plugintest.Map(map[string]any{
		"create": "same", "interpreter": []any{"/bin/echo", "-n"},
	}))
	if _, state := p.Create(localToken, other); state["stdout"].V != "same" {
		t.Errorf("its interpreter printed %v", state["stdout"])
	}
}

func TestLocalFailure(t *testing.T) {
	p := plugintest.Start(t, command.New, nil)
	for name, c := range map[string]struct {
		with map[string]any
		want string
	}{
		"a failing command": {
			map[string]any{"create": "echo why >&2; exit 3"}, `exit status 3: running "echo why >&2; exit 3":` + "\nwhy",
		},
		"no such directory": {
			map[string]any{"create": "true", "dir": "/none"}, `no such file or directory: running "true"`,
		},
	} {
		in := p.Check(localToken, plugintest.Map(c.with))
		if _, _, err := p.TryCreate(localToken, in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, failures, err := p.TryCheck(localToken, plugintest.Map(map[string]any{"assetPaths": []any{"*"}})); err != nil ||
		len(failures) != 1 || !strings.Contains(failures[0], `does not support property "assetPaths"`) {
		t.Errorf("another property: %v %v", err, failures)
	}
}

func TestLocalCancelEndsWhatItStarted(t *testing.T) {
	p := plugintest.Start(t, command.New, nil)
	started := filepath.Join(t.TempDir(), "started")
	in := p.Check(localToken, plugintest.Map(map[string]any{"create": "sleep 60 & touch " + started + "; wait"}))
	done := make(chan error, 1)
	go func() {
		_, _, err := p.TryCreate(localToken, in)
		done <- err
	}()
	for _, err := os.Stat(started); err != nil; _, err = os.Stat(started) {
		time.Sleep(10 * time.Millisecond)
	}
	p.Cancel()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("error %v, want cancelled", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on after Cancel")
	}
}
