// Package repository is git as the checks of a change need it: commits, what differs between them, and folders that
// hold one.
package repository

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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
	// server is the scheme and host of such a remote, which alone is told the token; empty for any other.
	server string
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
	if token == "" {
		return r, nil
	}
	address, err := r.Git(ctx, "ls-remote", "--get-url", "--", remote)
	if err != nil {
		return nil, err
	}
	r.server, err = server(address)
	return r, err
}

// server is the part of a remote's URL that a token is bound to. A remote of another kind than HTTP is told none.
func server(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return "", nil //nolint:nilerr // a path, or a host of SSH
	}
	if u.Scheme == "http" && u.Hostname() != "localhost" && !net.ParseIP(u.Hostname()).IsLoopback() {
		return "", fmt.Errorf("the remote %s is plain HTTP: everybody on the way could read the token: nothing was sent: "+
			"use https", WithoutLogin(address))
	}
	return u.Scheme + "://" + u.Host + "/", nil
}

// Env is the environment of git: no question is asked, and the token is known to git alone. Arguments can be read by
// everybody, so it is in none. Git would take it along to where a server redirects, so it follows nobody.
func (r *Repository) Env() []string {
	env := append(append(os.Environ(), "GIT_TERMINAL_PROMPT=0"), r.extra...)
	if r.Token == "" || r.server == "" {
		return env
	}
	// Every host takes a token as the password of any user name.
	basic := base64.StdEncoding.EncodeToString([]byte("x-access-token:" + r.Token))
	// After what the caller has set there.
	count, err := strconv.Atoi(os.Getenv("GIT_CONFIG_COUNT"))
	if err != nil {
		count = 0
	}
	for _, setting := range [][2]string{
		{"extraHeader", ""}, // a login of the caller's, which would be a second one: hosts refuse two
		{"extraHeader", "Authorization: Basic " + basic},
		{"followRedirects", "false"},
	} {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=http.%s.%s", count, r.server, setting[0]),
			fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", count, setting[1]))
		count++
	}
	return append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", count))
}

// Git runs git in the clone and returns what it prints, without the last line break.
func (r *Repository) Git(ctx context.Context, args ...string) (string, error) {
	return r.gitFrom(ctx, nil, args...)
}

// gitFrom is Git with a standard input.
func (r *Repository) gitFrom(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd, failed := r.command(ctx, args...)
	cmd.Stdin = in
	out, err := cmd.Output()
	if err != nil {
		return "", failed(err)
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// command is git in the clone, and what makes an error of its failure.
func (r *Repository) command(ctx context.Context, args ...string) (cmd *exec.Cmd, failed func(error) error) {
	settings := []string{"-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false"}
	//nolint:gosec // commands of this package's callers
	cmd = exec.CommandContext(ctx, "git", append(settings, args...)...)
	cmd.Dir, cmd.Env = r.Dir, r.Env()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	return cmd, func(err error) error {
		for len(args) > 2 && args[0] == "-c" {
			args = args[2:]
		}
		said := WithoutLogin(strings.TrimSpace(stderr.String()))
		err = fmt.Errorf("git %s: %w", args[0], errors.Join(err, errors.New(said)))
		if strings.Contains(said, "returned error: 30") {
			err = fmt.Errorf("%w: the remote is elsewhere now, and the token is not taken there: correct its URL: git remote "+
				"set-url", err)
		}
		return err
	}
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
	args := append(checked(), "fetch", "--quiet", "--no-tags", "--", r.Remote, ref)
	if _, err := r.Git(ctx, args...); err != nil {
		if strings.Contains(err.Error(), "fsck error") {
			err = fmt.Errorf("%w: an object of %s is none that git makes: nothing of it is read: see git fsck where it was "+
				"pushed from", err, ref)
		}
		return "", false, err
	}
	return commit, true, nil
}

// checked has git look at what it fetches: a tree that somebody made by hand can hold a name twice, or .git. What old
// programs wrote into commits and modes is no harm, and a history cannot be changed any more: it is let in.
func checked() []string {
	args := []string{"-c", "fetch.fsckObjects=true"}
	for _, harmless := range []string{
		"badDate", "badDateOverflow", "badEmail", "badName", "badTimezone", "missingEmail", "missingNameBeforeEmail",
		"missingSpaceBeforeDate", "missingSpaceBeforeEmail", "multipleAuthors", "nulInCommit", "zeroPaddedDate",
		"zeroPaddedFilemode",
	} {
		args = append(args, "-c", "fetch.fsck."+harmless+"=warn")
	}
	return args
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
	// Before git merges it, or lists what it changes: neither has a limit.
	if _, err := r.files(ctx, head); err != nil {
		return "", err
	}
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
