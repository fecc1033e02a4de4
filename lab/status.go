package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// status tells what runs and whether it is well. It changes nothing.
func (s *state) status(ctx context.Context) error {
	if _, err := os.Stat(s.dir); err != nil {
		return errors.New("no lab is running here: start one with `make up`")
	}
	if err := s.refuseOther(); err != nil {
		return err
	}
	runner := s.runner()
	var errs []error
	for _, name := range programs {
		mark := "✓ runs"
		if !runner.Running(name) {
			mark = "✗ does not run: `make up`"
			errs = append(errs, errors.New(name+" does not run"))
		}
		fmt.Printf("  %-11s %s\n", name, mark)
	}
	for name, addr := range map[string]string{"cloudflare": cloudflareAddr, "tailscale": tailscaleAddr} {
		text, err := cloudState(ctx, addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Printf("  %-11s %s\n", name, text)
	}
	fmt.Println()
	for _, args := range []string{
		"get nodes", "get kustomizations.kustomize.toolkit.fluxcd.io,helmreleases.helm.toolkit.fluxcd.io --all-namespaces", "get pods --all-namespaces",
	} {
		out, err := s.kubectl(ctx, strings.Fields(args)...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Println(out)
	}
	return errors.Join(errs...)
}

// kubectl runs kubectl with the administrator's access that the stack exports.
func (s *state) kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, s.path("bin", "kubectl"), append([]string{"--kubeconfig=" + s.path("kubeconfig"), "--request-timeout=20s"}, args...)...) //nolint:gosec // our own program
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// cloudState is what an emulated cloud holds, as JSON without secrets.
func cloudState(ctx context.Context, addr string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/lab/state", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var all struct {
		Counts json.RawMessage `json:"counts"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&all); err != nil {
		return nil, err
	}
	return all.Counts, nil
}

// cloudsEmpty is an error that names what the emulated clouds still hold.
func (s *state) cloudsEmpty(ctx context.Context) error {
	var errs []error
	for name, addr := range map[string]string{"Cloudflare": cloudflareAddr, "tailnet": tailscaleAddr} {
		text, err := cloudState(ctx, addr)
		if err != nil {
			return err
		}
		var counts map[string]int
		if err := json.Unmarshal(text, &counts); err != nil {
			return err
		}
		for kind, n := range counts {
			if n > 0 {
				errs = append(errs, fmt.Errorf("the emulated %s still holds %d %s", name, n, kind))
			}
		}
	}
	return errors.Join(errs...)
}
