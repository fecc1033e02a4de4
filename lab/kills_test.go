//go:build e2e && kills

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// TestKillsAtEveryBoundary kills `up` at each point where an operation on a resource begins, is at work or ends, as a
// power cut does: everything that works for it, at once. A killed run is followed by one that is killed at the next
// boundary, and so on until one comes to its end, so that one provisioning's worth of work meets every boundary. Then
// nothing may be left to do, nothing may be there twice, and the same is done to an `up` that updates every script on
// the machine, and to `down`.
//
// The kills are noted in a journal beside the lab's state. With it the test goes on where it stopped.
func TestKillsAtEveryBoundary(t *testing.T) {
	c := &chain{t: t, lab: buildLab(t)}
	c.open()
	defer func() { t.Log("\n" + c.table()) }()
	if len(c.kills) == 0 {
		succeed(t, "down")
	}
	c.phase("up", func() {
		c.until("up", converged)
		settled(t)
		c.expect(60, everyResource(t))
	})
	c.phase("update", func() {
		if !c.has(prepared) {
			rotateMachineKey(t)
			c.note(kill{When: prepared})
		}
		c.until("up", converged)
		forgetFormerKeys(t)
		settled(t)
		c.expect(20, nil)
	})
	c.phase("destroy", func() {
		l := running(t)
		before := tailnetNow(t).Objects.DNS
		resources := everyResource(t)
		if c.has(prepared) {
			resources = nil // a part of them is gone
		}
		c.note(kill{When: prepared})
		c.until("down", atTheEnd)
		givenBack(t, l, before)
		c.expect(60, resources)
	})
	succeed(t, "down")
}

// When a kill came, or what else the journal notes.
const (
	began     = "began"       // the operation was announced a moment ago
	atWork    = "at work"     // some time later, before its end
	ended     = "ended"       // its end was announced a moment ago, and is not noted in the state yet
	atTheEnd  = "at the end"  // of the whole run, before the command that started it went on
	prepared  = "prepared"    // no kill: the phase is under way
	converged = "converged"   // no kill: the run came to its end
	failed    = "failed"      // no kill: the run ended by itself, with an error
	missed    = "not counted" // the run was over when the kill came
)

// theEnd is the boundary of the run itself.
var theEnd = pulumi.Boundary{Ended: true}

// kill is a line of the journal.
type kill struct {
	Phase string
	// What was at its boundary.
	pulumi.Boundary
	When string
	// Along are the boundaries that came between that one and the kill: what works side by side may be met together.
	Along []pulumi.Boundary `json:",omitempty"`
	// Noted is what the state says of the resource afterwards.
	Noted string
	// Killed are the programs that were killed.
	Killed []string
	// Took is the time from the start of this run.
	Took time.Duration
	At   time.Time
}

func (k kill) counts() bool { return slices.Contains([]string{began, atWork, ended, atTheEnd}, k.When) }

// met says whether the kill came where the resource's operation began or ended.
func (k kill) met(urn, when string) bool {
	along := func(b pulumi.Boundary) bool { return b.URN == urn && b.Ended == (when == ended) }
	return k.URN == urn && k.When == when || slices.ContainsFunc(k.Along, along)
}

// chain is a run of the test.
type chain struct {
	t       *testing.T
	lab     string // the program
	journal string
	kills   []kill
	now     string // the phase
}

// buildLab builds the lab's program: `go run` would leave one behind at each kill.
func buildLab(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lab")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func (c *chain) open() {
	at, err := layout.Find()
	if err != nil {
		c.t.Fatal(err)
	}
	c.journal = at.Path("kills.jsonl")
	text, err := os.ReadFile(c.journal)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var k kill
		if json.Unmarshal(line, &k) == nil { // the last line may be cut
			c.kills = append(c.kills, k)
		}
	}
	if len(c.kills) > 0 {
		c.t.Logf("going on after %d lines of %s", len(c.kills), c.journal)
	}
}

// note writes to the journal, and to the log.
func (c *chain) note(k kill) {
	c.t.Helper()
	k.Phase, k.At = c.now, time.Now()
	c.kills = append(c.kills, k)
	text, err := json.Marshal(k)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(c.journal), 0o755); err != nil {
		c.t.Fatal(err)
	}
	f, err := os.OpenFile(c.journal, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = f.Write(append([]byte("\n"), append(text, '\n')...))
	if err := errors.Join(err, f.Close()); err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("%s %d: %s %s %s, state: %s, after %s, killed: %s", k.Phase, c.count(), k.Op, k.name(), k.When, k.Noted,
		k.Took.Round(100*time.Millisecond), strings.Join(k.Killed, " "))
}

func (k kill) name() string {
	if k.URN == "" {
		return ""
	}
	return k.Name()
}

// in are this phase's lines.
func (c *chain) in(phase string) []kill {
	return slices.DeleteFunc(slices.Clone(c.kills), func(k kill) bool { return k.Phase != phase })
}

func (c *chain) has(when string) bool {
	return slices.ContainsFunc(c.in(c.now), func(k kill) bool { return k.When == when })
}

func (c *chain) hit(b pulumi.Boundary, when string) bool {
	return slices.ContainsFunc(c.in(c.now), func(k kill) bool { return k.URN == b.URN && k.Op == b.Op && k.When == when })
}

// count is how many kills the phase has.
func (c *chain) count() int {
	n := 0
	for _, k := range c.in(c.now) {
		if k.counts() {
			n++
		}
	}
	return n
}

// done is the note at the end of a phase.
const done = "done"

func (c *chain) phase(name string, do func()) {
	if c.now = name; c.has(done) {
		return
	}
	do()
	if c.t.Failed() {
		c.t.FailNow()
	}
	c.note(kill{When: done})
}

// until runs the verb again and again, until the last run ends as it should.
func (c *chain) until(verb, end string) {
	const failures = 3
	for {
		k, printed := c.run(verb, end == atTheEnd)
		c.note(k)
		if k.When == end {
			return
		}
		if k.When == converged { // and no kill came at its end
			c.t.Fatalf("%s ended before it could be killed at its end:\n%s", verb, printed)
		}
		if k.When == failed {
			c.t.Errorf("after kill %d %s failed by itself:\n%s", c.count(), verb, printed)
			if n := len(slices.DeleteFunc(c.in(c.now), func(k kill) bool { return k.When != failed })); n >= failures {
				c.t.Fatalf("%d failures", n)
			}
		}
	}
}

// run starts the verb, kills it at the next boundary that no kill came to yet, and returns what to note. Where toTheEnd
// is set, the end of the run is the last boundary.
func (c *chain) run(verb string, toTheEnd bool) (kill, string) {
	watch, err := running(c.t).stack.Watch()
	if err != nil {
		c.t.Fatal(err)
	}
	defer watch.Close()
	var printed bytes.Buffer
	cmd := exec.Command(c.lab, verb)
	cmd.Stdout, cmd.Stderr = &printed, &printed
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Minute // what is not killed would hold the output open
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	started := time.Now()
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	k, engine, err := c.await(watch, cmd.Process.Pid, over, toTheEnd)
	k.Took = time.Since(started)
	switch {
	case k.When == "" && err == nil:
		k.When = converged
		return k, printed.String()
	case k.When == "":
		k.When = failed
		return k, printed.String()
	}
	k.Killed, err = killSession(cmd.Process.Pid, engine)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := <-over; err == nil || errors.Is(err, exec.ErrWaitDelay) {
		c.t.Fatalf("%s was killed, and %v", verb, err)
	}
	// What came after the boundary, before the kill.
	after, err := watch.Boundaries()
	if err != nil {
		c.t.Fatal(err)
	}
	if k.When != atTheEnd && (!slices.Contains(k.Killed, "pulumi") || slices.Contains(after, theEnd)) {
		k.When = missed
	}
	k.Noted = c.noted(k.Boundary)
	nothingDone := func(b pulumi.Boundary) bool { return b.Op == "same" || b == theEnd }
	k.Along = slices.DeleteFunc(append(k.Along, after...), nothingDone)
	return k, printed.String()
}

// await returns the kill that is due at the next boundary that none came to yet, and the engine's process. When the run
// ends before one, it returns its error.
func (c *chain) await(
	watch *pulumi.Watch, session int, over <-chan error, toTheEnd bool,
) (due kill, engine int, err error) {
	const longest = 30 * time.Minute
	started := time.Now()
	waits := map[string]pulumi.Boundary{} // by URN, for a kill at work
	dueAt := map[string]time.Time{}
	for {
		select {
		case err := <-over:
			return due, 0, err
		case <-time.After(time.Millisecond):
		}
		found, err := watch.Boundaries()
		if err != nil || time.Since(started) > longest {
			_, killed := killSession(session, engine)
			c.t.Fatalf("no end and no boundary for %s: %v", time.Since(started), errors.Join(err, killed))
		}
		if engine == 0 && len(found) > 0 {
			engine = engineIn(session)
		}
		if slices.Contains(found, theEnd) {
			if toTheEnd {
				return kill{Boundary: theEnd, When: atTheEnd}, engine, nil
			}
			return due, 0, <-over
		}
		for i, b := range found {
			switch {
			case b.Op == "same":
			case b.Ended:
				delete(dueAt, b.URN)
				if !c.hit(b, ended) {
					return kill{Boundary: b, When: ended, Along: found[i+1:]}, engine, nil
				}
			case !c.hit(b, began):
				return kill{Boundary: b, When: began, Along: found[i+1:]}, engine, nil
			case !c.hit(b, atWork):
				// From 20 ms to 5 s, short ones as often as long ones: what ends before is met there.
				wait := 20 * math.Pow(250, rand.Float64())
				waits[b.URN], dueAt[b.URN] = b, time.Now().Add(time.Duration(wait)*time.Millisecond)
			}
		}
		for urn, at := range dueAt {
			if time.Now().After(at) {
				return kill{Boundary: waits[urn], When: atWork}, engine, nil
			}
		}
	}
}

// noted is what the stack's state says of the resource.
func (c *chain) noted(b pulumi.Boundary) string {
	if b.URN == "" {
		return ""
	}
	state := stackState(c.t)
	for _, op := range state.Pending {
		if op.Resource.URN == b.URN {
			return op.Type
		}
	}
	for _, r := range state.Resources {
		if r.URN == b.URN {
			return "there"
		}
	}
	return "absent"
}

// snapshot is the stack's state.
type snapshot struct {
	Resources []struct {
		URN, Type string
		Custom    bool
	}
	Pending []struct {
		Resource struct{ URN string }
		Type     string
	} `json:"pending_operations"`
}

func stackState(t *testing.T) snapshot {
	t.Helper()
	var state struct{ Checkpoint struct{ Latest *snapshot } }
	if err := json.Unmarshal([]byte(stateFile(t, running(t))), &state); err != nil {
		t.Fatalf("the state is cut: %v", err)
	}
	if state.Checkpoint.Latest == nil {
		return snapshot{}
	}
	return *state.Checkpoint.Latest
}

// everyResource are the URNs of what the program made: no components, which are not made anywhere.
func everyResource(t *testing.T) []string {
	t.Helper()
	var urns []string
	for _, r := range stackState(t).Resources {
		if r.Custom && !strings.HasPrefix(r.Type, "pulumi:") {
			urns = append(urns, r.URN)
		}
	}
	return urns
}

// expect wants this many kills in the phase, and each of the resources killed where it began and where it ended.
func (c *chain) expect(kills int, urns []string) {
	c.t.Helper()
	if n := c.count(); n < kills {
		c.t.Errorf("%s: only %d kills", c.now, n)
	}
	for _, urn := range urns {
		for _, when := range []string{began, ended} {
			if !slices.ContainsFunc(c.in(c.now), func(k kill) bool { return k.counts() && k.met(urn, when) }) {
				c.t.Errorf("%s: no kill where %s %s", c.now, urn, when)
			}
		}
	}
}

// settled looks whether anything is left to do, or there twice, after the run that converged.
func settled(t *testing.T) {
	t.Helper()
	nothingTwice(t)
	upChangesNothing(t)
	l := running(t)
	out := output(l)
	if err := l.stack.RefreshUnchanged(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if pending := stackState(t).Pending; len(pending) > 0 {
		t.Errorf("the state still waits for %v", pending)
	}
	if left := onMachine(t, l, "ls -d /run/tinyrack/firewall-trial* 2>/dev/null; true"); left != "" {
		t.Errorf("left on the machine: %s", left)
	}
}

// rotateMachineKey gives the lab another key for its machine, as a person does who renews theirs: the machine takes
// both, the next up brings the new one to every connection in the state, and so runs every script again.
func rotateMachineKey(t *testing.T) {
	t.Helper()
	l := running(t)
	key, err := secret.SSHKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := secret.PublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	onMachine(t, l, "echo '"+public+"' >>/root/.ssh/authorized_keys")
	l.secrets.MachineKey = key
	if err := l.secrets.Save(); err != nil {
		t.Fatal(err)
	}
}

// forgetFormerKeys leaves the present key alone on the machine.
func forgetFormerKeys(t *testing.T) {
	t.Helper()
	l := running(t)
	public, err := secret.PublicKey(l.secrets.MachineKey)
	if err != nil {
		t.Fatal(err)
	}
	onMachine(t, l, "echo '"+public+"' >/root/.ssh/authorized_keys")
}

// A process of a session: its ID, what it is called, and its arguments.
type worker struct {
	pid        int
	name, line string
}

// session are the living processes of a session. What the lab keeps running has sessions of its own.
func session(id int) []worker {
	var found []worker
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // it is gone
		}
		// The name is in parentheses and may contain blanks; state, parent, group and session follow.
		head, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 4 || fields[0] == "Z" || fields[3] != strconv.Itoa(id) {
			continue
		}
		pid, name, _ := strings.Cut(head, " (")
		m := worker{name: name}
		m.pid, _ = strconv.Atoi(pid)
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		m.line = string(bytes.ReplaceAll(line, []byte{0}, []byte(" ")))
		found = append(found, m)
	}
	return found
}

// engineIn is the process of the engine whose events are followed, or 0.
func engineIn(id int) int {
	for _, m := range session(id) {
		if m.name == "pulumi" && strings.Contains(m.line, "--event-log") {
			return m.pid
		}
	}
	return 0
}

// killSession kills every process of a session as if at one moment, and returns their names. The first is stopped
// before the others are looked for, and nobody goes on while they are.
func killSession(id, first int) ([]string, error) {
	if first != 0 {
		_ = syscall.Kill(first, syscall.SIGSTOP)
	}
	stopped := map[int]string{}
	for more := true; more; {
		more = false
		for _, m := range session(id) {
			if _, known := stopped[m.pid]; !known {
				_ = syscall.Kill(m.pid, syscall.SIGSTOP)
				stopped[m.pid], more = m.name, true
			}
		}
	}
	var names []string
	for pid, name := range stopped {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		names = append(names, name)
	}
	slices.Sort(names)
	for started := time.Now(); len(session(id)) > 0; time.Sleep(time.Millisecond) {
		if time.Since(started) > time.Minute {
			return names, fmt.Errorf("not killed: %v", session(id))
		}
	}
	return names, nil
}

// table is what the journal says, for people.
func (c *chain) table() string {
	var out strings.Builder
	for _, phase := range []string{"up", "update", "destroy"} {
		c.now = phase
		lines := c.in(phase)
		fmt.Fprintf(&out, "%s: %d kills\n\n", phase, c.count())
		out.WriteString("| | operation | killed | in the state | the next run took |\n|---|---|---|---|---|\n")
		n := 0
		for i, k := range lines {
			if !k.counts() {
				continue
			}
			n++
			next := ""
			if at := slices.IndexFunc(lines[i+1:], func(k kill) bool { return k.Took > 0 }); at >= 0 {
				after := lines[i+1+at]
				next = fmt.Sprintf("%s, %s", after.Took.Round(100*time.Millisecond), after.When)
			}
			fmt.Fprintf(&out, "| %d | %s %s | %s | %s | %s |\n", n, k.Op, k.name(), k.When, k.Noted, next)
		}
		out.WriteString("\n")
	}
	return out.String()
}
