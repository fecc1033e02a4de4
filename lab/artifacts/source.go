package artifacts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Module is one version of a Go module, pinned by the h1: hash of its zip, as go.sum would pin it.
type Module struct {
	Path, Version, Sum string
}

// errNotServed is a module that could not be downloaded, unlike one that is not what was reviewed.
var errNotServed = errors.New("the registry does not give it")

// fetch downloads the module, if it is not in Go's module cache, and returns the folder it was unpacked to. The content
// is refused unless its hash is the pinned one.
func (m Module) fetch(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.Path+"@"+m.Version) //nolint:gosec // a fixed table
	cmd.Dir = os.TempDir()
	// Our own pin takes the place of the checksum database, which lacks some of these modules.
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GONOSUMDB="+m.Path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var got struct{ Dir, Sum, Error string }
	if jsonErr := json.Unmarshal(out, &got); jsonErr != nil {
		return "", fmt.Errorf("download %s@%s: %w: %s", m.Path, m.Version, err, stderr.String())
	}
	if got.Error != "" {
		return "", fmt.Errorf("%w: download %s@%s: %s", errNotServed, m.Path, m.Version, got.Error)
	}
	if got.Sum != m.Sum {
		return "", fmt.Errorf("module %s@%s: its hash is %s, pinned is %s: refused, for it is not what was reviewed; "+
			"clear the module cache and try again, or change the pin in lab/artifacts/catalog.go after a "+
			"review", m.Path, m.Version, got.Sum, m.Sum)
	}
	return got.Dir, nil
}

// unpack copies the module to dir, writable.
func (m Module) unpack(ctx context.Context, dir string) error {
	from, err := m.fetch(ctx)
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()|0o200)
	})
}

// goCommand runs the go tool in dir. Its whole output is part of the error, cut to the last lines.
func goCommand(ctx context.Context, dir string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed commands
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("go %s: %w:\n%s", strings.Join(args[:min(2, len(args))], " "), err, strings.Join(lines[max(0,
			len(lines)-15):], "\n"))
	}
	return nil
}
