//go:build e2e

package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/scan"
)

// client is a pod that does nothing until it is asked to connect. Every namespace of the site admits it.
const client = `{"spec": {"nodeName": "NODE", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
	"securityContext": {"runAsNonRoot": true, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
	"containers": [{"name": "client", "image": "` + artifacts.Busybox + `", "command": ["sleep", "3600"],
		"securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}`

// TestPodsReachWhatTheyNeed opens connections from pods: in a namespace that no policy names, in that of the tunnel's
// connectors, and beside an application. Every target answers, so a denial is a policy's or the firewall's.
func TestPodsReachWhatTheyNeed(t *testing.T) {
	l := running(t)
	const stranger, connectors, memos = "e2e-stranger", "cloudflared", "memos-system"
	kube(t, l, "create", "namespace", stranger)
	t.Cleanup(func() { discard(t, l, "namespace", stranger) })
	startClient(t, l, stranger, "client", "")
	startClient(t, l, connectors, "client", "")
	startClient(t, l, connectors, "cloudflared", "app.kubernetes.io/name=cloudflared")
	startClient(t, l, memos, "client", "")
	t.Cleanup(func() {
		discard(t, l, "--namespace="+connectors, "pod", "client", "cloudflared")
		discard(t, l, "--namespace="+memos, "pod", "client")
	})

	at := func(port uint16, path string, args ...string) netip.AddrPort {
		address, err := netip.ParseAddr(kube(t, l, append(args, "-o", "jsonpath={"+path+"}")...))
		if err != nil {
			t.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
		return netip.AddrPortFrom(address, port)
	}
	service := func(namespace, name string, port uint16) netip.AddrPort {
		return at(port, ".spec.clusterIP", "-n", namespace, "get", "service", name)
	}
	pod := func(namespace, label string, port uint16) netip.AddrPort {
		return at(port, ".items[0].status.podIP", "-n", namespace, "get", "pods", "-l", label)
	}
	outside, edge := netip.MustParseAddrPort(layout.ArtifactsAddr), netip.MustParseAddrPort(layout.ConnectorAddr)
	machineSSH := netip.AddrPortFrom(netip.MustParseAddr(first(l).IPv4), 22)
	api, dns := service("default", "kubernetes", 443), service("kube-system", "kube-dns", 53)
	notes, posts := service(memos, "memos", 5230), service(blogNamespace, "ghost", 2368)
	// What no pod of another namespace needs: among it the metrics of Flux and of DNS.
	inner := []netip.AddrPort{
		machineSSH,
		service("sealed-secrets", "sealed-secrets-controller", 8080),
		service("flux-system", "source-controller", 80),
		service("flux-system", "notification-controller", 80),
		pod("flux-system", "app=kustomize-controller", 8080),
		pod("kube-system", "k8s-app=kube-dns", 9153),
		service(blogNamespace, blogDatabase, 3306),
		service(memos, "memos-database-rw", 5432),
	}
	for _, target := range append(slices.Clone(inner), notes, posts) {
		if err := dial(first(l).Namespace(), target.Addr().String(), int(target.Port())); err != nil {
			t.Errorf("the machine itself does not reach %s: %v", target, err)
		}
	}
	for _, test := range []struct {
		namespace, pod string
		open, shut     []netip.AddrPort
	}{
		{stranger, "client", []netip.AddrPort{api, dns, outside}, append(slices.Clone(inner), notes, posts)},
		{connectors, "client", nil, []netip.AddrPort{notes, posts, dns, edge}},
		{connectors, "cloudflared", []netip.AddrPort{notes, posts, dns, edge}, append(slices.Clone(inner), api, outside)},
		{memos, "client", nil, append(slices.Clone(inner), notes, posts, api, dns, outside)},
	} {
		for _, target := range test.open {
			expect(t, l, test.namespace, test.pod, target, true)
		}
		for _, target := range test.shut {
			expect(t, l, test.namespace, test.pod, target, false)
		}
	}
	name := "memos." + memos + ".svc.cluster.local"
	if out, err := inPod(t, l, stranger, "client", "nslookup", name); !strings.Contains(out, notes.Addr().String()) {
		t.Errorf("%s is not resolved: %v\n%s", name, err, out)
	}
}

// TestALoadBalancerIsForInside gives an application a Service of type LoadBalancer: pods and hosts reach its address, a
// stranger on the public side gets none of it, though the address is announced there.
func TestALoadBalancerIsForInside(t *testing.T) {
	l := running(t)
	const memos, connectors, inside = "memos-system", "cloudflared", "e2e-inside"
	pool, err := netip.ParsePrefix(kube(t, l, "-n", "metallb-system", "get", "ipaddresspool", "metallb",
		"-o", "jsonpath={.spec.addresses[0]}"))
	if err != nil {
		t.Fatal(err)
	}
	kube(t, l, "-n", memos, "expose", "deployment", "memos", "--name="+inside, "--type=LoadBalancer", "--port=5230")
	startClient(t, l, connectors, inside, "app.kubernetes.io/name=cloudflared")
	t.Cleanup(func() {
		discard(t, l, "--namespace="+memos, "service", inside)
		discard(t, l, "--namespace="+connectors, "pod", inside)
	})
	var address netip.Addr
	eventually(t, time.Minute, "the Service has an address", func() error {
		text, err := kubectl.Run(t.Context(), l.Layout, "-n", memos, "get", "service", inside,
			"-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
		if err != nil {
			return err
		}
		address, err = netip.ParseAddr(text)
		return err
	})
	if !pool.Contains(address) {
		t.Errorf("%s is not of the pool %s", address, pool)
	}
	expect(t, l, connectors, inside, netip.AddrPortFrom(address, 5230), true)
	for _, m := range l.Machines {
		if err := dial(m.Namespace(), address.String(), 5230); err != nil {
			t.Errorf("%s does not reach %s: %v", m.Name, address, err)
		}
	}
	addStranger(t)
	found, err := scan.TCP(t.Context(), machine.Stranger, []int{5230}, address.String())
	if err != nil {
		t.Fatal(err)
	}
	if !found[0].Silent() {
		t.Errorf("to a stranger, %s", found[0])
	}
}

func startClient(t *testing.T, l *lab, namespace, name, label string) {
	t.Helper()
	startClientOn(t, l, "", namespace, name, label)
}

// startClientOn starts it on a node.
func startClientOn(t *testing.T, l *lab, node, namespace, name, label string) {
	t.Helper()
	kube(t, l, "-n", namespace, "run", name, "--image="+artifacts.Busybox, "--labels="+label,
		"--overrides="+strings.Replace(client, "NODE", node, 1))
	eventually(t, time.Minute, namespace+"/"+name+" runs", func() error {
		phase, err := kubectl.Run(t.Context(), l.Layout, "-n", namespace, "get", "pod", name,
			"-o", "jsonpath={.status.phase}")
		if err == nil && phase != "Running" {
			err = errors.New("it is " + phase)
		}
		return err
	})
}

// discard deletes what a test made, and waits until it is gone.
func discard(t *testing.T, l *lab, args ...string) {
	if _, err := kubectl.Run(context.Background(), l.Layout, append([]string{"delete"}, args...)...); err != nil {
		t.Error(err)
	}
}

// expect tries for some seconds: the policies of a new pod come into force after its start.
func expect(t *testing.T, l *lab, namespace, pod string, target netip.AddrPort, open bool) {
	t.Helper()
	var err error
	for started := time.Now(); time.Since(started) < 10*time.Second; time.Sleep(time.Second) {
		address, port := target.Addr().String(), strconv.Itoa(int(target.Port()))
		_, err = inPod(t, l, namespace, pod, "nc", "-w", "2", address, port)
		if open && err == nil {
			return
		}
		// The words of nc: a command that does not run at all denies nothing.
		if !open && err != nil &&
			(strings.Contains(err.Error(), "can't connect") || strings.Contains(err.Error(), "timed out")) {
			return
		}
	}
	t.Errorf("%s in %s to %s: open should be %t: %v", pod, namespace, target, open, err)
}

func inPod(t *testing.T, l *lab, namespace, pod string, command ...string) (string, error) {
	t.Helper()
	args := append([]string{"-n", namespace, "exec", pod, "--", "busybox"}, command...)
	return kubectl.Run(t.Context(), l.Layout, args...)
}
