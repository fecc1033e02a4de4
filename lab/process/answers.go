package process

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Answers is a readiness check: every address accepts an HTTP request.
func Answers(urls ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		var errs []error
		for _, url := range urls {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
			if err != nil {
				return err
			}
			client := http.Client{Timeout: 2 * time.Second}
			resp, err := client.Do(req)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			errs = append(errs, resp.Body.Close())
		}
		return errors.Join(errs...)
	}
}
