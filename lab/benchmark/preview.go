// Package benchmark measures what docs/benchmarks.md shows, and prints it as that page has it.
package benchmark

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// runs is how often each preview is measured.
const runs = 5

// Preview compares a preview of the whole site without a change with one of a program that does nothing, on the same
// engine, in turn. Nothing but an empty stack is made.
func Preview(ctx context.Context, out io.Writer, site *pulumi.Stack, plugins pulumi.Plugins) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	empty, err := emptyStack(ctx, dir, site, plugins)
	if err != nil {
		return err
	}
	site.Out = io.Discard
	var whole, nothing, ratios []float64
	for i := range runs + 1 {
		a, err := timed(func() error { return site.PreviewUnchanged(ctx) })
		if err != nil {
			return err
		}
		b, err := timed(func() error { return empty.Preview(ctx) })
		if err != nil {
			return err
		}
		if i > 0 { // the first warms up
			whole, nothing, ratios = append(whole, a), append(nothing, b), append(ratios, a/b)
		}
	}
	fmt.Fprintf(out, "| preview, %d runs in turn | min | median | max |\n|---|---|---|---|\n", runs)
	row(out, "the site, no change (s)", whole)
	row(out, "an empty program (s)", nothing)
	row(out, "ratio, pair by pair", ratios)
	return nil
}

func row(out io.Writer, name string, values []float64) {
	slices.Sort(values)
	fmt.Fprintf(out, "| %s | %.2f | %.2f | %.2f |\n", name, values[0], values[len(values)/2], values[len(values)-1])
}

// emptyStack is a stack of a program that registers nothing, with the site's own dependencies, command and plugins.
func emptyStack(ctx context.Context, dir string, site *pulumi.Stack, plugins pulumi.Plugins) (*pulumi.Stack, error) {
	command, err := os.Readlink(site.Command())
	if err != nil {
		return nil, errors.New("no lab is up: a preview could not be measured: run `make up` first")
	}
	program := filepath.Join(dir, "program")
	files := map[string]string{
		"Pulumi.yaml":       "name: " + site.Project + "\nruntime:\n  name: go\n  options:\n    buildTarget: empty\n",
		"Pulumi.empty.yaml": "config: {}\n",
		"main.go": "package main\n\nimport \"github.com/pulumi/pulumi/sdk/v3/go/pulumi\"\n\n" +
			"func main() { pulumi.Run(func(*pulumi.Context) error { return nil }) }\n",
	}
	for name, text := range files {
		if err := file.Write(filepath.Join(program, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := file.Copy(filepath.Join(site.Checkout, name), filepath.Join(program, name), 0o600); err != nil {
			return nil, err
		}
	}
	empty := &pulumi.Stack{
		Project: site.Project, Name: "empty", Dir: filepath.Join(dir, "pulumi"), Checkout: program, Out: io.Discard,
	}
	if err := empty.Install(command, plugins); err != nil {
		return nil, err
	}
	return empty, errors.Join(empty.Configure(secret.Token(8), pulumi.Settings{}), empty.Init(ctx))
}

func timed(run func() error) (seconds float64, err error) {
	started := time.Now()
	err = run()
	return time.Since(started).Seconds(), err
}
