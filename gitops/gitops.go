// Package gitops checks the GitOps tree of a checkout offline, the way Flux will read
// it: from clusters/<environment> through every Flux Kustomization's path, built with
// kustomize, substituted, checked against the resource schemas and against the rules
// of this site (one owner per object, pinned images, nothing secret in clear, …).
//
// What it cannot see is left to the cluster: admission rules, CEL validation inside
// the schemas, and whether a sealed value really opens, which needs the private key.
package gitops

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Check validates the tree of every environment (every folder of clusters/) in the
// checkout at root. It returns all problems at once, joined, each as
// "where: what: consequence: fix"; nil means that Flux can apply the tree.
func Check(root string) error {
	entries, err := os.ReadDir(filepath.Join(root, "clusters"))
	if err != nil {
		return fmt.Errorf("clusters: %w: there is no environment to check", err)
	}
	schemas, err := loadSchemas()
	if err != nil {
		return err
	}
	tree := newTree(root, schemas)
	tree.loadListed()
	environments := 0
	for _, entry := range entries {
		if entry.IsDir() {
			environments++
			tree.checkEnvironment(entry.Name())
		}
	}
	if environments == 0 {
		tree.problem("clusters: has no folder: there is no environment, so Flux would apply nothing: add one per stack")
	}
	tree.checkFiles()
	tree.checkBases()
	tree.checkListed()
	return errors.Join(tree.problems...)
}

// tree is one run of Check.
type tree struct {
	root     string
	files    *recorder
	schemas  *schemas
	problems []error
	partial  bool // a build failed, so what it would have read is unknown
	// Images without a digest: those that docs/images.md lists, and those that are used.
	listed, unpinned []string
}

func newTree(root string, schemas *schemas) *tree {
	// Builds resolve links, so what they read is only found again under a resolved root.
	if absolute, err := filepath.Abs(root); err == nil {
		root = absolute
	}
	if resolved, err := filepath.EvalSymlinks(root); err == nil {
		root = resolved
	}
	return &tree{
		root:    root,
		files:   &recorder{FileSystem: filesys.MakeFsOnDisk(), read: map[string]bool{}},
		schemas: schemas,
	}
}

func (t *tree) problem(format string, args ...any) {
	t.problems = append(t.problems, fmt.Errorf(format, args...))
}

// checkEnvironment follows one environment from its cluster folder to its objects.
func (t *tree) checkEnvironment(name string) {
	env := t.environment(name)
	if env == nil {
		return
	}
	env.sealing = env.loadSealing()
	env.readLayers()
	env.checkLayers()
	env.checkObjects(env.buildLayers())
}

// environment reads the settings of an environment; it returns nil where they cannot be read.
func (t *tree) environment(name string) *environment {
	env := &environment{tree: t, name: name, owner: map[string]string{}, namespaces: map[string]bool{}}
	settings, err := loadStack(t.root, name)
	if err != nil {
		t.problem("%s: %w", name, err)
		t.partial = true
		return nil
	}
	env.zone = settings.Config.Cloudflare.Zone
	env.variables, env.routes = settings.variables(name), settings.Config.Cloudflare.Ingress
	env.databases, env.volumes = settings.Config.Backups.Namespaces, settings.Config.Backups.Volumes
	return env
}

// readLayers builds the cluster folder, and returns what is in it: the layers, as objects.
func (e *environment) readLayers() []object {
	objects := e.build(layer{Name: rootLayer, Path: "./clusters/" + e.name})
	for _, object := range objects {
		e.addLayer(object)
	}
	return objects
}

// buildLayers builds every layer that has been read.
func (e *environment) buildLayers() []object {
	var built []object
	for _, layer := range e.layers {
		built = append(built, e.build(layer)...)
	}
	return built
}

// environment is what is known of one environment while it is checked.
type environment struct {
	tree       *tree
	name, zone string
	variables  map[string]string
	routes     []route  // the hostnames of the stack
	databases  []string // namespaces that the program makes, for databases
	volumes    bool     // the program makes Longhorn's too
	sealing    *sealing
	layers     []layer
	owner      map[string]string // object → the layer that applies it
	namespaces map[string]bool   // namespaces made by the tree
	incomplete bool              // an object could not be read, so who lacks it is unknown
}

// problem reports against the environment and a place in it.
func (e *environment) problem(where, format string, args ...any) {
	e.tree.problem("%s: %s: %s", e.name, where, fmt.Sprintf(format, args...))
}
