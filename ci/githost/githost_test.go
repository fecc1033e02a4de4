package githost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

var kinds = []string{Gitea, GitHub, GitLab}

func each(t *testing.T, test func(t *testing.T, f *fake)) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) { test(t, newFake(t, kind)) })
	}
}

func same(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestNew(t *testing.T) {
	const api = "https://git.example/api/v1"
	for name, test := range map[string]struct{ kind, api, repository, token, want string }{
		"kind":            {"bitbucket", api, repository, token, "bitbucket"},
		"no kind":         {"", api, repository, token, "set gitea"},
		"no address":      {Gitea, "", repository, token, "no address"},
		"no scheme":       {Gitea, "git.example/api", repository, token, "no address"},
		"not an address":  {Gitea, "https://git.example\n", repository, token, "no address"},
		"a user":          {Gitea, "https://me:hunter22@git.example", repository, token, "no address"},
		"a query":         {Gitea, api + "?token=hunter22", repository, token, "no address"},
		"http":            {Gitea, "http://git.example/api", repository, token, "not https"},
		"http, private":   {GitHub, "http://10.77.0.1/api", repository, token, "not https"},
		"ftp":             {GitHub, "ftp://127.0.0.1/api", repository, token, "not https"},
		"like loopback":   {Gitea, "http://localhost.example/api", repository, token, "not https"},
		"no owner":        {Gitea, api, "name", token, "not owner/name"},
		"no repository":   {Gitea, api, "", token, "not owner/name"},
		"three":           {GitHub, api, "a/b/c", token, "not owner/name"},
		"up":              {GitLab, api, "a/../b", token, "not owner/name"},
		"dots":            {Gitea, api, "../..", token, "not owner/name"},
		"a question":      {Gitea, api, "a/b?c", token, "not owner/name"},
		"a line":          {Gitea, api, "a/b\n", token, "not owner/name"},
		"no token":        {Gitea, api, repository, "", "line end"},
		"a token's line":  {Gitea, api, repository, token + "\n", "line end"},
		"another header":  {Gitea, api, repository, token + "\r\nX: y", "line end"},
		"a token's blank": {Gitea, api, repository, token + " x", "line end"},
	} {
		h, err := New(test.kind, test.api, test.repository, test.token, nil)
		if h != nil || err == nil || !strings.Contains(err.Error(), test.want) || strings.Count(err.Error(), ": ") < 2 ||
			strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "hunter22") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, test := range map[string]struct{ kind, api, repository string }{
		"gitea":     {Gitea, api, repository},
		"forgejo":   {Forgejo, api + "/", "a-b/c.d_e"},
		"github":    {GitHub, "https://api.github.com", repository},
		"gitlab":    {GitLab, "https://gitlab.example/api/v4", "group/sub/sub/name"},
		"localhost": {Gitea, "http://localhost:3000/api/v1", repository},
		"127.0.0.1": {Gitea, "http://127.0.0.1:3000", repository},
		"::1":       {Gitea, "http://[::1]:3000", repository},
	} {
		if _, err := New(test.kind, test.api, test.repository, token, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// path is that of comment id in a write.
func path(kind string, id int64) string {
	if kind == GitLab {
		return fmt.Sprintf("/projects/owner%%2Fname/merge_requests/7/notes/%d", id)
	}
	return fmt.Sprintf("/repos/owner/name/issues/comments/%d", id)
}

func list7(kind string) string {
	if kind == GitLab {
		return "/projects/owner%2Fname/merge_requests/7/notes"
	}
	return "/repos/owner/name/issues/7/comments"
}

func patch(kind string) string {
	if kind == GitLab {
		return "PUT "
	}
	return "PATCH "
}

func TestUpsertKeepsOneComment(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		f.write(other, marker+"\nof another")
		f.write(token, "mine, without the marker "+marker)
		h := f.host(token)
		for _, body := range []string{"\none", "\none", "\r\none\r\n", "\ntwo \"<&>\u2028"} {
			if err := h.Upsert(t.Context(), pull, marker, marker+body); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "writes", f.writes, []string{
			"POST " + list7(f.kind) + ` {"body":"\u003c!-- marker --\u003e\none"}`,
			patch(f.kind) + path(f.kind, 103) + ` {"body":"\u003c!-- marker --\u003e\ntwo \"\u003c\u0026\u003e\u2028"}`,
		})
		same(t, "comments", f.bodies(), []string{
			"101 other: " + marker + "\nof another", "102 previewer: mine, without the marker " + marker,
			"103 previewer: " + marker + "\ntwo \"<&>\u2028",
		})
		body, found, err := h.Comment(t.Context(), pull, marker)
		if err != nil || !found || body != marker+"\ntwo \"<&>\u2028" {
			t.Errorf("%q, %v, %v", body, found, err)
		}
	})
}

func TestUpsertDeletesAllButTheOldest(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		for n := range 3 {
			f.write(token, fmt.Sprintf("%s\n%d", marker, n))
			f.write(other, "in between")
		}
		f.write(token, marker+"\n3")
		slices.Reverse(f.comments) // no order is promised
		if err := f.host(token).Upsert(t.Context(), pull, marker, marker+"\nnew"); err != nil {
			t.Fatal(err)
		}
		same(t, "writes", f.writes, []string{
			patch(f.kind) + path(f.kind, 101) + ` {"body":"\u003c!-- marker --\u003e\nnew"}`, "DELETE " + path(f.kind, 103), "DELETE " + path(f.kind, 105),
			"DELETE " + path(f.kind, 107),
		})
		want := map[string]int{Gitea: 2, GitHub: 5, GitLab: 5}[f.kind] // the user, and pages of two of seven comments
		if len(f.reads) != want {
			t.Errorf("%d reads, want %d: %q", len(f.reads), want, f.reads)
		}
	})
}

// A comment that moves to the second page must be found, or there would be one more with each run.
func TestCommentIsLookedForOnAllPages(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		for range 9 {
			f.write(other, "talk")
		}
		h := f.host(token)
		if body, found, err := h.Comment(t.Context(), pull, marker); body != "" || found || err != nil {
			t.Errorf("%q, %v, %v", body, found, err)
		}
		f.write(other, marker+" of another")
		f.write(token, marker+" mine")
		f.write(token, marker+" later")
		if body, found, err := h.Comment(t.Context(), pull, marker); body != marker+" mine" || !found || err != nil {
			t.Errorf("%q, %v, %v", body, found, err)
		}
	})
}

func TestGitLabsOwnNotesAreLeftAlone(t *testing.T) {
	f := newFake(t, GitLab)
	f.write(token, marker)
	f.comments[0].System = true
	if _, found, err := f.host(token).Comment(t.Context(), pull, marker); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
}

// GitHub does not tell a workflow who it is.
func TestWorkflowTokenOfGitHub(t *testing.T) {
	f := newFake(t, GitHub)
	f.write(other, marker+"\nof another")
	h := f.host(workflow)
	for _, body := range []string{"one", "one", "two"} {
		if err := h.Upsert(t.Context(), pull, marker, marker+"\n"+body); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "comments", f.bodies(), []string{
		"101 other: " + marker + "\nof another", "102 " + actionsBot + ": " + marker + "\ntwo",
	})
	if len(f.writes) != 2 {
		t.Errorf("writes: %q", f.writes)
	}
}

// Nor does it tell an app, whose comments are by another user than those of workflows: the answer to the first says so.
func TestAppTokenOfGitHub(t *testing.T) {
	f := newFake(t, GitHub)
	first := f.write(other, marker+"\nof an earlier run")
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/user" {
			return false
		}
		f.refuse(w, http.StatusForbidden, "Resource not accessible by integration")
		return true
	}
	if err := f.host(other).Upsert(t.Context(), pull, marker, marker+"\nnew"); err != nil {
		t.Fatal(err)
	}
	same(t, "comments", f.bodies(), []string{fmt.Sprintf("%d other: %s\nnew", first, marker)})
}

func TestTwoRunsAtOnceLeaveOneComment(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		f.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				f.write(token, marker+"\nof the other run") // just before
			}
			return false
		}
		if err := f.host(token).Upsert(t.Context(), pull, marker, marker+"\nof this run"); err != nil {
			t.Fatal(err)
		}
		same(t, "comments", f.bodies(), []string{"101 previewer: " + marker + "\nof this run"})
	})
}

func TestAnotherRunDeletesMeanwhile(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		f.write(token, marker+"\n1")
		f.write(token, marker+"\n2")
		f.write(token, marker+"\n3")
		gone := false
		f.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodDelete && !gone {
				gone = true
				f.comments = f.comments[:1] // both that are to be deleted
			}
			return false
		}
		if err := f.host(token).Upsert(t.Context(), pull, marker, marker+"\nnew"); err != nil {
			t.Fatal(err)
		}
		same(t, "comments", f.bodies(), []string{"101 previewer: " + marker + "\nnew"})

		first := true
		f.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method+" " == patch(f.kind) && first {
				first = false
				f.comments = nil // the one that is to be changed
			}
			return false
		}
		if err := f.host(token).Upsert(t.Context(), pull, marker, marker+"\nnewer"); err != nil {
			t.Fatal(err)
		}
		same(t, "comments", f.bodies(), []string{"104 previewer: " + marker + "\nnewer"})
	})
}

func TestACreationThatIsNotAnsweredLeavesOneComment(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		first := true
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost && first {
				first = false
				body, _ := f.body(w, r)
				f.write(token, body)
				panic(http.ErrAbortHandler)
			}
			return false
		}
		if err := f.host(token).Upsert(t.Context(), pull, marker, marker+"\nnew"); err != nil {
			t.Fatal(err)
		}
		same(t, "comments", f.bodies(), []string{"101 previewer: " + marker + "\nnew"})
	})
}

func TestAdd(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		h := f.host(token)
		for range 2 {
			if err := h.Add(t.Context(), pull, "applied"); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "writes", f.writes, []string{"POST " + list7(f.kind) + ` {"body":"applied"}`, "POST " + list7(f.kind) + ` {"body":"applied"}`})
	})
}

func TestPullOf(t *testing.T) {
	// A merged one by each host's names.
	merged := func(kind string, number int, at, mergeCommit string) map[string]any {
		return map[string]map[string]any{
			Gitea:  {"number": number, "merged": true, "merged_at": at, "merge_commit_sha": mergeCommit},
			GitHub: {"number": number, "state": "closed", "merged_at": at, "merge_commit_sha": mergeCommit},
			GitLab: {"iid": number, "id": 5000 + number, "state": "merged", "merged_at": at, "merge_commit_sha": mergeCommit},
		}[kind]
	}
	open := func(kind string) map[string]any {
		return map[string]map[string]any{
			Gitea:  {"number": 1, "merged": false, "merged_at": nil, "merge_commit_sha": commit},
			GitHub: {"number": 1, "state": "open", "merged_at": nil, "merge_commit_sha": commit},
			GitLab: {"iid": 1, "id": 5001, "state": "opened", "merged_at": nil, "sha": commit},
		}[kind]
	}
	const early, late = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
	elsewhere := strings.Repeat("f", 40)
	each(t, func(t *testing.T, f *fake) {
		h := f.host(token)
		type test struct {
			pulls []map[string]any
			want  int
		}
		tests := map[string]test{
			"none":   {nil, 0},
			"open":   {[]map[string]any{open(f.kind)}, 0},
			"merged": {[]map[string]any{merged(f.kind, 4, early, elsewhere)}, 4},
		}
		if f.kind != Gitea { // which answers with one
			tests["among others"] = test{[]map[string]any{
				open(f.kind), open(f.kind), merged(f.kind, 4, early, elsewhere),
			}, 4}
			tests["became it"] = test{[]map[string]any{
				merged(f.kind, 3, late, elsewhere), merged(f.kind, 4, early, commit), merged(f.kind, 5, late, elsewhere),
			}, 4}
			tests["the last"] = test{[]map[string]any{
				merged(f.kind, 3, early, elsewhere), merged(f.kind, 4, late, elsewhere), merged(f.kind, 5, early, ""),
			}, 4}
		}
		for name, test := range tests {
			f.pulls = test.pulls
			number, found, err := h.PullOf(t.Context(), commit)
			if err != nil || number != test.want || found != (test.want > 0) {
				t.Errorf("%s: %d, %v, %v", name, number, found, err)
			}
		}
		if number, found, err := h.PullOf(t.Context(), elsewhere); err != nil || found || number != 0 {
			t.Errorf("a commit that the host does not have: %d, %v, %v", number, found, err)
		}
		for _, bad := range []string{"", "main", commit[:12], strings.ToUpper(commit), commit[:38] + "/.", commit + "?"} {
			_, found, err := h.PullOf(t.Context(), bad)
			if found || err == nil || !strings.Contains(err.Error(), "no full hash") {
				t.Errorf("%q: %v", bad, err)
			}
		}
		f.hidden = true
		if _, found, err := h.PullOf(t.Context(), commit); found || statusOf(err) != http.StatusNotFound ||
			!strings.Contains(err.Error(), "may see it") {
			t.Errorf("a repository that is not shown: %v", err)
		}
	})
	f := newFake(t, GitLab)
	f.pulls = []map[string]any{
		{"iid": 8, "state": "merged", "merged_at": late, "merge_commit_sha": nil, "squash_commit_sha": nil, "sha": elsewhere},
		{"iid": 9, "state": "merged", "merged_at": early, "squash_commit_sha": commit, "sha": elsewhere},
	}
	if number, _, err := f.host(token).PullOf(t.Context(), commit); number != 9 || err != nil {
		t.Errorf("squashed: %d, %v", number, err)
	}
}

func TestWhatIsNotSent(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		h, ctx := f.host(token), t.Context()
		long := marker + strings.Repeat("x", h.Limit()-len(marker)+1)
		_, _, unmarked := h.Comment(ctx, pull, "")
		_, _, nowhere := h.Comment(ctx, 0, marker)
		for name, test := range map[string]struct {
			err  error
			want string
		}{
			"no marker":          {h.Upsert(ctx, pull, "", "body"), "put the marker first"},
			"another marker":     {h.Upsert(ctx, pull, marker, "body"), "put the marker first"},
			"too long":           {h.Upsert(ctx, pull, marker, long), "cut it"},
			"too long to add":    {h.Add(ctx, pull, long), "cut it"},
			"empty":              {h.Add(ctx, pull, " \n"), "say something"},
			"pull 0":             {h.Upsert(ctx, 0, marker, marker), "pull request 0"},
			"pull -1":            {h.Add(ctx, -1, "a"), "pull request -1"},
			"pull 0's comment":   {nowhere, "pull request 0"},
			"comment, no marker": {unmarked, "name one"},
		} {
			if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
				t.Errorf("%s: %v", name, test.err)
			}
		}
		same(t, "writes", f.writes, nil)
		if err := h.Upsert(ctx, pull, marker, long[:h.Limit()]); err != nil {
			t.Errorf("of the limit's length: %v", err)
		}
	})
}

// every calls each method once.
func every(ctx context.Context, h *Host) map[string]error {
	_, _, commentErr := h.Comment(ctx, pull, marker)
	_, _, pullErr := h.PullOf(ctx, commit)
	return map[string]error{
		"Upsert": h.Upsert(ctx, pull, marker, marker), "Add": h.Add(ctx, pull, "a"), "Comment": commentErr, "PullOf": pullErr,
	}
}

func TestRefusals(t *testing.T) {
	permission := map[string]string{Gitea: "write:issue", GitHub: "pull-requests: write", GitLab: "scope api"}
	each(t, func(t *testing.T, f *fake) {
		for name, err := range every(t.Context(), f.host("wrongToken")) {
			if statusOf(err) != http.StatusUnauthorized || !strings.Contains(err.Error(), permission[f.kind]) ||
				!strings.Contains(err.Error(), "401 Unauthorized (") {
				t.Errorf("%s with a wrong token: %v", name, err)
			}
		}
		for status, want := range map[int]string{
			401: permission[f.kind], 403: permission[f.kind], 404: repository,
			400: "less than", 413: "less than", 422: "less than", 410: "what the host says", 423: "what the host says",
		} {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet {
					return false
				}
				w.WriteHeader(status)
				_, _ = fmt.Fprintf(w, `{"message":"because of\n\u001b[31m%s, said %s"}`, strings.Repeat("x", 400), r.Header.Get("User-Agent"))
				return true
			}
			for name, err := range map[string]error{
				"Upsert": f.host(token).Upsert(t.Context(), pull, marker, marker), "Add": f.host(token).Add(t.Context(), pull, "a"),
			} {
				if statusOf(err) != status || !strings.Contains(err.Error(), want) ||
					!strings.Contains(err.Error(), "nothing was written") || !strings.Contains(err.Error(), `because of\nxxx`) || len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\n\x1b") {
					t.Errorf("%s, status %d: %v", name, status, err)
				}
			}
		}
		if len(f.waits) > 0 {
			t.Errorf("a refusal is tried again: %v", f.waits)
		}
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/api/user" || f.kind == GitHub {
				return false
			}
			f.refuse(w, http.StatusForbidden, "token does not have at least one of required scope(s)")
			return true
		}
		f.writes = nil
		err := f.host(token).Upsert(t.Context(), pull, marker, marker)
		if f.kind != GitHub && (statusOf(err) != http.StatusForbidden || len(f.writes) > 0) {
			t.Errorf("who the token's user is, is not told: %v, written is %q", err, f.writes)
		}
		f.before = nil
		if err := f.host(token).Add(t.Context(), pull+1, "a"); statusOf(err) != http.StatusNotFound {
			t.Errorf("another pull request: %v", err)
		}
	})
}

// Whatever the host says, and however it writes it.
func TestNoErrorHoldsTheToken(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		for _, status := range []int{301, 400, 401, 403, 404, 422, 429, 500} {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Location", f.server.URL+"/"+token)
				f.refuse(w, status, fmt.Sprint("your headers: ", r.Header))
				return true
			}
			for name, err := range every(t.Context(), f.host(token)) {
				if err == nil || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "s3cret") {
					t.Errorf("%s, status %d: %v", name, status, err)
				}
			}
		}
	})
}

func TestNoRedirectIsFollowed(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			t.Errorf("%s %s came, with %v", r.Method, r.URL, r.Header)
		}))
		defer elsewhere.Close()
		for _, status := range []int{301, 302, 303, 307, 308} {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, elsewhere.URL, status)
				return true
			}
			for name, err := range every(t.Context(), f.host(token)) {
				if statusOf(err) != status || !strings.Contains(err.Error(), "not followed") {
					t.Errorf("%s, status %d: %v", name, status, err)
				}
			}
		}
	})
}

func TestAFailingHostIsAskedThreeTimes(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		failures := 0
		for name, fail := range map[string]func(w http.ResponseWriter){
			"500": func(w http.ResponseWriter) { w.WriteHeader(500) }, "503": func(w http.ResponseWriter) { w.WriteHeader(503) },
			"broken": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		} {
			f.waits = nil
			f.before = func(w http.ResponseWriter, _ *http.Request) bool {
				if failures--; failures >= 0 {
					fail(w)
					return true
				}
				return false
			}
			failures = 2
			if err := f.host(token).Add(t.Context(), pull, "a"); err != nil {
				t.Errorf("%s twice: %v", name, err)
			}
			if !slices.Equal(f.waits, []time.Duration{time.Second, 3 * time.Second}) {
				t.Errorf("%s: waited %v", name, f.waits)
			}
			failures = 3
			err := f.host(token).Add(t.Context(), pull, "a")
			if err == nil || !strings.Contains(err.Error(), "whether it was written is not known") || failures != 0 {
				t.Errorf("%s three times: %v", name, err)
			}
			failures = 3
			_, _, err = f.host(token).Comment(t.Context(), pull, marker)
			if err == nil || !strings.Contains(err.Error(), "nothing is known of the pull request") {
				t.Errorf("%s three times: %v", name, err)
			}
		}
	})
}

func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	h, err := New(Gitea, "http://"+address, repository, token, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.sleep = func(context.Context, time.Duration) error { return nil }
	if err := h.Add(t.Context(), pull, "a"); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestRateLimits(t *testing.T) {
	type header = map[string]string
	const secondary = "You have exceeded a secondary rate limit"
	soon := time.Now().Add(20 * time.Second)
	date, reset := soon.UTC().Format(http.TimeFormat), fmt.Sprint(soon.Unix())
	for name, test := range map[string]struct {
		kind    string
		status  int
		header  header
		message string
		wait    time.Duration // about
		fails   string
	}{
		"gitea":             {Gitea, 429, header{"Retry-After": "5"}, "", 5 * time.Second, ""},
		"gitlab":            {GitLab, 429, header{"Retry-After": "30"}, "", 30 * time.Second, ""},
		"github":            {GitHub, 429, header{"Retry-After": "60"}, "", time.Minute, ""},
		"secondary":         {GitHub, 403, header{"Retry-After": "7"}, secondary, 7 * time.Second, ""},
		"secondary, unsaid": {GitHub, 403, nil, "Secondary rate limit.", time.Minute, ""},
		"a date":            {Gitea, 429, header{"Retry-After": date}, "", 20 * time.Second, ""},
		"primary": {
			GitHub, 403, header{"X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": reset}, "", 20 * time.Second, "",
		},
		"in no time":    {Gitea, 429, header{"Retry-After": "0"}, "", time.Second, ""},
		"in the past":   {Gitea, 429, header{"Retry-After": "-5"}, "", time.Second, ""},
		"unsaid":        {GitLab, 429, nil, "", time.Minute, ""},
		"long":          {GitHub, 429, header{"Retry-After": "61"}, "", 0, "run it again in 1m1s"},
		"very long":     {GitHub, 429, header{"Retry-After": "99999999999999"}, "", 0, "run it again in"},
		"no limit":      {GitHub, 403, header{"X-Ratelimit-Remaining": "12"}, "Forbidden", 0, "pull-requests: write"},
		"not of GitHub": {Gitea, 403, header{"Retry-After": "5"}, "", 0, "write:issue"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, test.kind)
			limited := true
			f.before = func(w http.ResponseWriter, _ *http.Request) bool {
				if !limited {
					return false
				}
				limited = false
				for key, value := range test.header {
					w.Header().Set(key, value)
				}
				f.refuse(w, test.status, test.message)
				return true
			}
			err := f.host(token).Add(t.Context(), pull, "a")
			if test.fails != "" {
				if statusOf(err) != test.status || !strings.Contains(err.Error(), test.fails) || len(f.waits) != 0 {
					t.Errorf("waited %v: %v", f.waits, err)
				}
				return
			}
			if err != nil || len(f.waits) != 1 || f.waits[0] > test.wait || f.waits[0] < test.wait-3*time.Second {
				t.Errorf("waited %v: %v", f.waits, err)
			}
			if len(f.comments) != 1 {
				t.Errorf("%d comments", len(f.comments))
			}
		})
	}
}

func TestAMinuteIsWaitedInAll(t *testing.T) {
	f := newFake(t, Gitea)
	f.before = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "25")
		f.refuse(w, http.StatusTooManyRequests, "slow down")
		return true
	}
	h := f.host(token)
	for range 2 {
		err := h.Add(t.Context(), pull, "a")
		if statusOf(err) != 429 || !strings.Contains(err.Error(), "run it again in 25s") {
			t.Errorf("got %v", err)
		}
	}
	if !slices.Equal(f.waits, []time.Duration{25 * time.Second, 25 * time.Second}) {
		t.Errorf("waited %v", f.waits)
	}
}

// A limit when GitHub is asked who one is does not make one the bot.
func TestALimitIsNoAnswerToWhoOneIs(t *testing.T) {
	f := newFake(t, GitHub)
	f.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/user" {
			return false
		}
		w.Header().Set("Retry-After", "3600")
		f.refuse(w, http.StatusForbidden, "secondary rate limit")
		return true
	}
	if err := f.host(token).Upsert(t.Context(), pull, marker, marker); statusOf(err) != 403 || len(f.writes) > 0 {
		t.Errorf("%v, %q", err, f.writes)
	}
}

func TestContextEndsTheWaiting(t *testing.T) {
	f := newFake(t, Gitea)
	for name, fail := range map[string]func(w http.ResponseWriter){
		"failing": func(w http.ResponseWriter) { w.WriteHeader(500) },
		"limited": func(w http.ResponseWriter) { w.Header().Set("Retry-After", "30"); w.WriteHeader(429) },
	} {
		f.before = func(w http.ResponseWriter, _ *http.Request) bool { fail(w); return true }
		h := f.host(token)
		h.sleep = sleep // really
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		start := time.Now()
		err := h.Add(ctx, pull, "a")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 20*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(start))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.before = func(http.ResponseWriter, *http.Request) bool {
		cancel()
		time.Sleep(50 * time.Millisecond)
		return false
	}
	if err := f.host(token).Add(ctx, pull, "a"); !errors.Is(err, context.Canceled) || len(f.waits) > 0 {
		t.Errorf("while it is asked: %v, waited %v", err, f.waits)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	each(t, func(t *testing.T, f *fake) {
		for name, test := range map[string]struct {
			path, answer string
			header       map[string]string
			want         string
		}{
			"a page":     {"/api/user", "<html>", nil, "not the expected JSON"},
			"no user":    {"/api/user", "{}", nil, "names no user"},
			"no list":    {"", `{"id":1}`, nil, "not the expected JSON"},
			"no end":     {"", `[]`, map[string]string{"Link": `<https://x.example/?page=2>; rel="next"`}, "more than 200 pages"},
			"not all":    {"", `[]`, map[string]string{"X-Total-Count": "3"}, "0 of 3 entries"},
			"empty page": {"", "", nil, "not the expected JSON"},
		} {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if test.path == "" && r.URL.Path == "/api/user" || test.path != "" && r.URL.Path != test.path {
					return false
				}
				for key, value := range test.header {
					w.Header().Set(key, value)
				}
				_, _ = fmt.Fprint(w, test.answer)
				return true
			}
			_, found, err := f.host(token).Comment(t.Context(), pull, marker)
			if found || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v", name, err)
			}
			f.writes = nil
			if err := f.host(token).Upsert(t.Context(), pull, marker, marker); err == nil || len(f.writes) > 0 {
				t.Errorf("%s: %v, and written is %q", name, err, f.writes)
			}
		}
	})
}

func TestForgejoIsSpokenToAsGitea(t *testing.T) {
	f := newFake(t, Gitea)
	h := f.host(token)
	h.kind = Forgejo
	if err := h.Upsert(t.Context(), pull, marker, marker); err != nil {
		t.Error(err)
	}
	if h.Limit() != 60000 {
		t.Error("another limit")
	}
}
