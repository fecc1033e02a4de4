package main

import (
	"context"
	"fmt"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// pulumiCommand prints the path of the Pulumi command line.
func pulumiCommand(ctx context.Context, at layout.Layout) error {
	cache, err := artifacts.Open(at.Cache)
	if err != nil {
		return err
	}
	path, err := cache.PulumiCommand(ctx)
	if err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}
