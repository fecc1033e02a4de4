package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/preview"
	"github.com/tinyrack-net/infrastructure/lab/programs"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

// previewStacks previews the committed stacks of these names, or every one.
func previewStacks(ctx context.Context, at layout.Layout, wanted ...string) error {
	stacks, err := layout.Stacks(at.Checkout)
	if err != nil {
		return err
	}
	for _, name := range wanted {
		if !slices.Contains(stacks, name) {
			return fmt.Errorf("there is no Pulumi.%s.yaml: nothing was previewed: name one of %s", name,
				strings.Join(stacks, ", "))
		}
	}
	if len(wanted) > 0 {
		stacks = wanted
	}
	plugins, err := pulumi.FindPlugins(at.Checkout, filepath.Join(programs.Dir(at), "plugins"))
	if err != nil {
		return err
	}
	cache, err := artifacts.Open(at.Cache)
	if err != nil {
		return err
	}
	return progress.New(os.Stdout).Run(ctx, previewTasks(at, cache, stacks, plugins))
}

func previewTasks(at layout.Layout, cache *artifacts.Cache, stacks []string, plugins pulumi.Plugins) []progress.Task {
	var command string
	tasks := []progress.Task{
		{Name: "pulumi and its plugins", Do: func(ctx context.Context) (err error) {
			progress.Waiting(ctx, "go build, once")
			if _, err := programs.Build(ctx, at); err != nil {
				return err
			}
			command, err = cache.PulumiCommand(ctx)
			return err
		}},
		{Name: "program", Do: func(ctx context.Context) error { return preview.BuildProgram(ctx, at.Checkout) }},
	}
	for _, name := range stacks {
		tasks = append(tasks, progress.Task{Name: "preview " + name, Do: func(ctx context.Context) error {
			return preview.Stack(ctx, at.Checkout, name, command, plugins)
		}})
	}
	return tasks
}
