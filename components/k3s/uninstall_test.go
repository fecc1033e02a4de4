package k3s

import (
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

// nothingLeft fails the test when something of k3s is still there.
func nothingLeft(t *testing.T, h *remotetest.Host) {
	t.Helper()
	for _, left := range []string{"/etc/", "/usr/", "/var/lib/rancher", "/var/lib/tinyrack/k3s-"} {
		if strings.Contains(h.Files(), h.Root+left) {
			t.Errorf("%s was left", left)
		}
	}
}

// clustered is one of many nodes, all Ready.
func clustered(t *testing.T, node int) *remotetest.Host {
	t.Helper()
	h := machine(t)
	args := many()
	install(t, h, args, node)
	for _, n := range args.Nodes {
		h.Write("/state/nodes/"+n.Name, "True "+testVersion+"\n")
		if !n.Agent {
			h.Write("/state/nodes/"+n.Name+".etcd", "")
		}
	}
	return h
}

// dismissed is a server that etcd let go: its API does not answer any more.
func dismissed(t *testing.T) *remotetest.Host {
	t.Helper()
	h := clustered(t, 1)
	h.Write("/state/broken", "")
	return h
}

func TestUninstall(t *testing.T) {
	for name, tt := range map[string]struct {
		host func(*testing.T) *remotetest.Host
		args *ClusterArgs
		node int
	}{
		"the only server": {
			func(t *testing.T) *remotetest.Host { h := machine(t); install(t, h, one(), 0); return h }, one(), 0,
		},
		"a server that was let go": {dismissed, many(), 1},
		"a server that made a cluster of its own": {
			func(t *testing.T) *remotetest.Host {
				h := clustered(t, 1)
				h.Run(`rm "$ROOT"/state/nodes/one* "$ROOT"/state/nodes/three*`, "")
				return h
			}, many(), 1,
		},
		"a server that is not listed": {
			func(t *testing.T) *remotetest.Host {
				h := clustered(t, 1)
				h.Run(`rm "$ROOT"/state/nodes/two*`, "")
				return h
			}, many(), 1,
		},
		"a server of a cluster that is given up": {
			func(t *testing.T) *remotetest.Host {
				h := clustered(t, 1)
				h.Write("/var/lib/tinyrack/k3s-abandoned", "")
				return h
			}, many(), 1,
		},
		"an agent": {func(t *testing.T) *remotetest.Host { return clustered(t, 3) }, many(), 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := tt.host(t)
			_, remove := scripts(t, tt.args, tt.node)
			for range 2 {
				if r := h.Run(remove, ""); r.Code != 0 || r.Called("kubectl drain") {
					t.Fatalf("got %+v", r)
				}
			}
			nothingLeft(t, h)
		})
	}
}

func TestUninstallIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		host  func(*testing.T) *remotetest.Host
		clear string // what lets the next run go on
		want  string
	}{
		"still a member": {
			func(t *testing.T) *remotetest.Host { return clustered(t, 1) },
			`touch "$ROOT/state/broken"`,
			"still a member of the cluster, beside one three: they would wait for it for good: nothing was removed: run " +
				"kubectl delete node two",
		},
		"uninstall fails": {func(t *testing.T) *remotetest.Host {
			h := dismissed(t)
			h.Write("/state/uninstall-fails", "")
			return h
		}, `rm "$ROOT/state/uninstall-fails"`, "k3s-uninstall.sh failed"},
		"uninstall leaves": {func(t *testing.T) *remotetest.Host {
			h := dismissed(t)
			h.Write("/state/uninstall-leaves", "")
			return h
		}, `rm "$ROOT/state/uninstall-leaves"`, "data of the cluster are still in /var/lib/rancher/k3s/server/db"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := tt.host(t)
			_, remove := scripts(t, many(), 1)
			before := h.Files()
			r := h.Run(remove, "")
			if r.Code != 1 || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("got %+v", r)
			}
			if name == "still a member" && h.Files() != before {
				t.Error("something was removed")
			}
			// The script of k3s has removed itself; the next run goes on all the same.
			h.Run(tt.clear, "")
			if r := h.Run(remove, ""); r.Code != 0 {
				t.Errorf("again: %+v", r)
			}
			nothingLeft(t, h)
		})
	}
}

func TestUninstallKilledAnywhere(t *testing.T) {
	former := dismissed(t)
	_, remove := scripts(t, many(), 1)
	killed, at := states{}, 1
	for ; ; at++ {
		h := machine(t)
		become(t, h, former)
		h.Fake("cp", kill+`exec /bin/cp "$@"`)
		h.Fake("mv", kill+`exec /bin/mv "$@"`)
		h.Fake("rm", kill+`exec /bin/rm "$@"`)
		if !killedAt(t, h, at, remove) {
			break
		}
		if killed.has(h) {
			continue
		}
		if r := h.Run(remove, ""); r.Code != 0 {
			t.Errorf("killed before command %d: %+v", at, r)
		}
		nothingLeft(t, h)
	}
	if at < 8 {
		t.Errorf("killed at %d points only", at-1)
	}
}
