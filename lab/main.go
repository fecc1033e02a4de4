// Command lab runs the site on one Linux machine, without a cloud account: a bare machine, a real k3s, a real git server, real
// controllers, and emulators where the real thing exists only as a cloud. The program that it runs is production's, by configuration alone.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/progress"
)

const usage = `usage: go -C lab run . COMMAND

  up        provision the lab stack for real, from nothing or from where it stopped
  down      destroy the stack and remove everything the lab made, but its cache
  status    what runs, and whether it is well
  bench     measure what docs/benchmarks.md shows
  preview   preview every stack with no machine, cluster or cloud reachable
  pulumi    print the path of the Pulumi command line, building it if it is missing
  clean     down, and remove the cache too
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nlab: %v\n", err)
		if interrupted {
			fmt.Fprintln(os.Stderr, "lab: interrupted; the same command goes on where it stopped")
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New(usage) //nolint:staticcheck // a text of several lines
	}
	checkout, err := checkout()
	if err != nil {
		return err
	}
	s := newState(checkout)
	if args[0] == "serve" { // the lab's own background process
		return serve(s)
	}
	commands := map[string]func(context.Context) error{
		"up": s.up, "down": s.down, "status": s.status, "preview": s.preview, "bench": s.bench, "pulumi": s.pulumi, "clean": s.clean,
	}
	command, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
	return command(ctx)
}

// checkout is the folder of the project: the one above this module.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "Pulumi.yaml")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("not inside the project: no Pulumi.yaml in this folder or above it: run it by `make` in the checkout")
		}
	}
}

// ownPrograms builds the lab's own programs: plugin doubles, and what the pods need.
func (s *state) ownPrograms(ctx context.Context) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	own := filepath.Join(cache, "own")
	if err := os.MkdirAll(own, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", own+"/", //nolint:gosec // fixed packages
		".", "./plugins", "./cmd/flannel", "./cmd/pause")
	cmd.Dir = filepath.Join(s.checkout, "lab")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the lab's own programs: %w:\n%s", err, strings.TrimSpace(string(out)))
	}
	return own, nil
}

func newReport() *progress.Report { return progress.New(os.Stdout) }

func (s *state) pulumi(ctx context.Context) error {
	at, err := cacheDir()
	if err != nil {
		return err
	}
	cache, err := artifacts.Open(at)
	if err != nil {
		return err
	}
	path, err := cache.PulumiCommand(ctx)
	fmt.Println(path)
	return err
}
