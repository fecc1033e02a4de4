package process

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func runner(t *testing.T) Runner {
	t.Helper()
	r := Runner{Dir: filepath.Join(t.TempDir(), "run"), Logs: t.TempDir()}
	t.Cleanup(func() { _ = r.Stop(context.Background(), "p") })
	return r
}

func ready(context.Context) error { return nil }

func TestStartKeepsWhatRunsAndReplacesWhatChanged(t *testing.T) {
	r := runner(t)
	sleep := func(seconds string) Spec {
		return Spec{Name: "p", Args: []string{"sleep", seconds}, Ready: ready}
	}
	if err := r.Start(t.Context(), sleep("300")); err != nil {
		t.Fatal(err)
	}
	first := r.PID("p")
	if err := r.Start(t.Context(), sleep("300")); err != nil || r.PID("p") != first {
		t.Fatalf("the same program was started again: %v, %d after %d", err, r.PID("p"), first)
	}
	if err := r.Start(t.Context(), sleep("301")); err != nil || r.PID("p") == first {
		t.Fatalf("another command line left the old program: %v", err)
	}
	if err := r.Stop(t.Context(), "p"); err != nil || r.Running("p") {
		t.Fatalf("it still runs: %v", err)
	}
	if err := r.Stop(t.Context(), "p"); err != nil {
		t.Errorf("stopping what does not run: %v", err)
	}
}

// A process id is given again after a while: a stranger must not be taken for ours, let alone be killed.
func TestAReusedProcessIDIsNotOurs(t *testing.T) {
	r := runner(t)
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	record := `{"pid":1,"started":"12345678901234","args":["sleep"]}`
	if err := os.WriteFile(r.path("p"), []byte(record), 0o600); err != nil {
		t.Fatal(err)
	}
	if r.Running("p") || r.PID("p") != 0 {
		t.Error("process 1 was taken for ours")
	}
}

func TestAProgramThatEndsIsReportedWithItsLog(t *testing.T) {
	r := runner(t)
	err := r.Start(
		t.Context(),
		Spec{
			Name:  "p",
			Args:  []string{"sh", "-c", "echo reason; exit 3"},
			Ready: func(context.Context) error { return errors.New("not yet") },
		},
	)
	if err == nil || !strings.Contains(err.Error(), r.LogPath("p")) {
		t.Fatalf("got %v", err)
	}
	if text, err := os.ReadFile(r.LogPath("p")); err != nil || string(text) != "reason\n" {
		t.Errorf("the log holds %q, %v", text, err)
	}
}

func TestNothingOfTheEnvironmentIsPassedOn(t *testing.T) {
	t.Setenv("TINYRACK_CANARY", "secret")
	r := runner(t)
	_ = r.Start(
		t.Context(),
		Spec{
			Name:  "p",
			Args:  []string{"env"},
			Env:   []string{"OWN=1"},
			Ready: func(context.Context) error { return errors.New("not yet") },
		},
	)
	text, err := os.ReadFile(r.LogPath("p"))
	if err != nil || !strings.Contains(string(text), "OWN=1") || strings.Contains(string(text), "TINYRACK_CANARY") {
		t.Errorf("the program saw %q, %v", text, err)
	}
}
