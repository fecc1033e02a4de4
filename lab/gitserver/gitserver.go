// Package gitserver is a real Gitea with one private repository, which the lab's cluster reads over HTTPS with a token.
package gitserver

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// uid runs the git server, which refuses to run as root. No such user has to exist.
const uid = 60777

// Server is the git server's files and programs.
type Server struct {
	// Home holds its configuration, database and repositories, and goes with the lab.
	Home string
	// Program is the gitea program, Static the folder with its templates and options: copies that Start makes, since the
	// cache may be in a home directory that the git server's user cannot enter.
	Program, Static string
	// TLS is the folder with server.crt, server.key and ca.crt.
	TLS string
}

// New returns the lab's git server.
func New(l layout.Layout) *Server {
	return &Server{Home: l.Path("gitea"), Program: l.Path("bin", "gitea"), Static: l.Path("gitea-static"), TLS: l.TLS()}
}

func (s *Server) configFile() string { return filepath.Join(s.Home, "app.ini") }

// Start starts the git server from its program and static files in the cache, and makes its user, repository and access
// token once. The token goes into the secrets.
func (s *Server) Start(
	ctx context.Context, runner process.Runner, program, static string, secrets *secret.Secrets,
) error {
	if err := errors.Join(file.Mirror(program, s.Program), file.Mirror(static, s.Static)); err != nil {
		return err
	}
	if err := s.configure(); err != nil {
		return err
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	if err := runner.Start(ctx, s.spec(client)); err != nil || secrets.GitToken != "" {
		return err
	}
	return s.account(ctx, client, secrets)
}

func (s *Server) configure() error {
	if _, err := os.Stat(s.configFile()); err != nil {
		text := config(s.Home, s.Static, secret.Token(32), secret.Token(32))
		if err := errors.Join(
			file.Copy(filepath.Join(s.TLS, "server.crt"), filepath.Join(s.Home, "server.crt"), 0o644),
			file.Copy(filepath.Join(s.TLS, "server.key"), filepath.Join(s.Home, "server.key"), 0o600),
			file.Copy(filepath.Join(s.TLS, "ca.crt"), filepath.Join(s.Home, "ca.crt"), 0o644),
			file.Write(s.configFile(), []byte(text), 0o600),
		); err != nil {
			return err
		}
	}
	return file.Chown(s.Home, uid)
}

func (s *Server) spec(client *http.Client) process.Spec {
	return process.Spec{
		Name: layout.GitProcess, Args: []string{s.Program, "web", "--config", s.configFile()},
		Dir: s.Home, UID: uid, Env: s.env(),
		Ready: func(ctx context.Context) error { return call(ctx, client, "", http.MethodGet, "/version", "") },
	}
}

func (s *Server) env() []string {
	return []string{
		"HOME=" + s.Home, "USER=git", "GITEA_WORK_DIR=" + s.Home,
		// What it sends webhooks to has a certificate of the lab's authority.
		"SSL_CERT_FILE=" + filepath.Join(s.Home, "ca.crt"),
	}
}

// account makes the user, an access token and the private repository. A password is made too, and forgotten.
func (s *Server) account(ctx context.Context, client *http.Client, secrets *secret.Secrets) error {
	if out, err := run(s.createUser(ctx)); err != nil && !strings.Contains(out, "already exists") {
		return fmt.Errorf("create the git server's user: %w: %s", err, out)
	}
	out, err := run(s.createToken(ctx, "lab-"+secret.Token(4)))
	if err != nil {
		return fmt.Errorf("create the git server's token: %w", err)
	}
	token := strings.TrimSpace(out)
	repository := `{"name":"` + layout.GitRepo + `","private":true,"default_branch":"main"}`
	if err := call(ctx, client, token, http.MethodPost, "/user/repos", repository); err != nil {
		return err
	}
	secrets.GitToken = token
	return secrets.Save()
}

// Webhook has the git server tell url of every push, signed with key. It does so once, however often it is called.
func (s *Server) Webhook(ctx context.Context, token, url, key string) error {
	const hooks = "/hooks"
	text, err := s.Repository(ctx, token, http.MethodGet, hooks, "")
	if err != nil {
		return err
	}
	var found []struct {
		ID     int
		Config struct{ URL string }
	}
	if err := json.Unmarshal(text, &found); err != nil {
		return fmt.Errorf("git server: %s: %w", hooks, err)
	}
	hook, err := json.Marshal(map[string]any{
		"type": "gitea", "active": true, "events": []string{"push"}, "branch_filter": "main",
		"config": map[string]string{"url": url, "content_type": "json", "secret": key},
	})
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.Config.URL == url {
			return nil
		}
		// That of a former token.
		if _, err := s.Repository(ctx, token, http.MethodDelete, fmt.Sprintf("%s/%d", hooks, f.ID), ""); err != nil {
			return err
		}
	}
	_, err = s.Repository(ctx, token, http.MethodPost, hooks, string(hook))
	return err
}

// Repository calls Gitea's API for what belongs to the repository, such as /hooks, and returns the answer, JSON.
func (s *Server) Repository(ctx context.Context, token, method, path, body string) ([]byte, error) {
	client, err := s.client()
	if err != nil {
		return nil, err
	}
	return ask(ctx, client, token, method, "/repos/"+layout.GitUser+"/"+layout.GitRepo+path, body)
}

func (s *Server) createUser(ctx context.Context) *exec.Cmd {
	return s.admin(ctx, "create", "--admin", "--username", layout.GitUser, "--email", layout.GitUser+"@"+layout.Zone,
		"--random-password", "--must-change-password=false")
}

// createToken prints the token alone.
func (s *Server) createToken(ctx context.Context, name string) *exec.Cmd {
	return s.admin(ctx, "generate-access-token", "--username", layout.GitUser, "--raw", "--scopes", "all",
		"--token-name", name)
}

func (s *Server) admin(ctx context.Context, args ...string) *exec.Cmd {
	line := append([]string{"--config", s.configFile(), "admin", "user"}, args...)
	cmd := exec.CommandContext(ctx, s.Program, line...) //nolint:gosec // our own program
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, s.env()...)
	cmd.Dir = s.Home
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

// run returns what the command prints; when it fails, with its complaint before.
func run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stderr.String() + stdout.String(), err
	}
	return stdout.String(), nil
}

// client trusts the lab's authority alone.
func (s *Server) client() (*http.Client, error) {
	pem, err := os.ReadFile(filepath.Join(s.TLS, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	return &http.Client{Timeout: 30 * time.Second, Transport: transport}, nil
}

// call calls Gitea's API. A conflict (the object exists) is success.
func call(ctx context.Context, client *http.Client, token, method, path, body string) error {
	_, err := ask(ctx, client, token, method, path, body)
	return err
}

// ask calls Gitea's API for its answer.
func ask(ctx context.Context, client *http.Client, token, method, path, body string) ([]byte, error) {
	url := "https://" + layout.GitAddr + "/api/v1" + path
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "token "+token)
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	// Without a token any answer shows that it serves: the lab's instance shows nothing to strangers.
	if token != "" && resp.StatusCode >= http.StatusBadRequest && resp.StatusCode != http.StatusConflict {
		return nil, fmt.Errorf("git server: %s %s: %s: %s", method, path, resp.Status, text)
	}
	return text, nil
}
