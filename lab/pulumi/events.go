package pulumi

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"time"
)

// Span is the time that one resource took in a run. The engine's clock ticks in seconds.
type Span struct {
	URN string
	// Op is what was done: same, create, update, …
	Op string
	// Start is zero for what was not begun.
	Start, End time.Time
}

// Name is the resource's own name.
func (s Span) Name() string { return s.URN[strings.LastIndex(s.URN, "::")+2:] }

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
		var e struct {
			Timestamp        int64
			ResourcePreEvent *struct {
				Metadata struct{ Op, URN string }
			} `json:"resourcePreEvent"`
			ResOutputsEvent *struct {
				Metadata struct{ Op, URN string }
			} `json:"resOutputsEvent"`
		}
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
