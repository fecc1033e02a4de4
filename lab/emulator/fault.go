package emulator

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

// The faults a cloud shows now and then.
const (
	// RateLimit answers 429 with Retry-After: 1, without doing the work.
	RateLimit FaultKind = "rate-limit"
	// ServerError answers Status (500 unless set), without doing the work.
	ServerError FaultKind = "server-error"
	// Conflict answers 409, without doing the work.
	Conflict FaultKind = "conflict"
	// Slow waits for Delay, then does the work.
	Slow FaultKind = "slow"
	// LostAnswer does the work and closes the connection without an answer.
	LostAnswer FaultKind = "lost-answer"
)

// Fault makes requests fail. The zero Method and Path match every request.
type Fault struct {
	Kind   FaultKind `json:"kind"`
	Method string    `json:"method,omitempty"`
	// Path is a prefix of the request path, for instance "/client/v4/zones/".
	Path string `json:"path,omitempty"`
	// Times is how many requests are hit; 0 stands for 1, a negative number for
	// every request until the faults are cleared.
	Times int `json:"times,omitempty"`
	// Status is the answer's status of a ServerError, 500 to 599.
	Status int `json:"status,omitempty"`
	// DelayMS is how long Slow waits, in milliseconds.
	DelayMS int `json:"delayMs,omitempty"`
}

// Validate reports every problem of the fault at once.
func (f Fault) Validate() error {
	var problems []error
	kinds := []FaultKind{RateLimit, ServerError, Conflict, Slow, LostAnswer}
	if !slices.Contains(kinds, f.Kind) {
		problems = append(problems, fmt.Errorf("fault kind %q is not one of %v", f.Kind, kinds))
	}
	if f.Status != 0 && (f.Kind != ServerError || f.Status < 500 || f.Status > 599) {
		problems = append(problems, fmt.Errorf("fault status %d: only a %s fault has one, 500 to 599", f.Status, ServerError))
	}
	if (f.Kind == Slow) != (f.DelayMS > 0) {
		problems = append(problems, fmt.Errorf("fault delayMs %d: a %s fault needs one above 0, the others have "+
			"none", f.DelayMS, Slow))
	}
	if f.Path != "" && !strings.HasPrefix(f.Path, "/") {
		problems = append(problems, fmt.Errorf("fault path %q does not start with a slash and would never match", f.Path))
	}
	return errors.Join(problems...)
}

func (f Fault) delay() time.Duration { return time.Duration(f.DelayMS) * time.Millisecond }

type faults struct {
	mu    sync.Mutex
	armed []Fault
}

func (f *faults) add(fault Fault) error {
	if err := fault.Validate(); err != nil {
		return err
	}
	if fault.Times == 0 {
		fault.Times = 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = append(f.armed, fault)
	return nil
}

func (f *faults) list() []Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Fault{}, f.armed...)
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = nil
}

// take uses up one hit of the first fault that matches.
func (f *faults) take(r *http.Request) (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.armed {
		if fault.Method != "" && !strings.EqualFold(fault.Method, r.Method) || !strings.HasPrefix(r.URL.Path, fault.Path) {
			continue
		}
		if fault.Times > 0 {
			f.armed[i].Times--
			if f.armed[i].Times == 0 {
				f.armed = slices.Delete(f.armed, i, i+1)
			}
		}
		return fault, true
	}
	return Fault{}, false
}
