package kubernetes

import (
	"testing"

	property "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kinds "k8s.io/apimachinery/pkg/runtime/schema"
)

func TestProjection(t *testing.T) {
	cases := map[string]struct{ in, live, want map[string]any }{
		"defaults of the server are left out": {
			in: map[string]any{"spec": map[string]any{"replicas": 1.0}},
			live: map[string]any{
				"spec":   map[string]any{"replicas": int64(1), "strategy": "Rolling"},
				"status": map[string]any{},
			},
			want: map[string]any{"spec": map[string]any{"replicas": 1.0}},
		},
		"a changed value is shown": {
			in:   map[string]any{"spec": map[string]any{"replicas": 1.0}},
			live: map[string]any{"spec": map[string]any{"replicas": int64(3)}},
			want: map[string]any{"spec": map[string]any{"replicas": 3.0}},
		},
		"a missing value is left out": {
			in:   map[string]any{"data": map[string]any{"a": "1", "b": "2"}},
			live: map[string]any{"data": map[string]any{"a": "1"}},
			want: map[string]any{"data": map[string]any{"a": "1"}},
		},
		"an empty value needs no counterpart": {
			in:   map[string]any{"metadata": map[string]any{"labels": map[string]any{}, "x": false}},
			live: map[string]any{"metadata": map[string]any{}},
			want: map[string]any{"metadata": map[string]any{"labels": map[string]any{}, "x": false}},
		},
		"items are matched by name": {
			in: map[string]any{"c": []any{map[string]any{"name": "a", "v": "1"}, map[string]any{"name": "b", "v": "2"}}},
			live: map[string]any{"c": []any{map[string]any{"name": "b", "v": "2", "d": "x"}, map[string]any{
				"name": "a",
				"v":    "1",
			}}},
			want: map[string]any{"c": []any{map[string]any{"name": "a", "v": "1"}, map[string]any{"name": "b", "v": "2"}}},
		},
		"a longer list is shown": {
			in:   map[string]any{"c": []any{"a"}},
			live: map[string]any{"c": []any{"a", "b"}},
			want: map[string]any{"c": []any{"a", "b"}},
		},
		"quantities have several notations": {
			in:   map[string]any{"limits": map[string]any{"cpu": "1000m", "memory": "1024Mi"}},
			live: map[string]any{"limits": map[string]any{"cpu": "1", "memory": "1Gi"}},
			want: map[string]any{"limits": map[string]any{"cpu": "1000m", "memory": "1024Mi"}},
		},
	}
	for name, c := range cases {
		got := project(property.NewPropertyMapFromMap(c.in), &unstructured.Unstructured{Object: c.live})
		if want := property.NewPropertyMapFromMap(c.want); !got.DeepEquals(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestReplacements(t *testing.T) {
	type change struct{ olds, news map[string]any }
	meta := func(name, namespace string) map[string]any {
		return map[string]any{"name": name, "namespace": namespace}
	}
	cases := map[string]struct {
		kind        kinds.GroupVersionKind
		change      change
		replace     bool
		deleteFirst bool
	}{
		"a label": {
			kinds.GroupVersionKind{Kind: "Service"},
			change{
				map[string]any{"metadata": map[string]any{"name": "a"}},
				map[string]any{"metadata": map[string]any{"name": "a", "labels": map[string]any{"x": "y"}}},
			},
			false,
			false,
		},
		"the name": {
			kinds.GroupVersionKind{Kind: "Service"},
			change{map[string]any{"metadata": meta("a", "n")}, map[string]any{"metadata": meta("b", "n")}},
			true,
			false,
		},
		"the namespace": {
			kinds.GroupVersionKind{Kind: "Service"},
			change{map[string]any{"metadata": meta("a", "n")}, map[string]any{"metadata": meta("a", "o")}},
			true,
			false,
		},
		"a selector": {kinds.GroupVersionKind{Group: "apps", Kind: "Deployment"}, change{
			map[string]any{
				"metadata": meta("a", "n"),
				"spec":     map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"a.b/c": "x"}}},
			},
			map[string]any{
				"metadata": meta("a", "n"),
				"spec":     map[string]any{"selector": map[string]any{"matchLabels": map[string]any{"a.b/c": "y"}}},
			},
		}, true, true},
		"replicas": {kinds.GroupVersionKind{Group: "apps", Kind: "Deployment"}, change{
			map[string]any{"spec": map[string]any{"replicas": 1.0}}, map[string]any{"spec": map[string]any{"replicas": 2.0}},
		}, false, false},
		"a key like an immutable one": {kinds.GroupVersionKind{Kind: "ConfigMap"}, change{
			map[string]any{"metadata": map[string]any{"name": "a", "annotations": map[string]any{"data": "1"}}},
			map[string]any{"metadata": map[string]any{"name": "a", "annotations": map[string]any{"data": "2"}}},
		}, false, false},
		"a version of the same group": {kinds.GroupVersionKind{Group: "x", Kind: "K"}, change{
			map[string]any{"apiVersion": "x/v1beta1"}, map[string]any{"apiVersion": "x/v1"},
		}, false, false},
		"another group": {kinds.GroupVersionKind{Group: "x", Kind: "K"}, change{
			map[string]any{"apiVersion": "x/v1"}, map[string]any{"apiVersion": "y/v1"},
		}, true, true},
		"a mutable Secret's type": {kinds.GroupVersionKind{Kind: "Secret"}, change{
			map[string]any{"metadata": meta("a", "n"), "type": "Opaque"}, map[string]any{
				"metadata": meta("a", "n"),
				"type":     "kubernetes.io/tls",
			},
		}, true, true},
		"a mutable Secret's data": {kinds.GroupVersionKind{Kind: "Secret"}, change{
			map[string]any{"data": map[string]any{"a.b": "1"}}, map[string]any{"data": map[string]any{"a.b": "2"}},
		}, false, false},
		"an immutable Secret's data": {kinds.GroupVersionKind{Kind: "Secret"}, change{
			map[string]any{"metadata": meta("a", "n"), "immutable": true, "data": map[string]any{"a.b": "1"}},
			map[string]any{"metadata": meta("a", "n"), "immutable": true, "data": map[string]any{"a.b": "2"}},
		}, true, true},
	}
	p := newProvider(nil, "1.2.3")
	p.settings.mutableSecrets, p.settings.mutableConfigMaps = true, true
	for name, c := range cases {
		diff, deleteFirst := p.compare(c.kind, property.NewPropertyMapFromMap(c.change.olds),
			property.NewPropertyMapFromMap(c.change.news))
		replace := false
		for _, change := range diff {
			replace = replace || change.Kind.IsReplace()
		}
		if len(diff) == 0 || replace != c.replace || deleteFirst != c.deleteFirst {
			t.Errorf("%s: replace %t, delete first %t, want %t, %t "+
				"(%v)", name, replace, deleteFirst, c.replace, c.deleteFirst, diff)
		}
	}
}

func TestWaitFor(t *testing.T) {
	live := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{
		"phase": "Running",
		"conditions": []any{
			map[string]any{"type": "Ready", "status": "True"},
			map[string]any{"type": "Stalled", "status": "False"},
		},
	}}}
	for expression, want := range map[string]bool{
		"condition=Ready":                                        true,
		"condition=Ready=False":                                  false,
		"condition=Stalled=False":                                true,
		"condition=Missing":                                      false,
		"jsonpath={.status.phase}":                               true,
		"jsonpath={.status.phase}=Running":                       true,
		"jsonpath={.status.phase}=Pending":                       false,
		"jsonpath={.status.none}":                                false,
		`["condition=Ready","jsonpath={.status.phase}=Running"]`: true,
		`["condition=Ready","jsonpath={.status.phase}=Pending"]`: false,
	} {
		ready, err := parseWaitFor(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		if got, waiting, err := ready(live); got != want || err != nil || (!got && waiting == "") {
			t.Errorf("%s: ready %t (%q), %v, want %t", expression, got, waiting, err, want)
		}
	}
	for _, expression := range []string{
		"Ready", "condition=", "jsonpath=", "jsonpath={.a", `["condition=Ready"`,
		"jsonpath={.a}b",
	} {
		if _, err := parseWaitFor(expression); err == nil {
			t.Errorf("%s is not refused", expression)
		}
	}
}
