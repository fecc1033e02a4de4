package benchmark

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

var variants = []struct{ name, tags string }{
	{"the program", ""},
	{"the same, importing the generated Cloudflare SDK", "generated_sdk"},
}

// Compile compares a cold compile of the program with one that imports the generated Cloudflare SDK, each into an empty
// cache.
func Compile(ctx context.Context, out io.Writer, checkout string) error {
	fmt.Fprint(out, "\n| cold compile | wall (s) | largest process (GB) | binary (MB) |\n|---|---|---|---|\n")
	for _, v := range variants {
		dir, err := os.MkdirTemp("", "compile")
		if err != nil {
			return err
		}
		err = compile(out, compiler(ctx, checkout, dir, v.tags), v.name, dir)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

func compile(out io.Writer, cmd *exec.Cmd, name, dir string) error {
	var printed strings.Builder
	cmd.Stdout, cmd.Stderr = &printed, &printed
	wall, err := timed(cmd.Run)
	if err != nil {
		return fmt.Errorf("compile %s: %w: %s", name, err, printed.String())
	}
	info, err := os.Stat(filepath.Join(dir, "program"))
	if err != nil {
		return err
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("no resource usage of the compiler")
	}
	fmt.Fprintf(out, "| %s | %.0f | %.1f | %.0f |\n", name, wall, float64(usage.Maxrss)/(1<<20), float64(info.Size())/1e6)
	return nil
}

// compiler is the command that compiles the program into dir, with a build cache of its own.
func compiler(ctx context.Context, checkout, dir, tags string) *exec.Cmd {
	args := []string{"build", "-tags=" + tags, "-o", filepath.Join(dir, "program"), "."}
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // fixed
	cmd.Dir = checkout
	cmd.Env = append(os.Environ(), "GOCACHE="+filepath.Join(dir, "cache"))
	return cmd
}
