package k3s

import (
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

const testOwner = "tinyrack/test of example.com, host one"

// memberScripts are what the first server runs about a node, as remote renders them.
func memberScripts(t *testing.T, name string) (create, remove string) {
	t.Helper()
	c, r := memberTexts(Member{Name: name})
	c.Vars = append([]remote.Var{{Name: "OWNER", Value: testOwner}}, c.Vars...)
	r.Vars = append([]remote.Var{{Name: "OWNER", Value: testOwner}}, r.Vars...)
	return render(t, c), render(t, r)
}

// without is the first server once a host has left the settings, and its own script has run.
func without(t *testing.T, names ...string) *remotetest.Host {
	t.Helper()
	h := clustered(t, 0)
	args := many()
	args.Nodes = slices.DeleteFunc(args.Nodes, func(m Member) bool { return slices.Contains(names, m.Name) })
	install(t, h, args, 0)
	h.Write("/etc/tinyrack/owner", testOwner+"\nheld\n")
	return h
}

// nodesScriptWithout runs on the first server before anything else once hosts have left the settings.
func nodesScriptWithout(t *testing.T, names ...string) string {
	t.Helper()
	args := many()
	args.Nodes = slices.DeleteFunc(args.Nodes, func(m Member) bool { return slices.Contains(names, m.Name) })
	return render(t, args.nodesText())
}

// done are those of the wanted verbs that were called, in their order.
func done(r remotetest.Result, verbs ...string) []string {
	var found []string
	for _, call := range r.Calls {
		for _, verb := range verbs {
			if strings.Contains(call, verb) {
				found = append(found, verb)
			}
		}
	}
	return found
}

func TestMember(t *testing.T) {
	h := clustered(t, 0)
	create, _ := memberScripts(t, "two")
	before := h.Files()
	if r := h.Run(create, ""); r.Code != 0 || h.Files() != before {
		t.Errorf("got %+v", r)
	}
	for _, state := range []string{"", "False v1\n", "Unknown v1\n"} {
		h.Run(`rm -f "$ROOT/state/nodes/two"`, "")
		if state != "" {
			h.Write("/state/nodes/two", state)
		}
		if r := h.Run(create, ""); r.Code != 1 || !strings.Contains(r.Stderr, "node two is not Ready in the cluster of") {
			t.Errorf("%q: %+v", state, r)
		}
	}
}

func TestDismissAServer(t *testing.T) {
	h := without(t, "two")
	_, remove := memberScripts(t, "two")
	r := h.Run(remove, "")
	verbs := []string{"drain two", "annotate node two etcd.k3s.cattle.io/remove=true", "delete node two"}
	if r.Code != 0 || !slices.Equal(done(r, verbs...), verbs) {
		t.Fatalf("got %+v", r)
	}
	if h.Read("/state/nodes/two") != "" || h.Read("/state/nodes/one") == "" || h.Read("/state/nodes/three") == "" {
		t.Error("the wrong node was deleted")
	}
	before := h.Files()
	if r := h.Run(remove, ""); r.Code != 0 || len(done(r, "drain", "annotate", "delete")) != 0 || h.Files() != before {
		t.Errorf("again: %+v", r)
	}
}

func TestDismissAnAgent(t *testing.T) {
	h := without(t, "four")
	// Without a majority an agent leaves all the same: it is none of etcd's.
	h.Write("/state/nodes/two", "Unknown v1\n")
	h.Write("/state/nodes/three", "Unknown v1\n")
	_, remove := memberScripts(t, "four")
	r := h.Run(remove, "")
	if got := done(r, "drain four", "annotate", "delete node four"); r.Code != 0 ||
		!slices.Equal(got, []string{"drain four", "delete node four"}) {
		t.Fatalf("got %+v", r)
	}
	if h.Read("/state/nodes/four") != "" || h.Read("/state/nodes/five") == "" {
		t.Error("the wrong node was deleted")
	}
}

// The API of a server that was started a moment ago answers after a while.
func TestDismissWaitsForTheAPI(t *testing.T) {
	h := without(t, "four")
	h.Write("/state/broken", "")
	h.Fake("sleep", `rm -f "$ROOT/state/broken"`)
	_, remove := memberScripts(t, "four")
	if r := h.Run(remove, ""); r.Code != 0 || h.Read("/state/nodes/four") != "" {
		t.Errorf("got %+v", r)
	}
}

// From three servers to one, in one run: the engine deletes one place after the other.
func TestDismissTwoServers(t *testing.T) {
	h := without(t, "two", "three")
	for _, name := range []string{"three", "two"} {
		_, remove := memberScripts(t, name)
		if r := h.Run(remove, ""); r.Code != 0 {
			t.Fatalf("%s: %+v", name, r)
		}
	}
	if h.Read("/state/nodes/one") == "" || h.Read("/state/nodes/two")+h.Read("/state/nodes/three") != "" {
		t.Error("not the two were deleted")
	}
}

// The delete of a replaced or renamed place comes after the new one's creation; no node may leave by it.
func TestDismissOnlyWhoLeaves(t *testing.T) {
	const other = "tinyrack/other of example.org, host one"
	for name, tt := range map[string]struct {
		owner string
		list  string // "" for none
		acts  bool
	}{
		"replaced":                 {testOwner + "\nheld\n", "one\ntwo\nthree\n", false},
		"no list":                  {testOwner + "\nheld\n", "", false},
		"left":                     {testOwner + "\nheld\n", "one\nthree\n", true},
		"left, a name within one":  {testOwner + "\nheld\n", "one\nthree\ntwo-b\n", true},
		"whole stack":              {testOwner + "\nreleased\n", "one\ntwo\nthree\n", true},
		"a first run's destroy":    {testOwner + "\ntaken\n", "one\ntwo\nthree\n", true},
		"another stack's":          {other + "\nheld\n", "one\nthree\n", false},
		"another stack's released": {other + "\nreleased\n", "one\nthree\n", false},
		"nobody's":                 {"", "one\nthree\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := clustered(t, 0)
			h.Run(`rm -f "$ROOT/var/lib/tinyrack/k3s-nodes"`, "")
			if tt.owner != "" {
				h.Write("/etc/tinyrack/owner", tt.owner)
			}
			if tt.list != "" {
				h.Write("/var/lib/tinyrack/k3s-nodes", tt.list)
			}
			_, remove := memberScripts(t, "two")
			r := h.Run(remove, "")
			if acted := h.Read("/state/nodes/two") == ""; r.Code != 0 || acted != tt.acts {
				t.Errorf("got %+v", r)
			}
			if !tt.acts && (r.Called("kubectl") || !strings.Contains(r.Stderr, "nothing was undone")) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestDismissIsRefused(t *testing.T) {
	down := func(names ...string) func(*remotetest.Host) {
		return func(h *remotetest.Host) {
			for _, name := range names {
				h.Write("/state/nodes/"+name, "Unknown v1\n")
			}
		}
	}
	for name, tt := range map[string]struct {
		prepare func(*remotetest.Host)
		want    string // what it says; "" means that it goes through
	}{
		"another is down":  {down("three"), "only 1 of the 2 other servers are Ready: without two the cluster would lose"},
		"it is down":       {down("two"), ""},
		"five, one down":   {func(h *remotetest.Host) { five(h); down("three")(h) }, ""},
		"five, two down":   {func(h *remotetest.Host) { five(h); down("three", "a")(h) }, "only 2 of the 4"},
		"agents are down":  {down("four", "five"), ""},
		"one left already": {func(h *remotetest.Host) { down("three")(h); h.Write("/state/nodes/three.removed", "x") }, ""},
		"no mark":          {func(h *remotetest.Host) { h.Write("/state/no-annotate", "") }, "node two cannot be marked"},
		"etcd keeps it":    {func(h *remotetest.Host) { h.Write("/state/etcd-keeps", "") }, "etcd keeps two as its member"},
		"pods stay":        {func(h *remotetest.Host) { h.Write("/state/no-drain", "") }, ""},
		"the node stays":   {func(h *remotetest.Host) { h.Write("/state/no-delete", "") }, "node two is still listed"},
		"no API":           {func(h *remotetest.Host) { h.Write("/state/broken", "") }, "the Kubernetes API does not answer"},
		"no API, given up by mistake": {func(h *remotetest.Host) {
			h.Write("/state/broken", "")
			h.Write("/var/lib/tinyrack/k3s-abandoned", "")
		}, "the Kubernetes API does not answer here"},
		"no API, given up": {func(h *remotetest.Host) {
			h.Write("/state/broken", "")
			h.Write("/var/lib/tinyrack/k3s-abandoned", "")
			h.Write("/etc/tinyrack/owner", testOwner+"\nreleased\n")
		}, ""},
		"never joined": {func(h *remotetest.Host) { h.Run(`rm "$ROOT"/state/nodes/two*`, "") }, ""},
		"no cluster":   {func(h *remotetest.Host) { h.Run(`rm -r "$ROOT/var/lib/rancher"`, "") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := without(t, "two")
			tt.prepare(h)
			_, remove := memberScripts(t, "two")
			r := h.Run(remove, "")
			if tt.want == "" {
				if r.Code != 0 {
					t.Errorf("got %+v", r)
				}
				return
			}
			if r.Code != 1 || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("got %+v", r)
			}
			if h.Read("/state/nodes/two") == "" {
				t.Error("the node was deleted")
			}
			if strings.Contains(tt.want, "other servers") && r.Called("kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml drain") {
				t.Error("drained before it was refused")
			}
		})
	}
}

// Whoever is no longer listed leaves before the rest of a run, which the other hosts' firewalls are part of.
func TestNodesLeaveBeforeTheRest(t *testing.T) {
	h := clustered(t, 0)
	h.Write("/state/nodes/by-hand", "True "+testVersion+"\n")
	script := nodesScriptWithout(t, "two", "three", "five")
	r := h.Run(script, "")
	verbs := []string{
		"drain two", "annotate node two etcd.k3s.cattle.io/remove=true", "delete node two",
		"drain three", "annotate node three etcd.k3s.cattle.io/remove=true", "delete node three",
		"drain five", "delete node five",
	}
	got := done(r, append(verbs, "annotate node five", "one", "four", "by-hand")...)
	if r.Code != 0 || !slices.Equal(got, verbs) {
		t.Fatalf("%q: %+v", got, r)
	}
	for name, stays := range map[string]bool{
		"one": true, "four": true, "by-hand": true, "two": false, "three": false, "five": false,
	} {
		if there := h.Read("/state/nodes/"+name) != ""; there != stays {
			t.Errorf("%s is in the cluster: %v", name, there)
		}
	}
	before := h.Files()
	if r := h.Run(script, ""); r.Code != 0 || len(done(r, "drain", "annotate", "delete")) != 0 || h.Files() != before {
		t.Errorf("again: %+v", r)
	}
	// Their places are deleted after it, once the list is written anew.
	args := many()
	args.Nodes = []Member{args.Nodes[0], args.Nodes[3]}
	install(t, h, args, 0)
	h.Write("/etc/tinyrack/owner", testOwner+"\nheld\n")
	_, remove := memberScripts(t, "two")
	if r := h.Run(remove, ""); r.Code != 0 || len(done(r, "drain", "annotate", "delete")) != 0 {
		t.Errorf("its place: %+v", r)
	}
}

func TestNobodyLeaves(t *testing.T) {
	for name, prepare := range map[string]func(*remotetest.Host){
		"all are listed": func(*remotetest.Host) {},
		"no list":        func(h *remotetest.Host) { h.Run(`rm "$ROOT/var/lib/tinyrack/k3s-nodes"`, "") },
		"no cluster":     func(h *remotetest.Host) { h.Run(`rm -r "$ROOT/var/lib/rancher"`, "") },
		"no machine yet": func(h *remotetest.Host) { h.Run(`rm -r "$ROOT/var" "$ROOT/etc"`, "") },
	} {
		gone := []string{"two"}
		if name == "all are listed" {
			gone = nil
		}
		h := clustered(t, 0)
		prepare(h)
		before := h.Files()
		r := h.Run(nodesScriptWithout(t, gone...), "")
		if r.Code != 0 || r.Called("kubectl") || h.Files() != before || r.Stderr != "no node leaves the cluster\n" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestNodesDoNotLeaveACluster(t *testing.T) {
	for want, state := range map[string][2]string{
		"the Kubernetes API does not answer here: two cannot leave": {"/state/broken", ""},
		"only 1 of the 2 other servers":                             {"/state/nodes/three", "Unknown v1\n"},
		"etcd keeps two as its member":                              {"/state/etcd-keeps", ""},
	} {
		h := clustered(t, 0)
		h.Write(state[0], state[1])
		r := h.Run(nodesScriptWithout(t, "two"), "")
		if r.Code != 1 || !strings.Contains(r.Stderr, want) || h.Read("/state/nodes/two") == "" {
			t.Errorf("%s: %+v", want, r)
		}
	}
}

func TestNodesKilledAnywhere(t *testing.T) {
	script := nodesScriptWithout(t, "two", "five")
	at := 1
	for ; ; at++ {
		h := clustered(t, 0)
		if !killedAt(t, h, at, script) {
			break
		}
		if r := h.Run(script, ""); r.Code != 0 {
			t.Errorf("killed before command %d: %+v", at, r)
		}
		if h.Read("/state/nodes/two")+h.Read("/state/nodes/five") != "" || h.Read("/state/nodes/three") == "" {
			t.Errorf("killed before command %d: not the two left", at)
		}
	}
	if at < 8 {
		t.Errorf("killed at %d points only", at-1)
	}
}

func TestDismissKilledAnywhere(t *testing.T) {
	former := without(t, "two")
	_, remove := memberScripts(t, "two")
	at := 1
	for ; ; at++ {
		h := machine(t)
		become(t, h, former)
		if !killedAt(t, h, at, remove) {
			break
		}
		if r := h.Run(remove, ""); r.Code != 0 {
			t.Errorf("killed before command %d: %+v", at, r)
		}
		if h.Read("/state/nodes/two") != "" || h.Read("/state/nodes/one") == "" {
			t.Errorf("killed before command %d: not the one node was deleted", at)
		}
	}
	if at < 5 {
		t.Errorf("killed at %d points only", at-1)
	}
}

func five(h *remotetest.Host) {
	for _, name := range []string{"a", "b"} {
		h.Write("/state/nodes/"+name, "True "+testVersion+"\n")
		h.Write("/state/nodes/"+name+".etcd", "")
	}
}
