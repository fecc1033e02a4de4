package machine

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestFirewallPackets sends real packets through the real kernel: a machine
// between a public and a tailnet neighbour and a pod, each in a network namespace
// of its own. A DNAT rule plays the NodePort that input chains never see.
func TestFirewallPackets(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	if testing.Short() {
		t.Skip("makes network namespaces")
	}
	prefix := fmt.Sprintf("trfw%d-", os.Getpid())
	machine, public, tailnet, pod := prefix+"m", prefix+"p", prefix+"t", prefix+"c"
	setup := `set -e
for n in $M $P $T $C; do ip netns add $n; ip -n $n link set lo up; done
ip -n $M link add eth0 type veth peer name eth0 netns $P
ip -n $M link add tailscale0 type veth peer name eth0 netns $T
ip -n $M link add veth1 type veth peer name eth0 netns $C
ip -n $M link add cni0 type bridge
ip -n $M link set veth1 master cni0
ip -n $M addr add 192.0.2.1/24 dev eth0
ip -n $M addr add 100.64.0.10/24 dev tailscale0
ip -n $M addr add 10.55.0.1/24 dev cni0
for d in eth0 tailscale0 veth1 cni0; do ip -n $M link set $d up; done
for x in $P:192.0.2.2/24 $P:192.0.2.3/24 $T:100.64.0.2/24 $C:10.55.0.2/24; do ip -n ${x%%:*} addr add ${x#*:} dev eth0; ip -n ${x%%:*} link set eth0 up; done
ip -n $P route add default via 192.0.2.1
ip -n $T route add default via 100.64.0.10
ip -n $C route add default via 10.55.0.1
ip netns exec $M sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
ip netns exec $M nft -f - <<RULES
table ip kube-proxy {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		ip daddr { 192.0.2.1, 100.64.0.10 } tcp dport 30080 dnat to 10.55.0.2:8080
	}
}
RULES`
	run := func(script string) (string, error) {
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(os.Environ(), "M="+machine, "P="+public, "T="+tailnet, "C="+pod)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() { _, _ = run("for n in $M $P $T $C; do ip netns del $n 2>/dev/null; done") })
	if out, err := run(setup); err != nil {
		t.Skipf("network namespaces cannot be made here: %v\n%s", err, out)
	}
	listen(t, machine, "0.0.0.0:22", "0.0.0.0:6443")
	listen(t, pod, "0.0.0.0:8080")
	listen(t, public, "0.0.0.0:443")
	// Without the firewall everything is open: the test can fail.
	if !dials(t, public, "192.0.2.3", "192.0.2.1:6443") || !dials(t, public, "192.0.2.3", "192.0.2.1:30080") {
		t.Fatal("the neighbour cannot reach the open machine: the test would prove nothing")
	}

	firewall := testFirewall()
	firewall.BootstrapSources = []string{"192.0.2.2/32"}
	rules := writeTemp(t, ruleset(t, firewall))
	for range 2 { // a reload must not change anything
		if out, err := run("ip netns exec $M nft -f " + rules); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	tests := []struct {
		name, namespace, from, to string
		want                      bool
	}{
		{"bootstrap source to SSH", public, "192.0.2.2", "192.0.2.1:22", true},
		{"bootstrap source to the API", public, "192.0.2.2", "192.0.2.1:6443", false},
		{"stranger to SSH", public, "192.0.2.3", "192.0.2.1:22", false},
		{"stranger to the API", public, "192.0.2.3", "192.0.2.1:6443", false},
		{"stranger to a NodePort", public, "192.0.2.3", "192.0.2.1:30080", false},
		{"bootstrap source to a NodePort", public, "192.0.2.2", "192.0.2.1:30080", false},
		{"stranger to a pod", public, "192.0.2.3", "10.55.0.2:8080", false},
		{"stranger to the tailnet address", public, "192.0.2.3", "100.64.0.10:6443", false},
		{"tailnet to SSH", tailnet, "100.64.0.2", "100.64.0.10:22", true},
		{"tailnet to the API", tailnet, "100.64.0.2", "100.64.0.10:6443", true},
		{"tailnet to a NodePort", tailnet, "100.64.0.2", "100.64.0.10:30080", true},
		{"pod to the API", pod, "10.55.0.2", "192.0.2.1:6443", true},
		{"pod to the outside", pod, "10.55.0.2", "192.0.2.2:443", true},
		{"machine to itself", machine, "127.0.0.1", "127.0.0.1:6443", true},
		{"machine to a pod", machine, "10.55.0.1", "10.55.0.2:8080", true},
		{"machine to the outside", machine, "192.0.2.1", "192.0.2.2:443", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := dials(t, tt.namespace, tt.from, tt.to); got != tt.want {
				t.Errorf("%s to %s: reached is %v, want %v", tt.from, tt.to, got, tt.want)
			}
		})
	}
	// Somebody on the public side pretends to be a pod.
	if out, err := run("ip -n $P addr add 10.55.9.9/32 dev eth0; ip -n $M route add 10.55.9.9/32 via 192.0.2.2"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if dials(t, public, "10.55.9.9", "192.0.2.1:6443") {
		t.Error("a forged pod address opens the machine")
	}
}

// TestMain lets the test binary be its own network tool inside a namespace.
func TestMain(m *testing.M) {
	switch os.Getenv("FIREWALL_TEST_ROLE") {
	case "listen":
		for _, address := range strings.Fields(os.Getenv("FIREWALL_TEST_ADDRESS")) {
			l, err := net.Listen("tcp", address)
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_ = c.Close()
				}
			}()
		}
		fmt.Println("listening")
		select {}
	case "dial":
		d := net.Dialer{Timeout: 700 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(os.Getenv("FIREWALL_TEST_FROM"))}}
		c, err := d.Dial("tcp", os.Getenv("FIREWALL_TEST_ADDRESS"))
		if err != nil {
			os.Exit(3)
		}
		_ = c.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// listen starts listeners in a namespace and stops them with the test.
func listen(t *testing.T, namespace string, addresses ...string) {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", namespace, os.Args[0])
	cmd.Env = append(os.Environ(), "FIREWALL_TEST_ROLE=listen", "FIREWALL_TEST_ADDRESS="+strings.Join(addresses, " "))
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line := make([]byte, 64)
	n, _ := stdout.Read(line)
	if string(line[:n]) != "listening\n" {
		t.Fatalf("%s: %s", namespace, line[:n])
	}
}

// dials reports whether a connection can be made from inside a namespace.
func dials(t *testing.T, namespace, from, to string) bool {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", namespace, os.Args[0])
	cmd.Env = append(os.Environ(), "FIREWALL_TEST_ROLE=dial", "FIREWALL_TEST_FROM="+from, "FIREWALL_TEST_ADDRESS="+to)
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); err != nil && code != 3 {
		t.Fatalf("dialling from %s: %v\n%s", namespace, err, out)
	}
	return err == nil
}
