// Package artifacts makes everything the lab runs out of the language's package registries alone: upstream binaries
// from their Go modules, container images around them, and the root filesystem of the machine. Where the network allows
// it, programs that upstream releases, and whose checksums are pinned, are downloaded instead. Each finished piece is
// kept in a cache under a key of all that went into it, so that nothing is made twice and an interrupted run goes on
// where it stopped.
package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// Cache is a folder of finished artifacts. The zero value is not usable; see Open.
type Cache struct {
	dir      string
	releases *releases
	// compile makes a program from its module.
	compile func(ctx context.Context, b Binary, out string) error
	// turns are the programs that are compiled or downloaded at a time.
	turns chan struct{}
}

// Open returns the cache in dir, which is made if it is missing.
func Open(dir string) (*Cache, error) {
	c, err := in(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{c.path("done"), c.path("work")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("cache of the lab: %w", err)
		}
	}
	return c, nil
}

// in is the cache in dir, of which nothing is made.
func in(dir string) (*Cache, error) {
	r, err := readReleases()
	if err != nil {
		return nil, err
	}
	c := &Cache{dir: dir, releases: r, turns: make(chan struct{}, 2)}
	c.compile = c.build
	return c, nil
}

func (c *Cache) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// finished is where an artifact is, or will be, kept: its name and a digest of its recipe. The recipe is anything that
// marshals to JSON and names all that decides the content.
func (c *Cache) finished(name string, recipe any) (string, error) {
	text, err := json.Marshal(recipe)
	if err != nil {
		return "", fmt.Errorf("recipe of %s: %w", name, err)
	}
	sum := sha256.Sum256(append(text, runtime.Version()+runtime.GOARCH...))
	return c.path("done", name+"-"+hex.EncodeToString(sum[:6])), nil
}

// make returns the path of the finished artifact, building it first if it is not there. build writes to a scratch path
// on the same file system; only a complete artifact is moved into place.
func (c *Cache) make(name string, recipe any, build func(scratch string) error) (string, error) {
	final, err := c.finished(name, recipe)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	scratch := c.path("work", filepath.Base(final))
	if err := os.RemoveAll(scratch); err != nil {
		return "", err
	}
	if err := build(scratch); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if err := os.Rename(scratch, final); err != nil {
		return "", err
	}
	return final, nil
}

// SHA256 returns the hex digest of a file.
func SHA256(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the caller names the file to measure
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
