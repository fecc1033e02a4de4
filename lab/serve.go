package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/tailscale"
)

// Where the lab's services listen, all on the host's end of the public side.
const (
	cloudflareAddr = machine.HostIP + ":7701"
	tailscaleAddr  = machine.HostIP + ":7702"
	artifactsAddr  = machine.HostIP + ":7703"
	giteaAddr      = machine.HostIP + ":3000"
	s3Addr         = machine.HostIP + ":9000"
)

// The emulated accounts, as Pulumi.lab.yaml names them.
const (
	zone    = "lab.test"
	tailnet = "lab.test"
)

// serve runs the emulated clouds and the artifact server until it is told to stop.
func serve(s *state) error {
	sec, err := s.secrets()
	if err != nil {
		return err
	}
	cloud, err := cloudflare.New(s.path("clouds", "cloudflare"), cloudflare.Options{Token: sec.CloudflareToken, Zone: zone})
	if err != nil {
		return err
	}
	control, err := s.headscale("").Client()
	if err != nil {
		return err
	}
	tail, err := tailscale.New(s.path("clouds", "tailscale"), tailscale.Options{
		Control: control, Tailnet: tailnet, Domain: tailnetDomain, ClientID: sec.TailscaleClientID, ClientSecret: sec.TailscaleClientSecret,
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	failed := make(chan error, 3)
	for addr, handler := range map[string]http.Handler{
		cloudflareAddr: cloud, tailscaleAddr: tail, artifactsAddr: http.FileServer(http.Dir(s.path("served"))),
	} {
		server := &http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
		go func() { failed <- server.ListenAndServe() }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// answers is a readiness check: every address accepts an HTTP request.
func answers(urls ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		var errs []error
		for _, url := range urls {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				return err
			}
			client := http.Client{Timeout: 2 * time.Second}
			resp, err := client.Do(req)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, resp.Body.Close())
		}
		return errors.Join(errs...)
	}
}

// publish puts a file or folder under a path of the artifact server: /charts, /debs, /k3s.
func (s *state) publish(at, from string) error {
	to := s.path("served", at)
	if now, err := os.Readlink(to); err == nil && now == from {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	_ = os.Remove(to)
	return os.Symlink(from, to)
}
