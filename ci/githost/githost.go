// Package githost is the API of a git host, for what a preview needs of it: one comment on a pull request, and the pull
// request that a commit came from. It speaks to Gitea, Forgejo, GitHub and GitLab. The token goes to the API's address
// alone, and stands in no error.
package githost

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// The kinds of host. Forgejo's API is that of Gitea, from which it comes.
const (
	Gitea   = "gitea"
	Forgejo = "forgejo"
	GitHub  = "github"
	GitLab  = "gitlab"
)

// Host is one repository on a git host. It waits for the host's rate limits for a minute in all.
type Host struct {
	kind, api, repository string
	token                 string // secret
	client                *http.Client
	// sleep waits; a test's does not.
	sleep func(context.Context, time.Duration) error

	mutex  sync.Mutex
	waited time.Duration
}

var (
	ownerName = regexp.MustCompile(`^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$`)
	// groupName has subgroups, too: https://docs.gitlab.com/user/group/subgroups/
	groupName = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+$`)
	visible   = regexp.MustCompile(`^[!-~]+$`)
)

// New is the repository "owner/name" ("group/subgroup/name" too on GitLab) on the host whose API is at apiURL:
// https://git.example/api/v1, https://api.github.com, https://gitlab.example/api/v4. The token is secret. A nil client
// stands for one with a limit of 30 seconds for each request.
func New(kind, apiURL, repository, token string, client *http.Client) (*Host, error) {
	names := ownerName
	switch kind {
	case Gitea, Forgejo, GitHub:
	case GitLab:
		names = groupName
	default:
		return nil, fmt.Errorf("git host %q: unknown: no comment can be written: set gitea, forgejo, github or gitlab", kind)
	}
	address, err := url.Parse(apiURL)
	switch {
	case err != nil || address.Host == "" || address.User != nil || address.RawQuery != "" || address.Fragment != "":
		return nil, errors.New("API of the git host: no address: nothing can be asked: " +
			"set one like https://git.example/api/v1, without a user or a question mark")
	case address.Scheme != "https" && (address.Scheme != "http" || !isLoopback(address.Hostname())):
		return nil, fmt.Errorf("API of the git host %s: not https: everybody on the way could read the token: set https://",
			address.Host)
	}
	if !names.MatchString(repository) ||
		slices.ContainsFunc(strings.Split(repository, "/"), func(name string) bool { return strings.Trim(name, ".") == "" }) {
		return nil, fmt.Errorf("repository %q: not owner/name: another one could be written to: set it as in its address",
			repository)
	}
	if !visible.MatchString(token) {
		return nil, errors.New("token of the git host: empty, or with blanks or line ends: it would be refused, or be read " +
			"as a header of its own: set it without the line end of its file")
	}
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	own := *client
	// Not even to the same host: a redirect turns what is written into what is read.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Host{
		kind: kind, api: strings.TrimRight(apiURL, "/"), repository: repository, token: token, client: &own, sleep: sleep,
	}, nil
}

func isLoopback(name string) bool {
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Limit is the length in bytes of the longest body that the host takes for certain.
//
//   - GitHub answers "Body is too long (maximum is 65536 characters)":
//     https://github.com/telia-oss/github-pr-resource/issues/259
//   - GitLab refuses more than 1,000,000 characters:
//     https://docs.gitlab.com/administration/instance_limits/, "Size of comments and descriptions"
//   - Gitea has no limit of its own and keeps a LONGTEXT (models/issues/comment.go). It was a TEXT once, of 65,535
//     bytes with MySQL, and more was status 500: https://github.com/go-gitea/gitea/issues/19471
func (h *Host) Limit() int {
	switch h.kind {
	case GitHub:
		return 65000
	case GitLab:
		return 1_000_000
	}
	return 60000
}

// comment is one of a pull request, by whichever names the host gives to its fields.
type comment struct {
	ID     int64  `json:"id"`
	Body   string `json:"body"`
	System bool   `json:"system"` // GitLab's own notes of what happened
	User   user   `json:"user"`   // Gitea, GitHub
	Author user   `json:"author"` // GitLab
}

func (c comment) by() user {
	if c.Author.ID != 0 {
		return c.Author
	}
	return c.User
}

// user is known by a number, or, where that is not known, by the login.
type user struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

func (u user) is(other user) bool {
	if u.ID != 0 {
		return u.ID == other.ID
	}
	return u.Login != "" && u.Login == other.Login
}

// Upsert keeps one comment on a pull request, which begins with marker, as body does: the oldest that the token's user
// wrote is changed, if it is another one, and any more of these are deleted. What others wrote is left alone, whatever
// it begins with. Two that run at once leave one comment.
func (h *Host) Upsert(ctx context.Context, pull int, marker, body string) error {
	if marker == "" || !strings.HasPrefix(body, marker) {
		return errors.New("comment: does not begin with its marker: each run would leave one more: put the marker first")
	}
	if err := h.fits(body); err != nil {
		return err
	}
	me, err := h.whoami(ctx)
	if err != nil {
		return err
	}
	kept, err := h.keep(ctx, pull, marker, body, me)
	if err == nil && !kept {
		// Another run deleted the comment, for it found an older one.
		_, err = h.keep(ctx, pull, marker, body, me)
	}
	return err
}

// keep does it, unless the comment that is to be changed is gone.
func (h *Host) keep(ctx context.Context, pull int, marker, body string, me user) (kept bool, err error) {
	found, err := h.own(ctx, pull, marker, me)
	if err != nil {
		return false, err
	}
	if len(found) == 0 {
		created, err := h.create(ctx, pull, body)
		if err != nil {
			return false, err
		}
		// Another run may have done the same in the meantime. And only the answer says whose the token is where the host
		// did not want to: then there may be one of an earlier run.
		if found, err = h.own(ctx, pull, marker, created.by()); err != nil {
			return false, err
		}
	}
	for i, c := range found {
		switch {
		case i > 0:
			err = h.remove(ctx, pull, c.ID)
		case plain(c.Body) != plain(body):
			err = h.do(ctx, h.updateMethod(), h.commentPath(pull, c.ID), map[string]string{"body": body}, nil)
			if statusOf(err) == http.StatusNotFound {
				return false, nil
			}
		}
		if err != nil {
			return false, err
		}
	}
	return len(found) > 0, nil
}

// plain is a body without what hosts change about it.
func plain(body string) string {
	return strings.TrimSpace(strings.ReplaceAll(body, "\r\n", "\n"))
}

// Comment is the comment that Upsert keeps.
func (h *Host) Comment(ctx context.Context, pull int, marker string) (body string, found bool, err error) {
	if marker == "" {
		return "", false, errors.New("marker: empty: any comment would do: name one")
	}
	me, err := h.whoami(ctx)
	if err != nil {
		return "", false, err
	}
	comments, err := h.own(ctx, pull, marker, me)
	if err != nil || len(comments) == 0 {
		return "", false, err
	}
	return comments[0].Body, true, nil
}

// Add writes one more comment. When the connection breaks after the host has taken it, there are two.
func (h *Host) Add(ctx context.Context, pull int, body string) error {
	if strings.TrimSpace(body) == "" {
		return errors.New("comment: empty: the host would refuse it: say something")
	}
	if err := h.fits(body); err != nil {
		return err
	}
	_, err := h.create(ctx, pull, body)
	return err
}

func (h *Host) fits(body string) error {
	if len(body) > h.Limit() {
		return fmt.Errorf("comment: %d bytes: %s takes %d and would refuse it: cut it to Limit()",
			len(body), h.kind, h.Limit())
	}
	return nil
}

func (h *Host) create(ctx context.Context, pull int, body string) (comment, error) {
	var created comment
	if pull < 1 {
		return created, notAPull(pull)
	}
	err := h.do(ctx, http.MethodPost, h.commentsPath(pull), map[string]string{"body": body}, &created)
	return created, err
}

// remove takes a comment that is gone for deleted: another run was first.
func (h *Host) remove(ctx context.Context, pull int, id int64) error {
	err := h.do(ctx, http.MethodDelete, h.commentPath(pull, id), nil, nil)
	if statusOf(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// own are the comments of a user that begin with marker, oldest first.
func (h *Host) own(ctx context.Context, pull int, marker string, me user) ([]comment, error) {
	if pull < 1 {
		return nil, notAPull(pull)
	}
	query := ""
	if h.kind == GitLab {
		query = "&order_by=created_at&sort=asc" // what is written meanwhile moves no page
	}
	all, err := list[comment](ctx, h, h.commentsPath(pull), query)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(c comment) bool {
		return c.System || !me.is(c.by()) || !strings.HasPrefix(c.Body, marker)
	})
	slices.SortFunc(all, func(a, b comment) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}

func notAPull(number int) error {
	return fmt.Errorf("pull request %d: there is none below 1: nothing can be written to it: set its number", number)
}

// actionsBot writes what is written with the token that GitHub makes for a workflow.
const actionsBot = "github-actions[bot]"

// whoami is the token's user. GitHub does not say for the token of a workflow, nor for that of an app: "Resource not
// accessible by integration", https://github.com/actions/create-github-app-token/issues/258
func (h *Host) whoami(ctx context.Context) (user, error) {
	var me user
	err := h.do(ctx, http.MethodGet, "/user", nil, &me)
	switch {
	case h.kind == GitHub && statusOf(err) == http.StatusForbidden && !isLimit(err):
		return user{Login: actionsBot}, nil
	case err == nil && me.ID == 0:
		return me, h.failure("GET /user", "the answer names no user",
			"whose comments are its own is not known", "see whether the address is that of the API")
	}
	return me, err
}

// pullRequest is one by whichever names the host gives to its fields.
type pullRequest struct {
	Number   int    `json:"number"` // Gitea, GitHub
	IID      int    `json:"iid"`    // GitLab
	Merged   bool   `json:"merged"` // Gitea
	State    string `json:"state"`  // GitLab: "merged"
	MergedAt string `json:"merged_at"`
	// The commit that it became on the target branch, SHA where it was forwarded: GitLab.
	MergeCommit  string `json:"merge_commit_sha"`
	SquashCommit string `json:"squash_commit_sha"`
	SHA          string `json:"sha"`
}

var commitHash = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// PullOf is the merged pull request that a commit on the target branch came from. Gitea knows it of the last commit of
// a pull request alone, which is the one that a push is about. Where several contain the commit it is the one that
// became it, or else the one that was merged last.
func (h *Host) PullOf(ctx context.Context, commit string) (number int, found bool, err error) {
	if !commitHash.MatchString(commit) {
		return 0, false, fmt.Errorf("commit %q: no full hash: another could be meant: name all of its digits", commit)
	}
	var pulls []pullRequest
	switch h.kind {
	case GitHub:
		pulls, err = list[pullRequest](ctx, h, h.repositoryPath()+"/commits/"+commit+"/pulls", "")
	case GitLab:
		pulls, err = list[pullRequest](ctx, h, h.repositoryPath()+"/repository/commits/"+commit+"/merge_requests", "")
	default:
		var one pullRequest
		err = h.do(ctx, http.MethodGet, h.repositoryPath()+"/commits/"+commit+"/pull", nil, &one)
		pulls = []pullRequest{one}
	}
	// Gitea says so of a commit without a pull request, the others of a commit that they do not have, and all of them of
	// a repository that they do not show.
	if status := statusOf(err); status == http.StatusNotFound || status == http.StatusUnprocessableEntity {
		return 0, false, h.do(ctx, http.MethodGet, h.repositoryPath(), nil, nil)
	}
	if err != nil {
		return 0, false, err
	}
	pulls = slices.DeleteFunc(pulls, func(p pullRequest) bool {
		return p.MergedAt == "" && !p.Merged && p.State != "merged"
	})
	if len(pulls) == 0 {
		return 0, false, nil
	}
	best := slices.MaxFunc(pulls, func(a, b pullRequest) int {
		return cmp.Or(cmp.Compare(a.became(commit), b.became(commit)), cmp.Compare(a.MergedAt, b.MergedAt))
	})
	number = cmp.Or(best.Number, best.IID)
	return number, number > 0, nil
}

// became is 1 when the pull request became this very commit.
func (p pullRequest) became(commit string) int {
	if p.MergeCommit == commit || p.SquashCommit == commit || p.SHA == commit {
		return 1
	}
	return 0
}

func (h *Host) repositoryPath() string {
	if h.kind == GitLab {
		return "/projects/" + url.PathEscape(h.repository)
	}
	return "/repos/" + h.repository
}

func (h *Host) commentsPath(pull int) string {
	if h.kind == GitLab {
		return fmt.Sprintf("%s/merge_requests/%d/notes", h.repositoryPath(), pull)
	}
	return fmt.Sprintf("%s/issues/%d/comments", h.repositoryPath(), pull)
}

func (h *Host) commentPath(pull int, id int64) string {
	if h.kind == GitLab {
		return fmt.Sprintf("%s/%d", h.commentsPath(pull), id)
	}
	return fmt.Sprintf("%s/issues/comments/%d", h.repositoryPath(), id)
}

func (h *Host) updateMethod() string {
	if h.kind == GitLab {
		return http.MethodPut
	}
	return http.MethodPatch
}
