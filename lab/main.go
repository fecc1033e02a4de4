// Command lab runs the site on one Linux machine, without a cloud account: a bare machine, a real k3s, a real git
// server, real controllers, and emulators where the real thing exists only as a cloud. The program that it runs is
// production's, by configuration alone.
//
// This package holds the verbs, a file each, as lists of steps. What a step does is in the packages below.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tinyrack-net/infrastructure/lab/clouds"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

const usage = `usage: go -C lab run . COMMAND

  up        provision the lab stack, or TINYRACK_LAB_SITE, for real, from nothing or from where it stopped
  down      destroy the stack and remove everything the lab made, but its cache
  status    what runs, and whether it is well
  bench     measure what docs/benchmarks.md shows
  preview   preview every stack, or those named after it, with no machine, cluster or cloud reachable
  pulumi    print the path of the Pulumi command line, making it if it is missing
  clean     down, and remove the cache too
`

var verbs = map[string]func(context.Context, layout.Layout) error{
	"up": up, "down": down, "status": status, "bench": bench, "pulumi": pulumiCommand,
	"clean": clean,
	// The lab's own background process.
	clouds.ServeVerb: func(_ context.Context, l layout.Layout) error { return clouds.Serve(l) },
	// What scripts/pin calls, and the proof of docs/lab.md.
	"pin-releases": pinReleases, "stand-in": standIn,
}

// named are verbs that may be told by name what they are about.
var named = map[string]func(context.Context, layout.Layout, ...string) error{"preview": previewStacks}

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
	if len(args) == 0 {
		return errors.New(usage) //nolint:staticcheck // a text of several lines
	}
	verb, plain := verbs[args[0]]
	about, takesNames := named[args[0]]
	switch {
	case !plain && !takesNames:
		return fmt.Errorf("unknown command %q\n%s", args[0], usage)
	case plain && len(args) > 1:
		return errors.New(usage) //nolint:staticcheck // a text of several lines
	}
	l, err := layout.Find()
	if err != nil {
		return err
	}
	if takesNames {
		return about(ctx, l, args[1:]...)
	}
	return verb(ctx, l)
}
