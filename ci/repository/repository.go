// Package repository is git as the checks of a change need it: commits, what differs between them, and folders that
// hold one.
package repository

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
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
	// patience is how long the first wait is for a remote that took no push.
	patience time.Duration
}

// Open finds the clone that dir is in.
func Open(ctx context.Context, dir, remote, token string) (*Repository, error) {
	r := &Repository{Dir: dir, Remote: remote, Token: token, patience: time.Second}
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
	return r.gitFrom(ctx, nil, args...)
}

// gitFrom is Git with a standard input.
func (r *Repository) gitFrom(ctx context.Context, in io.Reader, args ...string) (string, error) {
	args = append([]string{"-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"}, args...)
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // commands of this package's callers
	cmd.Dir, cmd.Env, cmd.Stdin = r.Dir, r.Env(), in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		said := WithoutLogin(strings.TrimSpace(stderr.String()))
		return "", fmt.Errorf("git %s: %w", args[4], errors.Join(err, errors.New(said)))
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// login is what stands before the host of a URL, up to the last @: a password may have one.
var login = regexp.MustCompile(`://[^/\s'"]*@`)

// WithoutLogin takes user and password out of the URLs in a text.
func WithoutLogin(text string) string { return login.ReplaceAllString(text, "://") }

// Commit is the full name of a commit.
func (r *Repository) Commit(ctx context.Context, name string) (string, error) {
	return r.Git(ctx, "rev-parse", "--verify", "--end-of-options", name+"^{commit}")
}

// Fetch gets a ref of the remote and returns its commit. found is false where the remote has no such ref.
func (r *Repository) Fetch(ctx context.Context, ref string) (commit string, found bool, err error) {
	listed, err := r.Git(ctx, "ls-remote", "--", r.Remote, ref)
	if err != nil {
		return "", false, err
	}
	if commit = Listed(listed, ref); commit == "" {
		return "", false, nil
	}
	if _, err := r.Git(ctx, "fetch", "--quiet", "--no-tags", "--", r.Remote, ref); err != nil {
		return "", false, err
	}
	return commit, true, nil
}

// Listed is the commit of a ref in what git ls-remote prints, or nothing. It lists every ref that ends so:
// refs/heads/a/refs/heads/main, too.
func Listed(printed, ref string) string {
	for line := range strings.Lines(printed) {
		if commit, name, _ := strings.Cut(strings.TrimSpace(line), "\t"); name == ref {
			return commit
		}
	}
	return ""
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

// Changed are the files that differ between two commits: of a file that moved both names.
func (r *Repository) Changed(ctx context.Context, base, head string) ([]string, error) {
	out, err := r.Git(ctx, "diff", "-z", "--name-only", "--no-renames", base, head, "--")
	if err != nil {
		return nil, err
	}
	return strings.FieldsFunc(out, func(c rune) bool { return c == 0 }), nil
}

// Worktree puts a commit's files, without a .git, into a new folder below dir: byte for byte, as Flux reads them. What
// the change says of that in attributes (another encoding, files that are left out) does not count. Links that lead out
// of the folder are left out: who reads it would read files of this machine.
func (r *Repository) Worktree(ctx context.Context, commit, dir string) (string, error) {
	listed, err := r.Git(ctx, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return "", err
	}
	root, err := os.MkdirTemp(dir, "tree")
	if err != nil {
		return "", err
	}
	blobs, err := r.blobs(ctx)
	if err != nil {
		return "", err
	}
	defer blobs.close()
	for entry := range strings.SplitSeq(listed, "\x00") {
		about, name, _ := strings.Cut(entry, "\t")
		fields := strings.Fields(about) // mode, type, object
		if len(fields) != 3 || fields[1] != "blob" {
			continue
		}
		content, err := blobs.read(fields[2])
		if err == nil {
			err = place(root, name, fields[0], content)
		}
		if err != nil {
			return "", fmt.Errorf("%s of %s: %w", name, commit, err)
		}
	}
	return root, removeLinksOut(root)
}

// removeLinksOut removes the links that lead out of a folder, or nowhere. Where one leads is asked of the file system:
// a path that stays inside by its letters can leave through other links.
func removeLinksOut(root string) error {
	inside, err := filepath.EvalSymlinks(root)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Type()&os.ModeSymlink == 0 {
			return err
		}
		to, err := filepath.EvalSymlinks(path)
		if err == nil && (to == inside || strings.HasPrefix(to, inside+string(filepath.Separator))) {
			return nil
		}
		return os.Remove(path)
	})
}

// place writes one file of a commit. Git itself refuses names that lead out, or into .git.
func place(root, name, mode string, content []byte) error {
	if !filepath.IsLocal(name) {
		return errors.New("leads out of the repository: nothing of it is read")
	}
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	switch mode {
	case "120000":
		return os.Symlink(string(content), path)
	case "100755":
		return os.WriteFile(path, content, 0o755) //nolint:gosec // a program
	}
	return os.WriteFile(path, content, 0o644) //nolint:gosec // as git does
}

// blobs is a git that reads files out of the repository.
type blobs struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (r *Repository) blobs(ctx context.Context) (*blobs, error) {
	cmd := exec.CommandContext(ctx, "git", "cat-file", "--batch")
	cmd.Dir, cmd.Env = r.Dir, r.Env()
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		return nil, err
	}
	return &blobs{cmd, in, bufio.NewReader(out)}, cmd.Start()
}

func (b *blobs) read(object string) ([]byte, error) {
	if _, err := fmt.Fprintln(b.in, object); err != nil {
		return nil, err
	}
	var name, kind string
	var size int
	if _, err := fmt.Fscanf(b.out, "%s %s %d\n", &name, &kind, &size); err != nil || size < 0 {
		return nil, fmt.Errorf("git cat-file: object %s cannot be read: %w", object, err)
	}
	content := make([]byte, size+1) // a line break follows
	_, err := io.ReadFull(b.out, content)
	return content[:size], err
}

func (b *blobs) close() {
	_ = b.in.Close()
	_ = b.cmd.Wait() // it has said all that was asked
}

// Publish makes a branch of the remote hold one commit with one file and no history: what was there is forgotten.
func (r *Repository) Publish(ctx context.Context, branch, file, message string, content []byte) error {
	blob, err := r.gitFrom(ctx, bytes.NewReader(content), "hash-object", "-w", "--stdin")
	if err != nil {
		return err
	}
	tree, err := r.gitFrom(ctx, strings.NewReader("100644 blob "+blob+"\t"+file+"\n"), "mktree")
	if err != nil {
		return err
	}
	commit, err := r.commit(ctx, tree, message)
	if err != nil {
		return err
	}
	// A connection that was cut is not the next one, and whoever applied should not have to begin anew for it. What is
	// refused is refused four times.
	for wait := r.patience; ; wait *= 3 {
		_, err = r.Git(ctx, "push", "--quiet", "--force", "--", r.Remote, commit+":refs/heads/"+branch)
		if err == nil || wait > 9*r.patience {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// Snapshot is a commit of the clone's files as they are, on top of what is checked out. The index stays as it is.
func (r *Repository) Snapshot(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "index")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	own := &Repository{Dir: r.Dir, Remote: r.Remote, extra: []string{"GIT_INDEX_FILE=" + filepath.Join(dir, "index")}}
	// What is committed counts, though it may be ignored.
	if _, err := own.Git(ctx, "read-tree", "HEAD"); err != nil {
		return "", err
	}
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
