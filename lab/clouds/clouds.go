// Package clouds runs what the lab has in place of clouds: the emulated APIs of Cloudflare and Tailscale, and the
// server of the artifacts that a site would download.
package clouds

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/secret"
	"github.com/tinyrack-net/infrastructure/lab/tailscale"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// ServeVerb is the argument with which the lab's own program runs Serve.
const ServeVerb = "serve"

// APIs are the emulated clouds: name and address.
var APIs = []struct{ Name, Addr string }{
	{"cloudflare", layout.CloudflareAddr},
	{"tailscale", layout.TailscaleAddr},
}

// Names are those under which the emulated edge is called: by connectors, and by visitors.
var Names = []string{cloudflare.ConnectorName, layout.Zone, "*." + layout.Zone}

// Publish puts files, folders and repositories under paths of the artifact server.
func Publish(ctx context.Context, l layout.Layout, set *artifacts.Set) error {
	published := map[string]string{
		"debs": filepath.Join(set.RootFS, "debs"), "charts": set.Charts, "k3s": set.K3s, "install.sh": set.InstallScript,
	}
	for _, at := range slices.Sorted(maps.Keys(published)) {
		if err := file.Link(filepath.Join(l.Served(), at), published[at]); err != nil {
			return err
		}
	}
	for _, r := range []struct{ name, release, tag string }{
		{"cloudnative-pg", set.CloudNativePG, artifacts.CloudNativePGVersion},
		{"plugin-barman-cloud", set.BarmanPlugin, artifacts.BarmanPluginVersion},
	} {
		if err := publishRepository(ctx, filepath.Join(l.Repositories(), r.name), r.release, r.tag); err != nil {
			return err
		}
	}
	return nil
}

// Start starts Serve as a process of its own, from the lab's program.
func Start(ctx context.Context, l layout.Layout, runner process.Runner, program string) error {
	sum, err := artifacts.SHA256(program)
	if err != nil {
		return err
	}
	// Under its digest, so that a rebuilt program takes the place of the one that runs.
	copied := l.Path("bin", "lab-"+sum[:12])
	if err := file.Mirror(program, copied); err != nil {
		return err
	}
	return runner.Start(ctx, spec(l, copied))
}

func spec(l layout.Layout, program string) process.Spec {
	urls := []string{"http://" + layout.ArtifactsAddr + "/"}
	for _, api := range APIs {
		urls = append(urls, "http://"+api.Addr+"/")
	}
	return process.Spec{
		Name: layout.CloudsProcess, Args: []string{program, ServeVerb}, Dir: l.Checkout,
		// The cache is not used, but its place is asked for.
		Env:   []string{"TINYRACK_LAB_STATE=" + l.State, "XDG_CACHE_HOME=" + filepath.Dir(l.Cache)},
		Ready: process.Answers(urls...),
	}
}

// Serve runs the emulated clouds and the artifact server until it is told to stop.
func Serve(l layout.Layout) error {
	secrets, err := secret.Open(l.Secrets())
	if err != nil {
		return err
	}
	cloud, err := cloudflare.New(l.Path("clouds", "cloudflare"), cloudflare.Options{
		Token: secrets.CloudflareToken, Zone: layout.Zone,
	})
	if err != nil {
		return err
	}
	control, err := headscale.New(l, "").Client()
	if err != nil {
		return err
	}
	tail, err := tailscale.New(l.Path("clouds", "tailscale"), tailscale.Options{
		Control: control, Tailnet: layout.Tailnet, Domain: layout.TailnetDomain,
		ClientID: secrets.TailscaleClientID, ClientSecret: secrets.TailscaleClientSecret,
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	certificate, err := tls.LoadX509KeyPair(filepath.Join(l.TLS(), "server.crt"), filepath.Join(l.TLS(), "server.key"))
	if err != nil {
		return err
	}
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	edge := cloudflare.NewEdge(cloud)
	connectors, err := tls.Listen("tcp", layout.ConnectorAddr, settings)
	if err != nil {
		return err
	}
	failed := make(chan error, 6)
	go func() { failed <- edge.Serve(connectors) }()
	visitors := &http.Server{
		Addr: layout.VisitorAddr, Handler: edge.Visitors(), TLSConfig: settings, ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { failed <- visitors.ListenAndServeTLS("", "") }()
	upstream, err := repositories(l.Repositories())
	if err != nil {
		return err
	}
	for addr, handler := range map[string]http.Handler{
		layout.CloudflareAddr: cloud, layout.TailscaleAddr: tail, layout.ArtifactsAddr: published(l, upstream),
		layout.ProxyAddr: cloudflare.Proxy(layout.VisitorAddr),
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

// published is the artifact server: repositories below repositoriesPath, and files. It is no ServeMux, which answers
// apt's /debs/./a+b.deb with a redirection that escapes the plus sign twice.
func published(l layout.Layout, repositories http.Handler) http.Handler {
	files := http.FileServer(http.Dir(l.Served()))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, repositoriesPath+"/") {
			repositories.ServeHTTP(w, r)
			return
		}
		files.ServeHTTP(w, r)
	})
}

// State is what the emulated cloud at addr holds, counted by kind, as JSON. There is no secret in it.
func State(ctx context.Context, addr string) (json.RawMessage, error) {
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

// Show prints what the emulated clouds hold.
func Show(ctx context.Context, out io.Writer) error {
	var errs []error
	for _, api := range APIs {
		text, err := State(ctx, api.Addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintf(out, "  %-18s %s\n", api.Name, text)
	}
	return errors.Join(errs...)
}

// own is what the lab itself has in the clouds, by name and kind: the operator's device.
var own = map[string]map[string]int{"tailscale": {"devices": 1}}

// Empty is an error that names what the emulated clouds still hold of the stack.
func Empty(ctx context.Context) error {
	var errs []error
	for _, api := range APIs {
		errs = append(errs, empty(ctx, api.Name, api.Addr, own[api.Name]))
	}
	return errors.Join(errs...)
}

func empty(ctx context.Context, name, addr string, own map[string]int) error {
	text, err := State(ctx, addr)
	if err != nil {
		return err
	}
	var counts map[string]int
	if err := json.Unmarshal(text, &counts); err != nil {
		return err
	}
	var errs []error
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[kind] - own[kind]; n > 0 {
			errs = append(errs, fmt.Errorf("the emulated %s still holds %d %s", name, n, kind))
		}
	}
	return errors.Join(errs...)
}
