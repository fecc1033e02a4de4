//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// blog is the hostname of Ghost.
const blog = "https://" + layout.Zone

// blogger owns the blog, and comes from outside as an author does: a session by cookie, each time a new connection.
type blogger struct {
	client *http.Client
}

// takeOver sets the blog up, or enters the one that is there.
func takeOver(t *testing.T) *blogger {
	t.Helper()
	b := &blogger{client: browser(t, running(t))}
	b.client.Timeout = 20 * time.Second
	var err error
	if b.client.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	const mail, password = "owner@" + layout.Zone, "seven quiet machines"
	var state string
	eventually(t, time.Minute, "the blog answers", func() (err error) {
		state, err = b.call(http.MethodGet, "authentication/setup/", nil)
		return err
	})
	// Neither is tried for long: Ghost counts who does not get in.
	if strings.Contains(state, `"status":false`) {
		_, err = b.call(http.MethodPost, "authentication/setup/", map[string]any{"setup": []any{map[string]any{
			"name": "Owner", "email": mail, "password": password, "blogTitle": "A blog of the lab",
		}}})
	}
	if err == nil {
		_, err = b.call(http.MethodPost, "session/", map[string]any{"username": mail, "password": password})
	}
	if err != nil {
		t.Fatalf("the blog has no owner: %v", err)
	}
	return b
}

func (b *blogger) call(method, path string, body any) (string, error) {
	var text []byte
	var err error
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return "", err
		}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, blog+"/ghost/api/admin/"+path,
		bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", blog)
	req.Header.Set("Accept-Version", "v6.0")
	resp, err := b.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s %s: %s: %.500s", method, path, resp.Status, answer)
	}
	return string(answer), err
}

// post publishes, and returns where once it is acknowledged.
func (b *blogger) post(title string) (url string, err error) {
	answer, err := b.call(http.MethodPost, "posts/?source=html", map[string]any{"posts": []any{map[string]any{
		"title": title, "html": "<p>" + title + "</p>", "status": "published",
	}}})
	if err != nil {
		return "", err
	}
	var made struct {
		Posts []struct{ Slug string }
	}
	if err := json.Unmarshal([]byte(answer), &made); err != nil || len(made.Posts) != 1 {
		return "", fmt.Errorf("published without a word: %.200s (%w)", answer, err)
	}
	return blog + "/" + made.Posts[0].Slug + "/", nil
}

// written are a note and a post, and somebody who wants to find them again.
type written struct {
	author     *author
	blogger    *blogger
	note, post string
}

// write writes a text in both applications.
func write(t *testing.T, text string) written {
	t.Helper()
	w := written{author: signUp(t, "writer"), blogger: takeOver(t)}
	var noteErr, postErr error
	w.note, noteErr = w.author.note(text)
	w.post, postErr = w.blogger.post(text)
	if err := errors.Join(noteErr, postErr); err != nil {
		t.Fatal(err)
	}
	return w
}

// isThere waits until both show the text.
func (w written) isThere(t *testing.T, limit time.Duration, text string) {
	t.Helper()
	eventually(t, limit, "what was written is there", func() error {
		return errors.Join(w.author.read(w.note, text), w.blogger.read(w.post, text))
	})
}

// read wants a visitor to see the post.
func (b *blogger) read(url, title string) error {
	got, err := ask(context.Background(), b.client, url)
	if err == nil && (got.status != http.StatusOK || !strings.Contains(got.body, title)) {
		err = fmt.Errorf("%s", got)
	}
	return err
}
