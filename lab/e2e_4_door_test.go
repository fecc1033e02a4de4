//go:build e2e

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tinyrack-net/infrastructure/lab/kubectl"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/scan"
)

// TestPublicSideIsShut tries every TCP port and the common UDP ports of each public address. A stranger gets no answer
// at all; for the bootstrap source SSH is open, which also shows that the stranger could have found something.
func TestPublicSideIsShut(t *testing.T) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { shut(t, "after up") })
	group.Go(func() {
		found, err := scan.Whole(t.Context(), layout.Operator, publicAddresses(t)...)
		if err != nil {
			t.Error(err)
		}
		for _, a := range found {
			want := "tcp 22"
			if strings.Contains(a.Address, ":") {
				want = "" // the operator's IPv6 address is no bootstrap source
			}
			if a.Absent || a.Refused > 0 || strings.Join(a.Open, ", ") != want {
				t.Errorf("the operator finds %s, want [%s] open and no other answer", a, want)
			}
		}
	})
}

// TestFirewallComesBack takes the firewall away as other programs of a machine do. Whatever they remove of others'
// rules has to come back by itself as well: the site goes on. Until it is back the machine is open; what a stranger
// sees of that, and for how long, is logged.
func TestFirewallComesBack(t *testing.T) {
	l := running(t)
	for _, command := range []string{
		"nft flush ruleset", "systemctl start nftables && systemctl stop nftables",
		"nft insert rule inet tinyrack input accept",
	} {
		before := tables(t, l)
		w := startWatch(t)
		w.looksOn(t)
		for _, m := range l.Machines {
			on(t, l, m, command)
		}
		eventually(t, time.Minute, command+": the table is back", func() error { return sameTables(t, l, before) })
		back := time.Now()
		w.looksOn(t)
		w.end(t)
		t.Logf("%s: a stranger saw, %s", command, w.seen())
		w.silentFrom(t, func(string) time.Time { return back })
	}
	shut(t, "after all that")
	for _, m := range l.Machines {
		want := "active\nactive"
		if !slices.Contains(m.Roles, "storage") {
			want += "\nactive"
		}
		units := on(t, l, m, "systemctl is-active tinyrack-firewall tinyrack-firewall-watch 'k3s*'")
		if units != want {
			t.Errorf("%s: units: %s", m.Name, units)
		}
	}
	ready(t, l)
}

// TestMachinesAreShutWhileTheyBoot reboots all machines at once. In the lab their interfaces are up before their
// systemd begins, as on no real machine: until the rules are loaded the kernel refuses, but nothing may listen.
func TestMachinesAreShutWhileTheyBoot(t *testing.T) {
	l := running(t)
	const text = "before the machines were rebooted"
	writings := write(t, text)
	before := tables(t, l)
	w := startWatch(t)
	w.looksOn(t)
	for _, m := range l.Machines {
		_, _ = sshTo(t.Context(), l, layout.OnOperator(), m, m.FQDN(), "systemctl reboot") // which ends the session
	}
	var group sync.WaitGroup
	rebooted := time.Now()
	for _, m := range l.Machines {
		eventually(t, 2*time.Minute, m.Name+" is off", func() error {
			if l.runner.Running(m.Process()) {
				return errors.New("it is on")
			}
			return nil
		})
		group.Go(func() {
			if err := machine.New(l.Layout, m).Boot(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	eventually(t, time.Minute, "the tables are loaded", func() error { return sameTables(t, l, before) })
	loaded := map[string]time.Time{}
	for _, m := range l.Machines {
		at := loadedAt(t, l, m)
		loaded[m.IPv4], loaded[m.IPv6()] = at, at
	}
	startedSince(t, l, rebooted)
	ready(t, l)
	shut(t, "after a reboot")
	writings.isThere(t, 3*time.Minute, text)
	w.end(t)
	t.Logf("a stranger saw, %s", w.seen())
	w.neverOpen(t)
	w.silentFrom(t, func(address string) time.Time { return loaded[address] })
}

// loadedAt is when the machine's systemd had loaded the rules. Machine and host have one clock.
func loadedAt(t *testing.T, l *lab, m layout.Machine) time.Time {
	t.Helper()
	text := on(t, l, m, "systemctl show --value -p ActiveEnterTimestampMonotonic tinyrack-firewall")
	since, err := strconv.ParseInt(text, 10, 64)
	if err != nil || since == 0 {
		t.Fatalf("the firewall's unit is active since %q: %v", text, err)
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		t.Fatal(err)
	}
	return time.Now().Add(time.Duration(since)*time.Microsecond - time.Duration(now.Nano()))
}

// listenersOfPods are the ports of testdata/listeners.yaml.
const (
	onHostNetwork, onHostPort, onNodePort, onLoadBalancer = 4500, 5060, 31337, 1701
)

// TestPodsThatListenAreShut has pods listen in each way that Kubernetes knows. The same look finds every one of them
// once the firewall is left out.
func TestPodsThatListenAreShut(t *testing.T) {
	l := running(t)
	t.Cleanup(func() {
		if _, err := kubectl.Run(context.Background(), l.Layout, "delete", "-f", "testdata/listeners.yaml"); err != nil {
			t.Error(err)
		}
	})
	kube(t, l, "apply", "-f", "testdata/listeners.yaml")
	var ingress []string
	for _, m := range l.Machines {
		ingress = append(ingress, fmt.Sprintf(`{"ip":%q}`, m.IPv4))
	}
	kube(t, l, "-n", "listeners", "patch", "service", "load-balancer", "--subresource=status", "--type=merge", "-p",
		`{"status":{"loadBalancer":{"ingress":[`+strings.Join(ingress, ",")+`]}}}`)
	for _, name := range []string{"host-network", "pod-network"} {
		kube(t, l, "-n", "listeners", "rollout", "status", "daemonset", name, "--timeout=2m")
	}
	t.Run("shut", func(t *testing.T) { shut(t, "with pods that listen") })
	t.Run("shut while k3s restarts", func(t *testing.T) {
		w := startWatch(t)
		w.looksOn(t)
		for _, m := range l.Machines {
			on(t, l, m, "systemctl try-restart 'k3s*'")
		}
		ready(t, l)
		shut(t, "after a restart of k3s")
		w.end(t)
		w.silentFrom(t, func(string) time.Time { return time.Time{} })
	})
	t.Run("open without the firewall", func(t *testing.T) {
		before := tables(t, l)
		defer func() {
			for _, m := range l.Machines {
				on(t, l, m, "systemctl start tinyrack-firewall-watch")
			}
			eventually(t, time.Minute, "the tables are back", func() error { return sameTables(t, l, before) })
			shut(t, "with the firewall again")
		}()
		for _, m := range l.Machines {
			on(t, l, m, "systemctl stop tinyrack-firewall-watch && nft delete table inet tinyrack")
		}
		addStranger(t)
		// A machine that has to answer on every port at once, and is busy otherwise, loses some of its answers.
		var hidden []string
		for _, address := range publicAddresses(t) {
			for _, p := range listeners(l, address) {
				hidden = append(hidden, address+": "+p)
			}
		}
		for range 3 {
			if hidden = hiddenFrom(t, hidden); len(hidden) == 0 {
				return
			}
		}
		t.Errorf("not found to be open: %q", hidden)
	})
}

// hiddenFrom looks at all ports of all machines, and returns those of the listeners that it did not find.
func hiddenFrom(t *testing.T, listening []string) []string {
	t.Helper()
	found, err := scan.Whole(t.Context(), machine.Stranger, publicAddresses(t)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("without the firewall: %v", found)
	hidden := slices.Clone(listening)
	for _, a := range found {
		hidden = slices.DeleteFunc(hidden, func(listener string) bool {
			p, here := strings.CutPrefix(listener, a.Address+": ")
			return here && slices.Contains(a.Open, p)
		})
		if a.Refused == 0 {
			t.Errorf("%s refuses nothing", a.Address)
		}
	}
	return hidden
}

const listTable = "nft -s list table inet tinyrack"

// listeners are what is to be found at a machine's address when nothing keeps a stranger out.
func listeners(l *lab, address string) []string {
	at := slices.IndexFunc(l.Machines, func(m layout.Machine) bool { return address == m.IPv4 || address == m.IPv6() })
	roles, found := l.Machines[at].Roles, []string{"tcp 22"}
	if slices.Contains(roles, "storage") {
		return found
	}
	ports := []int{onHostNetwork}
	isIPv4 := !strings.Contains(address, ":")
	if isIPv4 { // as the cluster's networks are
		ports = append(ports, onHostPort, onNodePort, onLoadBalancer)
	}
	if isIPv4 || slices.Contains(roles, "server") { // an agent's kubelet listens at the node's address alone
		found = append(found, "tcp 10250")
	}
	for _, p := range ports {
		found = append(found, fmt.Sprintf("tcp %d", p), fmt.Sprintf("udp %d", p))
	}
	return found
}

// tables are the firewalls of all machines.
func tables(t *testing.T, l *lab) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, m := range l.Machines {
		all[m.Name] = on(t, l, m, listTable)
		if !strings.Contains(all[m.Name], "policy drop") {
			t.Fatalf("%s: the table is not as expected:\n%s", m.Name, all[m.Name])
		}
	}
	return all
}

func sameTables(t *testing.T, l *lab, want map[string]string) error {
	for _, m := range l.Machines {
		now, err := sshTo(t.Context(), l, layout.OnOperator(), m, m.FQDN(), listTable)
		if err == nil && strings.TrimSpace(now) != want[m.Name] {
			err = errors.New("another table:\n" + now)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// notReady prints each pod that should be ready and is not.
const notReady = `jsonpath={range .items[?(@.status.phase!="Succeeded")]}{.metadata.namespace}/{.metadata.name} ` +
	`{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`

func ready(t *testing.T, l *lab) {
	t.Helper()
	// A kubelet that was started again may see only after two minutes that it has a volume yet to mount.
	eventually(t, 4*time.Minute, "all pods are ready", func() error {
		out, err := kubectl.Run(t.Context(), l.Layout, "get", "pods", "-A", "-o", notReady)
		for line := range strings.Lines(out) {
			if err == nil && !strings.HasSuffix(strings.TrimSpace(line), " True") {
				err = errors.New("not ready: " + line)
			}
		}
		return err
	})
	// A machine that starts everything anew may not answer SSH within its time-out.
	for _, m := range l.Machines {
		eventually(t, time.Minute, m.Name+" answers", func() error {
			_, err := sshTo(t.Context(), l, layout.OnOperator(), m, m.FQDN(), "true")
			return err
		})
	}
}

// startedSince waits until every container runs that was started at this time or later: what the API says of a pod is
// as it was before its node's boot, until the kubelet looked.
func startedSince(t *testing.T, l *lab, when time.Time) {
	t.Helper()
	const started = `jsonpath={range .items[?(@.status.phase!="Succeeded")]}{.metadata.namespace}/{.metadata.name}` +
		`{range .status.containerStatuses[*]} {.state.running.startedAt}{end}{"\n"}{end}`
	eventually(t, 5*time.Minute, "all containers are started", func() error {
		out, err := kubectl.Run(t.Context(), l.Layout, "get", "pods", "-A", "-o", started)
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			pod, times, _ := strings.Cut(strings.TrimSpace(line), " ")
			for text := range strings.SplitSeq(times, " ") {
				// The API knows seconds. Of a container that does not run it knows no time.
				if at, err := time.Parse(time.RFC3339, text); err != nil || at.Before(when.Truncate(time.Second)) {
					return fmt.Errorf("%s is not started again: %s", pod, times)
				}
			}
		}
		return nil
	})
}
