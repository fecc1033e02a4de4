package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
)

// seed puts the checkout, with what is not committed yet, into the lab's git server, as a person who forks the project
// would: with a sealing key of their own. Commits made on the git server are kept below; nothing is pushed when the checkout has not
// changed since it was last seeded.
func (s *state) seed(ctx context.Context, set *artifacts.Set, sec *secrets) error {
	git := s.git(sec)
	if _, err := os.Stat(s.path("site", ".git", "HEAD")); err != nil {
		if err := os.MkdirAll(s.path("site"), 0o755); err != nil {
			return err
		}
		if _, err := git(ctx, "init", "--quiet", "--initial-branch=main"); err != nil {
			return err
		}
	}
	// Unborn on the first run; what was pushed by others is under our next commit.
	if _, err := git(ctx, "fetch", "--quiet", gitURL, "+main:refs/remotes/origin/main"); err == nil {
		if _, err := git(ctx, "update-ref", "refs/heads/main", "refs/remotes/origin/main"); err != nil {
			return err
		}
	}
	if _, err := git(ctx, "--work-tree="+s.checkout, "add", "--all", s.checkout); err != nil {
		return err
	}
	tree, err := git(ctx, "write-tree")
	if err != nil {
		return err
	}
	if last, err := os.ReadFile(s.path("seeded")); err == nil && strings.TrimSpace(string(last)) == tree {
		_, err = git(ctx, "reset", "--quiet", "--hard", "main")
		return err
	}
	if _, err := git(ctx, "commit", "--quiet", "--allow-empty", "--message", "lab: take over the checkout"); err != nil {
		return err
	}
	if _, err := git(ctx, "reset", "--quiet", "--hard", "main"); err != nil {
		return err
	}
	if err := s.seal(ctx, set); err != nil {
		return err
	}
	if _, err := git(ctx, "add", "--all"); err != nil {
		return err
	}
	if _, err := git(ctx, "commit", "--quiet", "--allow-empty", "--message", "lab: seal with the lab's own key"); err != nil {
		return err
	}
	if _, err := git(ctx, "push", "--quiet", gitURL, "main:main"); err != nil {
		return err
	}
	return writeFile(s.path("seeded"), []byte(tree+"\n"), 0o600)
}

// seal makes the lab's sealing key with the operator's own script, or seals again with the key that is there.
func (s *state) seal(ctx context.Context, set *artifacts.Set) error {
	key := s.path("sealing.pem")
	args := []string{"lab", "--root", s.path("site"), "--out", key}
	if _, err := os.Stat(key); err == nil {
		args = []string{"lab", "--root", s.path("site"), "--key", key}
	}
	// The checkout's own are of another key. With those of the last time in place the script has nothing to do.
	sealed := []string{filepath.Join("clusters", "lab", "sealing.crt"), filepath.Join("infrastructure", "configs", "lab", "canary.yaml")}
	for _, file := range sealed {
		if err := ignoreMissing(copyFile(s.path("sealed", file), s.path("site", file), 0o644)); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.checkout, "scripts", "sealing-key.sh"), args...) //nolint:gosec // the operator's own script
	cmd.Env = append(os.Environ(), "KUBESEAL="+set.Kubeseal)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the lab's sealing key: %w: %s", err, out)
	}
	for _, file := range sealed {
		if err := copyFile(s.path("site", file), s.path("sealed", file), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// git returns a function that runs git in the lab's clone of the site, with the lab's authority and credentials.
func (s *state) git(sec *secrets) func(ctx context.Context, args ...string) (string, error) {
	return func(ctx context.Context, args ...string) (string, error) {
		credentials := s.path("git-credentials")
		url := strings.Replace(gitURL, "https://", "https://"+giteaUser+":"+sec.GitToken+"@", 1)
		if err := writeFile(credentials, []byte(url[:strings.LastIndex(url, "/"+giteaUser+"/")]+"\n"), 0o600); err != nil {
			return "", err
		}
		full := append([]string{
			"-c", "user.name=tinyrack lab", "-c", "user.email=lab@" + zone, "-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "safe.directory=*",
			"-c", "credential.helper=", "-c", "credential.helper=store --file=" + credentials,
			"--git-dir=" + s.path("site", ".git"), "--work-tree=" + s.path("site"),
		}, args...)
		cmd := exec.CommandContext(ctx, "git", full...) //nolint:gosec // fixed commands
		cmd.Dir = s.path("site")
		cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_SSL_CAINFO="+s.path("tls", "ca.crt"))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = errors.Join(fmt.Errorf("git %s: %w", args[0], err), errors.New(strings.TrimSpace(stderr.String())))
		}
		return strings.TrimSpace(string(out)), err
	}
}
