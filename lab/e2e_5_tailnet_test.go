//go:build e2e

package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// TestWhoReachesTheMachine opens real connections over the tailnet, from a device of each kind to ports that something
// listens on.
func TestWhoReachesTheMachine(t *testing.T) {
	l := running(t)
	fleet := tailnetDevices(t, l)
	member := machine.Device{Name: "tinyrack-member", Address: "10.77.0.31", User: "member@lab.test"}
	server := machine.Device{Name: "tinyrack-server", Address: "10.77.0.32", Tags: []string{"tag:tinyrack-server"}}
	storage := machine.Device{Name: "tinyrack-storage", Address: "10.77.0.33", Tags: []string{"tag:tinyrack-storage"}}
	for _, device := range []machine.Device{member, server, storage} {
		t.Cleanup(func() {
			if err := fleet.Stop(context.Background(), device); err != nil {
				t.Error(err)
			}
		})
		if err := fleet.Start(t.Context(), device); err != nil {
			t.Fatal(err)
		}
	}
	target := addressOf(t, theMachine.Name)
	listening := onMachine(t, l, "ss -ltnH | awk '{ sub(/.*:/, \"\", $4); print $4 }' | sort -un | tr '\\n' ' '")
	t.Logf("the machine listens on %s", listening)
	// Every device can reach something: the control server. So a denial is the policy's.
	for _, from := range []machine.Device{machine.Operator, member, server, storage} {
		if err := dial(from.Name, layout.HostIP, 8443); err != nil {
			t.Errorf("%s reaches nothing: %v", from.Name, err)
		}
	}
	var group sync.WaitGroup
	defer group.Wait()
	for _, test := range []struct {
		from machine.Device
		open []int
	}{{machine.Operator, []int{22, 6443}}, {member, nil}, {server, nil}, {storage, nil}} {
		for _, port := range []int{22, 2379, 6443, 10250} {
			group.Go(func() {
				if err := dial(test.from.Name, target, port); (err == nil) != slices.Contains(test.open, port) {
					t.Errorf("%s to port %d of the machine: %v", test.from.Name, port, err)
				}
			})
		}
	}
	// Nor does the machine reach anybody, the admin's device above all.
	for _, device := range []machine.Device{machine.Operator, member, server, storage} {
		status, err := fleet.Status(t.Context(), device)
		if err != nil || len(status.Self.TailscaleIPs) == 0 {
			t.Fatalf("%s: %+v, %v", device.Name, status, err)
		}
		group.Go(func() {
			// Nothing listens there: a refusal would be the device's own answer.
			err := dial(theMachine.Namespace, status.Self.TailscaleIPs[0], 22)
			if err == nil || errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("the machine reaches %s: %v", device.Name, err)
			}
		})
	}
}

func tailnetDevices(t *testing.T, l *lab) *machine.Devices {
	t.Helper()
	control, err := headscale.New(l.Layout, "").Client()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Readlink(filepath.Join(l.Devices(), layout.Operator, "bin", "tailscale"))
	if err != nil {
		t.Fatal(err)
	}
	return devices(l.Layout, program, control)
}

// tailnetState is what the emulated API shows of the tailnet.
type tailnetState struct {
	Objects struct {
		Devices []struct {
			Name, Hostname string
			Addresses      []string
		}
		DNS tailnetDNS
	}
}

type tailnetDNS struct{ MagicDNS bool }

func tailnetNow(t *testing.T) tailnetState {
	t.Helper()
	var now tailnetState
	fetch(t, http.MethodGet, "http://"+layout.TailscaleAddr+"/lab/state", &now)
	return now
}

// addressOf is a device's address in the tailnet.
func addressOf(t *testing.T, hostname string) string {
	t.Helper()
	for _, d := range tailnetNow(t).Objects.Devices {
		if d.Hostname == hostname && len(d.Addresses) > 0 {
			return d.Addresses[0]
		}
	}
	t.Fatalf("the tailnet has no device %s", hostname)
	return ""
}

// dial opens a TCP connection from inside a namespace to an address.
func dial(namespace, address string, port int) error {
	return machine.Inside(namespace, func() error {
		conn, err := (&net.Dialer{Timeout: 2 * time.Second}).Dial("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}
