// Package repository is git as the checks of a change need it: commits, what differs between them, and folders that
// hold one.
package repository

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Repository is a clone, and the remote that the others push to.
type Repository struct {
	Dir string
	// Remote is a name or a URL. Its login, if it needs one, is the caller's git's, or Token.
	Remote string
	// Token is an access token of a remote over HTTPS: a secret. Optional.
	Token string
	// extra is more of git's environment.
	extra []string
}

// Open finds the clone that dir is in.
func Open(ctx context.Context, dir, remote, token string) (*Repository, error) {
	r := &Repository{Dir: dir, Remote: remote, Token: token}
	top, err := r.Git(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("%s: %w: there is nothing to compare: run it in a clone of the repository", dir, err)
	}
	r.Dir = top
	return r, nil
}

// Env is the environment of git: no question is asked, and the token is known to git alone. Arguments can be read by
// everybody, so it is in none.
func (r *Repository) Env() []string {
	env := append(append(os.Environ(), "GIT_TERMINAL_PROMPT=0"), r.extra...)
	if r.Token == "" {
		return env
	}
	// Every host takes a token as the password of any user name.
	basic := base64.StdEncoding.EncodeToString([]byte("x-access-token:" + r.Token))
	return append(env, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.extraHeader",
		"GIT_CONFIG_VALUE_0=Authorization: Basic "+basic)
}

// Git runs git in the clone and returns what it prints, without the last line break.
func (r *Repository) Git(ctx context.Context, args ...string) (string, error) {
	return r.git(ctx, r.Dir, args...)
}

func (r *Repository) git(ctx context.Context, dir string, args ...string) (string, error) {
	args = append([]string{"-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"}, args...)
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // commands of this package's callers
	cmd.Dir, cmd.Env = dir, r.Env()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		said := withoutLogin(strings.TrimSpace(stderr.String()))
		return "", fmt.Errorf("git %s: %w", args[4], errors.Join(err, errors.New(said)))
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

var login = regexp.MustCompile(`://[^/@\s]+@`)

// withoutLogin takes user and password out of the URLs in a text.
func withoutLogin(text string) string { return login.ReplaceAllString(text, "://") }

// Commit is the full name of a commit.
func (r *Repository) Commit(ctx context.Context, name string) (string, error) {
	return r.Git(ctx, "rev-parse", "--verify", "--end-of-options", name+"^{commit}")
}

// Fetch gets a ref of the remote and returns its commit. found is false where the remote has no such ref.
func (r *Repository) Fetch(ctx context.Context, ref string) (commit string, found bool, err error) {
	listed, err := r.Git(ctx, "ls-remote", "--", r.Remote, ref)
	if err != nil || listed == "" {
		return "", false, err
	}
	commit, _, _ = strings.Cut(listed, "\t")
	if _, err := r.Git(ctx, "fetch", "--quiet", "--no-tags", "--", r.Remote, ref); err != nil {
		return "", false, err
	}
	return commit, true, nil
}

// MergeBase is the commit that the change grew from.
func (r *Repository) MergeBase(ctx context.Context, base, head string) (string, error) {
	common, err := r.Git(ctx, "merge-base", base, head)
	if err != nil {
		return "", fmt.Errorf("%w: what the change is cannot be told: a shallow clone lacks the commits that it grew from: "+
			"fetch with the whole history (fetch-depth: 0)", err)
	}
	return common, nil
}

// Changed are the files that differ between two commits, or between a commit and the clone's files where head is
// empty: of a file that moved both names.
func (r *Repository) Changed(ctx context.Context, base, head string) ([]string, error) {
	args := []string{"diff", "-z", "--name-only", "--no-renames", base}
	if head != "" {
		args = append(args, head)
	}
	out, err := r.Git(ctx, append(args, "--")...)
	if err != nil {
		return nil, err
	}
	if head == "" {
		added, err := r.Git(ctx, "ls-files", "-z", "--others", "--exclude-standard")
		if err != nil {
			return nil, err
		}
		out += added
	}
	return strings.FieldsFunc(out, func(c rune) bool { return c == 0 }), nil
}

// Worktree puts a commit's files, without a .git, into a new folder below dir. Links that lead out of it are left out:
// who reads the folder would read files of this machine.
func (r *Repository) Worktree(ctx context.Context, commit, dir string) (string, error) {
	at, err := os.MkdirTemp(dir, "tree")
	if err != nil {
		return "", err
	}
	archive := filepath.Join(dir, filepath.Base(at)+".tar")
	defer os.Remove(archive)
	if _, err := r.Git(ctx, "archive", "--format=tar", "--output="+archive, commit); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "tar", "-xf", archive, "-C", at, "--no-same-owner").CombinedOutput() //nolint:gosec // ours
	if err != nil {
		return "", fmt.Errorf("unpack %s: %w: %s", commit, err, bytes.TrimSpace(out))
	}
	return at, removeLinksOut(at)
}

func removeLinksOut(root string) error {
	return filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Type()&os.ModeSymlink == 0 {
			return err
		}
		to, err := os.Readlink(path)
		if err != nil {
			return err
		}
		if !filepath.IsAbs(to) {
			within, err := filepath.Rel(root, filepath.Join(filepath.Dir(path), to))
			if err == nil && filepath.IsLocal(within) {
				return nil
			}
		}
		return os.Remove(path)
	})
}

// Publish makes a branch of the remote hold one commit with one file and no history: what was there is forgotten.
func (r *Repository) Publish(ctx context.Context, branch, file, message string, content []byte) error {
	dir, err := os.MkdirTemp("", "publish")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	blob, err := r.Git(ctx, "hash-object", "-w", "--", path)
	if err != nil {
		return err
	}
	tree, err := r.tree(ctx, blob, file)
	if err != nil {
		return err
	}
	commit, err := r.commit(ctx, tree, message)
	if err != nil {
		return err
	}
	_, err = r.Git(ctx, "push", "--quiet", "--force", "--", r.Remote, commit+":refs/heads/"+branch)
	return err
}

func (r *Repository) tree(ctx context.Context, blob, file string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", "mktree")
	cmd.Dir, cmd.Env = r.Dir, r.Env()
	cmd.Stdin = strings.NewReader("100644 blob " + blob + "\t" + file + "\n")
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git mktree: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Snapshot is a commit of the clone's files as they are, on top of what is checked out. The index stays as it is.
func (r *Repository) Snapshot(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "index")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	own := &Repository{Dir: r.Dir, Remote: r.Remote, extra: []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}}
	if _, err := own.Git(ctx, "add", "--all", "--", "."); err != nil {
		return "", err
	}
	tree, err := own.Git(ctx, "write-tree")
	if err != nil {
		return "", err
	}
	return r.commit(ctx, tree, "the files of the checkout", "HEAD")
}

// Merge is what a merge of a change into its base would be: head itself where it has all of base.
func (r *Repository) Merge(ctx context.Context, base, head string) (string, error) {
	common, err := r.MergeBase(ctx, base, head)
	if err != nil {
		return "", err
	}
	if common == base {
		return head, nil
	}
	tree, err := r.Git(ctx, "merge-tree", "--write-tree", "--no-messages", "--name-only", base, head)
	if err != nil {
		return "", fmt.Errorf("%w: the change conflicts with what was merged since it was made: there is nothing to "+
			"preview: rebase it", err)
	}
	return r.commit(ctx, tree, "preview of a merge", base, head)
}

// commit makes a commit of a tree that no branch holds.
func (r *Repository) commit(ctx context.Context, tree, message string, parents ...string) (string, error) {
	args := []string{"-c", "user.name=tinyrack", "-c", "user.email=tinyrack@localhost", "commit-tree", "-m", message}
	for _, parent := range parents {
		args = append(args, "-p", parent)
	}
	return r.Git(ctx, append(args, tree)...)
}
