package main

import (
	"cmp"
	"go/scanner"
	"go/token"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// root is the checkout, seen from this package.
const root = "../.."

// unmanaged are versions and hashes that Renovate does not move and `scripts/pin` does not know. Each says why; one that
// stands for nothing any more is refused.
var unmanaged = []struct{ file, text, why string }{
	{".golangci.yml", `version: "2`, "the form of the file"},
	{
		"Pulumi.*.yaml", "d75e014f2d2ab5d30a318efa5c326f3b0b7596f194afcff90fa7a7a91166d5f7",
		"the install script in the module of the lab's k3s; the lab writes what it serves over it",
	},
	{
		"components/flux/operator.go", "cd69b77301b2ca2e1e2abab006597976f858b4b6583459369507d70123573c91",
		"of the manifest beside it, which is made by hand: decision 3",
	},
	{"components/k3s/validate.go", "v1.32.4+k3s1", "the oldest release that is taken without being accepted"},
	{"infrastructure/configs/*/canary.yaml", "sha256:", "the sealing key's, by scripts/seal.sh"},
	{"lab/artifacts/catalog.go", "v1.32.0+k3s1", "the only k3s that can be built from its module and is not older"},
	{
		"lab/artifacts/catalog.go", "authn/kubernetes",
		"stands in for one that is not served, for this Flux Operator alone",
	},
	{"lab/artifacts/former.go", "v1.31.0+k3s1", "what the lab upgrades from: the newest of the minor before"},
	{"lab/artifacts/former.go", "github.com/inetaf/tcpproxy", "what that k3s asks for, under the name that is served"},
	{"lab/artifacts/former.go", "1.10.1", "the image that this k3s asks for"},
	{"lab/artifacts/former.go", "v0.0.28", "the image that this k3s asks for"},
	{"lab/artifacts/images.go", "1.12.0", "the image that the lab's k3s asks for"},
	{"lab/artifacts/images.go", "docker.io/rancher/", "the images that the lab's k3s asks for; the lab makes its own"},
	{"lab/artifacts/releases.txt", "", "those of the catalog's versions: scripts/pin releases"},
	{"lab/cmd/flannel/main.go", "1.0.0", "a version of CNI's answers"},
	{"lab/plugins/plugintest/plugintest.go", "1.2.3", "of no plugin that there is"},
	{"scripts/site.sh", "10.77.0.", "an address"},
	{"stacks/config.go", "example:", "the form of a setting"},
}

func configured(t *testing.T) *configuration {
	t.Helper()
	c, err := readConfiguration(root)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// managed and required are the versions of this checkout that custom managers find, and those of its go.mod files. They
// are looked for once.
var (
	managed = sync.OnceValues(func() ([]version, error) {
		c, err := readConfiguration(root)
		if err != nil {
			return nil, err
		}
		return c.versions(root)
	})
	required = sync.OnceValues(func() ([]version, error) { return goModules(root) })
)

func found(t *testing.T, look func() ([]version, error)) []version {
	t.Helper()
	versions, err := look()
	if err != nil {
		t.Fatal(err)
	}
	return versions
}

// sighting is something in a file that looks like a version, a digest or a hash.
type sighting struct {
	file, text string
	from, to   int
}

var (
	versionLike = regexp.MustCompile(`[0-9A-Za-z_+-]*[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z._+-]*`)
	hashLike    = regexp.MustCompile(`h1:[0-9A-Za-z+/]{43}=|sha512-[0-9A-Za-z+/]{86}==|(?:sha256:)?\b[0-9a-f]{64}\b`)
	imageLike   = regexp.MustCompile(`\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z]+/[a-z0-9./_-]+:[^\s"'@]*[0-9][^\s"'@]*`)
	// A key whose value pins something, however few numbers it has.
	keyed = regexp.MustCompile(
		`\b(?:image|imageName|newTag|tag|version|acceptVersion|digest|sha256|commit|semver|branch): +["']?([^\s"']*[0-9][^\s"']*)`)
	assigned = regexp.MustCompile(`(?m)^[A-Z0-9_]+=["']?(v?[0-9]+\.[0-9A-Za-z.+-]*)["']?`)
	// A literal of Go that is a version and nothing else.
	onlyVersion = regexp.MustCompile(`^v?[0-9]+\.[0-9]+(?:\.[0-9]+)?(?:[0-9A-Za-z.+-]*[0-9A-Za-z])?$`)
	moduleLike  = regexp.MustCompile(`[a-z]/[^\s"@]+[@ ](v[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*)`)
	comment     = regexp.MustCompile(`(?m)(?:^|[ \t])#[^\n]*`)
)

// isLookedAt says whether a file may pin something: not tests, prose, sums that Go keeps, or upstream's own text.
func isLookedAt(file string) bool {
	switch path.Ext(file) {
	case ".md", ".sum", ".mod", ".crt", ".json", ".json5", ".png", ".svg":
		return false
	}
	return !strings.HasSuffix(file, "_test.go") && !strings.HasPrefix(file, "docs/") &&
		!strings.HasPrefix(file, "gitops/schemas/") && !strings.HasPrefix(file, "internal/pins/") &&
		file != "components/flux/operator.yaml" && file != "scripts/mutants.txt" && path.Base(file) != "LICENSE"
}

// sightings looks for versions and hashes without any manager's help.
func sightings(file, text string) []sighting {
	var found []sighting
	see := func(from, to int) {
		if to > from && !isAddress(text[from:to]) {
			found = append(found, sighting{file, text[from:to], from, to})
		}
	}
	if path.Ext(file) == ".go" {
		for _, literal := range goLiterals(text) {
			value, inside := text[literal[0]:literal[1]], literal[0]
			switch {
			case onlyVersion.MatchString(value):
				see(literal[0], literal[1])
			default:
				for _, e := range []*regexp.Regexp{hashLike, imageLike} {
					for _, at := range e.FindAllStringIndex(value, -1) {
						see(inside+at[0], inside+at[1])
					}
				}
				for _, at := range moduleLike.FindAllStringSubmatchIndex(value, -1) {
					see(inside+at[2], inside+at[3])
				}
			}
		}
		return found
	}
	text = comment.ReplaceAllStringFunc(text, func(c string) string { return strings.Repeat(" ", len(c)) })
	for _, e := range []*regexp.Regexp{hashLike, versionLike, imageLike} {
		for _, at := range e.FindAllStringIndex(text, -1) {
			see(at[0], at[1])
		}
	}
	for _, e := range []*regexp.Regexp{keyed, assigned} {
		for _, at := range e.FindAllStringSubmatchIndex(text, -1) {
			see(at[2], at[3])
		}
	}
	return found
}

// isAddress says whether a text is one of the network, or has one.
func isAddress(text string) bool {
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return !strings.ContainsRune("0123456789.", r) }) {
		if _, err := netip.ParseAddr(strings.Trim(part, ".")); err == nil {
			return true
		}
	}
	return false
}

// goLiterals are the insides of a Go file's string literals.
func goLiterals(text string) [][2]int {
	var literals [][2]int
	files := token.NewFileSet()
	file := files.AddFile("", -1, len(text))
	var s scanner.Scanner
	s.Init(file, []byte(text), nil, 0)
	for {
		at, kind, literal := s.Scan()
		if kind == token.EOF {
			return literals
		}
		if kind == token.STRING {
			from := file.Offset(at)
			literals = append(literals, [2]int{from + 1, from + len(literal) - 1})
		}
	}
}

// TestEveryVersionIsFound looks for versions and hashes in the checkout, and refuses what no manager of Renovate finds,
// `scripts/pin` does not refresh, and nobody has explained.
func TestEveryVersionIsFound(t *testing.T) {
	c := configured(t)
	known := map[string][][2]int{}
	for _, k := range kinds {
		checksums, err := k.find(root, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, each := range checksums {
			known[each.file] = append(known[each.file], [2]int{each.from, each.to})
		}
	}
	used := make([]bool, len(unmanaged))
	seen := 0
	err := eachFile(root, func(file, text string) {
		if !isLookedAt(file) {
			return
		}
		places := known[file]
		for _, v := range c.find(file, text) {
			places = append(places, v.at, v.digestAt)
		}
		for _, s := range sightings(file, text) {
			seen++
			if slices.ContainsFunc(places, func(at [2]int) bool { return at[0] < s.to && s.from < at[1] }) {
				continue
			}
			explained := false
			around := text[max(0, strings.LastIndexByte(text[:s.from], '\n')):s.to]
			for i, u := range unmanaged {
				if ok, _ := path.Match(u.file, file); ok && strings.Contains(around, u.text) {
					used[i], explained = true, true
				}
			}
			if !explained {
				t.Errorf("%s:%d: %q: no manager in %s finds it: it would grow old unseen: write whose it is behind it, as "+
					"lab/artifacts/catalog.go does, give it a manager, or say in unmanaged why it stays", file,
					1+strings.Count(text[:s.from], "\n"), s.text, renovateFile)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, u := range unmanaged {
		if !used[i] {
			t.Errorf("unmanaged: %s: %q: nothing there needs it any more: remove the line", u.file, u.text)
		}
	}
	if seen < 100 {
		t.Errorf("%d versions and hashes were seen: the others are not looked at", seen)
	}
}

// TestSightings keeps the look itself from being blind.
func TestSightings(t *testing.T) {
	for name, test := range map[string]struct {
		file, text string
		want       []string
	}{
		"a tag":             {"a.yaml", "image: docker.io/library/redis:7.4.10\n", []string{"redis:7.4.10"}},
		"a short tag":       {"a.yaml", "image: docker.io/library/redis:7\n", []string{"docker.io/library/redis:7"}},
		"a tag of letters":  {"a.yaml", "  tag: v2\n", []string{"v2"}},
		"a digest":          {"a.yaml", "x@sha256:" + strings.Repeat("a", 64), []string{"sha256:" + strings.Repeat("a", 64)}},
		"a bare hash":       {"a.yaml", "sum: " + strings.Repeat("a", 64), []string{strings.Repeat("a", 64)}},
		"a chart":           {"a.yaml", "version: 2.19.3\n", []string{"2.19.3"}},
		"a default":         {"a.yaml", "image: docker.io/library/mariadb:${mariadb:=11.8}\n", []string{"11.8"}},
		"in a shell script": {"a.sh", "TOOL=v1.2\n", []string{"v1.2"}},
		"in a go literal":   {"a.go", "package a\nvar b = \"v1.2.3\"", []string{"v1.2.3"}},
		"in a sum":          {"a.go", "package a\nvar b = \"x v1 h1:" + strings.Repeat("a", 43) + "=\"", []string{"h1:"}},
		"in a go module":    {"a.go", "package a\nvar b = \"a=example.com/b@v1.2.3\"", []string{"v1.2.3"}},
		"an address":        {"a.yaml", "ip: 10.77.0.1\ncidr: 10.77.0.0/16\n", nil},
		"a comment":         {"a.yaml", "# since 1.2.3\nx: y # 1.2.3\n", nil},
		"a message":         {"a.go", "package a\nvar b = \"write it like v1.2.3\"", nil},
		"a go comment":      {"a.go", "package a // 1.2.3", nil},
	} {
		t.Run(name, func(t *testing.T) {
			found := sightings(test.file, test.text)
			if len(test.want) == 0 && len(found) > 0 {
				t.Errorf("sees %v", found)
			}
			for _, want := range test.want {
				if !slices.ContainsFunc(found, func(s sighting) bool { return strings.Contains(s.text, want) }) {
					t.Errorf("does not see %q, but %v", want, found)
				}
			}
		})
	}
}

// TestEveryManagerFinds refuses an expression that finds nothing: it is wrong, or what it found is gone.
func TestEveryManagerFinds(t *testing.T) {
	c := configured(t)
	versions := found(t, managed)
	for i, m := range c.CustomManagers {
		if !slices.ContainsFunc(versions, func(v version) bool { return v.manager == i }) {
			t.Errorf("manager %d, %q: finds nothing: correct it, or remove it", i, m.Description)
		}
	}
	known := []string{"docker", "github-releases", "github-tags", "go", "helm", "npm"}
	places := map[string]int{}
	for _, v := range versions {
		if v.name == "" || v.version == "" || !slices.Contains(known, v.datasource) || strings.ContainsAny(v.name, "{}") {
			t.Errorf("%s: %+v: Renovate would throw it away", v.file, v)
		}
		places[v.file+":"+strconv.Itoa(v.at[0])]++
	}
	for place, count := range places {
		if count > 1 {
			t.Errorf("%s: %d managers find it: each would make a branch of its own", place, count)
		}
	}
}

// TestRules refuses rules about nothing, and any that merges by itself what the cluster applies within a minute.
func TestRules(t *testing.T) {
	c := configured(t)
	versions := slices.Concat(found(t, managed), found(t, required))
	if c.Automerge == nil || *c.Automerge {
		t.Error("automerge is not false: what is merged is applied within a minute")
	}
	for _, r := range c.PackageRules {
		if r.Automerge != nil && *r.Automerge {
			t.Errorf("%q merges by itself: what is merged is applied within a minute", r.Description)
		}
		if r.Enabled != nil && r.Description == "" {
			t.Errorf("%v: moves nothing and does not say why", r.Names)
		}
		for _, name := range r.Names {
			alone := rule{Names: []string{name}, Files: r.Files}
			if !slices.ContainsFunc(versions, alone.matches) {
				t.Errorf("%q, %s: about nothing that is here: correct it, or remove it",
					cmp.Or(r.Description, r.GroupName), name)
			}
		}
	}
}

// TestDataMovesOnRequest: a new major version of what holds data is asked for by a person, and the minor ones of
// Kubernetes and Longhorn too.
func TestDataMovesOnRequest(t *testing.T) {
	c := configured(t)
	asks := func(name, update string) bool {
		return slices.ContainsFunc(c.PackageRules, func(r rule) bool {
			return r.Approval && slices.Contains(r.UpdateTypes, update) && r.matches(version{name: name})
		})
	}
	for name, updates := range map[string][]string{
		"k3s-io/k3s": {"major", "minor"}, "longhorn": {"major", "minor"},
		"docker.io/longhornio/longhorn-engine": {"major", "minor"},
		"docker.io/library/mariadb":            {"major", "minor"}, "docker.io/library/redis": {"major", "minor"},
		"ghcr.io/cloudnative-pg/postgresql": {"major"}, "docker.io/library/ghost": {"major"},
		"docker.io/neosmemo/memos": {"major"}, "docker.io/discourse/discourse": {"major"},
		"cloudnative-pg/cloudnative-pg": {"major"}, "mariadb-operator": {"major"},
	} {
		for _, update := range updates {
			if !asks(name, update) {
				t.Errorf("%s: a %s version comes unasked", name, update)
			}
		}
	}
	if asks("metallb", "major") {
		t.Error("everything is asked for: the test is blind")
	}
}

// TestWhatMovesTogetherIsOfOneVersion: the same version stands in several places, and Renovate moves a group at once. A
// place that a person forgot is seen here.
func TestWhatMovesTogetherIsOfOneVersion(t *testing.T) {
	c := configured(t)
	versions := slices.Concat(found(t, managed), found(t, required))
	ofAnother, err := otherSites(root)
	if err != nil {
		t.Fatal(err)
	}
	// Charts with a version of their own, and what else a group takes along.
	own := map[string]bool{"sealed-secrets": true}
	seen := map[string]version{}
	for _, v := range versions {
		if c.fixed(v) != "" || v.file == imagesFile || ofAnother(v.file) {
			continue
		}
		of := cmp.Or(c.group(v), v.name)
		if own[v.name] {
			of = "chart " + v.name
		}
		first, ok := seen[of]
		if !ok {
			seen[of] = v
			continue
		}
		if strings.HasSuffix(v.file, "go.mod") && strings.HasSuffix(first.file, "go.mod") && c.group(v) == "" {
			continue // each module chooses for itself
		}
		if a, b := strings.TrimPrefix(first.version, "v"), strings.TrimPrefix(v.version, "v"); a != b {
			t.Errorf("%s is %s in %s, and %s is %s in %s: they are one: see %s", first.name, first.version, first.file,
				v.name, v.version, v.file, renovateFile)
		}
	}
}

// TestK3sIsDownloadedAsNamed: a version that moved leaves addresses behind until `scripts/pin` ran.
func TestK3sIsDownloadedAsNamed(t *testing.T) {
	checksums, err := findK3s(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(checksums) < 6 {
		t.Errorf("%d addresses and checksums of k3s were found: production has three of each", len(checksums))
	}
	for _, each := range checksums {
		if want, ok := strings.CutPrefix(each.what, "address of k3s "); ok {
			_, want, _ := strings.Cut(want, ", ")
			if got := read(t, filepath.Join(root, each.file))[each.from:each.to]; got != want {
				t.Errorf("%s: downloads %s, and its cluster.version is at %s: run scripts/pin", each.file, got, want)
			}
		}
	}
}

// TestChartsComeFromWhereRenovateLooks compares the note beside a chart's version with the HelmRepository beside it.
func TestChartsComeFromWhereRenovateLooks(t *testing.T) {
	versions := found(t, managed)
	charts := 0
	for _, v := range versions {
		if v.datasource == "helm" {
			charts++
			repository := read(t, filepath.Join(root, path.Dir(v.file), "repository.yaml"))
			if !strings.Contains(repository, ":="+v.registry+"}\n") {
				t.Errorf("%s: Renovate looks for the chart at %s, and Flux somewhere else", v.file, v.registry)
			}
		}
	}
	if charts < 4 {
		t.Errorf("%d charts were found: the others are not seen", charts)
	}
}

// TestCopiesAreOfTheVersionThatRuns: the definitions in gitops/schemas are copies, and the operator's manifest is one.
func TestCopiesAreOfTheVersionThatRuns(t *testing.T) {
	versions := found(t, managed)
	runs := map[string]string{}
	for _, v := range versions {
		runs[v.name] = v.version
	}
	runs["github.com/longhorn/longhorn-manager"] = "v" + runs["longhorn"]
	copied := regexp.MustCompile("`([a-z.]+/[^`@]+)@(v[^`]+)`")
	copies := copied.FindAllStringSubmatch(read(t, filepath.Join(root, "gitops/schemas/README.md")), -1)
	if len(copies) < 10 {
		t.Errorf("%d copies were found: the others are not seen", len(copies))
	}
	for _, each := range copies {
		if runs[each[1]] != each[2] {
			t.Errorf("gitops/schemas has the definitions of %s %s, and %s runs: copy them anew, as its README says",
				each[1], each[2], cmp.Or(runs[each[1]], "none"))
		}
	}
	const operator = "github.com/controlplaneio-fluxcd/flux-operator"
	manifest := read(t, filepath.Join(root, "components/flux/operator.yaml"))
	if want := "# Flux Operator " + runs[operator] + ": "; !strings.HasPrefix(manifest, want) {
		t.Errorf("components/flux/operator.yaml is not that of %s: make it anew, as it says itself", runs[operator])
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
