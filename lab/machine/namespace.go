package machine

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Inside runs a function whose sockets are of a network namespace: it may connect to addresses and listen, but not look
// up names, and may start no goroutine that makes a socket.
func Inside(namespace string, do func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and nobody else gets it.
		runtime.LockOSThread()
		done <- func() error {
			at, err := os.Open("/run/netns/" + namespace) //nolint:gosec // a fixed folder
			if err != nil {
				return err
			}
			defer at.Close()
			if err := unix.Setns(int(at.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("network namespace %s: %w", namespace, err)
			}
			return do()
		}()
	}()
	return <-done
}
