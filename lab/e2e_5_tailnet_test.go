//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tailscale/hujson"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// Devices of each role beside the admin's, who is the operator, and the machine's own.
var (
	member = machine.Device{Name: "tinyrack-member", Address: "10.77.0.31", User: "member@lab.test"}
	others = []machine.Device{
		member,
		{Name: "tinyrack-server", Address: "10.77.0.32", Tags: []string{"tag:tinyrack-server"}},
		{Name: "tinyrack-agent", Address: "10.77.0.33", Tags: []string{"tag:tinyrack-agent"}},
		{Name: "tinyrack-storage", Address: "10.77.0.34", Tags: []string{"tag:tinyrack-storage"}},
	}
)

// TestWhoReachesWhom opens real connections over the tailnet, from a device of each kind to each, on ports that
// something listens on; then it changes one grant at a time, and looks which connections that opens and closes.
func TestWhoReachesWhom(t *testing.T) {
	l := running(t)
	tries := matrixOf(t, l)
	closed := []cell(nil)
	before := tries.settle("the policy of the settings", []cell{
		{"admin", "machine", 22},
		{"admin", "machine", 6443},
		{"admin", "server", 22},
		{"admin", "server", 6443},
		{"admin", "agent", 22},
		{"admin", "storage", 22},
	}, nil)

	t.Run("a rule of a person's own", func(t *testing.T) {
		tries.t = t
		file := filepath.Join(t.TempDir(), "policy.hujson")
		rest := `{"grants": [{"src": ["admin@lab.test"], "dst": ["member@lab.test"], "ip": ["tcp:9000"]}]}`
		if err := os.WriteFile(file, []byte(rest), 0o600); err != nil {
			t.Fatal(err)
		}
		putBack := change(t, l, func(config map[string]map[string]any) {
			config["tinyrack:tailnet"]["policyFile"] = file
		})
		upOrFail(t, l)
		tries.settle("policyFile", []cell{{"admin", "member", 9000}}, before)
		putBack()
		upOrFail(t, l)
		tries.settle("no policyFile", closed, before)
	})
	// What the program itself grants depends on the roles of the hosts, of which the lab has one: these are changed where
	// the policy is kept. Its tests go first, for they refuse just that.
	call := tailscaleAPI(t, l)
	const path = "/tailnet/" + layout.Tailnet + "/acl"
	policy, status := call(http.MethodGet, path, "")
	if status != http.StatusOK {
		t.Fatalf("no policy: %s", policy)
	}
	put := func(t *testing.T, text string) {
		t.Helper()
		if answer, status := call(http.MethodPost, path, text); status != http.StatusOK {
			t.Fatalf("the policy is refused: %s", answer)
		}
	}
	defer put(t, policy)
	for name, test := range map[string]struct {
		edit func(grants []any) []any
		want []cell
	}{
		"a port less": {
			func(grants []any) []any {
				for _, g := range grants {
					ports := g.(map[string]any)["ip"].([]any)
					g.(map[string]any)["ip"] = slices.DeleteFunc(ports, func(port any) bool { return port == "tcp:6443" })
				}
				return grants
			},
			[]cell{{"admin", "machine", 6443}, {"admin", "server", 6443}},
		},
		"a grant more": {
			func(grants []any) []any {
				return append(grants, map[string]any{
					"src": []string{"tag:tinyrack-server"}, "dst": []string{"tag:tinyrack-storage"}, "ip": []string{"tcp:9000"},
				})
			},
			[]cell{{"machine", "storage", 9000}, {"server", "storage", 9000}},
		},
		"a grant less": {
			func(grants []any) []any {
				return slices.DeleteFunc(grants, func(g any) bool {
					return slices.Contains(g.(map[string]any)["dst"].([]any), any("tag:tinyrack-agent"))
				})
			},
			[]cell{{"admin", "agent", 22}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tries.t = t
			put(t, withGrants(t, policy, test.edit))
			defer put(t, policy)
			tries.settle(name, test.want, before)
		})
		tries.t = t
		tries.settle("back", closed, before)
	}
	if err := l.stack.RefreshUnchanged(t.Context()); err != nil {
		t.Errorf("the policy is not as it was: %v", err)
	}
}

// withGrants is the policy with other grants, and without the tests in it.
func withGrants(t *testing.T, policy string, edit func([]any) []any) string {
	t.Helper()
	text, err := hujson.Standardize([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	delete(whole, "tests")
	whole["grants"] = edit(whole["grants"].([]any))
	text, err = json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// cell is a connection that somebody may try.
type cell struct {
	from, to string
	port     int
}

// matrix is everybody of the tailnet, by a word for each.
type matrix struct {
	t *testing.T
	// from are network namespaces, to addresses in the tailnet, ports what listens there.
	from, to map[string]string
	ports    map[string][]int
}

// matrixOf starts the devices, and servers on them, on every port that is of interest.
func matrixOf(t *testing.T, l *lab) *matrix {
	t.Helper()
	m := &matrix{t, map[string]string{}, map[string]string{}, map[string][]int{}}
	fleet := tailnetDevices(t, l)
	ports := []int{22, 443, 2379, 6443, 9000, 10250}
	for _, device := range append([]machine.Device{machine.Operator}, others...) {
		name := strings.TrimPrefix(device.Name, "tinyrack-")
		if device.Name == machine.Operator.Name {
			name = "admin"
		} else {
			t.Cleanup(func() {
				if err := fleet.Stop(context.Background(), device); err != nil {
					t.Error(err)
				}
			})
			if err := fleet.Start(t.Context(), device); err != nil {
				t.Fatal(err)
			}
		}
		status, err := fleet.Status(t.Context(), device)
		if err != nil || len(status.Self.TailscaleIPs) == 0 {
			t.Fatalf("%s: %+v, %v", device.Name, status, err)
		}
		m.from[name], m.to[name], m.ports[name] = device.Name, status.Self.TailscaleIPs[0], ports
		for _, port := range ports {
			serve(t, device.Name, port)
		}
	}
	m.from["machine"], m.to["machine"] = first(l).Namespace(), addressOf(t, first(l).Name)
	listening := strings.Fields(onMachine(t, l, `ss -ltnH | awk '{ sub(/.*:/, "", $4); print $4 }' | sort -un`))
	t.Logf("the machine listens on %s", strings.Join(listening, " "))
	for _, port := range ports {
		if slices.Contains(listening, strconv.Itoa(port)) {
			m.ports["machine"] = append(m.ports["machine"], port)
		}
	}
	if len(m.ports["machine"]) < 4 {
		t.Fatalf("of the ports that are tried only %v are listened on", m.ports["machine"])
	}
	// Every device can reach something: the control server. So a denial is the policy's.
	for name, namespace := range m.from {
		if err := dial(namespace, layout.HostIP, 8443); err != nil {
			t.Errorf("%s reaches nothing: %v", name, err)
		}
	}
	return m
}

// serve accepts connections on a port of a device until the test ends.
func serve(t *testing.T, namespace string, port int) {
	t.Helper()
	var listener net.Listener
	if err := machine.Inside(namespace, func() (err error) {
		listener, err = net.Listen("tcp4", ":"+strconv.Itoa(port))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
}

// behind is how much later the second of two devices tries the first. Both at one moment would begin a handshake of
// WireGuard each, for which each gives up its own, then refuses the answer to that; and so again every five seconds, as
// long as both send in step.
const behind = 500 * time.Millisecond

// open are the connections that are made, of all that can be tried.
func (m *matrix) open() map[cell]bool {
	var group sync.WaitGroup
	var mu sync.Mutex
	found := map[cell]bool{}
	for from, namespace := range m.from {
		for to, address := range m.to {
			for _, port := range m.ports[to] {
				if from == to {
					continue
				}
				group.Go(func() {
					if from > to {
						time.Sleep(behind)
					}
					if dial(namespace, address, port) == nil {
						mu.Lock()
						defer mu.Unlock()
						found[cell{from, to, port}] = true
					}
				})
			}
		}
	}
	group.Wait()
	return found
}

// settle waits until exactly these connections are other than before, and returns those that are open.
func (m *matrix) settle(what string, want []cell, before map[cell]bool) (open map[cell]bool) {
	m.t.Helper()
	expected := map[cell]bool{}
	for _, c := range want {
		expected[c] = true
	}
	eventually(m.t, time.Minute, what, func() error {
		open = m.open()
		flipped := map[cell]bool{}
		for _, cells := range []map[cell]bool{before, open} {
			for c := range cells {
				if before[c] != open[c] {
					flipped[c] = true
				}
			}
		}
		if !maps.Equal(flipped, expected) {
			return fmt.Errorf("other than before are %v, want %v", flipped, want)
		}
		return nil
	})
	return open
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
			Name, Hostname     string
			Addresses          []string
			ConnectedToControl bool
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
