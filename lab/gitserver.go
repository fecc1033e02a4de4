package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
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

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/process"
)

const (
	giteaUser = "tinyrack"
	giteaRepo = "infrastructure"
	gitURL    = "https://" + giteaAddr + "/" + giteaUser + "/" + giteaRepo + ".git"

	// giteaUID runs the git server: it refuses to run as root. No such user has to exist.
	giteaUID = 60777
)

const giteaConfig = `APP_NAME = tinyrack lab
RUN_MODE = prod
WORK_PATH = %[1]s

[server]
PROTOCOL = https
HTTP_ADDR = %[3]s
HTTP_PORT = 3000
ROOT_URL = https://%[3]s:3000/
CERT_FILE = %[1]s/server.crt
KEY_FILE = %[1]s/server.key
STATIC_ROOT_PATH = %[2]s
DISABLE_SSH = true
OFFLINE_MODE = true

[database]
DB_TYPE = sqlite3
PATH = %[1]s/gitea.db

[repository]
ROOT = %[1]s/repositories
DEFAULT_BRANCH = main

[security]
INSTALL_LOCK = true
SECRET_KEY = %[4]s
INTERNAL_TOKEN = %[5]s

[oauth2]
ENABLED = false

[service]
DISABLE_REGISTRATION = true
REQUIRE_SIGNIN_VIEW = true

[log]
MODE = console
LEVEL = warn

[cron]
ENABLED = false
`

// gitServer starts Gitea, a real one with a private repository, and makes its user and access token once.
func (s *state) gitServer(ctx context.Context, runner process.Runner, set *artifacts.Set, sec *secrets) error {
	home := s.path("gitea")
	config := filepath.Join(home, "app.ini")
	// The cache may lie in a home directory that the git server's user cannot enter.
	program, static := s.path("bin", "gitea"), s.path("gitea-static")
	if err := errors.Join(mirror(set.Gitea, program), mirror(set.GiteaStatic, static)); err != nil {
		return err
	}
	if _, err := os.Stat(config); err != nil {
		if err := errors.Join(
			copyFile(s.path("tls", "server.crt"), filepath.Join(home, "server.crt"), 0o644),
			copyFile(s.path("tls", "server.key"), filepath.Join(home, "server.key"), 0o600),
			writeFile(config, fmt.Appendf(nil, giteaConfig, home, static, machine.HostIP, token(32), token(32)), 0o600),
		); err != nil {
			return err
		}
	}
	if err := chownTree(home, giteaUID); err != nil {
		return err
	}
	client, err := s.gitClient()
	if err != nil {
		return err
	}
	err = runner.Start(ctx, process.Spec{
		Name: "gitea", Args: []string{program, "web", "--config", config}, Dir: home, UID: giteaUID,
		Env: []string{"HOME=" + home, "USER=git", "GITEA_WORK_DIR=" + home},
		Ready: func(ctx context.Context) error {
			return s.gitAPI(ctx, client, "", http.MethodGet, "/version", "")
		},
	})
	if err != nil || sec.GitToken != "" {
		return err
	}
	return s.gitAccount(ctx, program, sec, client, config)
}

// gitAccount makes the user, an access token and the private repository. A password is made too, and forgotten.
func (s *state) gitAccount(ctx context.Context, program string, sec *secrets, client *http.Client, config string) error {
	if out, err := s.giteaAdmin(ctx, program, config, "create", "--admin", "--username", giteaUser, "--email", giteaUser+"@"+zone,
		"--random-password", "--must-change-password=false"); err != nil && !strings.Contains(out, "already exists") {
		return fmt.Errorf("create the git server's user: %w: %s", err, out)
	}
	out, err := s.giteaAdmin(ctx, program, config, "generate-access-token", "--username", giteaUser, "--raw", "--scopes", "all", "--token-name", "lab-"+token(4))
	if err != nil {
		return fmt.Errorf("create the git server's token: %w", err)
	}
	git := strings.TrimSpace(out)
	if err := s.gitAPI(ctx, client, git, http.MethodPost, "/user/repos", `{"name":"`+giteaRepo+`","private":true,"default_branch":"main"}`); err != nil {
		return err
	}
	sec.GitToken = git
	return s.saveSecrets(sec)
}

func (s *state) giteaAdmin(ctx context.Context, program, config string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, append([]string{"--config", config, "admin", "user"}, args...)...) //nolint:gosec // our own program
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.path("gitea"), "USER=git", "GITEA_WORK_DIR=" + s.path("gitea")}
	cmd.Dir = s.path("gitea")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: giteaUID, Gid: giteaUID}}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stderr.String() + stdout.String(), err
	}
	return stdout.String(), nil
}

func (s *state) gitClient() (*http.Client, error) {
	pem, err := os.ReadFile(s.path("tls", "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}, nil
}

// gitAPI calls Gitea's API. A conflict (the object exists) is success.
func (s *state) gitAPI(ctx context.Context, client *http.Client, token, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+giteaAddr+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	if token != "" {
		req.Header.Set("Authorization", "token "+token)
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	// Without a token any answer shows that it serves: the lab's instance shows nothing to strangers.
	if token != "" && resp.StatusCode >= http.StatusBadRequest && resp.StatusCode != http.StatusConflict {
		return fmt.Errorf("git server: %s %s: %s: %s", method, path, resp.Status, text)
	}
	return nil
}

func chownTree(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
}

// mirror makes to the same as from, a file or a folder, by hard links where it can. What is there already is kept: artifacts never change under
// their name, so a link of another file is replaced.
func mirror(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(at, 0o755)
		}
		source, err := os.Stat(path)
		if err != nil {
			return err
		}
		if there, err := os.Stat(at); err == nil && (os.SameFile(source, there) || there.Size() == source.Size() && !there.ModTime().Before(source.ModTime())) {
			return nil
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), ignoreMissing(os.Remove(at))); err != nil {
			return err
		}
		if os.Link(path, at) == nil {
			return nil
		}
		return copyFile(path, at, source.Mode().Perm())
	})
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func copyFile(from, to string, mode os.FileMode) error {
	text, err := os.ReadFile(from) //nolint:gosec // the lab's own files
	if err != nil {
		return err
	}
	return writeFile(to, text, mode)
}
