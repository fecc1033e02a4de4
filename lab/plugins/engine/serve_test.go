package engine

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
)

func TestEngineAddress(t *testing.T) {
	for line, want := range map[string]string{
		"127.0.0.1:4":                                  "127.0.0.1:4",
		"--logtostderr -v=9 127.0.0.1:4":               "127.0.0.1:4",
		"--tracing http://x --logtostderr 127.0.0.1:4": "127.0.0.1:4",
		"--tracing http://x":                           "",
		"":                                             "",
	} {
		if got := engineAddress(strings.Fields(line)); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// quiet is a service that only remembers that it was closed.
type quiet struct{ closed bool }

func (q *quiet) Register(*grpc.Server) {}
func (q *quiet) Close() error          { q.closed = true; return nil }

func TestServeTellsItsPortAndEndsOnASignal(t *testing.T) {
	reader, writer := io.Pipe()
	service, done := &quiet{}, make(chan error, 1)
	go func() { done <- Serve(nil, writer, func(*Client) Service { return service }) }()
	line, err := bufio.NewReader(reader).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if port, err := strconv.Atoi(strings.TrimSpace(line)); err != nil || port < 1 {
		t.Errorf("first line %q is no port", line)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil || !service.closed {
			t.Errorf("ended with %v, service closed %t", err, service.closed)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestMessagesWithoutAnEngineAreDiscarded(t *testing.T) {
	NewClient("").Info(t.Context(), "", "nobody %s", "listens")
	NewClient("127.0.0.1:1").Status(t.Context(), "", "nobody answers")
}
