//go:build e2e

package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// resource is what the state says of one.
type resource struct {
	URN, Type string
	Protect   bool
}

func (r resource) name() string { return r.URN[strings.LastIndex(r.URN, "::")+2:] }

// onTheMachines are the resources that do something on a machine, or that a login to one hangs on.
func onTheMachines(t *testing.T, state string) []resource {
	t.Helper()
	var all struct {
		Deployment struct{ Resources []resource }
	}
	if err := json.Unmarshal([]byte(state), &all); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{
		"command:remote:Command": 0, "random:index/randomPassword:RandomPassword": 0,
		"tailscale:index/tailnetKey:TailnetKey": 0,
	}
	found := slices.DeleteFunc(all.Deployment.Resources, func(r resource) bool {
		elsewhere := strings.HasPrefix(r.name(), "edge-") ||
			slices.Contains([]string{"backup-plugin-seed", "flux-webhook-token"}, r.name())
		if _, wanted := kinds[r.Type]; !wanted || elsewhere {
			return true
		}
		kinds[r.Type]++
		return false
	})
	for kind, count := range kinds {
		if count == 0 {
			t.Fatalf("the state has no %s", kind)
		}
	}
	return found
}

func exported(t *testing.T, l *lab) string {
	t.Helper()
	state, err := l.stack.Export(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// look is what must not be lost: the owner's mark, the firewall, k3s and its authority, the login to the tailnet, the
// cluster; and that no unit was started again.
func look(t *testing.T, l *lab) string {
	t.Helper()
	return strings.Join([]string{lookWithoutLogin(t, l), login(t, l)}, "\n")
}

func lookWithoutLogin(t *testing.T, l *lab) string {
	t.Helper()
	return publicly(t, l, strings.Join([]string{
		"cat /etc/tinyrack/owner /etc/tinyrack/firewall.nft /etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml",
		"cat /var/lib/rancher/k3s/server/tls/server-ca.crt", "nft -s list table inet tinyrack",
		"systemctl show -p InvocationID k3s tinyrack-firewall-watch",
		"kubectl get namespace kube-system -o jsonpath={.metadata.uid}",
		"kubectl get nodes --no-headers -o custom-columns=:.metadata.name,:.metadata.uid",
	}, "; "))
}

func login(t *testing.T, l *lab) string {
	t.Helper()
	return publicly(t, l, `tailscale status --json --peers=false | grep -E '"(ID|BackendState|DNSName)"'`)
}

// publicly runs a command on the machine over its public address: the way of the bootstrap source, which needs no
// tailnet.
func publicly(t *testing.T, l *lab, command string) string {
	t.Helper()
	out, err := sshTo(t.Context(), l, layout.OnOperator(), first(l), first(l).IPv4, command)
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(out)
}

// unchanged ends the test unless the machine is as it was.
func unchanged(t *testing.T, what, before, after string) {
	t.Helper()
	if after != before {
		t.Fatalf("%s, and the machine is\n%s\nbefore it was\n%s", what, after, before)
	}
}

// TestReplacementLosesNothing makes each resource anew, one at a time, and those two together that undo and allow to
// undo: what they made on the machine stays, and the next up has nothing to do.
func TestReplacementLosesNothing(t *testing.T) {
	l := running(t)
	before := look(t, l)
	targets := []string{"machine-tinyrack-firewall hold-tinyrack"}
	protected := map[string]bool{}
	for _, r := range onTheMachines(t, exported(t, l)) {
		targets = append(targets, r.name())
		protected[r.name()] = r.Protect
	}
	if len(protected) < 10 {
		t.Fatalf("only %v are there", protected)
	}
	for _, names := range targets {
		if protected[names] {
			refused(t, l, func(ctx context.Context) error { return l.stack.Replace(ctx, names) }, "protect")
		} else {
			out := output(l)
			if err := l.stack.Replace(t.Context(), strings.Fields(names)...); err != nil {
				t.Fatalf("%s: %v\n%s", names, err, out)
			}
			touched(t, strings.Fields(names)...)
		}
		unchanged(t, names+" was replaced", before, look(t, l))
	}
	out := output(l)
	if err := l.stack.PreviewUnchanged(t.Context()); err != nil {
		t.Errorf("an up has something to do: %v\n%s", err, out)
	}
}

// touched looks whether the last run did something to each of these, and to nothing else but what a new join key goes
// to.
func touched(t *testing.T, names ...string) {
	t.Helper()
	changed := changes(t)
	for _, name := range names {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(changed)), func(op string) bool {
			return strings.HasSuffix(op, " "+name)
		}) {
			t.Errorf("%s is as it was: %v", name, changed)
		}
	}
	for op := range changed {
		name := op[strings.Index(op, " ")+1:]
		join := strings.Replace(name, "machine-", "tailnet-key-", 1)
		if !slices.Contains(names, name) && !slices.Contains(names, strings.TrimSuffix(join, "-join")) {
			t.Errorf("%v: %s", names, op)
		}
	}
}

// TestRenamingLosesNothing gives each resource the name that an older program would have called it by, so that it is
// created under its name and then deleted under the former one.
func TestRenamingLosesNothing(t *testing.T) {
	l := running(t)
	before := look(t, l)
	for _, r := range onTheMachines(t, exported(t, l)) {
		name := r.name()
		former := "x" + name[1:] // of the same length: the command counts the bytes of its standard input
		state := exported(t, l)
		older := strings.NewReplacer("::"+name+`"`, "::"+former+`"`, "'"+name+"'", "'"+former+"'").Replace(state)
		if err := l.stack.Import(t.Context(), older); err != nil {
			t.Fatal(err)
		}
		if r.Protect {
			because := "protect"
			if name == "cluster-token" {
				because = "was made with another token than this stack's" // which is tried first
			}
			refused(t, l, l.stack.Up, because)
			// As whoever takes the renaming back.
			if err := l.stack.Import(t.Context(), state); err != nil {
				t.Fatal(err)
			}
		} else {
			upOrFail(t, l)
			touched(t, name, former)
		}
		unchanged(t, name+" was renamed", before, look(t, l))
	}
	out := output(l)
	if err := l.stack.PreviewUnchanged(t.Context()); err != nil {
		t.Errorf("an up has something to do: %v\n%s", err, out)
	}
}
