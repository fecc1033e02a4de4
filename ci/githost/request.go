package githost

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tinyrack-net/infrastructure/ci/report"
)

const (
	// tries is how often a request is sent to a host that fails.
	tries = 3
	// patience is how long a Host waits for rate limits, in all.
	patience = time.Minute
	// unsaid is how long to wait where the host does not say: a minute at least, says
	// https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
	unsaid = time.Minute
	// answerLimit bounds an answer in bytes, pages the number of pages: 100 comments each where the host has pages.
	answerLimit = 64 << 20
	pages       = 200
)

// Error is a refusal or failure of the host.
type Error struct {
	// Status is that of HTTP, or zero when there was no answer.
	Status int
	text   string
	limit  bool // of a rate
	cause  error
}

func (e *Error) Error() string { return e.text }

func (e *Error) Unwrap() error { return e.cause }

func statusOf(err error) int {
	var failure *Error
	if errors.As(err, &failure) {
		return failure.Status
	}
	return 0
}

func isLimit(err error) bool {
	var failure *Error
	return errors.As(err, &failure) && failure.limit
}

func (h *Host) failure(request, what, follows, todo string) *Error {
	return &Error{text: fmt.Sprintf("%s, %s: %s: %s: %s", h.kind, request, what, follows, todo)}
}

// list reads all pages of a list. GitHub and GitLab tell the next one in a Link header; Gitea has none for the comments
// of a pull request, all of which it sends at once (routers/api/v1/repo/issue_comment.go, ListIssueComments). Of the
// link only the query is taken: it may lead to another host.
func list[T any](ctx context.Context, h *Host, path, query string) ([]T, error) {
	var all []T
	query = "per_page=100" + query
	for range pages {
		var page []T
		header, err := h.send(ctx, http.MethodGet, path+"?"+query, nil, &page)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		next, more := nextQuery(header)
		if !more {
			// Gitea says how many there are: https://docs.gitea.com/development/api-usage#pagination
			if total, err := strconv.Atoi(header.Get("X-Total-Count")); err == nil && total > len(all) {
				return nil, h.failure("GET "+path, fmt.Sprintf("%d of %d entries came", len(all), total),
					"a comment could be missed and written once more", "run it again; if it stays, report it")
			}
			return all, nil
		}
		query = next
	}
	return nil, h.failure("GET "+path, fmt.Sprintf("more than %d pages", pages), "the comment could be on any of them",
		"open another pull request")
}

var nextLink = regexp.MustCompile(`<([^<>]*)>\s*;\s*rel="?next"?`)

func nextQuery(header http.Header) (string, bool) {
	found := nextLink.FindStringSubmatch(strings.Join(header.Values("Link"), ", "))
	if found == nil {
		return "", false
	}
	link, err := url.Parse(found[1])
	if err != nil {
		return "", false
	}
	return link.Query().Encode(), link.RawQuery != ""
}

// do sends a request and reads the answer, JSON, into into, unless that is nil.
func (h *Host) do(ctx context.Context, method, path string, body, into any) error {
	_, err := h.send(ctx, method, path, body, into)
	return err
}

// send tries again when the host fails, and waits when it asks for that.
func (h *Host) send(ctx context.Context, method, path string, body, into any) (http.Header, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	pause := time.Second
	for failed := 0; ; {
		answer, err := h.try(ctx, method, path, text)
		if ctx.Err() != nil {
			return nil, h.explain(method, path, nil, ctx.Err())
		}
		var limited time.Duration
		if err == nil {
			limited = h.limited(answer)
		}
		switch {
		case limited > 0:
			if !h.mayWait(limited) {
				return nil, h.explain(method, path, answer, nil)
			}
			if err := h.sleep(ctx, limited); err != nil {
				return nil, h.explain(method, path, nil, err)
			}
		case err != nil || answer.status >= http.StatusInternalServerError:
			if failed++; failed == tries {
				return nil, h.explain(method, path, answer, err)
			}
			if err := h.sleep(ctx, pause); err != nil {
				return nil, h.explain(method, path, nil, err)
			}
			pause *= 3
		case answer.status >= http.StatusMultipleChoices:
			return nil, h.explain(method, path, answer, nil)
		default:
			if into == nil {
				return answer.header, nil
			}
			if err := json.Unmarshal(answer.body, into); err != nil {
				return nil, h.failure(method+" "+path, "the answer is not the expected JSON",
					"nothing is known from it", "see whether the address is that of the API, and no page's")
			}
			return answer.header, nil
		}
	}
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// try sends a request once.
func (h *Host) try(ctx context.Context, method, path string, body []byte) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, h.api+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	switch h.kind {
	case GitHub:
		req.Header.Set("Accept", "application/vnd.github+json")
		req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
		req.Header.Set("Authorization", "Bearer "+h.token)
	case GitLab:
		req.Header.Set("PRIVATE-TOKEN", h.token)
	default:
		req.Header.Set("Authorization", "token "+h.token)
	}
	req.Header.Set("User-Agent", "tinyrack-preview") // GitHub refuses requests without one
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > answerLimit:
		return nil, fmt.Errorf("the answer has more than %d bytes", answerLimit)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: text}, nil
}

// limited is how long the host wants to be left alone; zero when it does not say that it does. GitHub says so with 403,
// too: then it names a time, has nothing left, or writes of a secondary rate limit.
func (h *Host) limited(a *answer) time.Duration {
	exhausted := a.header.Get("X-Ratelimit-Remaining") == "0"
	switch {
	case a.status == http.StatusTooManyRequests:
	case h.kind == GitHub && a.status == http.StatusForbidden && (a.header.Get("Retry-After") != "" || exhausted ||
		bytes.Contains(bytes.ToLower(a.body), []byte("secondary rate limit"))):
	default:
		return 0
	}
	wait := unsaid
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err == nil {
		wait = time.Duration(min(seconds, 1<<20)) * time.Second
	} else if at, err := http.ParseTime(a.header.Get("Retry-After")); err == nil {
		wait = time.Until(at)
	} else if at, err := strconv.ParseInt(a.header.Get("X-Ratelimit-Reset"), 10, 64); err == nil && exhausted {
		wait = time.Until(time.Unix(at, 0))
	}
	return max(wait, time.Second)
}

// mayWait tells whether there is patience left for that.
func (h *Host) mayWait(d time.Duration) bool {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.waited+d > patience {
		return false
	}
	h.waited += d
	return true
}

// explain says what failed, what follows, and what to do about it.
func (h *Host) explain(method, path string, a *answer, cause error) error {
	path, _, _ = strings.Cut(path, "?")
	request := method + " " + path
	follows := "nothing was written"
	if method == http.MethodGet {
		follows = "nothing is known of the pull request"
	}
	if a == nil {
		if method != http.MethodGet {
			follows = "whether it was written is not known"
		}
		// Its text begins with the URL.
		var inURL *url.Error
		if errors.As(cause, &inURL) {
			cause = inURL.Err
		}
		failure := h.failure(request, h.safe(cause.Error()), follows, "see whether the host can be reached, and run it again")
		if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
			failure.cause = cause
		}
		return failure
	}
	what := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	if said := h.said(a.body); said != "" {
		what += " (" + said + ")"
	}
	var todo string
	switch {
	case a.status < http.StatusBadRequest:
		todo = "name the API and the repository as they are called now: a redirect is not followed with the token"
	case h.limited(a) > 0:
		todo = fmt.Sprintf("run it again in %s: more than %s is not waited", h.limited(a).Round(time.Second), patience)
	case a.status == http.StatusUnauthorized:
		todo = "set a token that is valid; " + h.permissions()
	case a.status == http.StatusForbidden:
		todo = "see whether the conversation is locked or the repository archived; " + h.permissions()
	case a.status == http.StatusNotFound:
		todo = "see whether the repository " + h.repository + " has this, and whether the token's user may see it; " +
			h.permissions()
	case a.status == http.StatusRequestEntityTooLarge,
		a.status == http.StatusUnprocessableEntity, a.status == http.StatusBadRequest:
		todo = fmt.Sprintf("see whether the host takes less than %d bytes", h.Limit())
	case a.status >= http.StatusInternalServerError:
		if method != http.MethodGet {
			follows = "whether it was written is not known"
		}
		todo = "see how the host is, and run it again"
	default:
		todo = "see what the host says"
	}
	failure := h.failure(request, what, follows, todo)
	failure.Status, failure.limit = a.status, h.limited(a) > 0
	return failure
}

// permissions are those that all of this takes.
//
//   - Gitea: the scopes of the routes in routers/api/v1/api.go.
//   - GitHub: https://docs.github.com/rest/issues/comments, https://docs.github.com/rest/commits/commits
//   - GitLab: https://docs.gitlab.com/user/permissions/; a job's own token reads at most:
//     https://docs.gitlab.com/ci/jobs/ci_job_token/
func (h *Host) permissions() string {
	switch h.kind {
	case GitHub:
		return "the token needs pull-requests: write and contents: read"
	case GitLab:
		return "the token needs the scope api and the role Reporter or higher; CI_JOB_TOKEN does not do"
	}
	return "the token needs the scopes write:issue, read:repository and read:user"
}

// said is what the host gives as its reason.
func (h *Host) said(body []byte) string {
	var fields struct {
		Message          any    `json:"message"` // GitLab: objects, too
		Error            any    `json:"error"`
		ErrorDescription string `json:"error_description"`
	}
	if json.Unmarshal(body, &fields) != nil {
		return ""
	}
	for _, said := range []any{fields.Message, fields.ErrorDescription, fields.Error} {
		if said != nil && said != "" {
			return h.safe(fmt.Sprint(said))
		}
	}
	return ""
}

// safe is text of others on one line, short and without the token.
func (h *Host) safe(text string) string {
	const length = 300
	if report.Leaks(text, []string{h.token}) || strings.Contains(text, h.token) {
		return "its words hold the token"
	}
	return report.OneLine(text, length)
}
