package progress

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestStepTellsStartEndAndFailure(t *testing.T) {
	var out strings.Builder
	r := New(&out)
	if err := r.Step(t.Context(), "works", func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	want := errors.New("broken")
	if err := r.Step(t.Context(), "fails", func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Fatalf("the step's error became %v", err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.Contains(lines[1], "works") || !strings.Contains(lines[1], "✓") ||
		!strings.Contains(lines[3], "✗") {
		t.Errorf("printed\n%s", out.String())
	}
	spans := r.Spans()
	if len(spans) != 2 || spans[0].Err != nil || !errors.Is(spans[1].Err, want) {
		t.Errorf("spans %+v", spans)
	}
}

func TestWaitingNamesWhatTheStepWaitsFor(t *testing.T) {
	s := &step{}
	ctx := context.WithValue(t.Context(), stepKey{}, s)
	if s.waiting() != "" {
		t.Errorf("nothing was said, and it waits%s", s.waiting())
	}
	Waiting(ctx, "the %s", "API")
	if got := s.waiting(); got != ", waits for the API" {
		t.Errorf("got %q", got)
	}
}

func TestWaterfallIsOneAxis(t *testing.T) {
	got := Waterfall([]Span{
		{Name: "first", Start: 0, End: 5 * time.Second},
		{Name: "blink", Start: 5 * time.Second, End: 5*time.Second + time.Millisecond},
		{Name: "last", Start: 5 * time.Second, End: 10 * time.Second},
	}, 10, 100*time.Millisecond)
	want := "  first                                   5s  █████\n" +
		"  last                                    5s  ·····█████\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if Waterfall(nil, 10, 0) != "" {
		t.Error("nothing ran, and something was drawn")
	}
}

func TestRunStopsAtTheFirstFailure(t *testing.T) {
	var out strings.Builder
	var ran []string
	task := func(name string, err error) Task {
		return Task{Name: name, Do: func(context.Context) error {
			ran = append(ran, name)
			return err
		}}
	}
	failure := errors.New("failure")
	err := New(&out).Run(t.Context(), []Task{task("one", nil), task("two", failure), task("three", nil)})
	if !errors.Is(err, failure) || strings.Join(ran, " ") != "one two" {
		t.Errorf("ran %v, %v", ran, err)
	}
}

// What runs beside others is waited for where it says so, and cancelled when another fails: the first failure is told.
func TestRunBeside(t *testing.T) {
	var r Report
	r.out, r.start = io.Discard, time.Now()
	began, ended := make(chan struct{}), make(chan struct{})
	joined := false
	err := r.Run(t.Context(), []Task{
		{Name: "long", Beside: true, Do: func(context.Context) error {
			<-began
			close(ended)
			return nil
		}},
		{Name: "short", Do: func(context.Context) error { close(began); return nil }},
		{Name: "last", Joins: true, Do: func(context.Context) error {
			select {
			case <-ended:
				joined = true
			default:
			}
			return nil
		}},
	})
	if err != nil || !joined {
		t.Errorf("%v; what came after all came after all: %v", err, joined)
	}
	reason := errors.New("the reason")
	cancelled, after := false, false
	err = r.Run(t.Context(), []Task{
		{Name: "long", Beside: true, Do: func(ctx context.Context) error {
			<-ctx.Done()
			cancelled = true
			return ctx.Err()
		}},
		{Name: "fails", Do: func(context.Context) error { return reason }},
		{Name: "after", Do: func(context.Context) error { after = true; return nil }},
	})
	if !errors.Is(err, reason) || !cancelled || after {
		t.Errorf("%v; cancelled: %v, went on: %v", err, cancelled, after)
	}
	err = r.Run(t.Context(), []Task{{Name: "fails", Beside: true, Do: func(context.Context) error { return reason }}})
	if !errors.Is(err, reason) {
		t.Errorf("beside nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx, []Task{{Name: "never", Do: func(context.Context) error { return nil }}}); err == nil {
		t.Error("a cancelled run did all that it should")
	}
}
