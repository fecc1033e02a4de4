package githost

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	token      = "s3cret/Token+of=the.host"
	other      = "anotherToken"
	workflow   = "workflowToken"
	marker     = "<!-- marker -->"
	commit     = "0123456789abcdef0123456789abcdef01234567"
	repository = "owner/name"
	pull       = 7
)

// fake is a git host as the code needs it, with one repository and one pull request. It refuses what the real ones
// refuse, and fails the test for a request that none of them knows.
type fake struct {
	t      *testing.T
	kind   string
	server *httptest.Server
	// pageSize is less than what is asked for, so that few comments make several pages; Gitea sends all at once.
	pageSize int
	// before may answer itself, and then says so.
	before func(w http.ResponseWriter, r *http.Request) bool

	mutex    sync.Mutex
	last     int64
	comments []comment
	pulls    []map[string]any
	hidden   bool     // the repository, from everybody
	writes   []string // method, path and body
	reads    []string
	waits    []time.Duration
}

var users = map[string]user{
	token: {ID: 11, Login: "previewer"}, other: {ID: 12, Login: "other"}, workflow: {ID: 41898282, Login: actionsBot},
}

func newFake(t *testing.T, kind string) *fake {
	f := &fake{t: t, kind: kind, pageSize: 2, last: 100}
	f.server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.server.Close)
	return f
}

func (f *fake) host(secret string) *Host {
	h, err := New(f.kind, f.server.URL+"/api", repository, secret, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	h.sleep = func(ctx context.Context, d time.Duration) error {
		f.mutex.Lock()
		defer f.mutex.Unlock()
		f.waits = append(f.waits, d)
		return ctx.Err()
	}
	return h
}

// write puts a comment there as if by the user of a token.
func (f *fake) write(secret, body string) int64 {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.last++
	c := comment{ID: f.last, Body: body}
	if f.kind == GitLab {
		c.Author = users[secret]
	} else {
		c.User = users[secret]
	}
	f.comments = append(f.comments, c)
	return c.ID
}

// bodies are those of the comments, each with its number and author.
func (f *fake) bodies() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	all := []string{}
	for _, c := range f.comments {
		all = append(all, fmt.Sprintf("%d %s: %s", c.ID, c.by().Login, c.Body))
	}
	return all
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	f.mutex.Lock()
	if r.Method == http.MethodGet {
		f.reads = append(f.reads, r.URL.Path+"?"+r.URL.RawQuery)
	} else {
		path := strings.TrimPrefix(r.URL.EscapedPath(), "/api")
		f.writes = append(f.writes, strings.TrimSpace(r.Method+" "+path+" "+string(body)))
	}
	f.mutex.Unlock()
	if f.before != nil && f.before(w, r) {
		return
	}
	secret := f.secret(r)
	me, known := users[secret]
	if !known {
		f.refuse(w, http.StatusUnauthorized, map[string]string{
			Gitea: "invalid username, password or token", GitHub: "Bad credentials", GitLab: "401 Unauthorized",
		}[f.kind])
		return
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/api")
	if path == "/user" {
		if secret == workflow && f.kind == GitHub {
			f.refuse(w, http.StatusForbidden, "Resource not accessible by integration")
			return
		}
		f.answer(w, http.StatusOK, f.render(me))
		return
	}
	root, update := "/repos/owner/name", http.MethodPatch
	comments, single := root+"/issues/7/comments", root+"/issues/comments/"
	if f.kind == GitLab {
		root, comments = "/projects/owner%2Fname", "/projects/owner%2Fname/merge_requests/7/notes"
		single, update = comments+"/", http.MethodPut
	}
	id, _ := strconv.ParseInt(strings.TrimPrefix(path, single), 10, 64)
	switch {
	case f.hidden || !strings.HasPrefix(path+"/", root+"/"):
		f.refuse(w, http.StatusNotFound, "Not Found")
	case r.Method == http.MethodGet && path == root:
		f.answer(w, http.StatusOK, map[string]any{"id": 1})
	case r.Method == http.MethodGet && path == comments:
		f.mutex.Lock()
		all := []any{}
		for _, c := range f.comments {
			entry := map[string]any{"id": c.ID, "body": c.Body, "system": c.System, "user": f.render(c.by())}
			if f.kind == GitLab {
				entry["author"] = entry["user"]
				delete(entry, "user")
			}
			all = append(all, entry)
		}
		f.mutex.Unlock()
		f.page(w, r, all)
	case r.Method == http.MethodPost && path == comments:
		text, taken := f.body(w, r)
		if !taken {
			return
		}
		id := f.write(secret, text)
		entry := map[string]any{"id": id, "body": text, "user": f.render(me)}
		if f.kind == GitLab {
			entry = map[string]any{"id": id, "body": text, "author": f.render(me)}
		}
		f.answer(w, http.StatusCreated, entry)
	case id != 0 && (r.Method == update || r.Method == http.MethodDelete):
		f.mutex.Lock()
		at := slices.IndexFunc(f.comments, func(c comment) bool { return c.ID == id })
		foreign := at >= 0 && f.comments[at].by().ID != me.ID
		f.mutex.Unlock()
		switch {
		case at < 0:
			f.refuse(w, http.StatusNotFound, "Not Found")
		case foreign:
			f.t.Errorf("%s of another's comment", r.Method)
			f.refuse(w, http.StatusForbidden, "Forbidden")
		case r.Method == http.MethodDelete:
			f.mutex.Lock()
			f.comments = slices.Delete(f.comments, at, at+1)
			f.mutex.Unlock()
			w.WriteHeader(http.StatusNoContent)
		default:
			if text, taken := f.body(w, r); taken {
				f.mutex.Lock()
				f.comments[at].Body = text
				f.mutex.Unlock()
				f.answer(w, http.StatusOK, map[string]any{"id": id, "body": text})
			}
		}
	case r.Method == http.MethodGet && f.kind == Gitea && path == root+"/commits/"+commit+"/pull":
		if len(f.pulls) == 0 {
			f.refuse(w, http.StatusNotFound, "pull request does not exist [id: 0, issue_id: 0]")
			return
		}
		f.answer(w, http.StatusOK, f.pulls[0])
	case r.Method == http.MethodGet && (f.kind == GitHub && path == root+"/commits/"+commit+"/pulls" ||
		f.kind == GitLab && path == root+"/repository/commits/"+commit+"/merge_requests"):
		all := []any{}
		for _, p := range f.pulls {
			all = append(all, p)
		}
		f.page(w, r, all)
	case r.Method == http.MethodGet && strings.Contains(path, "/commits/"):
		if f.kind == GitHub {
			f.refuse(w, http.StatusUnprocessableEntity, "No commit found for SHA")
		} else {
			f.refuse(w, http.StatusNotFound, "404 Commit Not Found")
		}
	case strings.Contains(path, "/issues/"), strings.Contains(path, "/merge_requests/"):
		f.refuse(w, http.StatusNotFound, "Not Found")
	default:
		f.t.Errorf("no host knows %s %s", r.Method, path)
		f.refuse(w, http.StatusNotFound, "Not Found")
	}
}

func (f *fake) render(u user) map[string]any {
	if f.kind == GitLab {
		return map[string]any{"id": u.ID, "username": u.Login}
	}
	return map[string]any{"id": u.ID, "login": u.Login}
}

// secret reads the token as the host does.
func (f *fake) secret(r *http.Request) string {
	switch f.kind {
	case GitLab:
		return r.Header.Get("PRIVATE-TOKEN")
	case GitHub:
		if r.Header.Get("User-Agent") == "" || r.Header.Get("X-GitHub-Api-Version") != "2022-11-28" {
			f.t.Error("GitHub refuses a request without a user agent")
		}
		secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		return secret
	}
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "token ")
	return secret
}

func (f *fake) body(w http.ResponseWriter, r *http.Request) (string, bool) {
	var form struct {
		Body string `json:"body"`
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	longest := map[string]int{GitHub: 65536, GitLab: 1000000, Gitea: 1 << 30}[f.kind]
	switch err := decoder.Decode(&form); {
	case err != nil || r.Header.Get("Content-Type") != "application/json":
		f.t.Errorf("%s: %v, %q", r.Method, err, r.Header.Get("Content-Type"))
		f.refuse(w, http.StatusBadRequest, "Problems parsing JSON")
		return "", false
	case form.Body == "", len([]rune(form.Body)) > longest:
		f.refuse(w, http.StatusUnprocessableEntity, "Validation Failed")
		return "", false
	}
	return form.Body, true
}

// page sends a page, with a link that names another path or host than the one asked, as the hosts do.
func (f *fake) page(w http.ResponseWriter, r *http.Request, all []any) {
	if f.kind == Gitea {
		w.Header().Set("X-Total-Count", strconv.Itoa(len(all)))
		f.answer(w, http.StatusOK, all)
		return
	}
	query := r.URL.Query()
	if query.Get("per_page") != "100" {
		f.t.Errorf("pages are of the default size: %q", r.URL.RawQuery)
	}
	number := max(1, atoi(query.Get("page")))
	from, to := min(len(all), (number-1)*f.pageSize), min(len(all), number*f.pageSize)
	var links []string
	link := func(page int, relation string) {
		next := url.Values{}
		for key, value := range query {
			next[key] = value
		}
		next.Set("page", strconv.Itoa(page))
		links = append(links, fmt.Sprintf(`<https://elsewhere.example/repositories/1/x?%s>; rel="%s"`, next.Encode(), relation))
	}
	if number > 1 {
		link(number-1, "prev")
	}
	if to < len(all) {
		link(number+1, "next")
	}
	link(1, "first")
	w.Header().Set("Link", strings.Join(links, ", "))
	f.answer(w, http.StatusOK, all[from:to])
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func (f *fake) refuse(w http.ResponseWriter, status int, message string) {
	f.answer(w, status, map[string]any{"message": message})
}

func (f *fake) answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		f.t.Error(err)
	}
}
