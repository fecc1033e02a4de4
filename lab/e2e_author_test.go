//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// author has an account in memos, and comes from outside: through the edge and whichever connector it takes, over a new
// connection each time.
type author struct {
	name   string
	client *http.Client

	mu    sync.Mutex
	token string // for a quarter of an hour
}

// signUp makes the account, or enters the one that is there.
func signUp(t *testing.T, name string) *author {
	t.Helper()
	a := &author{name: name, client: browser(t, running(t))}
	a.client.Timeout = 5 * time.Second
	eventually(t, time.Minute, name+" has an account", func() error {
		_, made := a.ask(http.MethodPost, "users", a.account()) // or it was made by a try that got no answer
		if err := a.signIn(); err != nil {
			return errors.Join(made, err)
		}
		return nil
	})
	return a
}

func (a *author) account() map[string]any {
	return map[string]any{"username": a.name, "password": "the password of " + a.name}
}

func (a *author) signIn() error {
	answer, err := a.ask(http.MethodPost, "auth/signin", map[string]any{"passwordCredentials": a.account()})
	token, _ := answer["accessToken"].(string)
	if err == nil && token == "" {
		err = fmt.Errorf("signed in without a token: %v", slices.Sorted(maps.Keys(answer)))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.token = token
	return err
}

// errSignedOut is the answer to a token that is not, or no more, valid.
var errSignedOut = errors.New("signed out")

// call asks memos, and signs in once more where the token has ended.
func (a *author) call(method, path string, body any) (map[string]any, error) {
	answer, err := a.ask(method, path, body)
	if errors.Is(err, errSignedOut) {
		if err = a.signIn(); err == nil {
			answer, err = a.ask(method, path, body)
		}
	}
	return answer, err
}

func (a *author) ask(method, path string, body any) (map[string]any, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(context.Background(), method, notes+"/api/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	token := a.token
	a.mu.Unlock()
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, errSignedOut
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	var out map[string]any
	return out, json.Unmarshal(answer, &out)
}

// note writes a note, and returns its name once it is acknowledged.
func (a *author) note(content string) (name string, err error) {
	made, err := a.call(http.MethodPost, "memos", map[string]any{"content": content, "visibility": "PRIVATE"})
	name, _ = made["name"].(string)
	return name, err
}

func (a *author) read(name, content string) error {
	got, err := a.call(http.MethodGet, name, nil)
	if err == nil && got["content"] != content {
		err = fmt.Errorf("%s reads %v, not %q", name, got["content"], content)
	}
	return err
}
