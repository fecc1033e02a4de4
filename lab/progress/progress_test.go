package progress

import (
	"context"
	"errors"
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
