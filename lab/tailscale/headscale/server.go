package headscale

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
)

// Name is the server's process for the runner.
const Name = layout.HeadscaleProcess

// Port is where the lab's server listens for the clients and for its API, and as their relay; STUNPort (UDP) is the
// relay's.
const (
	Port     = "8443"
	STUNPort = "3478"
)

// Server is one headscale with an embedded relay. Everything it keeps is in Dir.
type Server struct {
	Dir     string
	Program string // path of headscale
	// Address is the IPv4 address that it listens on, and the only name of its certificate that its clients use.
	Address string
	// Port and STUNPort are Port and STUNPort of this package when empty.
	Port, STUNPort string
	// Domain is the suffix of the nodes' names.
	Domain string
	// Certificate, CertificateKey and CA are PEM files: the server's, and the authority that signed it.
	Certificate, CertificateKey, CA string
}

// New is the control server of the lab's tailnet. The program is needed to start it alone.
func New(l layout.Layout, program string) *Server {
	return &Server{
		Dir: l.Headscale(), Program: program, Address: layout.HostIP, Domain: layout.TailnetDomain,
		Certificate: filepath.Join(l.TLS(), "server.crt"), CertificateKey: filepath.Join(l.TLS(), "server.key"), CA: l.CA(),
	}
}

// URL is the login server of the tailnet's clients.
func (s *Server) URL() string { return "https://" + s.listen() }

func (s *Server) listen() string { return net.JoinHostPort(s.Address, cmp.Or(s.Port, Port)) }

func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

// Start starts the server unless it runs, waits until it answers, and makes the API key of Client.
func (s *Server) Start(ctx context.Context, runner process.Runner) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	text, err := yaml.Marshal(s.config())
	if err != nil {
		return err
	}
	if err := emulator.WriteFile(s.path("config.yaml"), text); err != nil {
		return err
	}
	client, err := s.http()
	if err != nil {
		return err
	}
	if err := runner.Start(ctx, process.Spec{
		Name: Name, Args: []string{s.Program, "--config", s.path("config.yaml"), "serve"}, Dir: s.Dir,
		Env:   s.environment(),
		Ready: func(ctx context.Context) error { return healthy(ctx, client, s.URL()+"/health") },
	}); err != nil {
		return err
	}
	return s.ensureKey(ctx)
}

// Stop ends the server at once: told politely, it waits ten seconds for clients that are gone. Its database survives
// that.
func (s *Server) Stop(ctx context.Context, runner process.Runner) error {
	if pid := runner.PID(Name); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return runner.Stop(ctx, Name)
}

// Client returns the client of the server's API, which Start has made a key for.
func (s *Server) Client() (*Client, error) {
	key, err := os.ReadFile(s.path("api-key"))
	if err != nil {
		return nil, fmt.Errorf("headscale's API key: %w: start the server first", err)
	}
	client, err := s.http()
	return &Client{URL: s.URL(), Key: string(key), HTTP: client}, err
}

// ensureKey makes an API key, which only the command line can, over the server's own socket. One that the server knows
// is kept.
func (s *Server) ensureKey(ctx context.Context) error {
	if client, err := s.Client(); err == nil {
		if _, err := client.Keys(ctx); !errors.Is(err, errUnauthorized) {
			return err
		}
	}
	args := []string{"--config", s.path("config.yaml"), "apikeys", "create", "--expiration", "8760h"}
	cmd := exec.CommandContext(ctx, s.Program, args...) //nolint:gosec // our own
	cmd.Dir, cmd.Env = s.Dir, append(s.environment(), "PATH="+os.Getenv("PATH"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	key := strings.TrimSpace(string(out))
	if err != nil || key == "" || strings.ContainsAny(key, " \n") {
		return fmt.Errorf("headscale gave no API key: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return emulator.WriteFile(s.path("api-key"), []byte(key))
}

// environment keeps the program from looking for anybody's settings.
func (s *Server) environment() []string { return []string{"HOME=" + s.Dir} }

func (s *Server) http() (*http.Client, error) {
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", s.CA)
	}
	return &http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
			RootCAs:    roots,
			MinVersion: tls.VersionTLS12,
		}},
	}, nil
}

func healthy(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = fmt.Errorf("headscale: %s", response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// config is headscale's configuration: nothing of it reaches beyond the lab.
func (s *Server) config() map[string]any {
	type m = map[string]any
	return m{
		"server_url": s.URL(), "listen_addr": s.listen(),
		"tls_cert_path": s.Certificate, "tls_key_path": s.CertificateKey,
		"metrics_listen_addr": "", "grpc_listen_addr": "127.0.0.1:0", // nobody uses it, and it cannot be switched off
		"unix_socket": s.path("headscale.sock"), "unix_socket_permission": "0700",
		"noise":    m{"private_key_path": s.path("noise.key")},
		"database": m{"type": "sqlite", "sqlite": m{"path": s.path("headscale.sqlite"), "write_ahead_log": true}},
		"prefixes": m{"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48", "allocation": "sequential"},
		"derp": m{
			"server": m{
				"enabled": true, "region_id": 900, "region_code": "lab", "region_name": "lab", "ipv4": s.Address,
				"verify_clients":                         true,
				"stun_listen_addr":                       net.JoinHostPort(s.Address, cmp.Or(s.STUNPort, STUNPort)),
				"private_key_path":                       s.path("derp.key"),
				"automatically_add_embedded_derp_region": true,
			},
			"urls": []string{}, "paths": []string{}, "auto_update_enabled": false,
		},
		// As Tailscale's default: 180 days for a person's device, none for a tagged one.
		"node":   m{"expiry": "180d", "ephemeral": m{"inactivity_timeout": "2m"}},
		"policy": m{"mode": "database"},
		"dns": m{
			"magic_dns": true, "base_domain": s.Domain, "override_local_dns": false,
			"nameservers": m{"global": []string{}},
		},
		"disable_check_updates": true, "logtail": m{"enabled": false}, "log": m{"level": "info", "format": "text"},
	}
}
