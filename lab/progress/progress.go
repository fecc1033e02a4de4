// Package progress tells a person what a long run is doing: which step, for how long, what it waits for, and, at the
// end, where the time went.
package progress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// heartbeat is how often a step that says nothing reports that it is still alive.
const heartbeat = 15 * time.Second

// Report prints steps as they happen and keeps their times for the waterfall. Make one with New.
type Report struct {
	out   io.Writer
	start time.Time

	mu    sync.Mutex
	spans []Span
}

// Span is one finished step.
type Span struct {
	Name       string
	Start, End time.Duration // since the report began
	Err        error
}

// New returns a report that prints to out and counts from now.
func New(out io.Writer) *Report {
	return &Report{out: out, start: time.Now()}
}

// Step runs one named step. It prints a line when the step starts, every 15 seconds while it runs (with what it waits
// for, as last said by Waiting), and when it ends. Steps may run at the same time.
func (r *Report) Step(ctx context.Context, name string, run func(ctx context.Context) error) error {
	step := &step{name: name, started: time.Now()}
	r.printf("%s  %-34s …", r.clock(), name)

	done := make(chan struct{})
	var beat sync.WaitGroup
	beat.Go(func() {
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				r.printf("%s  %-34s … %s%s", r.clock(), name, round(time.Since(step.started)), step.waiting())
			}
		}
	})
	err := run(context.WithValue(ctx, stepKey{}, step))
	close(done)
	beat.Wait()

	span := Span{Name: name, Start: step.started.Sub(r.start), End: time.Since(r.start), Err: err}
	r.mu.Lock()
	r.spans = append(r.spans, span)
	r.mu.Unlock()
	mark := "✓"
	if err != nil {
		mark = "✗"
	}
	r.printf("%s  %-34s %s %s", r.clock(), name, mark, round(span.End-span.Start))
	return err
}

// Task is a step with its name.
type Task struct {
	Name string
	Do   func(ctx context.Context) error
	// Beside has those that follow begin at once, up to the next that Joins.
	Beside bool
	// Joins waits first for all that runs beside.
	Joins bool
}

// Run runs the tasks as steps, one after the other but for those beside others, and begins none after one has failed.
// What runs beside it is cancelled then, and waited for.
func (r *Report) Run(ctx context.Context, tasks []Task) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var beside sync.WaitGroup
	step := func(task Task) {
		if err := r.Step(ctx, task.Name, task.Do); err != nil {
			cancel(failure{err})
		}
	}
	for _, task := range tasks {
		if task.Joins {
			beside.Wait()
		}
		if ctx.Err() != nil {
			break
		}
		if task.Beside {
			beside.Go(func() { step(task) })
			continue
		}
		step(task)
	}
	beside.Wait()
	// The first one that failed: others may have because they were cancelled.
	if first := (failure{}); errors.As(context.Cause(ctx), &first) {
		return first.error
	}
	return ctx.Err()
}

// failure is why the rest was cancelled.
type failure struct{ error }

// Waiting records what the current step waits for; the step's next sign of life shows it.
func Waiting(ctx context.Context, format string, args ...any) {
	if s, ok := ctx.Value(stepKey{}).(*step); ok {
		s.mu.Lock()
		s.wait = fmt.Sprintf(format, args...)
		s.mu.Unlock()
	}
}

// Spans returns the finished steps in the order in which they ended.
func (r *Report) Spans() []Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Span(nil), r.spans...)
}

// Elapsed is the time since the report began.
func (r *Report) Elapsed() time.Duration { return time.Since(r.start) }

// Waterfall draws the finished steps as bars on one time axis, width characters wide, leaving out what took less than
// least.
func (r *Report) Waterfall(width int, least time.Duration) string {
	return Waterfall(r.Spans(), width, least)
}

// Waterfall draws spans as bars on one time axis that ends with the last of them.
func Waterfall(spans []Span, width int, least time.Duration) string {
	var total time.Duration
	for _, s := range spans {
		total = max(total, s.End)
	}
	if total == 0 {
		return ""
	}
	column := func(d time.Duration) int { return int(int64(d) * int64(width) / int64(total)) }
	var b strings.Builder
	for _, s := range spans {
		if s.End-s.Start < least {
			continue
		}
		from, to := column(s.Start), column(s.End)
		to = max(to, from+1)
		bar := strings.Repeat("·", from) + strings.Repeat("█", to-from)
		fmt.Fprintf(&b, "  %-34s %7s  %s\n", s.Name, round(s.End-s.Start), bar)
	}
	return b.String()
}

type stepKey struct{}

type step struct {
	name    string
	started time.Time

	mu   sync.Mutex
	wait string
}

func (s *step) waiting() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait == "" {
		return ""
	}
	return ", waits for " + s.wait
}

func (r *Report) clock() string {
	d := time.Since(r.start)
	return fmt.Sprintf("[%3d:%02d]", int(d.Minutes()), int(d.Seconds())%60)
}

func (r *Report) printf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.out, format+"\n", args...)
}

func round(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
