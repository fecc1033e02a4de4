package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// pinReleases writes the checksums of the releases anew: scripts/pin releases.
func pinReleases(ctx context.Context, at layout.Layout) error {
	to := cmp.Or(os.Getenv(artifacts.ReleasePins), filepath.Join(at.Checkout, "lab", "artifacts", "releases.txt"))
	err := artifacts.PinReleases(ctx, to, say)
	say("pins: %s", to)
	return err
}

// standIn serves the programs of the cache as official hosts would, until it is interrupted. It is for a proof.
func standIn(ctx context.Context, at layout.Layout) error {
	cache, err := artifacts.Open(at.Cache)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tinyrack-stand-in")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	host, pins, err := cache.StandIn(dir)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: host, ReadHeaderTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	say("It serves the built programs of %s as releases until you interrupt it. Elsewhere:", at.Cache)
	say("\n  %s=%s %s=http://%s \\\n    %s=%s make up\n", artifacts.ReleasesSetting, artifacts.OnlyReleases,
		artifacts.ReleaseHost, listener.Addr(), artifacts.ReleasePins, pins)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("stand-in: %w", err)
	}
	return nil
}
