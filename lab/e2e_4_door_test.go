//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
)

// TestPublicSideIsShut tries every TCP port of the machine's public address: for a stranger none is open, for the
// bootstrap source only SSH. The second is also what shows that the first could find something.
func TestPublicSideIsShut(t *testing.T) {
	const stranger, address = "tinyrack-stranger", "10.77.0.66"
	if err := machine.AddStranger(t.Context(), stranger, address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := machine.RemoveStranger(context.Background(), stranger, address); err != nil {
			t.Error(err)
		}
	})
	target := first(running(t)).IPv4
	wanted := map[string]string{stranger: "[]", layout.Operator: "[22]"}
	var group sync.WaitGroup
	for namespace, want := range wanted {
		group.Go(func() {
			var open []int
			err := machine.Inside(namespace, func() (err error) {
				open, err = scan(netip.MustParseAddr(target))
				return err
			})
			if got := fmt.Sprint(open); err != nil || got != want {
				t.Errorf("from %s the open ports are %s (%v), want %s", namespace, got, err, want)
			}
		})
	}
	group.Wait()
}

// scan connects to every TCP port, many at a time and from one thread, and returns those that answer.
func scan(addr netip.Addr) ([]int, error) {
	const batch, last, patience = 2048, 65535, 1200 * time.Millisecond
	var open []int
	for first := 1; first <= last; first += batch {
		var sockets []unix.PollFd
		ports := map[int32]int{}
		for port := first; port < first+batch && port <= last; port++ {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: addr.As4()})
			if err != nil && !errors.Is(err, unix.EINPROGRESS) {
				_ = unix.Close(fd)
				continue
			}
			sockets, ports[int32(fd)] = append(sockets, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT}), port
		}
		time.Sleep(patience)
		if _, err := unix.Poll(sockets, 0); err != nil {
			return nil, err
		}
		for _, s := range sockets {
			if s.Revents != 0 {
				code, err := unix.GetsockoptInt(int(s.Fd), unix.SOL_SOCKET, unix.SO_ERROR)
				if err != nil {
					return nil, err
				}
				if code == 0 {
					open = append(open, ports[s.Fd])
				}
			}
			_ = unix.Close(int(s.Fd))
		}
	}
	return open, nil
}

// notReady prints each pod that should be ready and is not.
const notReady = `jsonpath={range .items[?(@.status.phase!="Succeeded")]}{.metadata.namespace}/{.metadata.name} ` +
	`{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`

// TestFirewallComesBack takes the firewall away as other programs of a machine do. Whatever they remove of others'
// rules has to come back by itself as well: the site goes on.
func TestFirewallComesBack(t *testing.T) {
	l := running(t)
	const list = "nft -s list table inet tinyrack"
	before := onMachine(t, l, list)
	if !strings.Contains(before, "policy drop") {
		t.Fatalf("the table is not as expected:\n%s", before)
	}
	for _, command := range []string{
		"nft flush ruleset", "systemctl start nftables && systemctl stop nftables",
		"nft insert rule inet tinyrack input accept",
	} {
		onMachine(t, l, command)
		eventually(t, time.Minute, command+": the table is back", func() error {
			now, err := ssh(t.Context(), l, list)
			if err == nil && strings.TrimSpace(now) != before {
				err = errors.New("another table:\n" + now)
			}
			return err
		})
	}
	if units := onMachine(t, l, "systemctl is-active tinyrack-firewall tinyrack-firewall-watch k3s"); units !=
		"active\nactive\nactive" {
		t.Errorf("units: %s", units)
	}
	eventually(t, 2*time.Minute, "all pods are ready", func() error {
		out, err := kubectl.Run(t.Context(), l.Layout, "get", "pods", "-A", "-o", notReady)
		for line := range strings.Lines(out) {
			if err == nil && !strings.HasSuffix(strings.TrimSpace(line), " True") {
				err = errors.New("not ready: " + line)
			}
		}
		return err
	})
}
