package command

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// output takes both streams of a command, and shows those that its logging property asks for.
type output struct {
	stdout, stderr bytes.Buffer
	both           locked
	out, errs      *tee
}

func newOutput(ctx context.Context, client *engine.Client, urn resource.URN, in schema.Values) *output {
	var lines sync.Mutex // one line at a time, whichever stream it is on
	say := func(line string) {
		lines.Lock()
		defer lines.Unlock()
		client.Info(ctx, urn, "%s", line)
	}
	o := &output{}
	o.out, o.errs = &tee{keep: &o.stdout, both: &o.both}, &tee{keep: &o.stderr, both: &o.both}
	if logs(in, logStdout) {
		o.out.say = say
	}
	if logs(in, logStderr) {
		o.errs.say = say
	}
	return o
}

// end returns the outputs of the command, which ended with err.
func (o *output) end(ctx context.Context, err error, text string) (schema.Values, error) {
	o.out.flush()
	o.errs.flush()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("cancelled: %w", ctx.Err())
	}
	if err != nil {
		// Like the official plugin's error, whatever logging says: the command with all its output. Commands must not
		// print secrets.
		return nil, fmt.Errorf("%w: running %q:\n%s", err, text, o.both.String())
	}
	return schema.Values{
		"stdout": strings.TrimSuffix(o.stdout.String(), "\n"),
		"stderr": strings.TrimSuffix(o.stderr.String(), "\n"),
	}, nil
}

// locked is a buffer for two writers.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// tee keeps a stream, adds it to the common one, and says its whole lines.
type tee struct {
	keep *bytes.Buffer
	both *locked
	say  func(line string)
	part []byte
}

func (t *tee) Write(p []byte) (int, error) {
	t.keep.Write(p)
	_, _ = t.both.Write(p)
	if t.say == nil {
		return len(p), nil
	}
	t.part = append(t.part, p...)
	for {
		i := bytes.IndexByte(t.part, '\n')
		if i < 0 {
			return len(p), nil
		}
		t.say(string(t.part[:i]))
		t.part = t.part[i+1:]
	}
}

func (t *tee) flush() {
	if t.say != nil && len(t.part) > 0 {
		t.say(string(t.part))
	}
	t.part = nil
}
