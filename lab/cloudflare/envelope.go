package cloudflare

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
)

// apiError is a refusal in the cloud's terms.
type apiError struct {
	status  int
	code    int
	message string
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.message, e.code) }

func refuse(status, code int, format string, args ...any) error {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

type apiMessage struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// envelope is what every answer is wrapped in.
type envelope struct {
	Success    bool         `json:"success"`
	Errors     []apiMessage `json:"errors"`
	Messages   []apiMessage `json:"messages"`
	Result     any          `json:"result"`
	ResultInfo *resultInfo  `json:"result_info,omitempty"`
}

type resultInfo struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	Count      int `json:"count"`
	TotalCount int `json:"total_count"`
	TotalPages int `json:"total_pages"`
}

// page is a result that is one page of a list.
type page struct {
	items any
	info  resultInfo
}

func writeError(w http.ResponseWriter, err error) {
	refusal := &apiError{status: http.StatusInternalServerError, code: 10000, message: err.Error()}
	_ = errors.As(err, &refusal) // anything else is a fault of the emulator: 500
	emulator.WriteJSON(w, refusal.status, envelope{
		Errors:   []apiMessage{{Code: refusal.code, Message: refusal.message}},
		Messages: []apiMessage{},
	})
}

func writeResult(w http.ResponseWriter, result any) {
	answer := envelope{Success: true, Errors: []apiMessage{}, Messages: []apiMessage{}, Result: result}
	if list, ok := result.(page); ok {
		answer.Result, answer.ResultInfo = list.items, &list.info
	}
	emulator.WriteJSON(w, http.StatusOK, answer)
}

// decode reads a JSON body. Fields that are not emulated are ignored, as the cloud
// ignores fields it does not know.
func decode(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return refuse(http.StatusBadRequest, 9207, "Request body is invalid: %v", err)
	}
	return nil
}

// paginate cuts a list by the page and per_page parameters.
func paginate[T any](r *http.Request, items []T) (any, error) {
	number, err := queryInt(r, "page", 1, 1, 1<<20)
	if err != nil {
		return nil, err
	}
	size, err := queryInt(r, "per_page", 100, 1, 5000)
	if err != nil {
		return nil, err
	}
	first := min((number-1)*size, len(items))
	last := min(first+size, len(items))
	return page{
		items: append([]T{}, items[first:last]...), // never null
		info: resultInfo{
			Page: number, PerPage: size, Count: last - first,
			TotalCount: len(items), TotalPages: (len(items) + size - 1) / size,
		},
	}, nil
}

func queryInt(r *http.Request, name string, fallback, least, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return fallback, nil
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < least || value > most {
		return 0, refuse(http.StatusBadRequest, 1003, "Invalid %s %q: must be between %d and %d", name, text, least, most)
	}
	return value, nil
}

// keep is true unless the query names another value. The cloud ignores filters
// it does not know; here they are refused in the routes that list.
func keep(r *http.Request, parameter, value string) bool {
	wanted := r.URL.Query().Get(parameter)
	return wanted == "" || strings.EqualFold(wanted, value)
}

// filters refuses query parameters that a list route does not implement: a filter
// that is silently ignored returns somebody else's objects.
func filters(r *http.Request, known ...string) error {
	for name := range r.URL.Query() {
		if !slices.Contains(append(known, "page", "per_page"), name) {
			return refuse(http.StatusNotImplemented, 10000, "the filter %q of %s is not emulated by the lab: add it to the "+
				"emulator", name, r.URL.Path)
		}
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
