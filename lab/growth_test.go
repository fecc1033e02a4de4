//go:build e2e && growth

package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// The machines of the grown site, beside the lab's own.
var grown = map[string]map[string]any{
	"second": {"address": "10.77.0.11", "roles": []string{"server"}},
	"third":  {"address": "10.77.0.12", "roles": []string{"server"}},
	"worker": {"address": "10.77.0.13", "roles": []string{"agent"}},
	"attic":  {"address": "10.77.0.14", "roles": []string{"storage"}},
}

// TestGrowth takes a site of one server to three servers, an agent and a storage host, upgrades k3s over a minor
// version, and takes it back to one server, by the settings alone, while a visitor writes to an application and reads
// what was acknowledged. What is asked of one machine's hardening and door is asked of the five as well. It begins with
// a lab that is down and ends with one.
func TestGrowth(t *testing.T) {
	at, err := layout.Find()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := artifacts.Open(at.Cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("building k3s %s, unless it is in the cache", artifacts.FormerK3sVersion)
	former, err := cache.Former(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if former.NotServed != nil {
		t.Logf("NOT the release itself, but %s under its name: %v", artifacts.K3sVersion, former.NotServed)
	}
	sum, err := artifacts.SHA256(former.K3s)
	if err != nil {
		t.Fatal(err)
	}
	old := map[string]any{
		"version": artifacts.FormerK3sVersion, "acceptVersion": artifacts.FormerK3sVersion,
		"binaries": map[string]any{"amd64": map[string]any{
			"url": "http://" + layout.ArtifactsAddr + "/k3s-former", "sha256": sum,
		}},
	}
	succeed(t, "down")
	if err := file.Link(filepath.Join(at.Served(), "k3s-former"), former.K3s); err != nil {
		t.Fatal(err)
	}
	for _, image := range former.Images {
		if err := file.Mirror(image, filepath.Join(at.Images(), "former-"+filepath.Base(image)+".tar")); err != nil {
			t.Fatal(err)
		}
	}

	t.Setenv("TINYRACK_LAB_SETTINGS", filepath.Join(t.TempDir(), "settings.yaml"))
	committed, err := os.ReadFile(at.Settings)
	if err != nil {
		t.Fatal(err)
	}
	reach(t, committed, "one server", old, artifacts.FormerK3sVersion)
	v := visit(t)
	reach(t, committed, "three servers, an agent, a storage host", old, artifacts.FormerK3sVersion,
		"second", "third", "worker", "attic")
	v.report("growing")
	nodesTalkToEachOtherAlone(t)
	reach(t, committed, "upgraded", nil, artifacts.K3sVersion, "second", "third", "worker", "attic")
	v.report("upgrading")
	for _, asked := range []struct {
		of   string
		test func(*testing.T)
	}{
		{"nodes", TestBenchmark},
		{"public sides", TestPublicSideIsShut},
		{"firewalls", TestFirewallComesBack},
		{"pods", TestPodsThatListenAreShut},
		{"boots", TestMachinesAreShutWhileTheyBoot},
	} {
		t.Run(asked.of, asked.test)
	}
	v.report("looked at from outside, all machines rebooted at once")
	reach(t, committed, "one server again", nil, artifacts.K3sVersion)
	v.report("shrinking")
	v.end()
	onlyOneIsLeft(t)
	succeed(t, "down")
}

// reach writes the settings, runs up, and looks at the nodes; a second up changes nothing.
func reach(
	t *testing.T, committed []byte, what string, cluster map[string]any, version string, more ...string,
) {
	t.Helper()
	var doc struct {
		Config map[string]map[string]any `json:"config"`
	}
	if err := yaml.Unmarshal(committed, &doc); err != nil {
		t.Fatal(err)
	}
	maps.Copy(doc.Config["tinyrack:cluster"], cluster)
	wanted := []string{"tinyrack"}
	for _, name := range more {
		host := map[string]any{"hostKey": "", "bootstrapSources": []string{layout.OperatorIP + "/32"}}
		maps.Copy(host, grown[name])
		doc.Config["tinyrack:hosts"][name] = host
		if name != "attic" {
			wanted = append(wanted, name)
		}
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv("TINYRACK_LAB_SETTINGS"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	succeed(t, "up")
	t.Logf("%s after %s", what, time.Since(started).Round(time.Second))

	l := running(t)
	rows := kube(t, l, "get", "nodes", "-o", `jsonpath={range .items[*]}{.metadata.name} `+
		`{.status.conditions[?(@.type=="Ready")].status} {.status.nodeInfo.kubeletVersion}{"\n"}{end}`)
	slices.Sort(wanted)
	var want strings.Builder
	for _, name := range wanted {
		fmt.Fprintf(&want, "%s True %s\n", name, version)
	}
	if strings.TrimSpace(rows) != strings.TrimSpace(want.String()) {
		t.Fatalf("%s: the nodes are\n%s\nwant\n%s", what, rows, want.String())
	}
	upChangesNothing(t)
}

// nodesTalkToEachOtherAlone asks on the public side: the cluster's ports answer its nodes and nobody else, not even the
// site's own storage host; and a Service answers on every node, wherever its pod is.
func nodesTalkToEachOtherAlone(t *testing.T) {
	t.Helper()
	l := running(t)
	// The one Service whose policy admits everybody.
	service := kube(t, l, "-n", "kube-system", "get", "service", "kube-dns", "-o", "jsonpath={.spec.clusterIP}")
	var (
		group sync.WaitGroup
		nodes []layout.Machine
	)
	for _, from := range l.Machines {
		isNode := !slices.Contains(from.Roles, "storage")
		for _, to := range l.Machines {
			if from.Name == to.Name {
				continue
			}
			isServer := slices.Contains(to.Roles, "server")
			for port, open := range map[int]bool{
				22: false, 2379: isNode && isServer, 6443: isNode && isServer,
				10250: isNode && !slices.Contains(to.Roles, "storage"),
			} {
				group.Go(func() {
					if err := dial(from.Namespace(), to.IPv4, port); (err == nil) != open {
						t.Errorf("%s to port %d of %s: %v, open should be %v", from.Name, port, to.Name, err, open)
					}
				})
			}
		}
		if isNode {
			nodes = append(nodes, from)
		}
	}
	group.Wait()
	// A node is Ready a few seconds before its kube-proxy has written the Services' rules.
	for _, from := range nodes {
		eventually(t, 30*time.Second, from.Name+" reaches a Service", func() error {
			return dial(from.Namespace(), service, 53)
		})
	}
}

// onlyOneIsLeft looks whether what left is gone: from the tailnet, and from this host.
func onlyOneIsLeft(t *testing.T) {
	t.Helper()
	l := running(t)
	var names []string
	for _, d := range tailnetNow(t).Objects.Devices {
		names = append(names, d.Hostname)
	}
	slices.Sort(names)
	if want := []string{"tinyrack", layout.Operator}; !slices.Equal(names, want) {
		t.Errorf("the tailnet holds %v, want %v", names, want)
	}
	if made := l.Made(); len(made) != 1 {
		t.Errorf("machines are left: %v", made)
	}
	for name := range grown {
		if _, err := os.Stat("/run/netns/" + (layout.Machine{Name: name}).Namespace()); err == nil {
			t.Errorf("the network of %s is left", name)
		}
	}
}

// visitor writes notes and reads each one that was acknowledged, over and over, as somebody from outside: through the
// edge and whichever connector it takes, over a new connection each time.
type visitor struct {
	*author
	t    *testing.T
	stop chan struct{}
	done sync.WaitGroup

	mu     sync.Mutex
	notes  map[string]string // content by name, of what was acknowledged
	last   time.Time         // the last success
	gap    time.Duration     // the longest time without one
	failed int
	errs   []string
}

func visit(t *testing.T) *visitor {
	t.Helper()
	v := &visitor{author: signUp(t, "visitor"), t: t, stop: make(chan struct{}), notes: map[string]string{}}
	v.last = time.Now()
	v.done.Go(v.write)
	t.Cleanup(v.end)
	return v
}

func (v *visitor) write() {
	for n := 0; ; n++ {
		select {
		case <-v.stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
		content := fmt.Sprintf("note %d", n)
		name, err := v.note(content)
		if err == nil {
			v.mu.Lock()
			v.notes[name] = content
			v.gap, v.last = max(v.gap, time.Since(v.last)), time.Now()
			v.mu.Unlock()
			err = v.read(name, content)
		}
		if err != nil {
			v.mu.Lock()
			v.failed++
			v.errs = append(v.errs, err.Error())
			v.mu.Unlock()
		}
	}
}

// report reads everything that was ever acknowledged, and says what the visitor saw since the last report.
func (v *visitor) report(while string) {
	v.t.Helper()
	v.mu.Lock()
	gap, failed, notes, errs := max(v.gap, time.Since(v.last)), v.failed, maps.Clone(v.notes), v.errs
	v.gap, v.failed, v.errs = 0, 0, nil
	v.mu.Unlock()
	eventually(v.t, 5*time.Minute, while+": the application answers", func() error {
		_, err := v.call(http.MethodGet, "memos?pageSize=1", nil)
		return err
	})
	lost := 0
	for name, content := range notes {
		err := v.read(name, content)
		for range 20 {
			if err == nil {
				break
			}
			time.Sleep(time.Second)
			err = v.read(name, content)
		}
		if err != nil {
			lost++
			v.t.Errorf("%s: an acknowledged note is lost: %v", while, err)
		}
	}
	v.t.Logf("%s: %d notes acknowledged so far, %d lost; %d requests failed, the longest time without a success %s",
		while, len(notes), lost, failed, gap.Round(10*time.Millisecond))
	if len(errs) > 0 {
		v.t.Logf("%s: the first failure: %s; the last: %s", while, errs[0], errs[len(errs)-1])
	}
	if len(notes) == 0 {
		v.t.Fatal("the visitor wrote nothing")
	}
}

func (v *visitor) end() {
	select {
	case <-v.stop:
	default:
		close(v.stop)
	}
	v.done.Wait()
}
