package engine

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/ci/report"
)

const (
	plain  = "a:b:C"
	tunnel = "cloudflare:index/zeroTrustTunnelCloudflared:ZeroTrustTunnelCloudflared"
)

func of(op, kind, name string, before, after *Resource) Step {
	return Step{Op: op, Type: kind, URN: "urn:pulumi:lab::tinyrack::" + kind + "::" + name, Old: before, New: after}
}

func holds(inputs map[string]any) *Resource { return &Resource{Inputs: inputs} }

// told is a change in one line.
func told(c report.Change) string {
	line := c.Op + " " + c.Name
	if c.Danger != "" {
		line += " !" + c.Danger
	}
	for _, p := range c.Properties {
		line += " " + p.Path + "=" + p.Before + ">" + p.After
		if p.Secret {
			line += "(secret)"
		}
		if p.Replaces {
			line += "(replaces)"
		}
	}
	return line
}

func TestChanges(t *testing.T) {
	protected := &Resource{Protect: true, Inputs: map[string]any{"n": 1.0}}
	one, two := holds(map[string]any{"n": 1.0}), holds(map[string]any{"n": 2.0})
	for name, test := range map[string]struct {
		steps []Step
		same  int
		want  []string
	}{
		"nothing": {nil, 0, nil},
		"what stays": {[]Step{
			of("same", plain, "a", one, one), of("read", plain, "b", one, one), of("refresh", plain, "c", one, one),
		}, 3, nil},
		"each, in the engine's order": {[]Step{
			of("create", plain, "c", nil, one), of("same", plain, "s", one, one), of("update", plain, "b", one, two),
			of("delete", plain, "a", one, nil), of("import", plain, "i", nil, one), of("discard", plain, "d", one, nil),
		}, 1, []string{"create c", "update b n=1>2", "delete a", "import i", "forget d"}},
		"an operation of a newer engine": {
			[]Step{of("shred", plain, "a", one, nil)}, 0, []string{"shred a"},
		},
		"a replacement": {[]Step{
			of("create-replacement", plain, "a", one, two), of("replace", plain, "a", one, two),
			of("create", plain, "b", nil, one), of("delete-replaced", plain, "a", one, nil),
		}, 0, []string{"replace a n=1>2", "create b"}},
		"a replacement that deletes first": {[]Step{
			of("delete-replaced", plain, "a", one, nil), of("replace", plain, "a", one, two),
			of("create-replacement", plain, "a", one, two),
		}, 0, []string{"replace a n=1>2"}},
		"other replacements": {[]Step{
			of("import-replacement", plain, "a", one, two), of("read-replacement", plain, "b", one, two),
			of("discard-replaced", plain, "b", one, nil), of("remove-pending-replace", plain, "c", one, nil),
		}, 0, []string{"replace a n=1>2", "replace b n=1>2", "replace c"}},
		"a pending delete of what stays": {[]Step{
			of("same", plain, "a", one, one), of("delete-replaced", plain, "a", one, nil),
		}, 1, []string{"replace a"}},
		"a pending delete of what changes": {[]Step{
			of("update", plain, "a", one, two), of("delete-replaced", plain, "a", one, nil),
		}, 0, []string{"replace a n=1>2"}},
		"data": {[]Step{
			of("create", tunnel, "a", nil, one), of("update", tunnel, "b", one, two), of("delete", tunnel, "c", one, nil),
			of("replace", tunnel, "d", one, two), of("create-replacement", tunnel, "e", nil, two),
		}, 0, []string{
			"create a", "update b n=1>2", "delete c !" + data[tunnel], "replace d !" + data[tunnel] + " n=1>2",
			"replace e !" + data[tunnel],
		}},
		"what is protected": {[]Step{
			of("update", plain, "a", protected, two), of("delete", plain, "b", protected, nil),
			// That it is, the last step does not know.
			of("delete-replaced", plain, "c", protected, nil), of("create-replacement", plain, "c", nil, two),
			of("create", plain, "d", nil, two), of("delete-replaced", plain, "d", protected, nil),
		}, 0, []string{
			"update a n=1>2", "delete b !it is protected: the engine refuses this",
			"replace c !it is protected: the engine refuses this",
			"replace d !it is protected: the engine refuses this",
		}},
	} {
		changes, same := (&Digest{Steps: test.steps}).Changes()
		var got []string
		for _, c := range changes {
			got = append(got, told(c))
		}
		if !slices.Equal(got, test.want) || same != test.same {
			t.Errorf("%s: got\n%s\nwant\n%s\nthe same: %d, want %d", name, strings.Join(got, "\n"),
				strings.Join(test.want, "\n"), same, test.same)
		}
	}
	changes, _ := (&Digest{Steps: []Step{of("create", plain, "a::b", nil, one)}}).Changes()
	want := report.Change{Op: "create", Type: plain, Name: "b", URN: "urn:pulumi:lab::tinyrack::a:b:C::a::b"}
	if !reflect.DeepEqual(changes, []report.Change{want}) {
		t.Errorf("got %+v", changes)
	}
}

func TestProperties(t *testing.T) {
	// As the engine writes it: what it is stays out.
	blind := map[string]any{sigKey: secretSig, "ciphertext": "[secret]"}
	for name, test := range map[string]struct {
		old, new    map[string]any
		diffs, keys []string
		want        string
	}{
		"a value": {map[string]any{"a": 1.0, "b": "x"}, map[string]any{"a": 2.0, "b": "x"}, []string{"a"}, nil, "a=1>2"},
		"one more and one less": {
			map[string]any{"a": "x"},
			map[string]any{"b": "x"},
			[]string{"a", "b"},
			[]string{"b"},
			`a="x"> b=>"x"(replaces)`,
		},
		"deep": {
			map[string]any{"a": map[string]any{"b": []any{"x", map[string]any{"c": true}}}},
			map[string]any{"a": map[string]any{"b": []any{"x", map[string]any{"c": false}, "y"}}},
			[]string{"a"},
			[]string{"a.b[1].c"},
			`a.b[1].c=true>false(replaces) a.b[2]=>"y"(replaces)`,
		},
		"another kind": {
			map[string]any{"a": []any{"x"}}, map[string]any{"a": map[string]any{"b": "x"}}, nil, nil, `a=["x"]>{"b":"x"}`,
		},
		"a secret that the engine says to differ": {
			map[string]any{"a": blind, "b": blind},
			map[string]any{"a": blind, "b": blind},
			[]string{"a"},
			[]string{"a"},
			"a=>(secret)(replaces)",
		},
		"secrets in clear": {
			map[string]any{"a": Secret("canary-one"), "b": map[string]any{"c": Secret("canary-one")}},
			map[string]any{"a": Secret("canary-two"), "b": map[string]any{"c": Secret("canary-two")}},
			[]string{"a", "b"},
			nil,
			"a=>(secret) b.c=>(secret)",
		},
		"what becomes a secret": {
			map[string]any{"a": "x"}, map[string]any{"a": Secret("canary-one")}, []string{"a"}, nil, "a=>(secret)",
		},
		"a secret in what comes whole": {
			map[string]any{},
			map[string]any{"a": map[string]any{"b": []any{Secret("canary-one")}}},
			[]string{"a"},
			nil,
			"a=>(secret)",
		},
		"nothing that is seen to differ": {
			map[string]any{"a": 1.0}, map[string]any{"a": 1.0}, []string{"c", "a.b", "a"}, []string{"c"}, "c=>(replaces) a.b=>",
		},
	} {
		s := of("update", plain, "x", holds(test.old), holds(test.new))
		s.Diffs, s.Keys = test.diffs, test.keys
		changes, _ := (&Digest{Steps: []Step{s}}).Changes()
		if got := told(changes[0]); got != "update x "+test.want {
			t.Errorf("%s: got %s\nwant %s", name, got, "update x "+test.want)
		}
		if strings.Contains(told(changes[0]), "canary") {
			t.Errorf("%s: a secret is told", name)
		}
	}
}

func TestSite(t *testing.T) {
	for name, test := range map[string]struct {
		said Diagnostic
		want string
	}{
		"it":        {Diagnostic{Message: "is this site:\n  one\n", Severity: "info"}, "is this site:\n  one"},
		"a warning": {Diagnostic{Message: "is this site: x", Severity: "warning"}, ""},
		"other":     {Diagnostic{Message: "Downloading", Severity: "info"}, ""},
	} {
		if got := (&Digest{Diagnostics: []Diagnostic{test.said}}).Site(); got != test.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestWhatHasNoInputs(t *testing.T) {
	step := of("update", plain, "a", &Resource{}, holds(map[string]any{"n": 1.0}))
	changes, _ := (&Digest{Steps: []Step{step}}).Changes()
	if got := told(changes[0]); got != "update a n=>1" {
		t.Errorf("got %s", got)
	}
}

func TestAnUnknownValueIsSaidToBeOne(t *testing.T) {
	step := Step{
		Op: "update", URN: "a::b", Old: &Resource{Inputs: map[string]any{"id": "1"}},
		New: &Resource{Inputs: map[string]any{"id": Unknown}},
	}
	changes, _ := (&Digest{Steps: []Step{step}}).Changes()
	if got := changes[0].Properties[0]; got.Before != `"1"` || got.After != "(known after the apply)" {
		t.Errorf("%+v", got)
	}
}
