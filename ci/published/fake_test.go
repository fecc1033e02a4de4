package published

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/ci/engine"
)

// The test binary is the Pulumi command line of the boxes, too.
func TestMain(m *testing.M) {
	if dir := os.Getenv("FAKE_PULUMI"); dir != "" {
		if err := (&pulumi{dir: dir}).run(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(255)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// box makes engines, each with a backend of its own.
type box struct {
	t    *testing.T
	last string // the backend of the last one
}

func (b *box) Engine(_ context.Context, tree string) (*engine.Engine, error) {
	self, err := os.Executable()
	b.last = b.t.TempDir()
	return &engine.Engine{Command: self, Project: tree, Env: []string{"FAKE_PULUMI=" + b.last}}, err
}

// values are the secrets that the last engine was given.
func (b *box) values() map[string]string {
	b.t.Helper()
	values := map[string]string{}
	read(b.t, filepath.Join(b.last, "values"), &values)
	return values
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pulumi is the command line as this package calls it, with a backend in dir and a small program. It refuses what the
// real one does: what another passphrase encrypted, a state of another stack's salt, the deletion of what is protected.
type pulumi struct{ dir, tree, stack string }

const boxSalt = "v1:salt-of-the-box"

func (p *pulumi) run(args []string) error {
	at := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	p.tree, p.stack = at("--cwd"), at("--stack")
	if p.tree == "" || p.stack == "" || !slices.Contains(args, "--non-interactive") {
		return fmt.Errorf("a command that asks: %q", args)
	}
	settings := filepath.Join(p.tree, "Pulumi."+p.stack+".yaml")
	text, err := os.ReadFile(settings)
	if err != nil {
		return err
	}
	if secure.Match(text) {
		return errors.New("failed to decrypt: incorrect passphrase")
	}
	switch verb := args[0] + " " + args[1]; verb {
	case "stack init":
		if bytes.Contains(text, []byte("encryptionsalt")) {
			return errors.New("incorrect passphrase")
		}
		return os.WriteFile(settings, append(text, "\nencryptionsalt: "+boxSalt+"\n"...), 0o600)
	case "stack import":
		return p.importState(filepath.Join(p.tree, at("--file")))
	case "config set-all":
		values := map[string]string{}
		for i, arg := range args {
			if arg == "--secret" {
				name, value, _ := strings.Cut(args[i+1], "=")
				values[name] = value
			}
		}
		return p.write("values", values)
	case "preview --json":
		return p.preview(at("--save-plan"), slices.Contains(args, "--show-secrets"))
	}
	return fmt.Errorf("unknown command %q", args)
}

var secure = regexp.MustCompile(`(?m)^ +secure:`)

func (p *pulumi) write(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.dir, name), text, 0o600)
}

// backend is a state as the fake needs it.
type backend struct {
	Version    int
	Deployment struct {
		Providers struct{ State struct{ Salt string } } `json:"secrets_providers"`
		Pending   []any                                 `json:"pending_operations"`
		Resources []*object
	}
}

type object struct {
	URN             string
	Protect         bool
	Inputs, Outputs map[string]any
}

func (p *pulumi) importState(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var state backend
	if err := json.Unmarshal(text, &state); err != nil {
		return err
	}
	if state.Deployment.Providers.State.Salt != boxSalt || bytes.Contains(text, []byte(`"ciphertext"`)) {
		return errors.New("could not deserialize deployment: incorrect passphrase")
	}
	if len(state.Deployment.Pending) > 0 {
		return errors.New("the stack has pending operations")
	}
	return os.WriteFile(filepath.Join(p.dir, "state"), text, 0o600)
}

const urn = "urn:pulumi:lab::p::a:b:C::"

// program is what the resources are to be: some from secrets, some from what others came to be. Files in the tree
// change it.
func (p *pulumi) program(values map[string]string, outputs func(string) map[string]any) map[string]map[string]any {
	has := func(file string) bool { _, err := os.Stat(filepath.Join(p.tree, file)); return err == nil }
	all := map[string]map[string]any{
		// A secret, and a text that holds it.
		"token": {"value": engine.Secret(values["p:gitToken"]), "size": 22.0},
		"url":   {"value": engine.Secret("https://x:" + values["p:gitToken"] + "@host"), "sum": mark(values["p:gitToken"])},
		"key":   {"id": mark(values["p:sealingKey"]), "zone": "lab.test"},
		// Of what another came to be: not known while that changes.
		"chain":  {"of": map[string]any{"sum": outputs("url")["sum"]}},
		"keeper": {},
		// Public settings in a secret object.
		"command": {"connection": engine.Secret(connectionTo(values["p:sealingKey"]))},
	}
	switch {
	case has("never"):
		runs, _ := os.ReadFile(filepath.Join(p.dir, "previews"))
		all["key"]["zone"] = fmt.Sprint(len(runs))
	case has("zone"):
		all["key"]["zone"] = "other.test"
	case has("no-keeper"):
		delete(all, "keeper")
	}
	return all
}

func connectionTo(key string) map[string]any {
	return map[string]any{
		"host": "10.0.0.1", "port": 48211, "perDialTimeout": 15, "proxy": nil, "on": true, "privateKey": key,
	}
}

func (p *pulumi) preview(plan string, inClear bool) error {
	log, err := os.OpenFile(filepath.Join(p.dir, "previews"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(log, plan)
	}
	if err = errors.Join(err, log.Close()); err != nil {
		return err
	}
	values := map[string]string{}
	var state backend
	text, err := os.ReadFile(filepath.Join(p.dir, "values"))
	if err == nil {
		err = json.Unmarshal(text, &values)
	}
	if err == nil {
		text, err = os.ReadFile(filepath.Join(p.dir, "state"))
	}
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		return err
	}
	old := map[string]*object{}
	for _, o := range state.Deployment.Resources {
		old[strings.TrimPrefix(o.URN, urn)] = o
	}
	changing := map[string]bool{}
	all := p.program(values, func(name string) map[string]any {
		if o := old[name]; o != nil && !changing[name] {
			return o.Outputs
		}
		return map[string]any{"sum": engine.Unknown}
	})
	if o := old["url"]; o != nil && !same(o.Inputs, all["url"]) {
		changing["url"] = true
		all["chain"]["of"] = map[string]any{"sum": engine.Unknown}
	}
	goals := map[string]any{}
	for _, o := range state.Deployment.Resources {
		name := strings.TrimPrefix(o.URN, urn)
		inputs, there := all[name]
		op := "same"
		switch {
		case !there && o.Protect:
			event("diagnosticEvent", map[string]any{"severity": "error", "message": o.URN + " cannot be deleted"})
			return errors.New("preview failed")
		case !there:
			op = "delete"
		case !same(o.Inputs, inputs):
			op = "update"
			updates := map[string]any{}
			for key, value := range inputs {
				if !same(o.Inputs[key], value) {
					updates[key] = value
				}
			}
			if !inClear {
				updates = blind(updates).(map[string]any)
			}
			var deletes []string
			for key := range o.Inputs {
				if _, kept := inputs[key]; !kept {
					deletes = append(deletes, key)
				}
			}
			goals[o.URN] = map[string]any{"goal": map[string]any{
				"inputDiff": map[string]any{"updates": updates, "deletes": deletes},
			}}
		}
		meta := map[string]any{"op": op, "urn": o.URN, "type": "a:b:C", "old": map[string]any{"inputs": blind(o.Inputs)}}
		if there {
			meta["new"] = map[string]any{"inputs": blind(inputs)}
		}
		for key := range inputs {
			if !same(o.Inputs[key], inputs[key]) {
				meta["diffs"] = append(anys(meta["diffs"]), key)
			}
		}
		event("resourcePreEvent", map[string]any{"metadata": meta})
	}
	event("summaryEvent", map[string]any{"isPreview": true})
	if plan == "" {
		return nil
	}
	text, err = json.Marshal(map[string]any{"resourcePlans": goals})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.tree, plan), text, 0o600)
}

func anys(list any) []any {
	found, _ := list.([]any)
	return found
}

func same(a, b any) bool {
	before, _ := json.Marshal(a)
	after, _ := json.Marshal(b)
	return bytes.Equal(before, after)
}

// blind is a value as events show it.
func blind(value any) any {
	return engine.Map(value, func(part any) (any, bool) {
		secret := engine.Secret("")
		delete(secret, "plaintext")
		secret["ciphertext"] = "[secret]"
		return secret, engine.IsSecret(part)
	})
}

func event(kind string, value any) {
	text, _ := json.Marshal(map[string]any{kind: value})
	fmt.Println(string(text))
}
