package clouds

import (
	"context"
	"fmt"
	"net/http"
	"net/http/cgi" //nolint:gosec // Go's own is not the one of 2016
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/file"
)

// Repositories are served below this path, read-only, by git's own program.
const repositoriesPath = "/git"

// publishRepository makes at a bare repository whose tag holds what is in the folder from. It is made once: from is an
// artifact, which never changes under its name.
func publishRepository(ctx context.Context, at, from, tag string) error {
	made := at + "-" + filepath.Base(from)
	if _, err := os.Stat(made); err != nil {
		if err := makeRepository(ctx, made+".new", from, tag); err != nil {
			return err
		}
		if err := os.Rename(made+".new", made); err != nil {
			return err
		}
	}
	return file.Link(at, made)
}

func makeRepository(ctx context.Context, dir, from, tag string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", "--initial-branch=main", dir},
		{"--git-dir=" + dir, "--work-tree=" + from, "add", "--all"},
		{"--git-dir=" + dir, "--work-tree=" + from, "commit", "--quiet", "--message", tag},
		{"--git-dir=" + dir, "tag", tag},
	} {
		if out, err := git(ctx, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("repository %s: git %s: %w: %s", filepath.Base(dir), args[0], err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// git is a git command with none of the caller's settings. Its commits are the same whenever they are made.
func git(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // fixed commands
	const who, when = "tinyrack lab", "2026-01-01T00:00:00Z"
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME="+who, "GIT_AUTHOR_EMAIL=", "GIT_AUTHOR_DATE="+when,
		"GIT_COMMITTER_NAME="+who, "GIT_COMMITTER_EMAIL=", "GIT_COMMITTER_DATE="+when)
	return cmd
}

// repositories serves the repositories in dir.
func repositories(dir string) (http.Handler, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, err
	}
	return &cgi.Handler{
		Path: program, Args: []string{"http-backend"}, Root: repositoriesPath, Dir: dir,
		Env: []string{
			"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		},
	}, nil
}
