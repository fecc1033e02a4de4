// Package lock keeps two applies of a stack from meeting, whatever the CI system, the machine or the backend of the
// state does. It is a lease, kept as the branch lock/<stack> of the repository's remote: a git server changes a branch
// only if it still is what the client names, so whoever comes second is refused. Its commit says who holds it.
//
// No clock is compared with another machine's. The holder replaces the commit again and again. Who waits takes over
// when it has itself seen the very same commit for a whole lease; the holder ends its work earlier than that, counted
// from the moment before it last wrote. Both count on clocks that run equally fast, and on work that ends when it is
// told to.
package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Lock is the lock of one stack. The durations have to be the same wherever the stack is applied, more or less: who
// waits goes by its own lease or by that of the holder, whichever is longer.
type Lock struct {
	// Dir is a git repository, in which the commits are made; Remote the name of a remote of it, or a URL. The
	// credentials are git's to find; in a URL they would be seen among the processes.
	Dir, Remote string
	Stack       string
	// Holder says to those who wait who it is: a user and a host, the address of a run. Everybody who can read the
	// repository can read it.
	Holder string
	// Lease is how long nothing has to be heard of a holder until another takes over, 10 minutes by default; Renew how
	// often it is heard of, ten times in a lease; Wait how long to wait for another holder, 30 minutes.
	Lease, Renew, Wait time.Duration
	// NoWait refuses at once where the lock is held.
	NoWait bool
	// Env is git's environment, this process' by default.
	Env []string
	// Say tells a person what happens; nobody by default.
	Say func(format string, args ...any)
}

// Held is the error where another holds the lock.
type Held struct {
	Stack  string
	Holder string        // in its own words
	Since  string        // by its own clock
	Waited time.Duration // how long it was waited for

	commit string
	lease  time.Duration
}

// Error says who holds the lock and what to do.
func (h *Held) Error() string {
	waited := ""
	if h.Waited > 0 {
		waited = fmt.Sprintf(", waited for %s", h.Waited.Round(time.Second))
	}
	return fmt.Sprintf("%s%s is held by %s%s: nothing was done: wait for it to end; if it has died, the lock can be "+
		"taken over %s after its last sign of life, or broken by hand", prefix, h.Stack, h.who(), waited, h.lease)
}

func (h *Held) who() string { return fmt.Sprintf("%s since %s", h.Holder, h.Since) }

// ErrLost is in the error of work that lost its lock: it was told to end, and may not have done all of it.
var ErrLost = errors.New("the lock was lost")

// releaseTime is how long a release may take, after an interrupt, too.
const releaseTime = 30 * time.Second

// Do runs work while it holds the lock. The context of work ends when ctx does, and when the lock is lost: before
// another can take over, with the reason as its cause. In both cases Do waits for work to end. An error in which is
// ErrLost says that the lock was lost, another one is that of work, or says why the lock could not be had; then work
// has not been called. A release that fails is told, and heals itself after a lease.
func (l *Lock) Do(ctx context.Context, work func(ctx context.Context) error) (err error) {
	h, err := l.open(ctx)
	if err != nil {
		return err
	}
	err = h.take(ctx)
	if err == nil && ctx.Err() != nil {
		err = h.interrupted(ctx)
	}
	if err != nil {
		if len(h.ours) > 0 { // one of them may be in place, or come to be
			h.letGo(releaseTime)
		}
		return err
	}
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, kept := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(kept)
		h.keep(context.WithoutCancel(ctx), stop, cancel)
	}()
	// What panics lets go, too.
	defer func() {
		close(stop)
		<-kept
		within := releaseTime
		if h.lost != nil { // the server has been away for long, or another holds it
			within = h.Lease / 4
		}
		h.letGo(min(within, releaseTime))
		if h.lost != nil {
			err = errors.Join(h.lost, err)
		}
	}()
	return work(working)
}

// Look says who holds the lock, or nil where nobody does.
func (l *Lock) Look(ctx context.Context) (*Held, error) {
	h, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	commit, err := h.look(ctx)
	if err != nil || commit == "" {
		return nil, err
	}
	return h.describe(ctx, commit), nil
}

// Break removes the lock, whoever holds it, and says whose it was. A holder that lives ends its work when it next
// looks. Who has taken the lock since then keeps it.
func (l *Lock) Break(ctx context.Context) error {
	h, err := l.open(ctx)
	if err != nil {
		return err
	}
	commit, err := h.look(ctx)
	if err != nil {
		return err
	}
	if commit == "" {
		h.Say("%s: nobody holds it: there is nothing to break", h.branch)
		return nil
	}
	held := h.describe(ctx, commit)
	h.Say("%s: breaking the lock that is held by %s", h.branch, held.who())
	err = h.swap(ctx, commit, "")
	if moved := (*movedError)(nil); errors.As(err, &moved) {
		return fmt.Errorf("%s is no longer what it was: somebody renewed or took it, so its holder lives: it was not "+
			"broken: look who holds it, end that first, then break it", h.branch)
	}
	return err
}

// open checks what it is given and fills in the rest.
func (l *Lock) open(ctx context.Context) (*hold, error) {
	h := &hold{Lock: *l, branch: prefix + l.Stack, ref: "refs/heads/" + prefix + l.Stack, ours: map[string]time.Time{}}
	h.Lease = cmp.Or(h.Lease, 10*time.Minute)
	h.Renew, h.Wait = cmp.Or(h.Renew, h.Lease/10), cmp.Or(h.Wait, 30*time.Minute)
	if h.Say == nil {
		h.Say = func(string, ...any) {}
	}
	if h.Renew < 0 || h.Wait < 0 || h.Renew > h.Lease/3 {
		return nil, fmt.Errorf("a lock with lease %s, renewed every %s, waited for %s: one late renewal would lose it: "+
			"renew at least three times in a lease", h.Lease, h.Renew, h.Wait)
	}
	if h.Holder = printable(h.Holder); h.Holder == "" {
		return nil, errors.New("the lock has no holder: nobody could tell whom to ask: say who it is")
	}
	// Local, and soon done: an interrupt is seen at the first look.
	return h, h.prepare(context.WithoutCancel(ctx))
}

// hold is one taking of a lock.
type hold struct {
	Lock
	branch, ref string
	tree, token string
	taken       string // when the first commit was made
	count       int
	// ours are the commits that were sent, with the time just before: of one that seemed to fail nobody knows whether it
	// will be in place.
	ours    map[string]time.Time
	current string    // the one in place
	since   time.Time // when it was sent
	lost    error
}

// take waits for the lock and takes it.
func (h *hold) take(ctx context.Context) error {
	var (
		start        = time.Now()
		said, seenAt time.Time
		seen         *Held
		heard        bool
	)
	for {
		commit, err := h.look(ctx)
		switch {
		case ctx.Err() != nil:
			return h.interrupted(ctx)
		case err != nil:
			if final := (*failure)(nil); !heard || errors.As(err, &final) && final.kind != unreachable {
				return err
			}
			h.Say("%v: trying again", err)
		case commit == "" || !h.ours[commit].IsZero() || // one that seemed to fail
			seen != nil && seen.commit == commit && time.Since(seenAt) >= seen.lease:
			if seen != nil && seen.commit == commit {
				h.Say("%s: taking it over from %s: nothing was heard of it for %s", h.branch, seen.who(), seen.lease)
			}
			// An interrupt lets it come to its end: what a killed one leaves behind is not known.
			err := h.send(context.WithoutCancel(ctx), commit)
			if err == nil {
				return nil
			}
			if final := (*failure)(nil); errors.As(err, &final) {
				if final.kind != unreachable {
					return err
				}
				h.Say("%v: trying again", err)
			}
		case seen == nil || seen.commit != commit:
			seen = h.describe(ctx, commit)
			seenAt = time.Now()
		}
		heard = true
		if commit == "" {
			seen = nil
		}
		waited := time.Since(start)
		if seen != nil && (h.NoWait || waited >= h.Wait) {
			seen.Waited = waited
			return seen
		}
		if waited >= h.Wait {
			return fmt.Errorf("%s could not be had within %s: others were faster, or the git server does not answer: nothing "+
				"was done: try again", h.branch, h.Wait)
		}
		if seen != nil && time.Since(said) >= 15*time.Second {
			said = time.Now()
			h.Say("%s: held by %s: waiting for %s of at most %s", h.branch, seen.who(), waited.Round(time.Second), h.Wait)
		}
		select {
		case <-ctx.Done():
			return h.interrupted(ctx)
		case <-time.After(min(5*time.Second, h.Lease/20)):
		}
	}
}

func (h *hold) interrupted(ctx context.Context) error {
	return fmt.Errorf("%s: interrupted before the work began: nothing was done: %w", h.branch, context.Cause(ctx))
}

// safe is how long after its last renewal a holder may work: no longer than a lease, with time for work to end.
func (h *hold) safe() time.Duration { return h.Lease - h.Lease/4 }

// left is how much of that is left. A machine that slept has only the wall clock to tell.
func (h *hold) left() time.Duration {
	now := time.Now()
	return h.safe() - max(now.Sub(h.since), now.Round(0).Sub(h.since.Round(0)))
}

// keep renews until stop, and calls lose when the lock is lost or could be. Where it could be, it goes on: a renewal
// that comes through still keeps others out while work ends.
func (h *hold) keep(ctx context.Context, stop <-chan struct{}, lose func(error)) {
	var (
		tick  = time.NewTicker(min(time.Second, h.Renew/4+1))
		next  = time.Now().Add(h.Renew)
		cause error
	)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if h.lost == nil && h.left() <= 0 {
			h.lost = fmt.Errorf("%w: %s could not be renewed for %s, and another could soon take it over: the work was told to "+
				"end: see that the git server can be reached, then run it again", ErrLost, h.branch, h.safe())
			if cause != nil {
				h.lost = fmt.Errorf("%w (%w)", h.lost, cause)
			}
			h.Say("%v", h.lost)
			lose(h.lost)
		}
		if time.Now().Before(next) {
			continue
		}
		within := h.Lease / 4
		if left := h.left(); h.lost == nil && left > 0 {
			within = min(within, left)
		}
		err := h.renew(ctx, within)
		next = time.Now().Add(min(h.Renew, h.Lease/20))
		if err == nil {
			next, cause = h.since.Add(h.Renew), nil
			continue
		}
		moved := (*movedError)(nil)
		if !errors.As(err, &moved) {
			cause = err
			continue
		}
		if sent := h.ours[moved.to]; !sent.IsZero() { // one that seemed to fail
			h.current, h.since, next = moved.to, sent, time.Now()
			continue
		}
		if h.lost != nil {
			return
		}
		lose(fmt.Errorf("%w: %s is no longer this run's", ErrLost, h.branch)) // at once: whose it is takes a while to read
		who := "nobody holds it now: somebody broke it"
		if moved.to != "" {
			who = "it is held by " + h.describe(ctx, moved.to).who()
		}
		h.lost = fmt.Errorf("%w: %s is no longer this run's: %s: the work was told to end: find out why before it is run "+
			"again", ErrLost, h.branch, who)
		h.Say("%v", h.lost)
		return
	}
}

func (h *hold) renew(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return h.send(ctx, h.current)
}

// letGo removes the lock where it is ours, and says so when it cannot.
func (h *hold) letGo(within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := h.release(ctx); err != nil {
		h.Say("%s could not be released: others wait until %s after its last renewal, then they take it over: %v", h.branch,
			h.Lease, err)
	}
}

func (h *hold) release(ctx context.Context) error {
	for commit := h.current; ; {
		err := error(nil)
		if commit == "" {
			commit, err = h.look(ctx)
		}
		if err == nil {
			if h.ours[commit].IsZero() { // none, or another's
				return nil
			}
			err = h.swap(ctx, commit, "")
			if err == nil {
				return nil
			}
		}
		if final := (*failure)(nil); errors.As(err, &final) && final.kind != unreachable {
			return err
		}
		commit = ""
		select {
		case <-ctx.Done():
			return err
		case <-time.After(min(time.Second, h.Lease/20)):
		}
	}
}

// printable is a text on one line, without what a terminal would obey.
func printable(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
}
