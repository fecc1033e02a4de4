package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	tableFile  = "docs/versions.md"
	tableStart = "<!-- versions: UPDATE_GOLDEN=1 go test ./internal/pins -->\n"
	tableEnd   = "<!-- end of versions -->\n"
)

// component is everything of one name: what runs where, and where its version stands with what vouches for it.
type component struct {
	production, lab, checks []string
	places, moves           []string
}

// writeTable brings the table in docs/versions.md up to the checkout.
func writeTable(root string) error {
	file := filepath.Join(root, tableFile)
	text, err := os.ReadFile(file) //nolint:gosec // the checkout's own file
	if err != nil {
		return err
	}
	before, rest, started := strings.Cut(string(text), tableStart)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !started || !ended {
		return fmt.Errorf("%s has no table between %q and %q: it was not written", tableFile, tableStart, tableEnd)
	}
	drawn, err := table(root)
	if err != nil {
		return err
	}
	if fresh := before + tableStart + drawn + tableEnd + after; fresh != string(text) {
		return replace(file, fresh)
	}
	return nil
}

// table lists what is pinned in the checkout.
func table(root string) (string, error) {
	c, err := readConfiguration(root)
	if err != nil {
		return "", err
	}
	versions, err := c.versions(root)
	if err != nil {
		return "", err
	}
	modules, err := goModules(root)
	if err != nil {
		return "", err
	}
	ofAnother, err := otherSites(root)
	if err != nil {
		return "", err
	}
	components := map[string]*component{}
	for _, v := range append(versions, modules...) {
		if ofAnother(v.file) || v.file == imagesFile ||
			path.Base(v.file) == "go.mod" && components[v.name] == nil && !isPlugin(v.name) {
			continue // the second lists the tree's images once more, the third is a list itself, with go.sum beside it
		}
		each := components[v.name]
		if each == nil {
			each = &component{}
			components[v.name] = each
		}
		production, lab := runsIn(root, v.file)
		if production {
			add(&each.production, v.version)
		}
		if lab {
			add(&each.lab, v.version)
		}
		if !production && !lab {
			add(&each.checks, v.version)
		}
		add(&each.places, "`"+v.file+"`: "+verified(v))
		add(&each.moves, cmp.Or(c.fixed(v), "Renovate"))
	}
	var out strings.Builder
	out.WriteString("| component | production | lab | checks | pinned in, verified by | moved by, or why not |\n" +
		"|---|---|---|---|---|---|\n")
	list := func(values []string, between string) string {
		slices.Sort(values)
		return strings.Join(values, between)
	}
	for _, name := range slices.Sorted(maps.Keys(components)) {
		each := components[name]
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s |\n", name, list(each.production, ", "), list(each.lab, ", "),
			list(each.checks, ", "), list(each.places, "; "), list(each.moves, "; "))
	}
	return out.String(), nil
}

// isPlugin says whether a module is the SDK of Pulumi or of one of its plugins: a plugin has the version of its SDK.
func isPlugin(name string) bool { return strings.HasPrefix(name, "github.com/pulumi/") }

// add adds a value that is not there yet, with or without the v before it.
func add(values *[]string, value string) {
	bare := strings.TrimPrefix(value, "v")
	if !slices.ContainsFunc(*values, func(v string) bool { return strings.TrimPrefix(v, "v") == bare }) {
		*values = append(*values, value)
	}
}

// verified is what makes sure that a version is the one that was reviewed.
func verified(v version) string {
	switch {
	case v.digest != "":
		return "digest"
	case v.datasource == "docker" && strings.HasPrefix(v.file, "lab/"):
		return "the h1 hash of its module"
	case v.datasource == "docker" && strings.Contains(v.file, "/lab/"):
		return "built by the lab"
	case v.datasource == "docker":
		return "[tag alone](images.md)"
	case v.datasource == "npm":
		return "sha512"
	case v.datasource == "helm":
		return "not pinned: the chart's address over TLS"
	case v.datasource == "github-tags":
		return "not pinned: a tag over TLS"
	case v.name == "k3s-io/k3s":
		return "sha256"
	case v.datasource == "github-releases":
		return "digests in the operator's image"
	case strings.HasPrefix(v.file, "scripts/"):
		return "Go's checksum database"
	case strings.HasSuffix(v.file, "go.mod"):
		return "h1 hash in go.sum"
	}
	return "h1 hash"
}

// otherSites says of a file whether it is of a site that is neither production nor the lab: a checkout may have such
// sites, of people who move their versions when they want.
func otherSites(root string) (func(file string) bool, error) {
	files, err := filepath.Glob(filepath.Join(root, "Pulumi.*.yaml"))
	if err != nil {
		return nil, err
	}
	other := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "Pulumi."), ".yaml")
		other[name] = name != "production" && name != "lab"
	}
	return func(file string) bool {
		if name, isSettings := strings.CutPrefix(file, "Pulumi."); isSettings {
			return other[strings.TrimSuffix(name, ".yaml")]
		}
		return slices.ContainsFunc(strings.Split(path.Dir(file), "/"), func(folder string) bool { return other[folder] })
	}, nil
}

// runsIn says which environments take a version: by the file that is of one of them, or else by the environment's own
// kustomization, which names the folder that the file is in.
func runsIn(root, file string) (production, lab bool) {
	environments := map[string]bool{}
	for _, name := range []string{"production", "lab"} {
		folder := path.Dir(file)
		switch {
		case strings.Contains("/"+file, "/"+name+"/") || file == "Pulumi."+name+".yaml":
			environments[name] = true
		case strings.Contains(file, "/base/"):
			layer, part, _ := strings.Cut(folder, "/base/")
			text, err := os.ReadFile(filepath.Join(root, layer, name, "kustomization.yaml")) //nolint:gosec // the checkout's own
			environments[name] = err == nil && regexp.MustCompile(
				`(?m)^ +- \.\./base/`+regexp.QuoteMeta(part)+`/?$`).Match(text)
		case file == "go.mod" || strings.HasPrefix(file, "sdks/"):
			environments[name] = true // the program runs for both
		}
	}
	return environments["production"], environments["lab"]
}

var requirement = regexp.MustCompile(`(?m)^(?:\t|require )([a-z][a-z0-9.-]+/\S+|[a-z0-9.-]+\.[a-z]+) (v[0-9]\S+)$`)

// goModules are the modules that the go.mod files of the checkout require themselves: Renovate has a manager of its own
// for these.
func goModules(root string) ([]version, error) {
	var found []version
	err := eachFile(root, func(file, text string) {
		if path.Base(file) != "go.mod" {
			return
		}
		for _, at := range requirement.FindAllStringSubmatchIndex(text, -1) {
			v := version{file: file, datasource: "go", name: text[at[2]:at[3]], version: text[at[4]:at[5]], manager: -1}
			v.at = [2]int{at[4], at[5]}
			found = append(found, v)
		}
	})
	return found, err
}
