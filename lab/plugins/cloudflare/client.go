package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

const (
	// officialURL is the API when the provider is given no baseUrl.
	officialURL = "https://api.cloudflare.com/client/v4"
	// requestTimeout bounds one attempt of a request.
	requestTimeout = 30 * time.Second
	// attempts is how often a request is made in all, the official client's.
	attempts = 3
	// longestPause bounds the pause that a Retry-After can ask for.
	longestPause = 10 * time.Second
)

// client speaks the Cloudflare API v4. It is plain HTTP on purpose: the
// official client's zero-trust package alone takes more than a gigabyte of memory
// to compile, for the handful of requests here.
type client struct {
	base  string
	token string
	http  http.Client
}

// apiError is an answer that reports a failure.
type apiError struct {
	method, path string
	status       int
	problems     []problem
}

type problem struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (e *apiError) Error() string {
	var said []string
	for _, p := range e.problems {
		said = append(said, fmt.Sprintf("%s (%d)", p.Message, p.Code))
	}
	if len(said) == 0 {
		said = append(said, http.StatusText(e.status))
	}
	return fmt.Sprintf("%s %s: the Cloudflare API answered %d: %s", e.method, e.path, e.status, strings.Join(said, "; "))
}

// notFound says whether the API does not know the object.
func notFound(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.status == http.StatusNotFound
}

// do makes a request and decodes its result into result, which may be nil. It
// tries again what the official client tries again: network errors, 408, 409,
// 429 and 5xx.
func (c *client) do(ctx context.Context, method, path string, body, result any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		pause, err := c.attempt(ctx, method, path, payload, result)
		if err == nil || pause < 0 || try == attempts {
			return err
		}
		if pause == 0 {
			pause = time.Duration(try) * 500 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cancelled: %w", err)
		case <-time.After(min(pause, longestPause)):
		}
	}
}

// attempt makes the request once. The pause says when another attempt makes
// sense: 0 for soon, negative for never.
func (c *client) attempt(
	ctx context.Context, method, path string, payload []byte, result any,
) (pause time.Duration, err error) {
	const never = -1
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var body io.Reader
	if payload != nil {
		body = bytes.NewReader(payload)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return never, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/json")
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	var answer struct {
		Success bool            `json:"success"`
		Errors  []problem       `json:"errors"`
		Result  json.RawMessage `json:"result"`
	}
	decodeErr := json.Unmarshal(text, &answer)
	if res.StatusCode >= http.StatusBadRequest || (decodeErr == nil && !answer.Success) {
		failed := &apiError{method: method, path: path, status: res.StatusCode, problems: answer.Errors}
		if retryable(res.StatusCode) {
			seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
			return time.Duration(max(seconds, 0)) * time.Second, failed
		}
		return never, failed
	}
	if decodeErr != nil {
		return never, fmt.Errorf("%s %s: the answer is not the API's JSON: %w", method, path, decodeErr)
	}
	if result == nil {
		return never, nil
	}
	if err := json.Unmarshal(answer.Result, result); err != nil {
		return never, fmt.Errorf("%s %s: the answer's result: %w", method, path, err)
	}
	return never, nil
}

func retryable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return status >= http.StatusInternalServerError
}

// path builds a request path out of fixed and variable segments, which it
// escapes.
func path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// collection completes a resource whose objects are made by a POST to one place, and read, replaced and removed below
// it.
func (c *client) collection(at func(schema.Values, ...string) string, request func(schema.Values) object,
	properties func(object) schema.Values, r schema.Resource,
) schema.Resource {
	r.Create = func(ctx context.Context, call schema.Call) (string, schema.Values, error) {
		made, err := c.create(ctx, at(call.Inputs), request(call.Inputs))
		if err != nil {
			return "", nil, err
		}
		return made.id(), properties(made), nil
	}
	r.Read = func(ctx context.Context, call schema.Call) (schema.Values, error) {
		found, err := c.get(ctx, at(call.State, call.ID))
		if err != nil {
			return nil, err
		}
		return properties(found), nil
	}
	r.Update = func(ctx context.Context, call schema.Call) (schema.Values, error) {
		made, err := c.put(ctx, "PUT", at(call.Inputs, call.ID), request(call.Inputs))
		if err != nil {
			return nil, err
		}
		return properties(made), nil
	}
	r.Delete = func(ctx context.Context, call schema.Call) error { return c.remove(ctx, at(call.State, call.ID)) }
	return r
}
