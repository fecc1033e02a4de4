package artifacts

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/progress"
)

// Binary is an upstream program. What upstream releases may take the place of a build from its own module: the module
// is unpacked and is the main module of the build, so that its go.mod (with its replacements) and its go.sum, which the
// pinned hash covers, decide every dependency.
type Binary struct {
	Name    string
	Module  Module
	Package string
	Tags    string
	LDFlags string
	CGO     bool
	// Replace are extra replacements, each old=new@version, for versions that the registry lacks.
	Replace []string
	// Files are files that the published module lacks.
	Files map[string]string
	// Sums are the go.sum lines of what Replace and the dropped local replacements bring in.
	Sums []string
	// Family names the programs that share a scratch cache because they share most of their packages; empty is a family of
	// its own. It decides nothing about the program.
	Family string `json:"-"`
	// Release is the same program as upstream releases it; where there is none, or it could not be used, NoRelease says
	// why. They decide nothing about what is built.
	Release   *Release `json:"-"`
	NoRelease string   `json:"-"`
}

// image is the name of the image that upstream releases the program in, and for which the lab's own stands.
func (b Binary) image() string { return b.Release.fill(b.Release.Image) }

// family are the programs that b is built beside, by name.
func (b Binary) family() string { return cmp.Or(b.Family, b.Name) }

// scratch is the folder of the family's build and module caches: ten gigabytes that nobody needs once the programs are
// there. They are the lab's own, so that they can be thrown away, family by family.
func (c *Cache) scratch(b Binary) string { return c.path("work", "scratch", b.family()) }

// Program returns the path of the program. One that is not in the cache is downloaded, where it is released and the
// network allows it, and built otherwise.
func (c *Cache) Program(ctx context.Context, b Binary) (string, error) {
	path, err := c.program(ctx, b)
	return path, errors.Join(err, c.dropScratch(b))
}

func (c *Cache) program(ctx context.Context, b Binary) (string, error) {
	if path := c.kept(b); path != "" {
		return path, nil
	}
	if c.offered(ctx, b) {
		path, err := c.download(ctx, b)
		if err == nil || ctx.Err() != nil {
			return path, err
		}
		if c.releases.mode == OnlyReleases {
			return "", err
		}
		c.releases.say("NOT downloaded, built instead: %v", err)
	}
	if err := c.releases.missing(b); err != nil {
		return "", err
	}
	progress.Waiting(ctx, "go build of %s %s", b.Module.Path, b.Module.Version)
	return c.make(b.Name, b, func(scratch string) error { return c.compile(ctx, b, scratch) })
}

// Has tells whether the program is in the cache already.
func (c *Cache) Has(b Binary) bool { return c.kept(b) != "" }

// kept is where the finished program is, or nothing. One that was built is preferred to a release, so that a lab does
// not change under its person.
func (c *Cache) kept(b Binary) string {
	recipes := []any{b}
	if r, ok := c.releases.pinned(b); ok {
		recipes = append(recipes, r)
	}
	if c.releases.mode == OnlyReleases && b.Release != nil {
		recipes = recipes[1:]
	}
	for _, recipe := range recipes {
		path, err := c.finished(b.Name, recipe)
		if err != nil {
			continue
		}
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

func (c *Cache) build(ctx context.Context, b Binary, out string) error {
	src := c.path("work", b.Name+"-src")
	if err := os.RemoveAll(src); err != nil {
		return err
	}
	defer os.RemoveAll(src)
	if err := b.Module.unpack(ctx, src); err != nil {
		return err
	}
	for name, content := range b.Files {
		path := filepath.Join(src, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, //nolint:gosec // source files
			[]byte(content), 0o644)); err != nil {
			return err
		}
	}
	edited, err := editModule(ctx, src, b.Replace)
	if err != nil {
		return err
	}
	// Never the vendor folder: of one that upstream keeps, a published module holds only the list.
	flags := "-buildvcs=false -trimpath -mod=readonly"
	if edited {
		flags = "-buildvcs=false -trimpath -mod=mod"
	}
	sums, err := appendSums(filepath.Join(src, "go.sum"), b.Sums)
	if err != nil {
		return err
	}
	cgo := "CGO_ENABLED=0"
	if b.CGO {
		cgo = "CGO_ENABLED=1"
	}
	scratch := c.scratch(b)
	env := []string{
		cgo, "GOFLAGS=-modcacherw " + flags, "GOCACHE=" + filepath.Join(scratch,
			"build"), "GOMODCACHE=" + filepath.Join(scratch, "mod"), "GONOSUMDB=*",
		// The compiler spends a fifth less time where it collects garbage more seldom. The limit keeps the four that may run
		// at once from filling the memory.
		"GOGC=400", "GOMEMLIMIT=3GiB",
	}
	// The linker drops the debugging information (-s -w): it is not made in the first place, which saves a sixth of time
	// and disk.
	args := []string{
		"build", "-tags=" + b.Tags, "-gcflags=all=-dwarf=false", "-ldflags=-s -w " + b.LDFlags, "-o", out,
		b.Package,
	}
	if err := goCommand(ctx, src, env, args...); err != nil {
		return err
	}
	after, err := os.ReadFile(filepath.Join(src, "go.sum")) //nolint:gosec // our scratch folder
	if err != nil {
		return err
	}
	return unpinned(sums, after)
}

// dropScratch throws away the scratch cache of b's family once all its programs are built.
func (c *Cache) dropScratch(b Binary) error {
	for _, other := range binaries() {
		if c.scratch(other) == c.scratch(b) && !c.Has(other) {
			return nil
		}
	}
	return os.RemoveAll(c.scratch(b))
}

// editModule drops the replacements that point into a folder, which a published module does not contain, and adds the
// given ones.
func editModule(ctx context.Context, dir string, replace []string) (edited bool, err error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "edit", "-json")
	cmd.Dir = dir
	text, err := cmd.Output()
	if err != nil {
		return false, fmt.Errorf("read go.mod: %w", err)
	}
	var mod struct {
		Replace []struct {
			Old struct{ Path string }
			New struct{ Version string }
		}
	}
	if err := json.Unmarshal(text, &mod); err != nil {
		return false, err
	}
	args := []string{"mod", "edit"}
	for _, r := range mod.Replace {
		if r.New.Version == "" {
			args = append(args, "-dropreplace="+r.Old.Path)
		}
	}
	for _, r := range replace {
		args = append(args, "-replace="+r)
	}
	if len(args) == 2 {
		return false, nil
	}
	return true, goCommand(ctx, dir, nil, args...)
}

func appendSums(path string, lines []string) ([]byte, error) {
	sums, err := os.ReadFile(path) //nolint:gosec // our scratch folder
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		sums = append(sums, l+"\n"...)
	}
	return sums, os.WriteFile(path, sums, 0o644) //nolint:gosec // as Go writes it
}

// unpinned refuses what the go command had to add to go.sum: it was pinned by nobody.
func unpinned(before, after []byte) error {
	known := map[string]bool{}
	for l := range bytes.Lines(before) {
		known[string(bytes.TrimSpace(l))] = true
	}
	var extra []string
	for l := range bytes.Lines(after) {
		if s := string(bytes.TrimSpace(l)); s != "" && !known[s] {
			extra = append(extra, s)
		}
	}
	if len(extra) == 0 {
		return nil
	}
	return fmt.Errorf("modules that nothing pins were used: review them and add to Sums in "+
		"lab/artifacts/catalog.go:\n%s", strings.Join(extra, "\n"))
}
