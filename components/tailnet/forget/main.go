// Command forget removes a destroyed host from the list of the tailnet's devices: logging out leaves it there, and its
// name taken. The resource <name>-device-<host> runs it when it is deleted. A hook could not: the engine refuses to
// destroy a resource that has a delete hook unless the program runs too. Its standard input is a cloud.Request.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/tinyrack-net/infrastructure/components/tailnet/internal/cloud"
)

// The machine logs out some time after the command that told it to, so as not to cut the connection under it: two
// minutes are enough for that.
const (
	tries = 41
	pause = 3 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdin, os.Stdout, wait); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1) //nolint:gocritic // the signal handler dies with the process
	}
}

func run(ctx context.Context, in io.Reader, out io.Writer, wait func(context.Context) error) error {
	var request cloud.Request
	if err := json.NewDecoder(in).Decode(&request); err != nil {
		// Its text could hold a part of what was read.
		return errors.New("standard input is not a request to forget a device: run pulumi up once, then destroy")
	}
	said, err := request.API.Forget(ctx, request.Machine, tries, wait)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, said)
	return err
}

func wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}
