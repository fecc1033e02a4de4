package gitops

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pmezard/go-difflib/difflib"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// What happens to an object, or to an environment.
const (
	Create = "create"
	Update = "update"
	Delete = "delete"
)

// EnvironmentDiff is how what Flux applies in one environment differs between two checkouts.
type EnvironmentDiff struct {
	Environment string
	// Op is Create where only the head has the environment, Delete where only the base has it, else Update.
	Op string
	// Note says with what the head was compared where that is not the base, and what becomes of an environment that is
	// gone: in a sentence or several lines. Else empty.
	Note string
	// Objects are those that differ, layer by layer.
	Objects []ObjectDiff
	// Error is why the head cannot be rendered: all problems, one a line, as Check words them. Then there are no objects.
	Error string
}

// ObjectDiff is how one object differs.
type ObjectDiff struct {
	Op string
	// Layer is the Flux Kustomization that applies it, or did; ID the object: "HelmRelease metallb-system/metallb".
	Layer, ID string
	// Danger says in a few words what would be lost, or what cannot be undone. Else empty.
	Danger string
	// Note says that the object comes from another layer, or that Flux leaves it in the cluster. Else empty.
	Note string
	// Diff is the unified difference of the object as YAML, without file names and without what is secret: of such a
	// value it has the checksum.
	Diff string
}

// Diff compares what Flux applies in the checkout at base with that in the one at head, for every environment (folder
// of clusters/) of either, rendered as Check does. Environments in which nothing differs are left out. An error means
// that nothing could be compared; what is wrong with one environment stands in its own.
func Diff(base, head string) ([]EnvironmentDiff, error) {
	schemas, err := loadSchemas()
	if err != nil {
		return nil, err
	}
	before, err := environments(base)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	after, err := environments(head)
	if err != nil {
		return nil, err
	}
	var diffs []EnvironmentDiff
	for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(before, after)))) {
		diff := EnvironmentDiff{Environment: name, Op: Update}
		if !slices.Contains(after, name) {
			diff.Op = Delete
			diff.Note = "clusters/" + name + " is gone: Flux no longer finds what it reads there, and leaves in the cluster " +
				"all that it has applied"
			diffs = append(diffs, diff)
			continue
		}
		var old rendered
		if !slices.Contains(before, name) {
			diff.Op = Create
		} else if old = render(base, name, schemas); len(old.problems) > 0 {
			diff.Note = "the base cannot be rendered, so that everything shows as new:\n" + errors.Join(old.problems...).Error()
			old = rendered{}
		}
		if now := render(head, name, schemas); len(now.problems) > 0 {
			diff.Error = errors.Join(now.problems...).Error()
		} else if diff.Objects, err = compare(old, now); err != nil {
			return nil, err
		}
		if diff.Op != Update || diff.Note != "" || diff.Error != "" || len(diff.Objects) > 0 {
			diffs = append(diffs, diff)
		}
	}
	return diffs, nil
}

// environments are the folders of clusters/ in a checkout.
func environments(root string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, "clusters"))
	if err != nil {
		return nil, fmt.Errorf("clusters: %w: there is no environment to compare", err)
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// rendered is all that Flux applies in an environment, the layers themselves among it.
type rendered struct {
	layers   []layer
	objects  []object
	problems []error
}

func render(root, name string, schemas *schemas) rendered {
	tree := newTree(root, schemas)
	e := tree.environment(name)
	if e == nil {
		return rendered{problems: tree.problems}
	}
	objects := e.readLayers()
	objects = append(objects, e.buildLayers()...)
	return rendered{e.layers, objects, tree.problems}
}

// key tells objects apart whatever layer they are in, and whatever version of their kind they are written in.
func (o object) key() string {
	group, _, _ := strings.Cut(o.GetAPIVersion(), "/")
	return group + " " + o.id()
}

// change is an object before and after, where nil is none.
type change struct{ before, after *object }

func (c change) object() *object { return cmp.Or(c.after, c.before) }

// changes pairs the objects of two renderings: within a layer first, then those that come from another one.
func changes(old, now rendered) []change {
	type place struct{ layer, key string }
	was := map[place]*object{}
	for i, o := range old.objects {
		was[place{o.layer, o.key()}] = &old.objects[i]
	}
	var all []change
	for i := range now.objects {
		o := &now.objects[i]
		here := place{o.layer, o.key()}
		all = append(all, change{was[here], o})
		delete(was, here)
	}
	for i, c := range all {
		if c.before != nil {
			continue
		}
		for _, l := range old.layers {
			there := place{l.Name, c.after.key()}
			if former := was[there]; former != nil {
				all[i].before = former
				delete(was, there)
				break
			}
		}
	}
	for _, o := range was {
		all = append(all, change{before: o})
	}
	order := []string{rootLayer}
	for _, l := range slices.Concat(now.layers, old.layers) {
		order = append(order, l.Name)
	}
	slices.SortFunc(all, func(a, b change) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.object().layer), slices.Index(order, b.object().layer)),
			strings.Compare(a.object().id(), b.object().id()), strings.Compare(a.object().key(), b.object().key()),
		)
	})
	return all
}

func compare(old, now rendered) ([]ObjectDiff, error) {
	all := changes(old, now)
	r := risks{old: old, now: now, all: all}
	var diffs []ObjectDiff
	for _, c := range all {
		before, err := shown(c.before)
		if err != nil {
			return nil, err
		}
		after, err := shown(c.after)
		if err != nil {
			return nil, err
		}
		moved := c.before != nil && c.after != nil && c.before.layer != c.after.layer
		if before == after && !moved {
			continue
		}
		d := ObjectDiff{Op: Update, Layer: c.object().layer, ID: c.object().id()}
		switch {
		case c.before == nil:
			d.Op = Create
			d.Danger = r.created(c.after)
		case c.after == nil:
			d.Op = Delete
			d.Danger, d.Note = r.deleted(c.before)
		default:
			d.Danger = updated(c.before, c.after)
		}
		if moved {
			d.Note = "moves here from layer " + c.before.layer
			d.Danger = strings.TrimPrefix(strings.TrimSuffix(d.Danger+"; "+r.moved(c.before), "; "), "; ")
		}
		if d.Diff, err = difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
			A: lines(before), B: lines(after), Context: 3,
		}); err != nil {
			return nil, err
		}
		diffs = append(diffs, d)
	}
	return diffs, nil
}

func lines(text string) []string { return slices.Collect(strings.Lines(text)) }

// shown is an object as YAML, with its keys in order and without what is secret.
func shown(o *object) (string, error) {
	if o == nil {
		return "", nil
	}
	masked := o.DeepCopy()
	var fields [][]string
	switch o.GetKind() {
	case "Secret":
		fields = [][]string{{"data"}, {"stringData"}, {"metadata", "annotations", lastApplied}}
	case "SealedSecret":
		fields = [][]string{{"spec", "encryptedData"}, {"spec", "data"}, {"spec", "template", "data"}}
	}
	for _, field := range fields {
		value, found, _ := unstructured.NestedFieldNoCopy(masked.Object, field...)
		values, many := value.(map[string]any)
		for key := range values {
			values[key] = mark(values[key])
		}
		if found && !many {
			if err := unstructured.SetNestedField(masked.Object, mark(value), field...); err != nil {
				return "", err
			}
		}
	}
	text, err := yaml.Marshal(masked.Object)
	return string(text), err
}

// lastApplied is where kubectl notes a whole object, should somebody have committed what it shows.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// mark stands for a secret value: another one for each.
func mark(value any) string {
	digest := sha256.Sum256(fmt.Append(nil, value))
	return "(sealed, sha256 " + hex.EncodeToString(digest[:])[:12] + ")"
}
