package engine

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
)

// parentPoll is how often a plugin looks whether the engine is still its
// parent. Polling instead of a parent-death signal, because that signal goes
// by the thread that forked, and the engine's threads come and go.
const parentPoll = 500 * time.Millisecond

// Service is one plugin: it registers its gRPC service and releases what it
// holds when the plugin ends.
type Service interface {
	Register(*grpc.Server)
	Close() error
}

// Provider makes a resource provider a Service.
func Provider(p plugin.Provider) Service { return provider{p} }

type provider struct{ plugin.Provider }

func (p provider) Register(s *grpc.Server) {
	pulumirpc.RegisterResourceProviderServer(s, plugin.NewProviderServer(p.Provider))
}

// Serve runs the plugin made by start until the engine ends or tells it to:
// it listens on a loopback port, writes that port as a line to stdout, and
// returns when the process that started it is gone (also by kill -9), or on
// SIGTERM or SIGINT. args are the plugin's arguments; the last one that is not
// a flag is the engine's address.
func Serve(args []string, stdout io.Writer, start func(*Client) Service) error {
	parent := os.Getppid()
	service := start(NewClient(engineAddress(args)))
	defer func() { _ = service.Close() }()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	cancel := make(chan bool)
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: cancel,
		Init: func(s *grpc.Server) error {
			service.Register(s)
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("serve the plugin: %w", err)
	}
	// The first line of stdout is the protocol; nothing else may go there before.
	if _, err := fmt.Fprintf(stdout, "%d\n", handle.Port); err != nil {
		return fmt.Errorf("tell the engine the port: %w", err)
	}

	tick := time.NewTicker(parentPoll)
	defer tick.Stop()
	for {
		select {
		case err := <-handle.Done:
			return err
		case <-ctx.Done():
			// No graceful stop: the engine that would wait for answers in
			// flight is the one that sent the signal.
			return nil
		case <-tick.C:
			if os.Getppid() != parent {
				return nil
			}
		}
	}
}

// engineAddress picks the engine's address from a plugin's arguments, which
// start with the engine's logging flags: --logtostderr, -v=9, --tracing URL.
func engineAddress(args []string) string {
	address := ""
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--tracing" || args[i] == "-tracing":
			i++
		case strings.HasPrefix(args[i], "-"):
		default:
			address = args[i]
		}
	}
	return address
}
