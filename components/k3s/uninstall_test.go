package k3s

import (
	"slices"
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

// clustered is server two of three that are Ready and answer.
func clustered(t *testing.T) *remotetest.Host {
	t.Helper()
	h := machine(t)
	install(t, h, many(), 1)
	for _, name := range []string{"one", "two", "three"} {
		h.Write("/state/nodes/"+name, "True "+testVersion+"\n")
		h.Write("/state/nodes/"+name+".etcd", "")
	}
	h.Write("/state/peer-10.77.0.1", "")
	h.Write("/state/peer-10.77.0.3", "")
	return h
}

func TestUninstallTheOnlyServer(t *testing.T) {
	for _, running := range []bool{true, false} {
		h := machine(t)
		install(t, h, one(), 0)
		h.Write("/state/nodes/one.etcd", "")
		if !running {
			h.Write("/state/broken", "")
		}
		_, remove := scripts(t, one(), 0)
		for range 2 {
			if r := h.Run(remove, ""); r.Code != 0 || r.Called("kubectl drain") {
				t.Fatalf("got %+v", r)
			}
		}
		nothingLeft(t, h)
	}
}

func TestUninstallAServer(t *testing.T) {
	h := clustered(t)
	_, remove := scripts(t, many(), 1)
	r := h.Run(remove, secrets)
	if r.Code != 0 {
		t.Fatalf("got %+v", r)
	}
	nothingLeft(t, h)
	var done []string
	wanted := []string{
		"drain two", "annotate node two etcd.k3s.cattle.io/remove=true", "delete node two", "daemon-reload",
	}
	for _, call := range r.Calls {
		for _, verb := range wanted {
			if strings.Contains(call, verb) {
				done = append(done, verb)
			}
		}
	}
	if !slices.Equal(done, wanted) {
		t.Errorf("did %q", done)
	}
	if h.Read("/state/nodes/two") != "" || h.Read("/state/nodes/one") == "" {
		t.Error("the wrong node was deleted")
	}
	if r := h.Run(remove, secrets); r.Code != 0 {
		t.Errorf("again: %+v", r)
	}
}

func TestUninstallIsRefused(t *testing.T) {
	former := clustered(t)
	for name, tt := range map[string]struct {
		prepare func(*remotetest.Host)
		want    string // what it says; "" means that it goes through
	}{
		"another is down": {
			func(h *remotetest.Host) { h.Write("/state/nodes/three", "Unknown v1\n") },
			"only 1 of the 2 other servers are Ready",
		},
		"five, one down": {func(h *remotetest.Host) { five(h); h.Write("/state/nodes/three", "Unknown v1\n") }, ""},
		"five, two down": {func(h *remotetest.Host) {
			five(h)
			h.Write("/state/nodes/three", "Unknown v1\n")
			h.Write("/state/nodes/a", "False v1\n")
		}, "only 2 of the 4"},
		"etcd keeps it":    {func(h *remotetest.Host) { h.Write("/state/etcd-keeps", "") }, "etcd keeps two as its member"},
		"pods stay":        {func(h *remotetest.Host) { h.Write("/state/no-drain", "") }, ""},
		"k3s is down here": {func(h *remotetest.Host) { h.Write("/state/broken", "") }, ""},
		"peers are down":   {func(h *remotetest.Host) { h.Run(`rm "$ROOT"/state/peer-*`, "") }, ""},
		"nobody answers": {
			func(h *remotetest.Host) { h.Run(`rm "$ROOT"/state/peer-*; touch "$ROOT/state/broken"`, "") },
			"no server of the cluster answers",
		},
		"given up": {func(h *remotetest.Host) {
			h.Run(`rm "$ROOT"/state/peer-*; touch "$ROOT/state/broken" "$ROOT/var/lib/tinyrack/k3s-abandoned"`, "")
		}, ""},
		"out already": {
			func(h *remotetest.Host) { h.Run(`rm "$ROOT"/state/nodes/two*; touch "$ROOT/state/broken"`, "") },
			"",
		},
		"the last of three": {func(h *remotetest.Host) {
			h.Run(`rm "$ROOT"/state/peer-* "$ROOT"/state/nodes/one* "$ROOT"/state/nodes/three*`, "")
		}, ""},
		"uninstall fails": {func(h *remotetest.Host) { h.Write("/state/uninstall-fails", "") }, "k3s-uninstall.sh failed"},
		"uninstall leaves": {
			func(h *remotetest.Host) { h.Write("/state/uninstall-leaves", "") },
			"data of the cluster are still in /var/lib/rancher/k3s/server/db",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := machine(t)
			become(t, h, former)
			tt.prepare(h)
			_, remove := scripts(t, many(), 1)
			r := h.Run(remove, secrets)
			if tt.want == "" {
				if r.Code != 0 {
					t.Errorf("got %+v", r)
				}
				nothingLeft(t, h)
				return
			}
			if r.Code != 1 || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("got %+v", r)
			}
			if !strings.HasPrefix(name, "uninstall") {
				if h.Read("/etc/systemd/system/k3s.service") == "" || h.Read("/etc/rancher/k3s/token") == "" {
					t.Error("something was removed")
				}
				return
			}
			// The script of k3s has removed itself; the next run goes on all the same.
			h.Run(`rm -f "$ROOT"/state/uninstall-*`, "")
			if r := h.Run(remove, secrets); r.Code != 0 {
				t.Errorf("again: %+v", r)
			}
			nothingLeft(t, h)
		})
	}
}

func TestUninstallKilledAnywhere(t *testing.T) {
	former := clustered(t)
	_, remove := scripts(t, many(), 1)
	killed, at := states{}, 1
	for ; ; at++ {
		h := machine(t)
		become(t, h, former)
		if !killedAt(t, h, at, remove) {
			break
		}
		if killed.has(h) {
			continue
		}
		if r := h.Run(remove, secrets); r.Code != 0 {
			t.Errorf("killed before command %d: %+v", at, r)
		}
		nothingLeft(t, h)
		if h.Read("/state/nodes/two") != "" || h.Read("/state/nodes/one") == "" {
			t.Errorf("killed before command %d: not the one node was deleted", at)
		}
	}
	if at < 8 {
		t.Errorf("killed at %d points only", at-1)
	}
}

func five(h *remotetest.Host) {
	for _, name := range []string{"a", "b"} {
		h.Write("/state/nodes/"+name, "True "+testVersion+"\n")
		h.Write("/state/nodes/"+name+".etcd", "")
	}
}

const pods = `default app ReplicaSet Running
default bare Running
kube-system proxy DaemonSet Running
kube-system static Node Running
default job Job Succeeded
`

func TestUninstallAnAgent(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(*remotetest.Host)
		mark    string
		left    string
		says    string
	}{
		"pods leave": {
			func(*remotetest.Host) {},
			"yes\n",
			"kube-system proxy DaemonSet Running\nkube-system static Node Running\ndefault job Job Succeeded\n",
			"",
		},
		"pods stay": {func(h *remotetest.Host) { h.Write("/state/budget", "") }, "yes\n", pods, "some pods did not leave"},
		"no API":    {func(h *remotetest.Host) { h.Write("/state/broken", "") }, "", pods, "the cluster does not answer"},
		"never joined": {
			func(h *remotetest.Host) { h.Run(`rm "$ROOT/var/lib/rancher/k3s/agent/kubelet.kubeconfig"`, "") },
			"",
			pods,
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := machine(t)
			install(t, h, many(), 3)
			h.Write("/state/pods", pods)
			tt.prepare(h)
			_, remove := scripts(t, many(), 3)
			r := h.Run(remove, "")
			if r.Code != 0 || !strings.Contains(r.Stderr, tt.says) {
				t.Errorf("got %+v", r)
			}
			if h.Read("/state/nodes/four.mark") != tt.mark || h.Read("/state/pods") != tt.left {
				t.Errorf("mark %q, pods %q", h.Read("/state/nodes/four.mark"), h.Read("/state/pods"))
			}
			nothingLeft(t, h)
			if r := h.Run(remove, ""); r.Code != 0 {
				t.Errorf("again: %+v", r)
			}
		})
	}
}
