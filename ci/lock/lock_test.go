package lock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestMain is also the holder that TestTakeover kills.
func TestMain(m *testing.M) {
	if remote := os.Getenv("LOCK_TEST_HOLDER"); remote != "" {
		l := &Lock{Dir: os.Getenv("LOCK_TEST_DIR"), Remote: remote, Stack: "lab", Holder: "the killed one"}
		var err error
		if l.Lease, err = time.ParseDuration(os.Getenv("LOCK_TEST_LEASE")); err != nil {
			panic(err)
		}
		err = l.Do(context.Background(), func(context.Context) error {
			fmt.Println("holds it")
			time.Sleep(time.Hour)
			return nil
		})
		fmt.Println(err)
		os.Exit(1)
	}
	// A person's own settings stay out, and no disk is waited for: what a test writes need not outlive a power cut.
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": os.DevNull, "GIT_CONFIG_SYSTEM": os.DevNull,
		"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsync", "GIT_CONFIG_VALUE_0": "none",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	if err := measure(); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// lease is short, and long enough for renewals on a slow machine: a holder ends its work after 3/4 of it.
var lease = 2 * time.Second

// measure sets it by how long it takes to have a lock and to release it.
func measure() error {
	dir, err := os.MkdirTemp("", "lock")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := exec.CommandContext(context.Background(), "git", "init", "--quiet", "--bare", dir).Run(); err != nil {
		return err
	}
	start := time.Now()
	l := &Lock{Dir: dir, Remote: dir, Stack: "measured", Holder: "the tests"}
	err = l.Do(context.Background(), nothing)
	lease = max(lease, 10*time.Since(start))
	return err
}

// server is a bare repository, and a clone without commits from which it is locked.
type server struct{ remote, dir string }

func newServer(t *testing.T) server {
	t.Helper()
	s := server{filepath.Join(t.TempDir(), "remote.git"), filepath.Join(t.TempDir(), "clone")}
	for _, args := range [][]string{
		{"init", "--quiet", "--bare", s.remote},
		{"init", "--quiet", s.dir},
		{"-C", s.dir, "remote", "add", "origin", s.remote},
	} {
		git(t, args...)
	}
	return s
}

func git(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.Background(), "git", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// refs are all of the server.
func (s server) refs(t *testing.T) string {
	t.Helper()
	return git(t, "-C", s.remote, "for-each-ref")
}

func (s server) hook(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.remote, "hooks/pre-receive"), []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// commit puts one there by hand.
func (s server) commit(t *testing.T, ref, text string) {
	t.Helper()
	tree := git(t, "-C", s.remote, "hash-object", "-t", "tree", "-w", os.DevNull)
	git(t, "-C", s.remote, "update-ref", ref,
		git(t, "-C", s.remote, "-c", "user.name=a", "-c", "user.email=b", "commit-tree", tree, "-m", text))
}

// lock is one of the server, with what it says.
func (s server) lock(holder string) (*Lock, *said) {
	told := &said{}
	return &Lock{Dir: s.dir, Remote: "origin", Stack: "lab", Holder: holder, Lease: lease, Say: told.say}, told
}

type said struct {
	mutex sync.Mutex
	lines []string
}

func (s *said) say(format string, args ...any) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

func (s *said) all() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return strings.Join(s.lines, "\n")
}

func nothing(context.Context) error { return nil }

// forbidden is work that must not be done.
func forbidden(t *testing.T) func(context.Context) error {
	return func(context.Context) error {
		t.Error("the work was done without the lock")
		return nil
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error is %v, want one with %q", err, part)
		}
	}
}

// TestExclusive has four contend for twenty rounds, and counts those that are inside.
func TestExclusive(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var inside, done, seen atomic.Int32
	var all sync.WaitGroup
	for i := range 4 {
		l, _ := s.lock(fmt.Sprintf("contender %d", i))
		l.Remote = s.remote
		// No lease runs out while others are slow: this is about who comes first.
		l.Lease, l.Renew = 20*time.Second, 5*time.Second
		all.Go(func() {
			for range 5 {
				l.Wait = time.Minute
				if err := l.Do(t.Context(), func(context.Context) error {
					if inside.Add(1) != 1 {
						t.Error("two are inside")
					}
					if held, err := l.Look(t.Context()); err == nil && held != nil && held.Holder == l.Holder {
						seen.Add(1)
					}
					inside.Add(-1)
					done.Add(1)
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if done.Load() != 20 || seen.Load() != 20 {
		t.Errorf("%d rounds, in %d of which the holder was named, want 20", done.Load(), seen.Load())
	}
	if refs := s.refs(t); refs != "" {
		t.Errorf("left behind: %s", refs)
	}
}

// TestTakeover kills a holder and sees its lock taken over, after the lease and not before.
func TestTakeover(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(),
		"LOCK_TEST_HOLDER="+s.remote, "LOCK_TEST_DIR="+s.dir, "LOCK_TEST_LEASE="+lease.String())
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "holds it\n" {
		t.Fatalf("the holder says %q (%v)", line, err)
	}
	l, told := s.lock("the next one")
	l.NoWait = true
	held := (*Held)(nil)
	if err := l.Do(t.Context(), forbidden(t)); !errors.As(err, &held) || held.Holder != "the killed one" {
		t.Errorf("error is %v, want who holds it", err)
	}
	l.NoWait, l.Wait = false, lease/2
	if err := l.Do(t.Context(), forbidden(t)); !errors.As(err, &held) || held.Waited < lease/2 {
		t.Errorf("error is %v, want who holds it", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	start := time.Now()
	l.Wait = 5 * lease
	if err := l.Do(t.Context(), nothing); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < lease {
		t.Errorf("taken over after %s, which is less than the lease", took)
	}
	if text := told.all(); !strings.Contains(text, "held by the killed one since 20") ||
		!strings.Contains(text, "taking it over from the killed one") {
		t.Errorf("it said:\n%s", text)
	}
	if refs := s.refs(t); refs != "" {
		t.Errorf("left behind: %s", refs)
	}
}

// TestRenewal has a work longer than a lease keep its lock.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first, _ := s.lock("the first")
	second, _ := s.lock("the second")
	second.Wait = lease * 3 / 2
	if err := first.Do(t.Context(), func(ctx context.Context) error {
		held := (*Held)(nil)
		if err := second.Do(ctx, forbidden(t)); !errors.As(err, &held) {
			t.Errorf("error is %v, want who holds it", err)
		}
		return ctx.Err()
	}); err != nil {
		t.Error(err)
	}
	// The server keeps what it was sent: one for each renewal, and who waited has sent none.
	all := git(t, "-C", s.remote, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
	if sent := len(strings.Fields(all)); sent < 5 {
		t.Errorf("%d objects, want several renewals", sent)
	}
}

// TestLost takes the lock away from its holder.
func TestLost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		away func(*testing.T, server)
		want string
	}{
		"broken": {func(t *testing.T, s server) {
			l, told := s.lock("a person")
			for { // a renewal can come between
				err := l.Break(t.Context())
				if err == nil {
					break
				}
				wantError(t, err, "no longer what it was")
			}
			if !strings.Contains(told.all(), "breaking the lock that is held by the first since 20") {
				t.Errorf("it said %q", told.all())
			}
		}, "nobody holds it now"},
		"taken": {func(t *testing.T, s server) {
			s.commit(t, "refs/heads/lock/lab", "Lock\n\nHolder: the other\x1b[31m\nSince: noon")
		}, "it is held by the other [31m since noon"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			l, _ := s.lock("the first")
			ended := false
			failed := errors.New("half of it was done")
			err := l.Do(t.Context(), func(ctx context.Context) error {
				test.away(t, s)
				start := time.Now()
				<-ctx.Done()
				if took := time.Since(start); took > lease*3/4 {
					t.Errorf("told after %s", took)
				}
				wantError(t, context.Cause(ctx), "is no longer this run's")
				ended = true
				return failed
			})
			if !ended || !errors.Is(err, ErrLost) || !errors.Is(err, failed) {
				t.Errorf("ended=%v, error is %v", ended, err)
			}
			wantError(t, err, test.want)
			if refs := s.refs(t); strings.Contains(refs, "lock/lab") != (name == "taken") {
				t.Errorf("the branches are %q: another's lock is not to be touched", refs)
			}
		})
	}
}

// TestOutage moves the server away while the lock is held: for good, and for less than a lease.
func TestOutage(t *testing.T) {
	t.Parallel()
	t.Run("for good", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		l, told := s.lock("the first")
		err := l.Do(t.Context(), func(ctx context.Context) error {
			start := time.Now()
			move(t, s.remote, s.remote+".gone")
			<-ctx.Done()
			if took := time.Since(start); took < lease/4 || took >= lease {
				t.Errorf("told after %s of %s", took, lease)
			}
			wantError(t, context.Cause(ctx), fmt.Sprintf("could not be renewed for %s", lease-lease/4),
				"see that the git server can be reached")
			return nil
		})
		if !errors.Is(err, ErrLost) {
			t.Errorf("error is %v, want one that the lock was lost", err)
		}
		if !strings.Contains(told.all(), "could not be released") {
			t.Errorf("it said:\n%s", told.all())
		}
	})
	t.Run("short", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		l, told := s.lock("the first")
		if err := l.Do(t.Context(), func(ctx context.Context) error {
			move(t, s.remote, s.remote+".gone")
			time.Sleep(lease / 4)
			move(t, s.remote+".gone", s.remote)
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(lease):
				return nil
			}
		}); err != nil {
			t.Errorf("%v\nit said:\n%s", err, told.all())
		}
		if refs := s.refs(t); refs != "" {
			t.Errorf("left behind: %s", refs)
		}
	})
}

func move(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// TestInterrupt interrupts who waits, and who works.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	stop := errors.New("interrupted by a person")
	first, told := s.lock("the first")
	working, interrupt := context.WithCancelCause(t.Context())
	err := first.Do(working, func(ctx context.Context) error {
		before := s.refs(t)
		second, _ := s.lock("the second")
		second.Lease, second.Wait = time.Minute, time.Minute
		waiting, interruptSecond := context.WithCancelCause(ctx)
		time.AfterFunc(time.Second, func() { interruptSecond(stop) })
		if err := second.Do(waiting, forbidden(t)); !errors.Is(err, stop) {
			t.Errorf("error is %v, want %v", err, stop)
		}
		if before == "" || ctx.Err() != nil {
			t.Errorf("the first has %q, and its context says %v", before, ctx.Err())
		}
		interrupt(stop)
		<-ctx.Done()
		if s.refs(t) == "" {
			t.Error("it was released before the work had ended")
		}
		return context.Cause(ctx)
	})
	if !errors.Is(err, stop) || errors.Is(err, ErrLost) || s.refs(t) != "" {
		t.Errorf("error is %v, left behind: %q, it said %q", err, s.refs(t), told.all())
	}
	if err := first.Do(working, forbidden(t)); !errors.Is(err, stop) || s.refs(t) != "" {
		t.Errorf("interrupted before: error is %v, left behind: %q", err, s.refs(t))
	}
}

// TestReleaseRefused shows that what cannot be released is told, and that work's own error comes back.
func TestReleaseRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, told := s.lock("the first")
	own := errors.New("work's own")
	err := l.Do(t.Context(), func(context.Context) error {
		s.hook(t, "read -r old new ref\ncase $new in *[!0]*) ;; *) echo 'nothing is deleted' >&2; exit 1 ;; esac\n")
		return own
	})
	if !errors.Is(err, own) || errors.Is(err, ErrLost) {
		t.Errorf("error is %v, want work's own", err)
	}
	for _, want := range []string{"could not be released", "nothing is deleted"} {
		if !strings.Contains(told.all(), want) {
			t.Errorf("%q is not in what it said:\n%s", want, told.all())
		}
	}
}

// TestReleasedByPanic shows that a panic leaves nothing behind.
func TestReleasedByPanic(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, _ := s.lock("the first")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = l.Do(t.Context(), func(context.Context) error { panic("a mistake") })
	}()
	if refs := s.refs(t); refs != "" {
		t.Errorf("left behind: %s", refs)
	}
}

// TestAnswerLost has the server do as it was asked, and then say that it has not.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	// A push that fails after the branch has changed looks like one whose answer got lost.
	wrapper := filepath.Join(t.TempDir(), "receive-pack")
	if err := os.WriteFile(wrapper, []byte("#!/bin/sh\ngit-receive-pack \"$@\"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	git(t, "-C", s.dir, "config", "remote.origin.receivepack", wrapper)
	l, told := s.lock("the first")
	if err := l.Do(t.Context(), func(ctx context.Context) error {
		time.Sleep(lease / 4) // renewals, too
		return ctx.Err()
	}); err != nil || told.all() != "" {
		t.Errorf("error is %v, it said:\n%s", err, told.all())
	}
	s.commit(t, "refs/heads/lock/lab", "somebody's")
	if err := l.Break(t.Context()); err != nil {
		t.Errorf("broken, and it says %v", err)
	}
	if refs := s.refs(t); refs != "" {
		t.Errorf("left behind: %s", refs)
	}
}

// TestBusy has the server refuse for as long as another writes: that passes, and is no rule.
func TestBusy(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, _ := s.lock("the first")
	if err := l.Do(t.Context(), nothing); err != nil { // makes the folder
		t.Fatal(err)
	}
	busy := filepath.Join(s.remote, "refs/heads/lock/lab.lock")
	if err := errors.Join(os.MkdirAll(filepath.Dir(busy), 0o700), os.WriteFile(busy, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	var freed atomic.Bool
	time.AfterFunc(lease/2, func() {
		freed.Store(true)
		if err := os.Remove(busy); err != nil {
			t.Error(err)
		}
	})
	if err := l.Do(t.Context(), nothing); err != nil || !freed.Load() {
		t.Errorf("freed=%v, error is %v", freed.Load(), err)
	}
}

// TestTerminal shows that what a terminal interrupts is the work, not git: it is in no group of the program's.
func TestTerminal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	group := filepath.Join(t.TempDir(), "group")
	wrapper := filepath.Join(t.TempDir(), "receive-pack")
	text := "#!/bin/sh\nps -o pgid= -p $$ >" + group + "\nexec git-receive-pack \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	git(t, "-C", s.dir, "config", "remote.origin.receivepack", wrapper)
	l, _ := s.lock("the first")
	if err := l.Do(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(group)
	if got := strings.TrimSpace(string(written)); err != nil || got == "" || got == strconv.Itoa(syscall.Getpgrp()) {
		t.Errorf("git is in group %q (%v), the program in %d", got, err, syscall.Getpgrp())
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	type change = func(*testing.T, server, *Lock)
	for name, test := range map[string]struct {
		change change
		want   []string
	}{
		"name that is no branch": {
			func(_ *testing.T, _ server, l *Lock) { l.Stack = "a..b" },
			[]string{`the stack's name "a..b" cannot be that of a branch`},
		},
		"name that is none": {
			func(_ *testing.T, _ server, l *Lock) { l.Stack = "" }, []string{"cannot be that of a branch"},
		},
		"name of two refs": {
			func(_ *testing.T, _ server, l *Lock) { l.Stack = "a:refs/heads/main" }, []string{"cannot be that of a branch"},
		},
		"nobody holds it": {
			func(_ *testing.T, _ server, l *Lock) { l.Holder = " \n" }, []string{"has no holder"},
		},
		"renewed too late": {
			func(_ *testing.T, _ server, l *Lock) { l.Renew = l.Lease / 2 }, []string{"at least three times"},
		},
		"no repository": {
			func(t *testing.T, _ server, l *Lock) { l.Dir = t.TempDir() },
			[]string{"the lock's commit cannot be made in", "not a git repository"},
		},
		"no server": {
			func(_ *testing.T, s server, l *Lock) { l.Remote = s.remote + ".none" },
			[]string{"the git server cannot be reached", "does not appear to be a git repository", "see that git ls-remote"},
		},
		"an option as remote": {
			func(_ *testing.T, _ server, l *Lock) { l.Remote = "--upload-pack=touch" },
			[]string{"the git server cannot be reached"},
		},
		"hook that declines": {
			func(t *testing.T, s server, _ *Lock) { s.hook(t, "echo 'not on my server' >&2; exit 1\n") },
			[]string{
				"the git server's rules refuse it", "pre-receive hook declined", "not on my server", "create, overwrite and delete",
			},
		},
		"branch in the way": {
			func(t *testing.T, s server, _ *Lock) { s.commit(t, "refs/heads/lock", "a branch") },
			[]string{"the git server's rules refuse it", "exists; cannot create"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			l, _ := s.lock("the first")
			test.change(t, s, l)
			err := l.Do(t.Context(), forbidden(t))
			wantError(t, err, test.want...)
			if refs := s.refs(t); strings.Contains(refs, "lock/") {
				t.Errorf("left behind: %s", refs)
			}
		})
	}
}

// TestWords sorts what git says on behalf of servers that are not here.
func TestWords(t *testing.T) {
	const fatal = "fatal: unable to access 'https://git.example.com/a.git/': "
	for said, want := range map[string]kind{
		fatal + "The requested URL returned error: 403":                                                      denied,
		fatal + "The requested URL returned error: 502":                                                      unreachable,
		fatal + "Could not resolve host: git.example.com":                                                    unreachable,
		"fatal: could not read Username for 'https://git.example.com': terminal prompts disabled":            denied,
		"git@git.example.com: Permission denied (publickey).; fatal: Could not read from remote repository.": denied,
		"remote: Repository not found.; fatal: repository 'https://git.example.com/a.git/' not found":        denied,
		"! [remote rejected] 1 -> lock/lab (protected branch hook declined)":                                 refused,
		"remote: error: GH006: Protected branch update failed for refs/heads/lock/lab.":                      refused,
		"ssh: connect to host git.example.com port 22: Connection refused":                                   unreachable,
	} {
		final := (*failure)(nil)
		if err := (&hold{}).explain(said); !errors.As(err, &final) || final.kind != want {
			t.Errorf("%s: is of kind %d, want %d", said, final.kind, want)
		}
	}
}

// TestCredentialsStayOut has git fail at an address with a password.
func TestCredentialsStayOut(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const address = "http://somebody:pass@word@127.0.0.1:1/a.git"
	for _, named := range []bool{false, true} {
		l, told := s.lock("the first")
		l.Remote = address
		if named {
			git(t, "-C", s.dir, "remote", "set-url", "origin", address)
			l.Remote = "origin"
		}
		err := l.Do(t.Context(), forbidden(t))
		wantError(t, err, "the git server cannot be reached", "127.0.0.1")
		if text := err.Error() + told.all(); strings.Contains(text, "pass") || strings.Contains(text, "somebody") {
			t.Errorf("it says %s", text)
		}
	}
	if got := clean("fatal: a 'https://u:p@h/x'\nhint: no\n\nand ssh://u:p@w@h/y \x1b[1m\n"); got !=
		"fatal: a 'https://h/x'\nand ssh://h/y  [1m" {
		t.Errorf("cleaned to %q", got)
	}
}

// TestBreakNothing breaks what nobody holds, and looks at it.
func TestBreakNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, told := s.lock("a person")
	if held, err := l.Look(t.Context()); held != nil || err != nil {
		t.Errorf("it is held by %v (%v)", held, err)
	}
	if err := l.Break(t.Context()); err != nil || !strings.Contains(told.all(), "nobody holds it") {
		t.Errorf("error is %v, it said %q", err, told.all())
	}
}
