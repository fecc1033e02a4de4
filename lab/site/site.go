// Package site puts the checkout into the lab's git server, as a person who forks the project would: with a sealing key
// of their own.
package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// Site is the lab's clone of what its git server holds.
type Site struct {
	layout.Layout
	// Token is the git server's access token: a secret.
	Token string
	// Kubeseal is the path of that program.
	Kubeseal string
}

// Seed puts the checkout, with what is not committed yet, into the git server. Commits made on the git server are kept
// below; nothing is pushed when the checkout has not changed since it was last seeded.
func (s *Site) Seed(ctx context.Context) error {
	if err := s.clone(ctx); err != nil {
		return err
	}
	// Unborn on the first run; what was pushed by others is under our next commit.
	if _, err := s.run(ctx, "fetch", "--quiet", layout.GitURL, "+main:refs/remotes/origin/main"); err == nil {
		if _, err := s.run(ctx, "update-ref", "refs/heads/main", "refs/remotes/origin/main"); err != nil {
			return err
		}
	}
	if _, err := s.run(ctx, "--work-tree="+s.Checkout, "add", "--all", s.Checkout); err != nil {
		return err
	}
	tree, err := s.run(ctx, "write-tree")
	if err != nil {
		return err
	}
	if last, err := os.ReadFile(s.Path("seeded")); err == nil && strings.TrimSpace(string(last)) == tree {
		_, err = s.run(ctx, "reset", "--quiet", "--hard", "main")
		return err
	}
	if err := s.runAll(ctx,
		[]string{"commit", "--quiet", "--allow-empty", "--message", "lab: take over the checkout"},
		[]string{"reset", "--quiet", "--hard", "main"},
	); err != nil {
		return err
	}
	if err := s.seal(ctx); err != nil {
		return err
	}
	if err := s.runAll(ctx,
		[]string{"add", "--all"},
		[]string{"commit", "--quiet", "--allow-empty", "--message", "lab: seal with the lab's own key"},
		[]string{"push", "--quiet", layout.GitURL, "main:main"},
	); err != nil {
		return err
	}
	return file.Write(s.Path("seeded"), []byte(tree+"\n"), 0o600)
}

// Fill commits the lab's settings, as everybody does who keeps a site in git: facts in clear, secrets encrypted. path
// is the stack's settings file. Nothing is pushed when they are there already.
func (s *Site) Fill(ctx context.Context, path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // the lab's own file
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	// The program of the lab reads the clone's files from another folder.
	text = bytes.ReplaceAll(text, []byte(s.Site()+string(filepath.Separator)), nil)
	if err := file.Write(filepath.Join(s.Site(), name), text, 0o644); err != nil {
		return err
	}
	if changed, err := s.run(ctx, "status", "--porcelain", "--", name); err != nil || changed == "" {
		return err
	}
	return s.runAll(ctx,
		[]string{"add", "--", name},
		[]string{"commit", "--quiet", "--message", "lab: fill in this lab's settings"},
		[]string{"push", "--quiet", layout.GitURL, "main:main"},
	)
}

// clone makes the empty clone and writes the credentials that git uses in it.
func (s *Site) clone(ctx context.Context) error {
	if err := file.Write(s.GitCredentials(), []byte(credentials(s.Token)), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Site(), 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.Site(), ".git", "HEAD")); err == nil {
		return nil
	}
	_, err := s.run(ctx, "init", "--quiet", "--initial-branch=main")
	return err
}

// credentials is the line of git's credential store for the lab's git server: a secret.
func credentials(token string) string {
	return "https://" + layout.GitUser + ":" + token + "@" + layout.GitAddr + "\n"
}

func (s *Site) runAll(ctx context.Context, commands ...[]string) error {
	for _, args := range commands {
		if _, err := s.run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// run runs git in the clone and returns what it prints.
func (s *Site) run(ctx context.Context, args ...string) (string, error) {
	cmd := s.git(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = errors.Join(fmt.Errorf("git %s: %w", args[0], err), errors.New(strings.TrimSpace(stderr.String())))
	}
	return strings.TrimSpace(string(out)), err
}

// git is a git command in the clone, with the lab's authority and credentials and none of the caller's settings.
func (s *Site) git(ctx context.Context, args ...string) *exec.Cmd {
	line := append([]string{
		"-c", "user.name=tinyrack lab", "-c", "user.email=lab@" + layout.Zone, "-c", "core.hooksPath=/dev/null",
		"-c", "gc.auto=0", "-c", "safe.directory=*",
		"-c", "credential.helper=", "-c", "credential.helper=store --file=" + s.GitCredentials(),
		"--git-dir=" + filepath.Join(s.Site(), ".git"), "--work-tree=" + s.Site(),
	}, args...)
	cmd := exec.CommandContext(ctx, "git", line...) //nolint:gosec // fixed commands
	cmd.Dir = s.Site()
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_SSL_CAINFO="+s.CA())
	return cmd
}
