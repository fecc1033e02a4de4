package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// bench measures what docs/benchmarks.md shows, on the lab that is up, and prints it as that page has it. Nothing but build caches of its own and
// an empty stack is made.
func (s *state) bench(ctx context.Context) error {
	var l lab
	if err := l.open(ctx, s); err != nil {
		return err
	}
	l.stack.pulumi = l.stack.path("bin", "pulumi")
	if _, err := os.Stat(l.stack.pulumi); err != nil {
		return errors.New("no lab is up: a preview could not be measured: run `make up` first")
	}
	if err := l.benchPreview(ctx); err != nil {
		return err
	}
	return l.benchCompile(ctx)
}

// benchPreview compares a preview of the whole site without a change with one of a program that does nothing, on the same engine, in turn.
func (l *lab) benchPreview(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	empty, err := l.emptyStack(ctx, dir)
	if err != nil {
		return err
	}
	l.stack.out = io.Discard
	const runs = 5
	var site, nothing, ratios []float64
	for i := range runs + 1 {
		a, err := timed(func() error { return l.stack.program(ctx, "preview", "--expect-no-changes") })
		if err != nil {
			return err
		}
		b, err := timed(func() error { return empty.program(ctx, "preview") })
		if err != nil {
			return err
		}
		if i > 0 { // the first warms up
			site, nothing, ratios = append(site, a), append(nothing, b), append(ratios, a/b)
		}
	}
	fmt.Printf("| preview, %d runs in turn | min | median | max |\n|---|---|---|---|\n", runs)
	for _, row := range []struct {
		name   string
		values []float64
	}{{"the site, no change (s)", site}, {"an empty program (s)", nothing}, {"ratio, pair by pair", ratios}} {
		slices.Sort(row.values)
		fmt.Printf("| %s | %.2f | %.2f | %.2f |\n", row.name, row.values[0], row.values[len(row.values)/2], row.values[len(row.values)-1])
	}
	return nil
}

// emptyStack is a stack of a program that registers nothing, with the site's own dependencies.
func (l *lab) emptyStack(ctx context.Context, dir string) (*stack, error) {
	program := filepath.Join(dir, "program")
	files := map[string]string{
		"Pulumi.yaml":       "name: " + project + "\nruntime:\n  name: go\n  options:\n    buildTarget: empty\n",
		"Pulumi.empty.yaml": "config: {}\n",
		"main.go": "package main\n\nimport \"github.com/pulumi/pulumi/sdk/v3/go/pulumi\"\n\n" +
			"func main() { pulumi.Run(func(*pulumi.Context) error { return nil }) }\n",
	}
	for name, text := range files {
		if err := writeFile(filepath.Join(program, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := copyFile(filepath.Join(l.checkout, name), filepath.Join(program, name), 0o600); err != nil {
			return nil, err
		}
	}
	k := &stack{name: "empty", dir: filepath.Join(dir, "pulumi"), checkout: program, out: io.Discard}
	target, err := os.Readlink(l.stack.path("bin", "pulumi"))
	if err != nil {
		return nil, err
	}
	plugins, err := os.Readlink(l.stack.path("bin", "pulumi-language-go"))
	if err != nil {
		return nil, err
	}
	if err := k.lay(target, plugins); err != nil {
		return nil, err
	}
	return k, errors.Join(k.configure(token(8), nil, nil), k.init(ctx))
}

// benchCompile compares a cold compile of the program with one that imports the generated Cloudflare SDK, each into an empty cache.
func (l *lab) benchCompile(ctx context.Context) error {
	fmt.Print("\n| cold compile | wall (s) | largest process (GB) | binary (MB) |\n|---|---|---|---|\n")
	for _, variant := range []struct{ name, tags string }{{"the program", ""}, {"the same, importing the generated Cloudflare SDK", "generated_sdk"}} {
		dir, err := os.MkdirTemp("", "compile")
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-tags="+variant.tags, "-o", filepath.Join(dir, "program"), ".") //nolint:gosec // fixed
		cmd.Dir = l.checkout
		cmd.Env = append(os.Environ(), "GOCACHE="+filepath.Join(dir, "cache"))
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		wall, err := timed(cmd.Run)
		if err != nil {
			return errors.Join(fmt.Errorf("compile %s: %w: %s", variant.name, err, out.String()), os.RemoveAll(dir))
		}
		info, err := os.Stat(filepath.Join(dir, "program"))
		if err != nil {
			return err
		}
		usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if !ok {
			return errors.New("no resource usage of the compiler")
		}
		fmt.Printf("| %s | %.0f | %.1f | %.0f |\n", variant.name, wall, float64(usage.Maxrss)/(1<<20), float64(info.Size())/1e6)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

func timed(run func() error) (seconds float64, err error) {
	started := time.Now()
	err = run()
	return time.Since(started).Seconds(), err
}
