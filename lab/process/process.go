// Package process runs the lab's long-lived programs apart from the command that started them, and finds them again:
// each leaves a small file with its process id and start time, so that a reused id is never taken for it.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// Spec is a program to keep running.
type Spec struct {
	Name string
	Args []string
	Env  []string // nothing of this process' environment is passed on but PATH
	Dir  string
	UID  uint32 // 0 stays root
	// Ready tells whether the program serves. It is asked until it returns nil.
	Ready func(ctx context.Context) error
}

// Runner keeps programs' files in Dir and their output in Logs.
type Runner struct {
	Dir, Logs string
}

// New returns the runner of a lab's programs.
func New(l layout.Layout) Runner { return Runner{Dir: l.Run(), Logs: l.Logs()} }

type record struct {
	PID     int      `json:"pid"`
	Started string   `json:"started"` // field 22 of /proc/PID/stat
	Args    []string `json:"args"`
}

// readyTimeout bounds the wait for a program to serve.
const readyTimeout = 90 * time.Second

// Start starts the program unless it runs already with the same arguments, and waits until it is ready.
func (r Runner) Start(ctx context.Context, s Spec) error {
	if rec, ok := r.running(s.Name); ok {
		if strings.Join(rec.Args, "\x00") == strings.Join(s.Args, "\x00") {
			return r.wait(ctx, s)
		}
		if err := r.Stop(ctx, s.Name); err != nil {
			return err
		}
	}
	if err := errors.Join(os.MkdirAll(r.Dir, 0o755), os.MkdirAll(r.Logs, 0o755)); err != nil {
		return err
	}
	log, err := os.OpenFile(r.LogPath(s.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.Args[0], s.Args[1:]...) //nolint:gosec,noctx // it outlives this command
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, s.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if s.UID != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.UID, Gid: s.UID}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	started, err := startTime(cmd.Process.Pid)
	if err != nil {
		return fmt.Errorf("%s ended at once: see %s", s.Name, r.LogPath(s.Name))
	}
	text, err := json.Marshal(record{cmd.Process.Pid, started, s.Args})
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.path(s.Name), text, 0o600); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	go func() { _ = cmd.Wait() }() // reaps it while this command lives
	return r.wait(ctx, s)
}

// Running tells whether the program runs.
func (r Runner) Running(name string) bool {
	_, ok := r.running(name)
	return ok
}

// PID is the program's process id, 0 when it does not run.
func (r Runner) PID(name string) int {
	rec, ok := r.running(name)
	if !ok {
		return 0
	}
	return rec.PID
}

// Show prints of each program whether it runs. The error names those that do not.
func (r Runner) Show(out io.Writer, names []string) error {
	var errs []error
	for _, name := range names {
		mark := "✓ runs"
		if !r.Running(name) {
			mark = "✗ does not run: `make up`"
			errs = append(errs, errors.New(name+" does not run"))
		}
		fmt.Fprintf(out, "  %-18s %s\n", name, mark)
	}
	return errors.Join(errs...)
}

// LogPath is the file with the program's output.
func (r Runner) LogPath(name string) string { return filepath.Join(r.Logs, name+".log") }

// Stop ends the program and everything in its session: politely, and after ten seconds not.
func (r Runner) Stop(ctx context.Context, name string) error {
	rec, ok := r.running(name)
	if !ok {
		return ignoreMissing(os.Remove(r.path(name)))
	}
	_ = syscall.Kill(-rec.PID, syscall.SIGTERM)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, ok := r.running(name); !ok {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			_ = syscall.Kill(-rec.PID, syscall.SIGKILL)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ignoreMissing(os.Remove(r.path(name)))
}

func (r Runner) wait(ctx context.Context, s Spec) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := s.Ready(ctx)
		if err == nil {
			return nil
		}
		if _, ok := r.running(s.Name); !ok {
			return fmt.Errorf("%s ended before it was ready: %w: see %s", s.Name, err, r.LogPath(s.Name))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w: see %s", s.Name, readyTimeout, err, r.LogPath(s.Name))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (r Runner) path(name string) string { return filepath.Join(r.Dir, name+".json") }

func (r Runner) running(name string) (record, bool) {
	var rec record
	text, err := os.ReadFile(r.path(name))
	if err != nil || json.Unmarshal(text, &rec) != nil {
		return rec, false
	}
	started, err := startTime(rec.PID)
	return rec, err == nil && started == rec.Started
}

// startTime is when a process started, in clock ticks since boot; an error when there is none, or only its corpse.
func startTime(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The second field is the name in parentheses and may contain blanks.
	_, rest, ok := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" {
		return "", os.ErrProcessDone
	}
	return fields[19], nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
