package lock

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/tinyrack-net/infrastructure/ci/repository"
)

// prefix is in front of the stack's name in that of the branch.
const prefix = "lock/"

// kind is why the git server did not do what it was asked.
type kind int

const (
	unreachable kind = iota // or any other reason that may pass
	denied                  // the account may not
	refused                 // the server's rules do not allow it to anybody
)

// failure is what git said, without credentials.
type failure struct {
	kind kind
	what string
}

func (f *failure) Error() string { return f.what }

// movedError says that the branch is not what it was thought to be: somebody was faster.
type movedError struct{ to string }

func (e *movedError) Error() string { return "somebody else was faster" }

// prepare looks whether the stack's name can be one of a branch, and makes what the commits are of: nothing.
func (h *hold) prepare(ctx context.Context) error {
	if _, err := h.git(ctx, "", "check-ref-format", h.ref); err != nil {
		return fmt.Errorf("the stack's name %q cannot be that of a branch (%w): nothing could lock it: name it otherwise",
			h.Stack, err)
	}
	h.token = rand.Text()
	tree, err := h.git(ctx, "", "hash-object", "-t", "tree", "-w", "--stdin")
	if err != nil {
		return fmt.Errorf("%s: the lock's commit cannot be made in %s: %w: run it in a git repository that can be written",
			h.branch, h.Dir, err)
	}
	h.tree = tree
	return nil
}

// commit makes another commit that says who holds the lock.
func (h *hold) commit(ctx context.Context) (string, error) {
	h.count++
	now := time.Now().UTC().Format(time.RFC3339)
	h.taken = cmp.Or(h.taken, now)
	return h.git(ctx, fmt.Sprintf("Lock of stack %s\n\n"+
		"A run that changes the stack holds it, and removes it at its end.\n\n"+
		"Holder: %s\nSince: %s\nLease: %s\nRenewed: %d, %s\nToken: %s\n", h.Stack, h.Holder, h.taken, h.Lease, h.count-1, now,
		h.token), "commit-tree", h.tree)
}

// send puts a new commit in the place of from, or of none.
func (h *hold) send(ctx context.Context, from string) error {
	commit, err := h.commit(ctx)
	if err != nil {
		return err
	}
	sent := time.Now()
	h.ours[commit] = sent
	if err := h.swap(ctx, from, commit); err != nil {
		return err
	}
	h.current, h.since = commit, sent
	return nil
}

// swap has the branch go from one commit to another, where none is an empty text. The server does it only if the
// branch is at the first: the client names it, and the server compares once more, with the branch locked. It returns
// movedError where it was elsewhere.
func (h *hold) swap(ctx context.Context, from, to string) error {
	said, err := h.git(ctx, "", "push", "--porcelain", "--no-verify", "--no-signed", "--no-recurse-submodules",
		"--force-with-lease="+h.ref+":"+from, "--", h.Remote, to+":"+h.ref)
	if err == nil {
		return nil
	}
	// Whatever it said: an answer that got lost has been a yes, or a no.
	if now, err := h.look(ctx); err == nil && now == to {
		return nil
	} else if err == nil && now != from {
		return &movedError{now}
	}
	words := err.Error()
	for line := range strings.Lines(said) { // of each branch what became of it
		if reason, ok := strings.CutPrefix(line, "!\t"); ok {
			words = strings.TrimSpace(reason) + "; " + words
		}
	}
	if race.MatchString(words) && !strings.Contains(words, "exists; cannot create") {
		return &movedError{from} // and back again
	}
	return h.explain(words)
}

// look says at which commit the branch is, or an empty text where there is none.
func (h *hold) look(ctx context.Context) (string, error) {
	out, err := h.git(ctx, "", "ls-remote", "--", h.Remote, h.ref)
	if err != nil {
		return "", h.explain(err.Error())
	}
	return repository.Listed(out, h.ref), nil
}

// describe reads who holds the lock by a commit.
func (h *hold) describe(ctx context.Context, commit string) *Held {
	held := &Held{
		Stack: h.Stack, Holder: "somebody whose commit cannot be read", Since: "an unknown time",
		commit: commit, lease: h.Lease,
	}
	// No branch of the repository changes by it. It may have moved meanwhile: then the next look describes that one.
	_, _ = h.git(ctx, "", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=", "--no-recurse-submodules",
		"--no-auto-maintenance", "--", h.Remote, h.ref)
	text, err := h.git(ctx, "", "cat-file", "commit", commit)
	if err != nil {
		return held
	}
	held.Holder = "somebody who wrote no name"
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ": ")
		switch value = printable(value); key {
		case "Holder":
			held.Holder = value
		case "Since":
			held.Since = value
		case "Lease":
			if lease, err := time.ParseDuration(value); err == nil {
				held.lease = max(h.Lease, lease)
			}
		}
	}
	return held
}

// What git and its servers say: git's transport.c and builtin/receive-pack.c, GitHub, GitLab, Gitea, OpenSSH.
var (
	race = regexp.MustCompile(`stale info|cannot lock ref|failed to update ref|reference already exists|` +
		`incorrect old value|fetch first`)
	no = regexp.MustCompile(`(?i)\b40[13]\b|authentication failed|permission denied|could not read username|` +
		`terminal prompts disabled|permission to \S+ denied|not allowed to push|access denied|insufficient permission|` +
		`marked as read only|write access to repository not granted|host key verification failed|repository not found|` +
		`repository '[^']*' not found`)
	rule = regexp.MustCompile(`(?i)\[remote rejected\]|hook declined|protected branch|exists; cannot create`)
)

// explain makes an error of what git said.
func (h *hold) explain(words string) error {
	switch {
	case rule.MatchString(words):
		return &failure{refused, fmt.Sprintf("%s: the git server's rules refuse it (%s): there is no lock without it: let "+
			"this account create, overwrite and delete the branches %s*", h.branch, words, prefix)}
	case no.MatchString(words):
		return &failure{denied, fmt.Sprintf("%s: the git server does not let this account in, or not write (%s): there is "+
			"no lock without it: give git credentials that may push to the branches %s*", h.branch, words, prefix)}
	}
	return &failure{unreachable, fmt.Sprintf("%s: the git server cannot be reached (%s): nobody knows who holds the "+
		"lock: see that git ls-remote works there", h.branch, words)}
}

// git runs one command and returns what it says on standard output; its error is what it says on standard error,
// without credentials.
func (h *hold) git(ctx context.Context, stdin string, args ...string) (string, error) {
	// One that is not answered leaves time for more.
	ctx, cancel := context.WithTimeout(ctx, max(h.Lease/4, time.Second))
	defer cancel()
	var out, said bytes.Buffer
	//nolint:gosec // git, with fixed commands; what is given stands behind --, or in a ref that git has looked at
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", h.Dir}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
	// Where a hook of git starts the program, they name its repository.
	env := slices.Clone(h.Env)
	if env == nil {
		env = os.Environ()
	}
	cmd.Env = slices.DeleteFunc(env, func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return name == "GIT_DIR" || name == "GIT_WORK_TREE" || name == "GIT_INDEX_FILE"
	})
	cmd.Env = append(cmd.Env, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GIT_AUTHOR_NAME=lock", "GIT_AUTHOR_EMAIL=lock@localhost",
		"GIT_COMMITTER_NAME=lock", "GIT_COMMITTER_EMAIL=lock@localhost")
	// A terminal's interrupt is for the work: what renews the lock goes on. It takes the helpers of git along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	text := clean(out.String())
	if err == nil {
		return text, nil
	}
	words := strings.ReplaceAll(clean(said.String()), "\n", "; ")
	switch {
	case ctx.Err() != nil:
		words = "it did not answer in time"
	case words == "":
		words = err.Error()
	}
	return text, &failure{unreachable, words}
}

// clean is what git said as it may be shown: without credentials, advice, and what a terminal would obey.
func clean(said string) string {
	var lines []string
	for line := range strings.Lines(repository.WithoutLogin(said)) {
		if line = strings.TrimRightFunc(line, unicode.IsSpace); line != "" && !strings.HasPrefix(line, "hint: ") {
			lines = append(lines, strings.Map(func(r rune) rune {
				if r == '\t' || unicode.IsPrint(r) {
					return r
				}
				return ' '
			}, line))
		}
	}
	return strings.Join(lines, "\n")
}
