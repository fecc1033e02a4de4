package gitops

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What stands beside the objects of these tests, so that their file is never empty.
const beside = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: beside\n  namespace: memos-system\n"

// doc is an object as YAML: kind, namespace/name, and whatever lines follow.
func doc(apiVersion, kind, id string, rest ...string) string {
	namespace, name, found := strings.Cut(id, "/")
	if !found {
		namespace, name = "", id
	}
	text := "---\napiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata:\n  name: " + name + "\n"
	if namespace != "" {
		text += "  namespace: " + namespace + "\n"
	}
	return text + strings.Join(rest, "")
}

const keptAnnotation = "  annotations:\n    kustomize.toolkit.fluxcd.io/prune: disabled\n"

// diffOf compares two trees.
func diffOf(t *testing.T, base, head string) []EnvironmentDiff {
	t.Helper()
	diffs, err := Diff(base, head)
	if err != nil {
		t.Fatal(err)
	}
	return diffs
}

// objectsOf is what differs between two trees that have one environment and can both be rendered.
func objectsOf(t *testing.T, base, head string) []ObjectDiff {
	t.Helper()
	diffs := diffOf(t, base, head)
	if len(diffs) == 0 {
		return nil
	}
	if len(diffs) > 1 || diffs[0].Environment != "lab" || diffs[0].Op != Update || diffs[0].Note+diffs[0].Error != "" {
		t.Fatalf("environments are %+v, want an update of lab", diffs)
	}
	return diffs[0].Objects
}

// told are objects as text, without their difference: "op layer: id ! danger (note)".
func told(objects []ObjectDiff) []string {
	var lines []string
	for _, o := range objects {
		line := o.Op + " " + o.Layer + ": " + o.ID
		if o.Danger != "" {
			line += " ! " + o.Danger
		}
		if o.Note != "" {
			line += " (" + o.Note + ")"
		}
		lines = append(lines, line)
	}
	return lines
}

func wantTold(t *testing.T, objects []ObjectDiff, want ...string) {
	t.Helper()
	if got := told(objects); !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// twoTrees have one layer, of one file, in which they differ.
func twoTrees(t *testing.T, before, after string) (base, head string) {
	t.Helper()
	const kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - "
	base, head = t.TempDir(), t.TempDir()
	for root, text := range map[string]string{base: before, head: after} {
		for _, file := range []edit{
			{settings, "", readFile(t, "testdata/valid/"+settings)},
			{applications, "", readFile(t, "testdata/valid/"+applications)},
			{"clusters/lab/kustomization.yaml", "", kustomization + "apps.yaml\n"},
			{labApps, "", kustomization + "extra.yaml\n"},
			{"apps/lab/extra.yaml", "", beside + text},
		} {
			file.apply(t, root)
		}
	}
	return base, head
}

// TestDiff changes one object at a time.
func TestDiff(t *testing.T) {
	const (
		orphan = "stays behind as an orphan, for prune: disabled is written on it: " +
			"delete it by hand when nobody needs it"
		definitionsGo = "definitions are no longer kept: with them would go every object of their kinds"
		shrink        = ": no volume shrinks: it is refused, or begins empty"
	)
	claim := func(size, class string) string {
		return doc("v1", "PersistentVolumeClaim", "a/b", "spec:\n", class, "  resources: {requests: {storage: ", size, "}}\n")
	}
	postgres := func(name, rest string) string {
		return doc("postgresql.cnpg.io/v1", "Cluster", name, rest, "spec:\n  storage: {size: 2Gi}\n")
	}
	templates := func(name string) string {
		return doc("apps/v1", "StatefulSet", "a/b", "spec:\n  volumeClaimTemplates: [{metadata: {name: ", name, "}}]\n")
	}
	tests := map[string]struct {
		before, after string
		want          []string
	}{
		"nothing": {claim("1Gi", ""), claim("1Gi", ""), nil},
		"order of keys": {
			doc("v1", "ConfigMap", "a/b", "data: {c: d, e: f}\n"), doc("v1", "ConfigMap", "a/b", "data: {e: f, c: d}\n"), nil,
		},
		"created": {"", doc("v1", "ConfigMap", "a/b"), []string{"create apps: ConfigMap a/b"}},
		"deleted": {doc("v1", "ConfigMap", "a/b"), "", []string{"delete apps: ConfigMap a/b"}},
		"another version of the same kind": {
			doc("policy/v1beta1", "PodDisruptionBudget", "a/b"), doc("policy/v1", "PodDisruptionBudget", "a/b"),
			[]string{"update apps: PodDisruptionBudget a/b"},
		},
		"another group of the same kind's name": {
			doc("postgresql.cnpg.io/v1", "Database", "a/b"), doc("other.example/v1", "Database", "a/b"),
			[]string{
				"create apps: Database a/b",
				"delete apps: Database a/b ! " + held["Database.postgresql.cnpg.io"],
			},
		},
		"kept by an annotation": {
			doc("v1", "PersistentVolumeClaim", "a/b", keptAnnotation), "",
			[]string{"delete apps: PersistentVolumeClaim a/b (" + orphan + ")"},
		},
		"kept by a label": {
			doc("v1", "PersistentVolumeClaim", "a/b", "  labels: {kustomize.toolkit.fluxcd.io/prune: disabled}\n"), "",
			[]string{"delete apps: PersistentVolumeClaim a/b (" + orphan + ")"},
		},
		"kept, and its namespace is not": {
			doc("v1", "PersistentVolumeClaim", "a/b", keptAnnotation) + doc("v1", "Namespace", "a"), "",
			[]string{
				"delete apps: Namespace a ! " + held["Namespace"],
				"delete apps: PersistentVolumeClaim a/b ! goes with its namespace, whatever is written on it: its volume and all " +
					"in it",
			},
		},
		"no longer kept": {
			doc("v1", "PersistentVolumeClaim", "a/b", keptAnnotation), doc("v1", "PersistentVolumeClaim", "a/b"),
			[]string{"update apps: PersistentVolumeClaim a/b ! no longer kept: the commit that removes it will delete it, " +
				"with its volume and all in it"},
		},
		"definitions of an operator are no longer kept": {
			doc("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "a/b", "spec:\n  patches:\n    - patch: |\n",
				"        path: /metadata/annotations/kustomize.toolkit.fluxcd.io~1prune\n"),
			doc("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "a/b"),
			[]string{"update apps: Kustomization a/b ! " + definitionsGo},
		},
		"definitions of a chart are no longer kept": {
			doc("helm.toolkit.fluxcd.io/v2", "HelmRelease", "a/b", "spec:\n  postRenderers: [{kustomize: {patches: [{patch: ",
				"helm.sh~1resource-policy}]}}]\n"),
			doc("helm.toolkit.fluxcd.io/v2", "HelmRelease", "a/b"),
			[]string{"update apps: HelmRelease a/b ! " + definitionsGo},
		},
		"less storage": {
			claim("2Gi", ""), claim("2000Mi", ""),
			[]string{"update apps: PersistentVolumeClaim a/b ! asks for less storage, 2Gi → 2000Mi" + shrink},
		},
		"more storage": {claim("2Gi", ""), claim("2100Mi", ""), []string{"update apps: PersistentVolumeClaim a/b"}},
		"less storage of a database": {
			postgres("a/b", ""), strings.Replace(postgres("a/b", ""), "2Gi", "1Gi", 1),
			[]string{"update apps: Cluster a/b ! asks for less storage, 2Gi → 1Gi" + shrink},
		},
		"another class": {
			claim("2Gi", "  storageClassName: x\n"), claim("2Gi", "  storageClassName: y\n"),
			[]string{"update apps: PersistentVolumeClaim a/b ! storageClassName x → y: no volume changes its class: it is " +
				"refused, or begins empty"},
		},
		"a class where there was none": {
			claim("2Gi", ""), claim("2Gi", "  storageClassName: y\n"),
			[]string{"update apps: PersistentVolumeClaim a/b ! storageClassName none → y: no volume changes its class: it is " +
				"refused, or begins empty"},
		},
		"volumeClaimTemplates": {
			templates("x"), templates("y"),
			[]string{"update apps: StatefulSet a/b ! volumeClaimTemplates cannot change: it is refused, or the StatefulSet " +
				"made anew"},
		},
		"volumes of a StatefulSet": {
			templates("x"), "",
			[]string{"delete apps: StatefulSet a/b ! who uses its volumes: they stay, and nobody looks after them"},
		},
		"volumes that go with their StatefulSet": {
			templates("x") + "  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete}\n", "",
			[]string{"delete apps: StatefulSet a/b ! its volumes and all in them"},
		},
		"StatefulSet without volumes": {doc("apps/v1", "StatefulSet", "a/b"), "", []string{"delete apps: StatefulSet a/b"}},
		"renamed database": {
			postgres("a/b", ""), postgres("a/c", ""),
			[]string{
				"delete apps: Cluster a/b ! the database and all in it: Cluster a/c begins empty",
				"create apps: Cluster a/c ! an empty database in the place of Cluster a/b: what is in that one does not come along",
			},
		},
		"renamed database that is kept": {
			postgres("a/b", keptAnnotation), postgres("a/c", keptAnnotation),
			[]string{
				"delete apps: Cluster a/b (" + orphan + ")",
				"create apps: Cluster a/c ! an empty database in the place of Cluster a/b: what is in that one does not come along",
			},
		},
		"databases of two namespaces": {
			postgres("a/b", ""), postgres("c/b", ""),
			[]string{"delete apps: Cluster a/b ! the database and all in it", "create apps: Cluster c/b"},
		},
		"bootstrap": {
			postgres("a/b", ""), postgres("a/b", "") + "  bootstrap: {recovery: {source: origin}}\n",
			[]string{"update apps: Cluster a/b ! bootstrap is read once: the database that there is does not change, the next " +
				"one begins otherwise"},
		},
		"bootstrapFrom": {
			doc("k8s.mariadb.com/v1alpha1", "MariaDB", "a/b"),
			doc("k8s.mariadb.com/v1alpha1", "MariaDB", "a/b", "spec: {bootstrapFrom: {}}\n"),
			[]string{"update apps: MariaDB a/b ! bootstrapFrom is read once: the database that there is does not change, the " +
				"next one begins otherwise"},
		},
		"operators": {
			doc("helm.toolkit.fluxcd.io/v2", "HelmRelease", "a/longhorn") +
				doc("helm.toolkit.fluxcd.io/v2", "HelmRelease", "a/maria", "spec: {chart: {spec: {chart: mariadb-operator}}}\n") +
				doc("source.toolkit.fluxcd.io/v1", "HelmRepository", "a/cloudnative-pg") +
				doc("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "a/cnpg") +
				doc("helm.toolkit.fluxcd.io/v2", "HelmRelease", "a/metallb"), "",
			[]string{
				"delete apps: HelmRelease a/longhorn ! " + operatorGoes, "delete apps: HelmRelease a/maria ! " + operatorGoes,
				"delete apps: HelmRelease a/metallb",
				"delete apps: HelmRepository a/cloudnative-pg ! " + operatorGoes,
				"delete apps: Kustomization a/cnpg ! " + operatorGoes,
			},
		},
	}
	for kind, reason := range held {
		apiVersion := "v1"
		name, group, found := strings.Cut(kind, ".")
		if found {
			apiVersion = group + "/v1"
		}
		id := "a/b"
		if slices.Contains([]string{"Namespace", "PersistentVolume", "StorageClass", "CustomResourceDefinition"}, name) {
			id = "b"
		}
		test := tests["deleted"]
		test.before, test.want = doc(apiVersion, name, id), []string{"delete apps: " + name + " " + id + " ! " + reason}
		tests["deleted "+kind] = test
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			base, head := twoTrees(t, test.before, test.after)
			wantTold(t, objectsOf(t, base, head), test.want...)
		})
	}
}

// TestDiffText shows a difference as a person reads it.
func TestDiffText(t *testing.T) {
	text := func(middle string) string {
		return doc("v1", "ConfigMap", "a/b", "data:\n  a: ${zone}\n  b: x\n  c: x\n  d: x\n", middle, "  f: x\n  g: x\n")
	}
	base, head := twoTrees(t, text("  e: before\n"), text("  e: after\n"))
	objects := objectsOf(t, base, head)
	const want = "@@ -4,7 +4,7 @@\n   b: x\n   c: x\n   d: x\n-  e: before\n+  e: after\n   f: x\n   g: x\n" +
		" kind: ConfigMap\n"
	if len(objects) != 1 || objects[0].Diff != want {
		t.Errorf("got %+v, want\n%s", objects, want)
	}
	base, head = twoTrees(t, "", doc("v1", "ConfigMap", "a/b", "data:\n  a: ${zone}\n"))
	const created = "@@ -0,0 +1,7 @@\n+apiVersion: v1\n+data:\n+  a: lab.test\n+kind: ConfigMap\n+metadata:\n" +
		"+  name: b\n+  namespace: a\n"
	if objects := objectsOf(t, base, head); len(objects) != 1 || objects[0].Diff != created {
		t.Errorf("got %+v, want\n%s", objects, created)
	}
}

// TestDiffHidesSecrets changes secret values, and looks for them.
func TestDiffHidesSecrets(t *testing.T) {
	sealed := func(spec string) string { return doc("bitnami.com/v1alpha1", "SealedSecret", "a/b", spec) }
	for name, text := range map[string]string{
		"sealed":             sealed("spec:\n  encryptedData: {key: VALUE, other: same}\n"),
		"template":           sealed("spec: {template: {data: {key: VALUE}}}\n"),
		"sealed as one":      sealed("spec: {data: VALUE}\n"),
		"secret":             doc("v1", "Secret", "a/b", "data: {key: VALUE}\n"),
		"secret in clear":    doc("v1", "Secret", "a/b", "stringData: {key: VALUE}\n"),
		"no map":             doc("v1", "Secret", "a/b", "data: VALUE\n"),
		"noted by kubectl":   doc("v1", "Secret", "a/b", "  annotations: {"+lastApplied+": VALUE}\n"),
		"a list in a secret": doc("v1", "Secret", "a/b", "data: {key: [VALUE]}\n"),
	} {
		t.Run(name, func(t *testing.T) {
			base, head := twoTrees(t, strings.ReplaceAll(text, "VALUE", "hunter1"), strings.ReplaceAll(text, "VALUE", "hunter2"))
			objects := objectsOf(t, base, head)
			if len(objects) != 1 || strings.Contains(objects[0].Diff, "hunter") ||
				strings.Count(objects[0].Diff, "\n-") != 1 || strings.Count(objects[0].Diff, "\n+") != 1 ||
				!strings.Contains(objects[0].Diff, "(sealed, sha256 ") {
				t.Errorf("got %+v, want one change of a mark", objects)
			}
		})
	}
}

// TestDiffOfLayers moves objects from one layer to another, and removes layers.
func TestDiffOfLayers(t *testing.T) {
	claims := beside + doc("v1", "PersistentVolumeClaim", "a/b") +
		doc("v1", "PersistentVolumeClaim", "a/kept", keptAnnotation)
	inApps := []edit{
		{labApps, "resources:\n  - ../base/memos\n", "resources:\n  - extra.yaml\n"},
		{labApps, "replicas:\n", "#"},
		{labApps, "  - name: memos", "#"},
		{labApps, "    count: 1", "#"},
		{"apps/lab/extra.yaml", "", claims},
	}
	labDatabases := "databases/lab/kustomization.yaml"
	inDatabases := []edit{
		{labDatabases, "resources:\n", "resources:\n  - extra.yaml\n"}, {"databases/lab/extra.yaml", "", claims},
	}
	left := []edit{{"apps/lab/extra.yaml", "", doc("v1", "ConfigMap", "a/left")}}
	without := []edit{{"clusters/lab/kustomization.yaml", "  - apps.yaml\n", ""}}
	const (
		mayGo  = "deleted and made anew if apps is applied first: its volume and all in it"
		orphan = "stays behind as an orphan, for prune: disabled is written on it: delete it by hand when nobody needs it"
		stays  = "stays behind as an orphan, for its layer does not prune: delete it by hand when nobody needs it"
	)
	for name, test := range map[string]struct {
		base, head []edit // what is done to the head comes on top
		want       []string
	}{
		"moved": {head: slices.Concat(inDatabases, left), want: []string{
			"create apps: ConfigMap a/left",
			"update databases: ConfigMap memos-system/beside (moves here from layer apps)",
			"update databases: PersistentVolumeClaim a/b ! " + mayGo + " (moves here from layer apps)",
			"update databases: PersistentVolumeClaim a/kept (moves here from layer apps)",
		}},
		"layer removed": {head: without, want: []string{
			"delete flux-system: Kustomization flux-system/apps ! all that it applied and no other layer does: 2 objects",
			"delete apps: ConfigMap memos-system/beside",
			"delete apps: PersistentVolumeClaim a/b ! its volume and all in it",
			"delete apps: PersistentVolumeClaim a/kept (" + orphan + ")",
		}},
		"layer removed, and its objects move": {head: slices.Concat(without, inDatabases), want: []string{
			"delete flux-system: Kustomization flux-system/apps (3 of its objects move to other layers)",
			"update databases: ConfigMap memos-system/beside (moves here from layer apps)",
			"update databases: PersistentVolumeClaim a/b ! " + mayGo + " (moves here from layer apps)",
			"update databases: PersistentVolumeClaim a/kept (moves here from layer apps)",
		}},
		"layer that does not prune": {
			base: []edit{{applications, "prune: true", "prune: false"}}, head: left, want: []string{
				"create apps: ConfigMap a/left",
				"delete apps: ConfigMap memos-system/beside (" + stays + ")",
				"delete apps: PersistentVolumeClaim a/b (" + stays + ")",
				"delete apps: PersistentVolumeClaim a/kept (" + orphan + ")",
			},
		},
		"layer that does not prune, removed": {
			base: []edit{{applications, "prune: true", "prune: false"}}, head: without, want: []string{
				"delete flux-system: Kustomization flux-system/apps",
				"delete apps: ConfigMap memos-system/beside (" + stays + ")",
				"delete apps: PersistentVolumeClaim a/b (" + stays + ")",
				"delete apps: PersistentVolumeClaim a/kept (" + orphan + ")",
			},
		},
		"layer that stays": {
			base: []edit{{applications, "metadata:\n", "metadata:\n" + keptAnnotation}}, head: without, want: []string{
				"delete flux-system: Kustomization flux-system/apps (" + orphan + ")",
				"delete apps: ConfigMap memos-system/beside (" + strings.Replace(stays, "does not prune", "stays, too", 1) + ")",
				"delete apps: PersistentVolumeClaim a/b (" + strings.Replace(stays, "does not prune", "stays, too", 1) + ")",
				"delete apps: PersistentVolumeClaim a/kept (" + orphan + ")",
			},
		},
		"layer changed": {head: []edit{{applications, "timeout: 5m", "timeout: 6m"}}, want: []string{
			"update flux-system: Kustomization flux-system/apps",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			base, head := copyTree(t), copyTree(t)
			for _, e := range slices.Concat(inApps, test.base) {
				e.apply(t, base)
				e.apply(t, head)
			}
			for _, e := range test.head {
				e.apply(t, head)
			}
			wantTold(t, objectsOf(t, base, head), test.want...)
		})
	}
}

// TestDiffOfEnvironments has several of them: new, gone, broken before and after.
func TestDiffOfEnvironments(t *testing.T) {
	with := func(names ...string) string {
		root := copyTree(t)
		for _, name := range names {
			lab := os.DirFS(filepath.Join(root, "clusters/lab"))
			if err := os.CopyFS(filepath.Join(root, "clusters", name), lab); err != nil {
				t.Fatal(err)
			}
			stack := filepath.Join(root, "Pulumi."+name+".yaml")
			if err := os.WriteFile(stack, []byte(readFile(t, filepath.Join(root, settings))), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	broken := edit{"clusters/bad/apps.yaml", "timeout: 5m", "timeout: ${none}"}
	base, head := with("bad", "gone"), with("bad", "new")
	broken.apply(t, head)
	edit{service, "5230", "5231"}.apply(t, head)
	diffs := diffOf(t, base, head)
	var got []string
	for _, d := range diffs {
		got = append(got, fmt.Sprintf("%s %s %d objects, note %q, error %q", d.Op, d.Environment, min(len(d.Objects), 2),
			d.Note, d.Error))
	}
	const problem = "flux-system: Kustomization apps: has a ${variable}: nothing substitutes it in ./clusters/bad: " +
		"write the value, or move it into a layer"
	want := []string{
		fmt.Sprintf("update bad 0 objects, note %q, error %q", "", "bad: "+problem),
		fmt.Sprintf("delete gone 0 objects, note %q, error %q", "clusters/gone is gone: Flux no longer finds what it reads "+
			"there, and leaves in the cluster all that it has applied", ""),
		`update lab 1 objects, note "", error ""`,
		`create new 2 objects, note "", error ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, d := range diffs {
		for _, o := range d.Objects {
			if d.Op == Create && o.Op != Create {
				t.Errorf("%s: %s of %s", d.Environment, o.Op, o.ID)
			}
		}
	}

	diffs = diffOf(t, head, base) // backwards
	if len(diffs) != 4 || diffs[0].Environment != "bad" || diffs[0].Error != "" || len(diffs[0].Objects) == 0 ||
		diffs[0].Note != "the base cannot be rendered, so that everything shows as new:\nbad: "+problem {
		t.Errorf("of a broken base: %+v", diffs)
	}
	if diffs := diffOf(t, t.TempDir(), head); len(diffs) != 3 || diffs[1].Op != Create {
		t.Errorf("of a base without environments: %+v", diffs)
	}
	if _, err := Diff(base, t.TempDir()); err == nil ||
		!strings.Contains(err.Error(), "there is no environment to compare") {
		t.Errorf("of a head without environments: %v", err)
	}
}

// TestDiffTellsAllProblems breaks two objects of the head.
func TestDiffTellsAllProblems(t *testing.T) {
	head := copyTree(t)
	edit{deployment, "${zone}", "${zon}"}.apply(t, head)
	edit{canary, "message", "${mess}"}.apply(t, head)
	diffs := diffOf(t, "testdata/valid", head)
	if len(diffs) != 1 || strings.Count(diffs[0].Error, "\n") != 1 ||
		!strings.Contains(diffs[0].Error, "${zon} is not defined") ||
		!strings.Contains(diffs[0].Error, "${mess} is not defined") || diffs[0].Objects != nil {
		t.Errorf("got %+v, want two problems and no objects", diffs)
	}
}

// TestDiffOfTheSite takes an application and its database out of a copy of this checkout.
func TestDiffOfTheSite(t *testing.T) {
	head := t.TempDir()
	for _, name := range []string{"clusters", "infrastructure", "databases", "apps"} {
		if err := os.CopyFS(filepath.Join(head, name), os.DirFS(filepath.Join("..", name))); err != nil {
			t.Fatal(err)
		}
	}
	stacks, err := filepath.Glob("../Pulumi.*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, stack := range stacks {
		if err := os.WriteFile(filepath.Join(head, filepath.Base(stack)), []byte(readFile(t, stack)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diffs := diffOf(t, "..", head); diffs != nil {
		t.Errorf("a copy differs: %+v", diffs)
	}
	for _, layer := range []string{"apps", "databases"} {
		edit{layer + "/lab/kustomization.yaml", "  - ../base/ghost\n", ""}.apply(t, head)
	}
	objects := objectsOf(t, "..", head)
	text := strings.Join(told(objects), "\n")
	for _, want := range []string{
		"delete databases: MariaDB ghost-system/ghost-database (stays behind as an orphan",
		"! the copies of a database: none is made any more",
		"delete apps: PersistentVolumeClaim ghost-system/ghost (stays behind as an orphan",
		"delete apps: Deployment ghost-system/ghost",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}
