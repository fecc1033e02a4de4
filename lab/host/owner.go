package host

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/process"
)

// Owner is the checkout that started the lab on this host, and where that lab keeps its state. There is one lab on a
// host at a time: its bridge, its namespaces and its addresses have one name.
type Owner struct{ Checkout, State string }

// Host is the place where a host is marked as taken.
type Host struct{ dir string }

// New returns this host; dir is layout.HostDir outside of tests.
func New(dir string) Host { return Host{dir} }

func (h Host) ownerFile() string { return filepath.Join(h.dir, "owner") }

// Take takes the host for this command, the lab's checkout and its site. It refuses the lab of another checkout while
// anything of it runs, takes over what is left of a dead one, and waits for another command of this checkout; say tells
// the person what happens. A lab that holds another site is refused, whether it runs or not.
func (h Host) Take(l layout.Layout, say func(format string, args ...any)) (release func(), err error) {
	if err := errors.Join(os.MkdirAll(l.State, 0o755), os.MkdirAll(h.dir, 0o755)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(h.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// Another command may have been the first one, of another site, until the lock was there.
	if err := cmp.Or(h.lock(f, l, say), refuseOtherSite(l)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	text, err := json.Marshal(Owner{l.Checkout, l.State})
	if err == nil {
		err = errors.Join(os.WriteFile(h.ownerFile(), text, 0o600), file.Write(l.Mark(), []byte(l.Stack), 0o644))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

func (h Host) lock(f *os.File, l layout.Layout, say func(format string, args ...any)) error {
	other := h.other(l.Checkout)
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	busy := errors.Is(err, syscall.EWOULDBLOCK)
	switch {
	case other != nil && (busy || other.running()):
		return other.refusal()
	case other != nil:
		say("nothing of the lab that %s started runs any more: this checkout takes it over", other.Checkout)
	case busy:
		say("another command works on this lab: waiting for it to end (see %s)", l.Logs())
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			return err
		}
		// It may have been the first one of another checkout.
		return h.refuseOtherCheckout(l)
	}
	return err
}

// RefuseOther refuses when the lab of another checkout runs, and when the lab holds another site.
func (h Host) RefuseOther(l layout.Layout) error {
	return cmp.Or(h.refuseOtherCheckout(l), refuseOtherSite(l))
}

func (h Host) refuseOtherCheckout(l layout.Layout) error {
	if other := h.other(l.Checkout); other != nil && other.running() {
		return other.refusal()
	}
	return nil
}

func refuseOtherSite(l layout.Layout) error {
	if held := layout.Held(l.State); held != "" && held != l.Stack {
		return fmt.Errorf("the lab holds site %s: the machines and addresses are that site's, and nothing was done for %s: "+
			"`make down` first, which needs no name", held, l.Stack)
	}
	return nil
}

// Forget forgets who took the host.
func (h Host) Forget() error { return os.Remove(h.ownerFile()) }

// other is the owner when it is another checkout than the given one, and nil when it is that one, nobody, or one that
// is gone.
func (h Host) other(checkout string) *Owner {
	var o Owner
	if text, err := os.ReadFile(h.ownerFile()); err == nil {
		_ = json.Unmarshal(text, &o)
	}
	if o.Checkout == "" || o.Checkout == checkout {
		return nil
	}
	if _, err := os.Stat(filepath.Join(o.Checkout, "Makefile")); err != nil {
		return nil
	}
	return &o
}

// running tells whether any of that lab's programs runs. After a reboot, say, none does.
func (o *Owner) running() bool {
	l := layout.Layout{State: o.State}
	return slices.ContainsFunc(l.Processes(), process.New(l).Running)
}

func (o *Owner) refusal() error {
	return fmt.Errorf("another lab is already running on this host, started from %s: it would be broken by a second one, "+
		"for they share addresses: use it there, or end it with `make -C %s down`", o.Checkout, o.Checkout)
}
