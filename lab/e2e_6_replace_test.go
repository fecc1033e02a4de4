//go:build e2e

package main

import (
	"strings"
	"testing"
)

// TestReplacementLosesNothing makes resources anew that a delete script belongs to: what they made on the machine
// stays, and the next up has nothing to do.
func TestReplacementLosesNothing(t *testing.T) {
	l := running(t)
	look := func() string {
		return onMachine(t, l, strings.Join([]string{
			"cat /etc/tinyrack/owner /etc/tinyrack/firewall.nft /etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml",
			"cat /var/lib/rancher/k3s/server/tls/server-ca.crt", "nft -s list table inet tinyrack",
			`tailscale status --json --peers=false | grep -E '"(ID|BackendState|DNSName)"'`,
			"systemctl show -p InvocationID k3s tinyrack-firewall-watch",
		}, "; ")) +
			kube(t, l, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	}
	before := look()
	for _, name := range []string{
		"machine-tinyrack-firewall", "machine-tinyrack-join", "hold-tinyrack",
		"machine-tinyrack-firewall hold-tinyrack",
	} {
		out := output(l)
		if err := l.stack.Replace(t.Context(), strings.Fields(name)...); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if replaced := changes(t); len(replaced) == 0 {
			t.Errorf("%s was not replaced", name)
		}
		if after := look(); after != before {
			t.Fatalf("%s was replaced, and the machine is\n%s\nbefore it was\n%s", name, after, before)
		}
		if err := l.stack.PreviewUnchanged(t.Context()); err != nil {
			t.Errorf("after the replacement of %s an up has something to do: %v\n%s", name, err, out)
		}
	}
}

// TestClusterIsProtected tries to replace the node and to destroy the stack.
func TestClusterIsProtected(t *testing.T) {
	l := running(t)
	uid := func() string { return kube(t, l, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}") }
	before := uid()
	out := output(l)
	if err := l.stack.Replace(t.Context(), "k3s-tinyrack-server"); err == nil ||
		!strings.Contains(out.String(), "protect") {
		t.Errorf("the node was replaced: %v\n%s", err, out)
	}
	if after := uid(); after != before {
		t.Errorf("another cluster: %s, before %s", after, before)
	}
	if err := l.stack.PreviewUnchanged(t.Context()); err != nil {
		t.Errorf("an up has something to do: %v\n%s", err, out)
	}
}
