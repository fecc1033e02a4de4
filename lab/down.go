package main

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/tinyrack-net/infrastructure/lab/clouds"
	"github.com/tinyrack-net/infrastructure/lab/host"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// down destroys the stack, so that what it made in the clouds goes the way it would in production, and then removes the
// machines, the services and the networks. A lab that is half built, or whose machine died, is removed all the same.
func down(ctx context.Context, at layout.Layout) error {
	if err := host.CheckRoot(); err != nil {
		return err
	}
	if _, err := os.Stat(at.State); err != nil {
		say("nothing to do: no lab is running here")
		return nil
	}
	report := progress.New(os.Stdout)
	taken := host.New(layout.HostDir)
	release, err := taken.Take(at, say)
	if err != nil {
		return err
	}
	defer release()

	var destroyed error
	if stackOf(at).Exists() {
		if destroyable(at) {
			destroyed = report.Step(ctx, "pulumi destroy", func(ctx context.Context) error { return destroy(ctx, at) })
		} else {
			say("the machine or the clouds do not run: the stack is not destroyed step by step, it goes with them")
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if destroyed != nil {
		say("destroying the stack failed; the machine and the emulated clouds are removed with all that is in them")
	}
	err = report.Step(ctx, "machine, services, network", func(ctx context.Context) error { return remove(ctx, at) })
	if err != nil {
		return errors.Join(destroyed, err)
	}
	return errors.Join(destroyed, os.RemoveAll(at.State), taken.Forget())
}

// destroyable tells whether everything runs that the stack's resources are in.
func destroyable(at layout.Layout) bool {
	runner := process.New(at)
	needed := []string{layout.HeadscaleProcess, layout.CloudsProcess, layout.Operator}
	for _, m := range at.Made() {
		needed = append(needed, m.Process())
	}
	return !slices.ContainsFunc(needed, func(name string) bool { return !runner.Running(name) })
}

// destroy runs `pulumi destroy` and looks whether the clouds are empty after it.
func destroy(ctx context.Context, at layout.Layout) error {
	if err := stackOf(at).Destroy(ctx); err != nil {
		return err
	}
	return clouds.Empty(ctx)
}

// remove removes what runs, all of it even if some cannot be.
func remove(ctx context.Context, at layout.Layout) error {
	var errs []error
	for _, m := range at.Made() {
		errs = append(errs, machine.New(at, m).Remove(ctx))
	}
	errs = append(errs, devices(at, "", nil).Remove(ctx), headscale.New(at, "").Stop(ctx, process.New(at)))
	for _, name := range slices.Backward(at.Processes()) {
		errs = append(errs, process.New(at).Stop(ctx, name))
	}
	return errors.Join(append(errs, machine.RemoveNetwork(ctx))...)
}
