//go:build e2e

package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/scan"
)

func addStranger(t *testing.T) {
	t.Helper()
	if err := machine.AddStranger(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeStranger(t) })
}

func removeStranger(t *testing.T) {
	if err := machine.RemoveStranger(context.Background()); err != nil {
		t.Error(err)
	}
}

// publicAddresses are those of all machines, of both families.
func publicAddresses(t *testing.T) []string {
	t.Helper()
	l, err := layout.Find()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range l.Machines {
		all = append(all, m.IPv4, m.IPv6())
	}
	return all
}

// shut fails the test unless the stranger gets no answer from any port of any machine. Not even a refusal: with a
// policy of drop nothing answers, so whatever does tells of a packet that came past the firewall.
func shut(t *testing.T, when string) {
	t.Helper()
	addStranger(t)
	found, err := scan.Whole(t.Context(), machine.Stranger, publicAddresses(t)...)
	if err != nil {
		t.Error(err)
	}
	for _, a := range found {
		if !a.Silent() {
			t.Errorf("%s: %s", when, a)
		}
	}
}

// watch is a stranger who looks without pause: at all ports, and meanwhile at those that are likely to listen.
type watch struct {
	started   time.Time
	addresses []string
	stop      context.CancelFunc
	group     sync.WaitGroup

	lock  sync.Mutex
	looks []glance
	err   error
}

// glance is what one address answered to one look.
type glance struct {
	began, ended time.Time
	whole        bool
	scan.Answers
}

// likely are the ports of a bare machine, of k3s and of testdata/listeners.yaml.
var likely = []int{
	22, 80, 111, 443, 2049, 2379, 2380, 2381, 6443, 6444, 9100, 10010, 10248, 10249, 10250, 10256, 10257, 10258, 10259,
	onHostNetwork, onHostPort, onNodePort, onLoadBalancer,
}

// startWatch begins as soon as there is a public side to stand on.
func startWatch(t *testing.T) *watch {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &watch{started: time.Now(), addresses: publicAddresses(t), stop: stop}
	t.Cleanup(func() { stop(); w.group.Wait(); removeStranger(t) })
	w.group.Go(func() {
		for ctx.Err() == nil {
			if _, err := os.Stat("/sys/class/net/" + machine.Bridge); err == nil &&
				machine.AddStranger(ctx) == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		w.group.Go(func() { w.loop(ctx, true) })
		w.loop(ctx, false)
	})
	return w
}

func (w *watch) loop(ctx context.Context, whole bool) {
	for ctx.Err() == nil {
		began := time.Now()
		var found []scan.Answers
		var err error
		if whole {
			found, err = scan.Whole(ctx, machine.Stranger, w.addresses...)
		} else {
			found, err = scan.TCP(ctx, machine.Stranger, likely, w.addresses...)
		}
		w.lock.Lock()
		if ctx.Err() == nil && err != nil {
			w.err = err
		}
		for _, a := range found {
			if err == nil && !a.Absent {
				w.looks = append(w.looks, glance{began, time.Now(), whole, a})
			}
		}
		w.lock.Unlock()
		if whole && len(found) > 0 && found[0].Absent {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// end ends the watch. It must have gone well.
func (w *watch) end(t *testing.T) {
	t.Helper()
	w.stop()
	w.group.Wait()
	if w.err != nil {
		t.Error(w.err)
	}
}

// looksOn waits until the watch has begun and ended another look at every address.
func (w *watch) looksOn(t *testing.T) {
	t.Helper()
	now := time.Now()
	eventually(t, time.Minute, "the stranger looks at all machines", func() error {
		w.lock.Lock()
		defer w.lock.Unlock()
		for _, address := range w.addresses {
			if !slices.ContainsFunc(w.looks, func(l glance) bool { return l.Address == address && l.began.After(now) }) {
				return fmt.Errorf("%s was not looked at: %w", address, w.err)
			}
		}
		return nil
	})
}

// neverOpen fails the test for every port that was found open.
func (w *watch) neverOpen(t *testing.T) {
	t.Helper()
	for _, l := range w.looks {
		if len(l.Open) > 0 {
			t.Errorf("%s: %s", w.at(l.ended), l.Answers)
		}
	}
}

// onlySSHOfBareMachines fails the test for everything else than what a machine is before the first `up` has come to its
// firewall: a Debian on which sshd listens, and whose kernel refuses the rest.
func (w *watch) onlySSHOfBareMachines(t *testing.T, l *lab) {
	t.Helper()
	spans, err := l.stack.Spans()
	if err != nil {
		t.Fatal(err)
	}
	loaded := map[string]time.Time{}
	for _, m := range l.Machines {
		for _, s := range spans {
			if s.Name() == "machine-"+m.Name+"-firewall" {
				at := s.End.Add(time.Second) // the engine's clock ticks in seconds
				loaded[m.IPv4], loaded[m.IPv6()] = at, at
			}
		}
	}
	bare, whole := map[string]int{}, map[string]int{}
	for _, l := range w.looks {
		switch {
		case l.began.After(loaded[l.Address]):
			if l.whole {
				whole[l.Address]++
			}
		case len(l.Open) == 0:
		case strings.Join(l.Open, ", ") == "tcp 22":
			bare[l.Address]++
		default:
			t.Errorf("%s to %s, before the firewall: %s", w.at(l.began), w.at(l.ended), l.Answers)
		}
	}
	for _, address := range w.addresses {
		if loaded[address].IsZero() || bare[address] == 0 || whole[address] == 0 {
			t.Errorf("%s: firewall loaded at %s; SSH of the bare machine was seen %d times, all ports looked at %d times after "+
				"that: the watch is broken", address, w.at(loaded[address]), bare[address], whole[address])
		}
	}
	w.silentFrom(t, func(address string) time.Time { return loaded[address] })
}

// silentFrom fails the test for every answer to a look that began after the address' time, and unless there was such a
// look.
func (w *watch) silentFrom(t *testing.T, from func(address string) time.Time) {
	t.Helper()
	looks := map[string]int{}
	for _, l := range w.looks {
		if !l.began.After(from(l.Address)) {
			continue
		}
		looks[l.Address]++
		if !l.Silent() {
			t.Errorf("%s to %s, after %s: %s", w.at(l.began), w.at(l.ended), w.at(from(l.Address)), l.Answers)
		}
	}
	for _, address := range w.addresses {
		if looks[address] == 0 {
			t.Errorf("nobody looked at %s after %s", address, w.at(from(address)))
		}
	}
}

// seen tells which ports were found open, and that others answered, from which look to which.
func (w *watch) seen() string {
	first, last := map[string]time.Time{}, map[string]time.Time{}
	for _, l := range w.looks {
		what := slices.Clone(l.Open)
		if l.Refused > 0 {
			what = append(what, "refusals")
		}
		for _, port := range what {
			port = l.Address + " " + port
			if _, known := first[port]; !known {
				first[port] = l.ended
			}
			last[port] = l.ended
		}
	}
	lines := []string{fmt.Sprintf("in %d looks:", len(w.looks))}
	for _, port := range slices.Sorted(maps.Keys(first)) {
		lines = append(lines, fmt.Sprintf("  %s from %s to %s", port, w.at(first[port]), w.at(last[port])))
	}
	return strings.Join(lines, "\n")
}

// at is a time of the watch.
func (w *watch) at(when time.Time) string {
	return when.Sub(w.started).Round(100 * time.Millisecond).String()
}
