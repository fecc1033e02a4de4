// Package bounded runs commands that may print, or last, without end: what nobody has read yet decides how much. This
// machine's memory and time are not its to take.
package bounded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	// most is what is taken of what a command prints. A preview of this project prints less than one.
	most = 64 << 20
	// told is what is kept of what it says beside that: its end says why it failed.
	told = 64 << 10
)

// Ended is why a command was ended.
type Ended string

func (e Ended) Error() string { return string(e) }

// Run runs the command that prepare makes, and returns what it prints and the end of what it says on standard error. It
// is ended when it prints too much or, where patience is not zero, lasts longer than that: the error is an Ended.
func Run(ctx context.Context, patience time.Duration, prepare func(context.Context) *exec.Cmd) (
	out, said string, err error,
) {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if patience > 0 {
		timer := time.AfterFunc(patience, func() {
			end(Ended(fmt.Sprintf("it lasted longer than %s: it was ended, and what it would have said is not known: see what "+
				"it waits for, or run it on a faster machine", patience)))
		})
		defer timer.Stop()
	}
	cmd := prepare(ctx)
	all, last := &whole{max: most, end: end}, &Tail{}
	cmd.Stdout, cmd.Stderr = all, last
	err = cmd.Run()
	if ended := Ended(""); err != nil && errors.As(context.Cause(ctx), &ended) {
		err = ended
	}
	return all.text.String(), last.String(), err
}

// whole keeps all that is written to it, and ends who writes too much.
type whole struct {
	text bytes.Buffer
	max  int
	end  context.CancelCauseFunc
}

func (w *whole) Write(p []byte) (int, error) {
	if w.text.Len()+len(p) > w.max {
		err := Ended(fmt.Sprintf("it printed more than %d MiB: it was ended, and what it said until then is not used: see "+
			"what it prints", w.max>>20))
		w.end(err)
		return 0, err
	}
	return w.text.Write(p)
}

// Tail keeps the end of what is written to it.
type Tail struct{ text []byte }

func (t *Tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p[max(0, len(p)-told):]...)
	// Moved once for many writes.
	if over := len(t.text) - told; over > told {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *Tail) String() string {
	return strings.ToValidUTF8(string(t.text[max(0, len(t.text)-told):]), "")
}
