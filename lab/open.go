package main

import (
	"os"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// lab is what the steps of a verb work on. It has no methods: what is done is in the packages of the fields.
type lab struct {
	layout.Layout
	runner  process.Runner
	stack   *pulumi.Stack
	secrets *secret.Secrets
	// own is the folder of the lab's own programs, set every finished artifact: what up makes before it starts anything.
	own string
	set *artifacts.Set
}

// open opens the lab at l, and makes its secrets if there are none.
func open(l layout.Layout) (*lab, error) {
	secrets, err := secret.Open(l.Secrets())
	if err != nil {
		return nil, err
	}
	return &lab{Layout: l, runner: process.New(l), stack: stackOf(l), secrets: secrets}, nil
}

// stackOf is the lab's stack, whether it was made or not.
func stackOf(l layout.Layout) *pulumi.Stack {
	return &pulumi.Stack{
		Project: layout.Project, Name: l.Stack, Dir: l.Pulumi(), Checkout: l.Checkout, Settings: l.Settings,
		Out: os.Stdout, Network: layout.OnOperator(),
	}
}
