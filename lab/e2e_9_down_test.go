//go:build e2e

package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/machine"
)

// TestKilledUpConverges kills `up` without warning at random moments, each time from nothing, and then runs it again. TINYRACK_E2E_KILLS is how often
// (2 where it is not set: each costs two minutes).
func TestKilledUpConverges(t *testing.T) {
	kills := 2
	if text := os.Getenv("TINYRACK_E2E_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kills {
		succeed(t, "down")
		cmd := command(t, "up")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		moment := time.Duration(rand.Int64N(int64(85 * time.Second)))
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-time.After(moment):
		case <-ended:
		}
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		started := time.Now()
		succeed(t, "up")
		t.Logf("kill %d after %s: up again took %s", i+1, moment.Round(time.Second), time.Since(started).Round(time.Second))
		succeed(t, "up")
		l := open(t)
		if changed := l.changes(t); len(changed) > 0 {
			t.Errorf("kill %d after %s: the up after the one that converged changed %v", i+1, moment, changed)
		}
		if got := l.cloudRecords(t); len(got) != 3 {
			t.Errorf("kill %d after %s: records %v", i+1, moment, got)
		}
	}
}

func TestDownLeavesNothing(t *testing.T) {
	l := open(t)
	succeed(t, "down")
	for _, path := range []string{l.dir, "/run/netns/" + machine.Name, "/sys/class/net/" + machine.Bridge, "/sys/class/net/trlab-ts0"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + machine.Name); len(groups) > 0 {
		t.Errorf("control groups are left: %v", groups)
	}
	for _, file := range []string{"/proc/self/mounts"} {
		if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte("tinyrack-lab")) {
			t.Errorf("a mount is left (%v):\n%s", err, text)
		}
	}
	seen := map[string]bool{}
	sampleArguments(seen)
	for line := range seen {
		if strings.Contains(line, l.dir+"/") || strings.Contains(line, "k3s server") {
			t.Errorf("a process is left: %s", line)
		}
	}
}
