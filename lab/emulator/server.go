package emulator

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
)

// maxBody bounds a request; the largest real one is a tailnet policy.
const maxBody = 1 << 20

// Server routes requests, counts them and applies faults. The emulators embed it.
type Server struct {
	name   string
	mux    *http.ServeMux
	refuse func(w http.ResponseWriter, status int, message string)
	log    *slog.Logger
	faults faults

	mu       sync.Mutex
	requests map[string]Count
}

// Count is how often a route was asked for and how often it did what was asked.
type Count struct {
	Total int `json:"total"`
	OK    int `json:"ok"`
}

// NewServer returns a server without routes. state answers GET /lab/state; refuse
// writes an error in the shape of the emulated API.
func NewServer(
	name string, log *slog.Logger, state func() (any, error),
	refuse func(w http.ResponseWriter, status int, message string),
) *Server {
	if log == nil {
		log = slog.Default()
	}
	s := &Server{name: name, mux: http.NewServeMux(), refuse: refuse, log: log, requests: map[string]Count{}}
	s.mux.HandleFunc("/", s.unknown)
	s.mux.HandleFunc("GET /lab/state", func(w http.ResponseWriter, _ *http.Request) {
		answer, err := state()
		if err != nil {
			s.refuse(w, http.StatusInternalServerError, err.Error())
			return
		}
		WriteJSON(w, http.StatusOK, answer)
	})
	s.mux.HandleFunc("GET /lab/requests", func(w http.ResponseWriter, _ *http.Request) {
		WriteJSON(w, http.StatusOK, map[string]any{"requests": s.Requests()})
	})
	s.mux.HandleFunc("DELETE /lab/requests", func(w http.ResponseWriter, _ *http.Request) {
		s.ResetRequests()
		w.WriteHeader(http.StatusNoContent)
	})
	s.mux.HandleFunc("GET /lab/faults", func(w http.ResponseWriter, _ *http.Request) {
		WriteJSON(w, http.StatusOK, map[string]any{"faults": s.faults.list()})
	})
	s.mux.HandleFunc("POST /lab/faults", s.postFault)
	s.mux.HandleFunc("DELETE /lab/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	return s
}

// Handle registers a route in the pattern language of http.ServeMux.
func (s *Server) Handle(pattern string, handler http.HandlerFunc) { s.mux.HandleFunc(pattern, handler) }

// AddFault arms a fault; faults apply in the order they were added.
func (s *Server) AddFault(fault Fault) error { return s.faults.add(fault) }

// ClearFaults disarms every fault.
func (s *Server) ClearFaults() { s.faults.clear() }

// Requests returns the counters by route, for instance
// "PUT /client/v4/accounts/{account}/cfd_tunnel/{tunnel}/configurations". They
// start at zero with the process; requests without a route count as "unknown".
func (s *Server) Requests() map[string]Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := make(map[string]Count, len(s.requests))
	for route, count := range s.requests {
		counts[route] = count
	}
	return counts
}

// ResetRequests sets every counter to zero.
func (s *Server) ResetRequests() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.requests)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	_, route := s.mux.Handler(r)
	if control(route) {
		s.mux.ServeHTTP(w, r)
		return
	}
	answer := &recorder{ResponseWriter: w, status: http.StatusOK}
	defer func() { s.count(route, answer.status) }()
	fault, hit := s.faults.take(r)
	if !hit {
		s.mux.ServeHTTP(answer, r)
		return
	}
	s.log.Warn("emulator fault", "emulator", s.name, "kind", fault.Kind, "method", r.Method, "path", r.URL.Path)
	s.fail(answer, r, fault)
}

func (s *Server) fail(w *recorder, r *http.Request, fault Fault) {
	switch fault.Kind {
	case RateLimit:
		w.Header().Set("Retry-After", "1")
		s.refuse(w, http.StatusTooManyRequests, "rate limit exceeded (lab fault)")
	case ServerError:
		s.refuse(w, max(fault.Status, http.StatusInternalServerError), "internal server error (lab fault)")
	case Conflict:
		s.refuse(w, http.StatusConflict, "conflict (lab fault)")
	case Slow:
		if wait(r, fault.delay()) {
			s.mux.ServeHTTP(w, r)
		}
	case LostAnswer:
		w.ResponseWriter = &discard{header: http.Header{}}
		s.mux.ServeHTTP(w, r)
		panic(http.ErrAbortHandler) // closes the connection without an answer
	}
}

// unknown is loud: a client that asks for something else than it did when the
// emulator was written must not be answered by chance.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	s.log.Error("emulator: unknown request", "emulator", s.name, "method", r.Method, "path", r.URL.Path)
	s.refuse(w, http.StatusNotImplemented, fmt.Sprintf("%s %s is not emulated by the lab's %s: add it to the "+
		"emulator", r.Method, r.URL.Path, s.name))
}

func (s *Server) postFault(w http.ResponseWriter, r *http.Request) {
	var fault Fault
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&fault); err != nil {
		s.refuse(w, http.StatusBadRequest, "fault: "+err.Error())
		return
	}
	if err := s.AddFault(fault); err != nil {
		s.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	WriteJSON(w, http.StatusCreated, map[string]any{"faults": s.faults.list()})
}

func (s *Server) count(route string, status int) {
	if route == "/" {
		route = "unknown"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	count := s.requests[route]
	count.Total++
	if status < http.StatusMultipleChoices {
		count.OK++
	}
	s.requests[route] = count
}

// control tells the lab's own endpoints, which neither count nor fail, from the
// emulated ones.
func control(route string) bool {
	_, path, _ := strings.Cut(route, " ")
	return path == "/lab/state" || path == "/lab/requests" || path == "/lab/faults"
}
