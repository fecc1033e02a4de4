package host

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
)

// checkout is a lab of a checkout that is there.
func checkout(t *testing.T) layout.Layout {
	t.Helper()
	l := layout.Layout{Checkout: t.TempDir(), State: filepath.Join(t.TempDir(), "state")}
	if err := os.WriteFile(filepath.Join(l.Checkout, "Makefile"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

func take(t *testing.T, h Host, l layout.Layout) (release func(), said string, err error) {
	t.Helper()
	release, err = h.Take(l, func(format string, args ...any) { said += fmt.Sprintf(format, args...) })
	if err == nil {
		t.Cleanup(release)
	}
	return release, said, err
}

// start starts something that counts as a program of the lab.
func start(t *testing.T, l layout.Layout) {
	t.Helper()
	runner := process.New(l)
	spec := process.Spec{
		Name:  layout.S3Process,
		Args:  []string{"sleep", "60"},
		Ready: func(context.Context) error { return nil },
	}
	if err := runner.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = runner.Stop(context.Background(), spec.Name) })
}

func TestTakeIsOfOneCheckoutWhileItsLabRuns(t *testing.T) {
	h, first, second := New(t.TempDir()), checkout(t), checkout(t)
	release, said, err := take(t, h, first)
	if err != nil || said != "" {
		t.Fatalf("a free host: %v, said %q", err, said)
	}
	refused := func(when string) {
		t.Helper()
		_, _, err := take(t, h, second)
		if err == nil || !strings.Contains(err.Error(), "make -C "+first.Checkout+" down") {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("while a command of the first works")
	release()
	start(t, first)
	refused("while the first lab runs")
	if err := h.RefuseOther(second); err == nil {
		t.Error("status shows another checkout's lab")
	}
	if err := h.RefuseOther(first); err != nil {
		t.Errorf("its own checkout is refused: %v", err)
	}
	if _, _, err := take(t, h, first); err != nil {
		t.Errorf("its own checkout is refused: %v", err)
	}
}

// The lab holds one site, from its first command to its end: after a reboot, and when another checkout takes it over.
func TestTheLabHoldsOneSite(t *testing.T) {
	h, acme := New(t.TempDir()), checkout(t)
	acme.Stack = "acme"
	other := acme
	other.Stack = "lab"
	if err := h.RefuseOther(other); err != nil {
		t.Errorf("a lab that holds nothing: %v", err)
	}
	release, _, err := take(t, h, acme)
	if err != nil {
		t.Fatal(err)
	}
	if held := layout.Held(acme.State); held != "acme" {
		t.Errorf("it holds %q", held)
	}
	release()
	const want = "the lab holds site acme: the machines and addresses are that site's, and nothing was done for lab"
	for where, host := range map[string]Host{"the same host": h, "after a reboot": New(t.TempDir())} {
		release, _, err := take(t, host, other)
		if err == nil {
			release()
		}
		if err == nil || !strings.Contains(err.Error(), want) || layout.Held(acme.State) != "acme" {
			t.Fatalf("%s: %v", where, err)
		}
		if err := host.RefuseOther(other); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: status: %v", where, err)
		}
		release, _, err = take(t, host, acme)
		if err != nil {
			t.Fatalf("%s: its own site is refused: %v", where, err)
		}
		release()
	}
}

// Two sites at once on a free host: the second finds the first one's mark when it has waited.
func TestTheSecondOfTwoFirstSitesIsRefused(t *testing.T) {
	h, first := New(t.TempDir()), checkout(t)
	first.Stack = "acme"
	second := first
	second.Stack = "lab"
	release, _, err := take(t, h, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(first.Mark()); err != nil { // it has not come to write it
		t.Fatal(err)
	}
	waited := func(string, ...any) {
		if err := os.WriteFile(first.Mark(), []byte("acme"), 0o600); err != nil {
			t.Error(err)
		}
		release()
	}
	if _, err := h.Take(second, waited); err == nil || !strings.Contains(err.Error(), "the lab holds site acme") {
		t.Errorf("got %v", err)
	}
}

func TestADeadLabIsTakenOver(t *testing.T) {
	h, first, second := New(t.TempDir()), checkout(t), checkout(t)
	release, _, err := take(t, h, first)
	if err != nil {
		t.Fatal(err)
	}
	release()
	release, said, err := take(t, h, second)
	if err != nil || !strings.Contains(said, first.Checkout) {
		t.Errorf("the lab of another checkout of which nothing runs: %v, said %q", err, said)
	}
	release()
	// And the lab of a checkout that is gone: nobody could end it.
	start(t, second)
	if err := os.RemoveAll(second.Checkout); err != nil {
		t.Fatal(err)
	}
	if _, _, err := take(t, h, first); err != nil {
		t.Errorf("the lab of a checkout that is gone: %v", err)
	}
}

func TestASecondCommandWaitsForTheFirst(t *testing.T) {
	h, l := New(t.TempDir()), checkout(t)
	release, _, err := take(t, h, l)
	if err != nil {
		t.Fatal(err)
	}
	waits, done := make(chan string, 1), make(chan error, 1)
	go func() {
		second, err := h.Take(l, func(format string, args ...any) { waits <- fmt.Sprintf(format, args...) })
		if err == nil {
			second()
		}
		done <- err
	}()
	if said := <-waits; !strings.Contains(said, "waiting for it to end (see "+l.Logs()+")") {
		t.Errorf("said %q", said)
	}
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Two checkouts start at once on a free host: the second waits, and finds then that the first has taken it.
func TestTheSecondOfTwoFirstCommandsIsRefused(t *testing.T) {
	h, first, second := New(t.TempDir()), checkout(t), checkout(t)
	release, _, err := take(t, h, first)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Forget(); err != nil { // it has not come to write its name
		t.Fatal(err)
	}
	start(t, first)
	taken := func(string, ...any) {
		text, err := json.Marshal(Owner{first.Checkout, first.State})
		if err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(h.ownerFile(), text, 0o600); err != nil {
			t.Error(err)
		}
		release()
	}
	if _, err := h.Take(second, taken); err == nil || !strings.Contains(err.Error(), "another lab is already running") {
		t.Errorf("got %v", err)
	}
}

func TestForgetFreesTheHost(t *testing.T) {
	h, first, second := New(t.TempDir()), checkout(t), checkout(t)
	release, _, err := take(t, h, first)
	if err != nil {
		t.Fatal(err)
	}
	start(t, first)
	if err := h.Forget(); err != nil {
		t.Fatal(err)
	}
	release()
	if _, said, err := take(t, h, second); err != nil || said != "" {
		t.Errorf("a host that was given up: %v, said %q", err, said)
	}
}
