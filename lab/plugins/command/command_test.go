package command_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/tinyrack-net/infrastructure/lab/plugins/command"
	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
	"github.com/tinyrack-net/infrastructure/lab/plugins/sshtest"
)

const token = "command:remote:Command"

// canary is a secret that must not show up in clear.
const canary = "canary-4711"

// inputs are a command's inputs on the test server, changed by with.
func inputs(s *sshtest.Server, with map[string]any) resource.PropertyMap {
	in := plugintest.Map(map[string]any{"addPreviousOutputInEnv": false})
	in["connection"] = resource.MakeSecret(resource.NewProperty(plugintest.Map(map[string]any{
		"host": s.Host, "port": float64(s.Port), "privateKey": s.PrivateKey, "hostKey": s.HostKey,
		"dialErrorLimit": 0.0, "perDialTimeout": 2.0,
	})))
	for key, value := range with {
		in[resource.PropertyKey(key)] = resource.NewPropertyValue(value)
	}
	return in
}

// connect changes fields of the connection.
func connect(in resource.PropertyMap, with map[string]any) resource.PropertyMap {
	connection := in["connection"].SecretValue().Element.ObjectValue().Copy()
	for key, value := range with {
		if value == nil {
			delete(connection, resource.PropertyKey(key))
			continue
		}
		connection[resource.PropertyKey(key)] = resource.NewPropertyValue(value)
	}
	in["connection"] = resource.MakeSecret(resource.NewProperty(connection))
	return in
}

func TestLifeOfACommand(t *testing.T) {
	s := sshtest.Start(t)
	p := plugintest.Start(t, command.New, nil)
	first := p.Check(token, inputs(s, map[string]any{
		"create": "echo out; echo err >&2", "update": "echo updated", "delete": "echo deleted",
	}))

	plan := p.PreviewCreate(token, first)
	if !plan["stdout"].IsComputed() || len(s.Runs()) != 0 {
		t.Fatalf("preview: stdout %v, runs %q; want it unknown and nothing run", plan["stdout"], s.Runs())
	}

	id, state := p.Create(token, first)
	if !strings.HasPrefix(id, "r") || len(id) != 9 {
		t.Errorf("id %q, want the name and 8 hex digits", id)
	}
	if state["stdout"].V != "out" || state["stderr"].V != "err" {
		t.Errorf("stdout %v, stderr %v", state["stdout"], state["stderr"])
	}
	if !state["connection"].IsSecret() {
		t.Error("the connection is not secret in the state")
	}
	if logs := p.Logs(); !strings.Contains(logs, "out") || !strings.Contains(logs, "err") {
		t.Errorf("logs %q, want both streams", logs)
	}

	if diff := p.Diff(token, first, first); len(diff.GetDetailedDiff()) != 0 {
		t.Errorf("unchanged inputs differ: %v", diff)
	}
	second := first.Copy()
	second["create"] = resource.NewProperty("echo other")
	if diff := p.Diff(token, first, second); len(diff.GetReplaces()) != 0 || len(diff.GetDiffs()) != 1 {
		t.Errorf("a changed create must update in place: %v", diff)
	}
	updated, err := p.Update(token, id, state, first, second, false)
	if err != nil || updated["stdout"].V != "updated" {
		t.Errorf("update: %v, stdout %v", err, updated["stdout"])
	}

	readID, _, readState := p.Read(token, id, second, updated)
	if readID != id || !readState.DeepEquals(updated) {
		t.Errorf("a refresh changed %v to %v", updated, readState)
	}
	if err := p.Delete(token, id, second, updated); err != nil {
		t.Error(err)
	}
	want := []string{"echo out; echo err >&2", "echo updated", "echo deleted"}
	if got := s.Runs(); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("ran %q, want %q", got, want)
	}
}

func TestUpdateRunsCreateWhenThereIsNoUpdate(t *testing.T) {
	s := sshtest.Start(t)
	p := plugintest.Start(t, command.New, nil)
	first := p.Check(token, inputs(s, map[string]any{"create": "echo one"}))
	id, state := p.Create(token, first)
	second := p.Check(token, inputs(s, map[string]any{"create": "echo two"}))
	updated, err := p.Update(token, id, state, first, second, false)
	if err != nil || updated["stdout"].V != "two" {
		t.Errorf("update: %v, stdout %v", err, updated["stdout"])
	}
	planned, err := p.Update(token, id, state, first, second, true)
	if err != nil || !planned["stdout"].IsComputed() || len(s.Runs()) != 2 {
		t.Errorf("preview of an update: %v, stdout %v, runs %q", err, planned["stdout"], s.Runs())
	}
	if err := p.Delete(token, id, second, updated); err != nil || len(s.Runs()) != 2 {
		t.Errorf("without delete nothing runs: %v, %q", err, s.Runs())
	}
}

func TestTriggersReplace(t *testing.T) {
	p := plugintest.Start(t, command.New, nil)
	olds := plugintest.Map(map[string]any{"triggers": []any{"a"}})
	news := plugintest.Map(map[string]any{"triggers": []any{"b"}})
	if diff := p.Diff(token, olds, news); len(diff.GetReplaces()) != 1 {
		t.Errorf("replaces %v, want the trigger", diff.GetReplaces())
	}
}

func TestSecretsStaySecret(t *testing.T) {
	s := sshtest.Start(t)
	p := plugintest.Start(t, command.New, nil)
	in := inputs(s, map[string]any{"create": "cat", "logging": "none"})
	in["stdin"] = resource.MakeSecret(resource.NewProperty(canary))
	checked := p.Check(token, in)
	_, state := p.Create(token, checked)
	if !state["stdin"].IsSecret() || !state["stdout"].IsSecret() || state["stdout"].SecretValue().Element.V != canary {
		t.Errorf("stdin %v, stdout %v: want both secret", state["stdin"].TypeString(), state["stdout"].TypeString())
	}
	if strings.Contains(p.Logs(), canary) {
		t.Errorf("logging none prints the output: %q", p.Logs())
	}
	if plan := p.PreviewCreate(token, checked); !plan["stdout"].ContainsSecrets() {
		t.Errorf("planned stdout %v, want secret", plan["stdout"])
	}
}

func TestLoggingPicksTheStream(t *testing.T) {
	for logging, want := range map[string]string{"stdout": "out", "stderr": "err", "none": ""} {
		s := sshtest.Start(t)
		p := plugintest.Start(t, command.New, nil)
		p.Create(token, p.Check(token, inputs(s, map[string]any{"create": "echo out; echo err >&2", "logging": logging})))
		if got := p.Logs(); got != want {
			t.Errorf("logging %s: logs %q, want %q", logging, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	s := sshtest.Start(t)
	s.AcceptEnv = []string{"GREETING", "PULUMI_COMMAND_STDOUT"}
	p := plugintest.Start(t, command.New, nil)
	in := p.Check(token, inputs(s, map[string]any{
		"create": `echo "$GREETING $PULUMI_COMMAND_STDOUT"`, "environment": map[string]any{"GREETING": "hello"},
		"addPreviousOutputInEnv": true,
	}))
	id, state := p.Create(token, in)
	if state["stdout"].V != "hello " {
		t.Errorf("stdout %q", state["stdout"].V)
	}
	updated, err := p.Update(token, id, state, in, in, false)
	if err != nil || updated["stdout"].V != "hello hello " {
		t.Errorf("update: %v, stdout %v, want the previous output in it", err, updated["stdout"])
	}

	refused := p.Check(token, inputs(s, map[string]any{"create": "true", "environment": map[string]any{"OTHER": "x"}}))
	if _, _, err := p.TryCreate(token, refused); err == nil || !strings.Contains(err.Error(), `"OTHER"`) {
		t.Errorf("a variable that sshd refuses: %v", err)
	}
}

func TestFailures(t *testing.T) {
	s := sshtest.Start(t)
	p := plugintest.Start(t, command.New, nil)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := closed.Addr().(*net.TCPAddr).Port
	_ = closed.Close()
	cases := map[string]struct {
		with []map[string]any // inputs, connection
		want string
	}{
		"failing command": {
			[]map[string]any{{"create": "echo why >&2; exit 3"}, nil},
			`exited with status 3: running "echo why >&2; exit 3":` + "\nwhy",
		},
		"wrong host key":   {[]map[string]any{{"create": "true"}, {"hostKey": sshtest.OtherKey(t)}}, "host key mismatch"},
		"closed port":      {[]map[string]any{{"create": "true"}, {"port": float64(port)}}, "connection refused"},
		"key that is none": {[]map[string]any{{"create": "true"}, {"privateKey": "nonsense"}}, "connection.privateKey"},
		"login not allowed": {
			[]map[string]any{{"create": "true"}, {"privateKey": sshtest.Start(t).PrivateKey}},
			"unable to authenticate",
		},
	}
	for name, c := range cases {
		in := p.Check(token, connect(inputs(s, c.with[0]), c.with[1]))
		if _, _, err := p.TryCreate(token, in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if got := s.Runs(); len(got) != 1 {
		t.Errorf("ran %q: only the failing command may have", got)
	}
}

func TestDialTriesAgain(t *testing.T) {
	s := sshtest.Start(t)
	p := plugintest.Start(t, command.New, nil)
	in := p.Check(token, connect(inputs(s, map[string]any{"create": "true"}), map[string]any{
		"hostKey": sshtest.OtherKey(t), "dialErrorLimit": 2.0,
	}))
	_, _, err := p.TryCreate(token, in)
	if err == nil || !strings.Contains(err.Error(), "after 3 failed attempts") {
		t.Errorf("error %v, want 3 attempts", err)
	}
	if logs := p.Logs(); !strings.Contains(logs, "Dial 2/2 failed: retrying") {
		t.Errorf("logs %q, want the progress", logs)
	}
}

func TestRefusedInputs(t *testing.T) {
	s := sshtest.Start(t)
	p := plugintest.Start(t, command.New, nil)
	cases := map[string]struct {
		in   resource.PropertyMap
		want string
	}{
		"no host key": {connect(inputs(s, nil), map[string]any{"hostKey": nil}), "connection.hostKey is missing"},
		"broken host key": {connect(inputs(s, nil), map[string]any{"hostKey": "nonsense"}), "connection.hostKey is not a " +
			"public key line"},
		"no host": {
			connect(inputs(s, nil), map[string]any{"host": nil}),
			`missing required property "connection.host"`,
		},
		"no connection": {plugintest.Map(map[string]any{"create": "true"}), `missing required property "connection"`},
		"unknown property": {
			inputs(s, map[string]any{"dir": "/"}),
			`the lab's double of command:remote:Command does not support property "dir"`,
		},
		"proxy": {
			connect(inputs(s, nil), map[string]any{"proxy": map[string]any{"host": "x"}}),
			`does not support property "connection.proxy"`,
		},
		"wrong type": {inputs(s, map[string]any{"create": 1.0}), `property create must be a string`},
		"wrong logging": {inputs(s, map[string]any{"logging": "all"}), "must be one of stdout, stderr, stdoutAndStderr, " +
			"none"},
	}
	for name, c := range cases {
		_, failures, err := p.TryCheck(token, c.in)
		if err != nil || len(failures) != 1 || !strings.Contains(failures[0], c.want) {
			t.Errorf("%s: %v %q, want %q", name, err, failures, c.want)
		}
	}
	if _, _, err := p.TryCheck("command:local:run", nil); err == nil ||
		!strings.Contains(err.Error(), "does not support the resource type command:local:run") {
		t.Errorf("another type: %v", err)
	}
	unknown := inputs(s, map[string]any{"create": "true"})
	unknown["connection"] = plugintest.Unknown()
	if _, failures, err := p.TryCheck(token, unknown); err != nil || len(failures) != 0 {
		t.Errorf("a connection that is not known yet: %v %q", err, failures)
	}
}

func TestCancelEndsTheCommand(t *testing.T) {
	s := sshtest.Start(t)
	p := plugintest.Start(t, command.New, nil)
	in := p.Check(token, inputs(s, map[string]any{"create": "sleep 60"}))
	done := make(chan error, 1)
	go func() {
		_, _, err := p.TryCreate(token, in)
		done <- err
	}()
	for len(s.Runs()) == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	p.Cancel()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "cancelled") {
			t.Errorf("error %v, want cancelled", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the command goes on after Cancel")
	}
}
