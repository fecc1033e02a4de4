package tailscale

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
)

// apiError is a refusal in the API's terms.
type apiError struct {
	status  int
	message string
	data    []testFailure
}

func (e *apiError) Error() string { return e.message }

// testFailure is how the API reports the failed tests of one source.
type testFailure struct {
	User   string   `json:"user"`
	Errors []string `json:"errors"`
}

func refuse(status int, format string, args ...any) error {
	return &apiError{status: status, message: fmt.Sprintf(format, args...)}
}

func writeError(w http.ResponseWriter, err error) {
	refusal := &apiError{status: http.StatusInternalServerError, message: err.Error()}
	_ = errors.As(err, &refusal) // anything else is a fault of the emulator: 500
	body := map[string]any{"message": refusal.message}
	if refusal.data != nil {
		body["data"] = refusal.data
	}
	emulator.WriteJSON(w, refusal.status, body)
}

func decode(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "invalid request body: %v", err)
	}
	return nil
}

// clone makes a value independent of the store.
func clone(value any) any {
	text, err := json.Marshal(value)
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return json.RawMessage(text)
}

// sorted returns the objects in the order they were made.
func sorted[T interface{ order() int }](all map[string]T) []T {
	return slices.SortedFunc(maps.Values(all), func(a, b T) int { return cmp.Compare(a.order(), b.order()) })
}
