package main

import (
	"context"
	"errors"
	"os"

	"github.com/tinyrack-net/infrastructure/lab/clouds"
	"github.com/tinyrack-net/infrastructure/lab/host"
	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
)

// status tells what runs and whether it is well. It changes nothing.
func status(ctx context.Context, at layout.Layout) error {
	if _, err := os.Stat(at.State); err != nil {
		return errors.New("no lab is running here: start one with `make up`")
	}
	if err := host.New(layout.HostDir).RefuseOther(at); err != nil {
		return err
	}
	say("  %-18s %s", "site", at.Stack)
	running := process.New(at).Show(os.Stdout, at.Processes())
	emulated := clouds.Show(ctx, os.Stdout)
	say("")
	return errors.Join(running, emulated, kubectl.Show(ctx, at, os.Stdout))
}
