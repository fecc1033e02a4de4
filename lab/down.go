package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tinyrack-net/infrastructure/lab/machine"
)

// down destroys the stack, so that what it made in the clouds goes the way it would in production, and then removes the
// machine, the services and the networks. A lab that is half built, or whose machine died, is removed all the same.
func (s *state) down(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("not root: " + rootRequired)
	}
	if _, err := os.Stat(s.dir); err != nil {
		fmt.Println("nothing to do: no lab is running here")
		return nil
	}
	report := newReport()
	unlock, err := s.lock(func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
	if err != nil {
		return err
	}
	defer unlock()

	var destroyed error
	if _, err := os.Stat(s.path("pulumi", "backend", ".pulumi")); err == nil {
		if runner := s.runner(); runner.Running("machine") && runner.Running("clouds") {
			destroyed = report.Step(ctx, "pulumi destroy", s.destroy)
		} else {
			fmt.Println("the machine or the clouds do not run: the stack is not destroyed step by step, it goes with them")
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if destroyed != nil {
		fmt.Println("destroying the stack failed; the machine and the emulated clouds are removed with all that is in them")
	}
	remove := func(ctx context.Context) error {
		runner := s.runner()
		m := &machine.Machine{Dir: s.path("machine"), Runner: runner}
		errs := []error{m.Remove(ctx), s.devices("", nil).Remove(ctx), s.headscale("").Stop(ctx, runner)}
		for _, name := range slices.Backward(programs) {
			errs = append(errs, runner.Stop(ctx, name))
		}
		return errors.Join(append(errs, machine.RemoveNetwork(ctx))...)
	}
	if err := report.Step(ctx, "machine, services, network", remove); err != nil {
		return errors.Join(destroyed, err)
	}
	return errors.Join(destroyed, os.RemoveAll(s.dir), os.Remove(filepath.Join(hostDir, "owner")))
}

// destroy runs `pulumi destroy` and looks whether the clouds are empty after it.
func (s *state) destroy(ctx context.Context) error {
	k := &stack{name: "lab", dir: s.path("pulumi"), checkout: s.checkout, out: os.Stdout}
	k.pulumi = k.path("bin", "pulumi")
	if err := k.program(ctx, "destroy", "--skip-preview", "--yes"); err != nil {
		return err
	}
	return s.cloudsEmpty(ctx)
}

// clean removes the lab and its cache.
func (s *state) clean(ctx context.Context) error {
	if err := s.down(ctx); err != nil {
		return err
	}
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(cache), os.RemoveAll(filepath.Join(s.checkout, ".bin")))
}
