// Command ci previews and applies changes: what a pull request does to every stack and to what Flux applies, told in
// one comment; and, once it is merged, applied under a lock. It is the same by hand and in any CI system, which
// scripts/preview.sh and scripts/apply.sh are called by.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/tinyrack-net/infrastructure/ci/report"
)

const usage = `usage: go -C ci run . COMMAND [FLAG]... [STACK]...

  preview   what a change does; --help lists its flags
  apply     apply the checkout's commit to a stack, under the stack's lock
`

var verbs = map[string]func(context.Context, []string) (report.Status, error){
	"preview": previewVerb, "apply": applyVerb, compareVerb: compareTrees,
}

func main() {
	// SIGHUP is a session over SSH that ends: without it the lock would not be released, and the engine would go on.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	status, err := run(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		say("\nci: %v", err)
		status = report.Failed
		if errors.Is(err, errDangerous) {
			status = report.Dangerous
		}
	}
	os.Exit(int(status))
}

func run(ctx context.Context, args []string) (report.Status, error) {
	if len(args) == 0 {
		return report.Failed, errors.New(usage) //nolint:staticcheck // a text of several lines
	}
	verb, ok := verbs[args[0]]
	if !ok {
		return report.Failed, fmt.Errorf("unknown command %q\n%s", args[0], usage)
	}
	return verb(ctx, args[1:])
}
