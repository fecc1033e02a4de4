package pulumi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// event is a line of the engine's log. What the line is not about is nil.
type event struct {
	Timestamp        int64
	ResourcePreEvent *struct {
		Metadata struct{ Op, URN string }
	} `json:"resourcePreEvent"`
	ResOutputsEvent *struct {
		Metadata struct{ Op, URN string }
	} `json:"resOutputsEvent"`
	SummaryEvent *struct{} `json:"summaryEvent"`
}

// Span is the time that one resource took in a run. The engine's clock ticks in seconds.
type Span struct {
	URN string
	// Op is what was done: same, create, update, …
	Op string
	// Start is zero for what was not begun.
	Start, End time.Time
}

// Name is the resource's own name.
func (s Span) Name() string { return nameOf(s.URN) }

func nameOf(urn string) string { return urn[strings.LastIndex(urn, "::")+2:] }

// Spans reads what the last run did, and when, from the engine's events.
func (s *Stack) Spans() ([]Span, error) {
	f, err := os.Open(s.events())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var spans []Span
	began := map[string]time.Time{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		at := time.Unix(e.Timestamp, 0)
		switch {
		case e.ResourcePreEvent != nil:
			began[e.ResourcePreEvent.Metadata.URN] = at
		case e.ResOutputsEvent != nil:
			m := e.ResOutputsEvent.Metadata
			spans = append(spans, Span{m.URN, m.Op, began[m.URN], at})
		}
	}
	return spans, lines.Err()
}

// Boundary is where an operation on a resource begins or ends: the engine says so before it notes it in the state, and
// does not wait for whoever listens. The last one has no URN: the run is over.
type Boundary struct {
	URN string
	// Op is as in a Span.
	Op    string
	Ended bool
}

// Name is the resource's own name.
func (b Boundary) Name() string { return nameOf(b.URN) }

// Watch follows the engine's events while a run goes on.
type Watch struct {
	path string
	file *os.File
	rest []byte
}

// Watch forgets the events of the last run and waits for those of the next.
func (s *Stack) Watch() (*Watch, error) {
	if err := os.Remove(s.events()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &Watch{path: s.events()}, nil
}

// Boundaries are those since the last call: none before the run begins.
func (w *Watch) Boundaries() ([]Boundary, error) {
	if w.file == nil {
		file, err := os.Open(w.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		w.file = file
	}
	text, err := io.ReadAll(w.file)
	if err != nil {
		return nil, err
	}
	w.rest = append(w.rest, text...)
	var found []Boundary
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole {
			return found, nil
		}
		w.rest = rest
		var e event
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		switch {
		case e.ResourcePreEvent != nil:
			found = append(found, Boundary{e.ResourcePreEvent.Metadata.URN, e.ResourcePreEvent.Metadata.Op, false})
		case e.ResOutputsEvent != nil:
			found = append(found, Boundary{e.ResOutputsEvent.Metadata.URN, e.ResOutputsEvent.Metadata.Op, true})
		case e.SummaryEvent != nil:
			found = append(found, Boundary{Ended: true})
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() error {
	if w.file == nil {
		return nil
	}
	return w.file.Close()
}
