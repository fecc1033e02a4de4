package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/tinyrack-net/infrastructure/lab/benchmark"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/programs"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

// bench measures, on the lab that is up, and changes nothing of it.
func bench(ctx context.Context, at layout.Layout) error {
	plugins, err := pulumi.FindPlugins(at.Checkout, filepath.Join(programs.Dir(at), "plugins"))
	if err != nil {
		return err
	}
	if err := benchmark.Preview(ctx, os.Stdout, stackOf(at), plugins); err != nil {
		return err
	}
	return benchmark.Compile(ctx, os.Stdout, at.Checkout)
}
