package emulator

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

type fixture struct {
	*Server
	url  string
	log  *bytes.Buffer
	work atomic.Int32 // how often the route did its work
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{log: &bytes.Buffer{}}
	f.Server = NewServer("test API", slog.New(slog.NewTextHandler(f.log, nil)),
		func() (any, error) { return map[string]int{"total": 0}, nil },
		func(w http.ResponseWriter, status int, message string) {
			WriteJSON(w, status, map[string]string{"message": message})
		})
	f.Handle("POST /things/{thing}", func(w http.ResponseWriter, r *http.Request) {
		f.work.Add(1)
		if r.PathValue("thing") == "bad" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

func (f *fixture) call(t *testing.T, method, path, body string) (int, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, f.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

func TestUnknownRequestsAreLoud(t *testing.T) {
	f := start(t)
	for _, request := range []string{"GET /things/a", "POST /other", "GET /lab/nothing", "PUT /lab/state"} {
		method, path, _ := strings.Cut(request, " ")
		status, text, err := f.call(t, method, path, "")
		if err != nil || status != http.StatusNotImplemented || !strings.Contains(text, request) {
			t.Errorf("%s: %d %s %v", request, status, text, err)
		}
		if !strings.Contains(f.log.String(), path) {
			t.Errorf("%s is not in the log: %s", request, f.log)
		}
	}
	if got := f.Requests()["unknown"]; got.Total != 4 || got.OK != 0 {
		t.Errorf("unknown requests counted: %+v", got)
	}
}

func TestRequestsAreCountedByRoute(t *testing.T) {
	f := start(t)
	for _, thing := range []string{"a", "b", "bad"} {
		if _, _, err := f.call(t, http.MethodPost, "/things/"+thing, ""); err != nil {
			t.Fatal(err)
		}
	}
	_, text, err := f.call(t, http.MethodGet, "/lab/requests", "")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Requests map[string]Count `json:"requests"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	if got, want := answer.Requests["POST /things/{thing}"], (Count{Total: 3, OK: 2}); got != want ||
		len(answer.Requests) != 1 {
		t.Errorf("counters: %s", text)
	}
	if status, _, err := f.call(t, http.MethodDelete, "/lab/requests", ""); err != nil || status != http.StatusNoContent {
		t.Errorf("reset: %d %v", status, err)
	}
	if left := f.Requests(); len(left) != 0 {
		t.Errorf("after the reset: %v", left)
	}
}

func TestFaults(t *testing.T) {
	for _, test := range []struct {
		fault  Fault
		status int // 0: no answer
		work   int32
	}{
		{Fault{Kind: RateLimit}, 429, 0},
		{Fault{Kind: ServerError}, 500, 0},
		{Fault{Kind: ServerError, Status: 503}, 503, 0},
		{Fault{Kind: Conflict}, 409, 0},
		{Fault{Kind: Slow, DelayMS: 30}, 200, 1},
		{Fault{Kind: LostAnswer}, 0, 1},
	} {
		t.Run(string(test.fault.Kind), func(t *testing.T) {
			f := start(t)
			if err := f.AddFault(test.fault); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			status, _, err := f.call(t, http.MethodPost, "/things/a", "")
			if (err != nil) != (test.status == 0) || status != test.status || f.work.Load() != test.work {
				t.Errorf("status %d, work %d, error %v", status, f.work.Load(), err)
			}
			if took := time.Since(began); took < test.fault.delay() {
				t.Errorf("took only %v", took)
			}
			if status, _, err := f.call(t, http.MethodPost, "/things/a", ""); status != http.StatusOK || err != nil {
				t.Errorf("the fault hit twice: %d %v", status, err)
			}
		})
	}
}

func TestFaultsChooseTheirRequests(t *testing.T) {
	f := start(t)
	status, text, err := f.call(t, http.MethodPost, "/lab/faults",
		`{"kind":"conflict","method":"POST","path":"/things/a","times":2}`)
	if err != nil || status != http.StatusCreated {
		t.Fatalf("%d %s %v", status, text, err)
	}
	for _, step := range []struct {
		path string
		want int
	}{{"/things/b", 200}, {"/things/a", 409}, {"/things/abc", 409}, {"/things/a", 200}} {
		if status, _, err := f.call(t, http.MethodPost, step.path, ""); status != step.want || err != nil {
			t.Errorf("%s: %d %v, want %d", step.path, status, err, step.want)
		}
	}
	if err := f.AddFault(Fault{Kind: Conflict, Times: -1}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if status, _, _ := f.call(t, http.MethodPost, "/things/a", ""); status != http.StatusConflict {
			t.Errorf("a lasting fault ended: %d", status)
		}
	}
	if status, _, _ := f.call(t, http.MethodGet, "/lab/state", ""); status != http.StatusOK {
		t.Errorf("a fault hit the lab's own endpoint: %d", status)
	}
	if status, _, _ := f.call(t, http.MethodDelete, "/lab/faults", ""); status != http.StatusNoContent {
		t.Errorf("clear: %d", status)
	}
	if status, _, _ := f.call(t, http.MethodPost, "/things/a", ""); status != http.StatusOK {
		t.Errorf("after the clear: %d", status)
	}
}

func TestWrongFaultsAreRefused(t *testing.T) {
	f := start(t)
	for body, want := range map[string]string{
		`{"kind":"flood"}`:                            `flood\" is not one of`,
		`{"kind":"slow"}`:                             "delayMs 0",
		`{"kind":"conflict","status":500}`:            "status 500",
		`{"kind":"server-error","status":404}`:        "status 404",
		`{"kind":"conflict","path":"things"}`:         "would never match",
		`{"kind":"conflict","tiems":3}`:               "unknown field",
		`{"kind":"conflict","delayMs":1,"path":"x"}`:  "would never match",
		`{"kind":"conflict","delayMs":1,"path":"/x"}`: "delayMs 1",
	} {
		status, text, err := f.call(t, http.MethodPost, "/lab/faults", body)
		if err != nil || status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s %v, want %q", body, status, text, err, want)
		}
	}
	if armed := f.faults.list(); len(armed) != 0 {
		t.Errorf("refused faults are armed: %v", armed)
	}
}
