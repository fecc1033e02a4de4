package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// insideNamespaces runs the calling test once more in user and network namespaces of its own, where it is root and
// alone with the real nft. It returns true there. A missing tool is a failure: a test that skips guards nothing.
func insideNamespaces(t *testing.T) bool {
	t.Helper()
	if os.Getenv("FIREWALL_TEST_INSIDE") != "" {
		return true
	}
	for _, tool := range []string{"nft", "ip", "unshare", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: apt-get install nftables iproute2 util-linux", err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-Urn", "--kill-child",
		os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "FIREWALL_TEST_INSIDE=yes")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Errorf("in namespaces (they need kernel.unprivileged_userns_clone=1 for a user other than root): %v\n%s", err, out)
	}
	return false
}

// shell runs a script of the test with the real tools.
func shell(t *testing.T, script string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", script)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	return string(out)
}

// neighbour is a network namespace of its own, known by a process in it. The zero value is the machine.
type neighbour int

func newNeighbour(t *testing.T) neighbour {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "-n", "sh", "-c", "echo; exec sleep 600")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return neighbour(cmd.Process.Pid)
}

// env is the process as a variable for the shell.
func (n neighbour) env(name string) string { return name + "=" + strconv.Itoa(int(n)) }

// command is this test binary as a network tool inside the namespace.
func (n neighbour) command(ctx context.Context, role, what string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	if n != 0 {
		cmd = exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(int(n)), "-n", os.Args[0])
	}
	cmd.Env = append(os.Environ(), "FIREWALL_TEST_ROLE="+role, "FIREWALL_TEST_WHAT="+what)
	return cmd
}

// listen starts listeners that answer, until the test ends. Each is "tcp 22" or "udp 68".
func (n neighbour) listen(t *testing.T, ports string) {
	t.Helper()
	cmd := n.command(t.Context(), "listen", ports)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	line := make([]byte, 200)
	if n, _ := stdout.Read(line); string(line[:n]) != "listening\n" {
		t.Fatalf("%s", line[:n])
	}
}

// TestMain lets the test binary be its own network tool inside a namespace.
func TestMain(m *testing.M) {
	what := strings.Split(os.Getenv("FIREWALL_TEST_WHAT"), "\n")
	switch os.Getenv("FIREWALL_TEST_ROLE") {
	case "listen":
		for _, line := range what {
			network, port, _ := strings.Cut(line, " ")
			if err := answer(network, "[::]:"+port); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
		fmt.Println("listening")
		select {}
	case "dial":
		answers := make([]string, len(what))
		var all sync.WaitGroup
		for i, line := range what {
			all.Go(func() {
				f := strings.Fields(line)
				answers[i] = fmt.Sprint(dial(f[0], f[1], f[2]))
			})
		}
		all.Wait()
		fmt.Println(strings.Join(answers, "\n"))
		os.Exit(0)
	case "refused":
		_, err := net.DialTimeout("tcp", what[0], 10*time.Second)
		fmt.Println(errors.Is(err, syscall.ECONNREFUSED))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func answer(network, address string) error {
	if network == "udp" {
		c, err := net.ListenPacket(network, address)
		if err != nil {
			return err
		}
		go func() {
			for buffer := make([]byte, 100); ; {
				if n, from, err := c.ReadFrom(buffer); err == nil {
					_, _ = c.WriteTo(buffer[:n], from)
				}
			}
		}()
		return nil
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	go func() {
		for {
			if c, err := l.Accept(); err == nil {
				_ = c.Close()
			}
		}
	}()
	return nil
}

// dial reports whether something at the other end answers. A source may have a port.
func dial(network, from, to string) bool {
	const patience = 700 * time.Millisecond
	if network == "tcp" {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial(network, to)
		return err == nil && c.Close() == nil
	}
	if _, err := netip.ParseAddrPort(from); err != nil {
		from = net.JoinHostPort(from, "0")
	}
	c, err := net.ListenPacket(network, from)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer func() { _ = c.Close() }()
	address, err := net.ResolveUDPAddr(network, to)
	if err != nil {
		return false
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.WriteTo([]byte("x"), address); err != nil {
		return false
	}
	_, _, err = c.ReadFrom(make([]byte, 10))
	return err == nil
}

// passage is one attempt to reach something. Without a firewall every one of them succeeds.
type passage struct {
	name              string
	source            neighbour
	network, from, to string
	want              bool
}

// wantPassages makes every attempt, those of one neighbour at once. open says that everything must be reached.
func wantPassages(t *testing.T, open bool, passages []passage) {
	t.Helper()
	sources := map[neighbour][]passage{}
	for _, p := range passages {
		sources[p.source] = append(sources[p.source], p)
	}
	var all sync.WaitGroup
	for source, tries := range sources {
		all.Go(func() {
			var lines []string
			for _, p := range tries {
				lines = append(lines, p.network+" "+p.from+" "+p.to)
			}
			out, err := source.command(t.Context(), "dial", strings.Join(lines, "\n")).CombinedOutput()
			answers := strings.Fields(string(out))
			if err != nil || len(answers) != len(tries) {
				t.Errorf("dialling: %v\n%s", err, out)
				return
			}
			for i, p := range tries {
				if want := open || p.want; answers[i] != fmt.Sprint(want) {
					t.Errorf("%s: %s from %s to %s: reached is %s, want %v (firewall loaded: %v)",
						p.name, p.network, p.from, p.to, answers[i], want, !open)
				}
			}
		})
	}
	all.Wait()
}

// TestFirewallPackets sends real packets through the real kernel: a machine between a neighbour on the public side, a
// peer of the tailnet, a pod of its own and a pod of another host. The rewriting of kube-proxy and of the portmap
// plugin is there as tables of their own, which input chains never see.
func TestFirewallPackets(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	public, tailnet, pod, remotePod := newNeighbour(t), newNeighbour(t), newNeighbour(t), newNeighbour(t)
	shell(t, `
ip link set lo up
for n in $P $T $C $R; do nsenter -t $n -n ip link set lo up; done
ip link add eth0 type veth peer name eth0 netns $P
ip link add tailscale0 type veth peer name eth0 netns $T
ip link add veth1 type veth peer name eth0 netns $C
ip link add flannel.1 type veth peer name eth0 netns $R
ip link add cni0 type bridge
ip link set veth1 master cni0
for d in veth1 cni0; do ip link set $d up; done
# DEVICE ADDRESS... on the machine, then PROCESS ADDRESS... elsewhere
nodad() { case $1 in *:*) echo nodad ;; esac; }
on() { d=$1; shift; ip link set $d up; for a; do ip addr add $a dev $d $(nodad $a); done; }
at() {
	n="nsenter -t $1 -n"; shift
	$n ip link set eth0 up
	for a; do $n ip addr add $a dev eth0 $(nodad $a); done
}
on eth0 192.0.2.1/24 192.0.2.50/24 2001:db8::1/64 fe80::1/64
on tailscale0 100.64.0.10/24 fd7a:115c:a1e0::10/64
on cni0 10.55.0.1/24 2001:db8:55::1/64
on flannel.1 10.55.1.254/24 2001:db8:55:1::fe/64
at $P 192.0.2.2/24 192.0.2.3/24 192.0.2.11/24 2001:db8::2/64 2001:db8::3/64 2001:db8::11/64 fe80::3/64 \
	169.254.169.254/32 fd00:ec2::254/128 10.55.9.9/32 2001:db8:55:9::9/128 10.56.9.9/32 2001:db8:56:9::9/128
at $T 100.64.0.2/24 fd7a:115c:a1e0::2/64
at $C 10.55.0.2/24 2001:db8:55::2/64
at $R 10.55.1.2/24 2001:db8:55:1::2/64
route() { nsenter -t $1 -n ip route add default via $2; nsenter -t $1 -n ip -6 route add default via $3; }
route $P 192.0.2.1 2001:db8::1
route $T 100.64.0.10 fd7a:115c:a1e0::10
route $C 10.55.0.1 2001:db8:55::1
route $R 10.55.1.254 2001:db8:55:1::fe
# What is behind the public side: metadata, and somebody who pretends to be a pod, and a Service.
for a in 169.254.169.254 10.55.9.9 10.56.9.9; do ip route add $a via 192.0.2.2; done
for a in fd00:ec2::254 2001:db8:55:9::9 2001:db8:56:9::9; do ip -6 route add $a via 2001:db8::2; done
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done
nft -f - <<RULES
table ip kube-proxy {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		ip daddr { 192.0.2.1, 100.64.0.10 } tcp dport 30080 dnat to 10.55.0.2:8080 comment "NodePort"
		ip daddr 192.0.2.50 tcp dport 80 dnat to 10.55.0.2:8080 comment "LoadBalancer"
		ip daddr 192.0.2.1 tcp dport 8443 dnat to 10.55.0.2:8080 comment "hostPort"
		ip daddr 192.0.2.1 udp dport 8053 dnat to 10.55.0.2:53 comment "hostPort"
		ip daddr 10.56.0.1 tcp dport 443 dnat to 192.0.2.1:6443 comment "the Service kubernetes"
	}
}
table ip6 kube-proxy {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		ip6 daddr { 2001:db8::1, fd7a:115c:a1e0::10 } tcp dport 30080 dnat to [2001:db8:55::2]:8080
		ip6 daddr 2001:db8:56::1 tcp dport 443 dnat to [2001:db8::1]:6443
	}
}
RULES`, public.env("P"), tailnet.env("T"), pod.env("C"), remotePod.env("R"))
	const machine neighbour = 0
	machine.listen(t, "tcp 22\ntcp 111\ntcp 2379\ntcp 6443\ntcp 10250\ntcp 9100\n"+
		"udp 53\nudp 68\nudp 546\nudp 8472\nudp 51820")
	public.listen(t, "tcp 443\ntcp 80\nudp 53")
	tailnet.listen(t, "tcp 443")
	pod.listen(t, "tcp 8080\nudp 53")
	remotePod.listen(t, "tcp 8080")

	// Of either family, with the addresses of that family in place of the letters.
	both := []passage{
		{"bootstrap source to SSH", public, "tcp", "B", "M:22", true},
		{"bootstrap source to the API", public, "tcp", "B", "M:6443", false},
		{"bootstrap source to a NodePort", public, "tcp", "B", "M:30080", false},
		{"stranger to SSH", public, "tcp", "S", "M:22", false},
		{"stranger to rpcbind", public, "tcp", "S", "M:111", false},
		{"stranger to the API", public, "tcp", "S", "M:6443", false},
		{"stranger to the kubelet", public, "tcp", "S", "M:10250", false},
		{"stranger to etcd", public, "tcp", "S", "M:2379", false},
		{"stranger to VXLAN", public, "udp", "S", "M:8472", false},
		{"stranger to WireGuard", public, "udp", "S", "M:51820", false},
		{"stranger to a hostNetwork pod", public, "tcp", "S", "M:9100", false},
		{"stranger to a NodePort", public, "tcp", "S", "M:30080", false},
		{"stranger to a pod", public, "tcp", "S", "C:8080", false},
		{"stranger to the tailnet address", public, "tcp", "S", "U:6443", false},
		{"stranger to a peer of the tailnet", public, "tcp", "S", "T:443", false},
		{"forged pod to the API", public, "tcp", "F", "M:6443", false},
		{"forged pod to a pod", public, "tcp", "F", "C:8080", false},
		{"node to the API", public, "tcp", "N", "M:6443", true},
		{"node to etcd", public, "tcp", "N", "M:2379", true},
		{"node to the kubelet", public, "tcp", "N", "M:10250", true},
		{"node to VXLAN", public, "udp", "N", "M:8472", true},
		{"node to WireGuard", public, "udp", "N", "M:51820", true},
		{"node to SSH", public, "tcp", "N", "M:22", false},
		{"node to another service", public, "tcp", "N", "M:9100", false},
		{"node to a NodePort", public, "tcp", "N", "M:30080", false},
		{"tailnet to SSH", tailnet, "tcp", "T", "U:22", true},
		{"tailnet to the API", tailnet, "tcp", "T", "U:6443", true},
		{"tailnet to a NodePort", tailnet, "tcp", "T", "U:30080", true},
		{"pod to the API", pod, "tcp", "C", "M:6443", true},
		{"pod to the Service kubernetes", pod, "tcp", "C", "K:443", true},
		{"pod to a Service that nobody rewrites", pod, "tcp", "C", "V:443", false},
		{"pod to the kubelet", pod, "tcp", "C", "M:10250", true},
		{"pod to SSH", pod, "tcp", "C", "M:22", false},
		{"pod to rpcbind", pod, "tcp", "C", "M:111", false},
		{"pod to etcd", pod, "tcp", "C", "M:2379", false},
		{"pod to another service", pod, "tcp", "C", "G:9100", false},
		{"pod to SSH on the tailnet address", pod, "tcp", "C", "U:22", false},
		{"pod to the machine's DNS", pod, "udp", "C", "G:53", false},
		{"pod to the Internet", pod, "tcp", "C", "B:443", true},
		{"pod to a pod elsewhere", pod, "tcp", "C", "R:8080", true},
		{"pod to a peer of the tailnet", pod, "tcp", "C", "T:443", false},
		{"pod to metadata", pod, "tcp", "C", "D:80", false},
		{"pod elsewhere to a pod", remotePod, "tcp", "R", "C:8080", true},
		{"pod elsewhere to the API", remotePod, "tcp", "R", "M:6443", true},
		{"pod elsewhere to SSH", remotePod, "tcp", "R", "M:22", false},
		{"pod elsewhere to a peer of the tailnet", remotePod, "tcp", "R", "T:443", false},
		{"machine to itself", machine, "tcp", "M", "M:9100", true},
		{"machine to a pod", machine, "tcp", "G", "C:8080", true},
		{"machine to the outside", machine, "tcp", "M", "B:443", true},
		{"machine to metadata", machine, "tcp", "M", "D:80", true},
		{"machine to the tailnet", machine, "tcp", "U", "T:443", true},
	}
	fours := expand(both, map[byte]string{
		'M': "192.0.2.1", 'B': "192.0.2.2", 'S': "192.0.2.3", 'N': "192.0.2.11", 'C': "10.55.0.2", 'G': "10.55.0.1",
		'R': "10.55.1.2", 'F': "10.55.9.9", 'U': "100.64.0.10", 'T': "100.64.0.2", 'K': "10.56.0.1", 'D': "169.254.169.254",
		'V': "10.56.9.9",
	})
	sixes := expand(both, map[byte]string{
		'M': "2001:db8::1", 'B': "2001:db8::2", 'S': "2001:db8::3", 'N': "2001:db8::11", 'C': "2001:db8:55::2",
		'G': "2001:db8:55::1", 'R': "2001:db8:55:1::2", 'F': "2001:db8:55:9::9", 'U': "fd7a:115c:a1e0::10",
		'T': "fd7a:115c:a1e0::2", 'V': "2001:db8:56:9::9", 'K': "2001:db8:56::1", 'D': "fd00:ec2::254",
	})
	fours = append(
		fours,
		passage{"stranger to a LoadBalancer", public, "tcp", "192.0.2.3", "192.0.2.50:80", false},
		passage{"stranger to a hostPort", public, "tcp", "192.0.2.3", "192.0.2.1:8443", false},
		passage{"stranger to a hostPort, UDP", public, "udp", "192.0.2.3", "192.0.2.1:8053", false},
		passage{"pod to DNS on the Internet", pod, "udp", "10.55.0.2", "192.0.2.2:53", true},
		passage{"DHCP answer to everybody on the link", public, "udp", "192.0.2.3:67", "255.255.255.255:68", true},
		passage{"something else to everybody on the link", public, "udp", "192.0.2.11:68", "255.255.255.255:68", false},
	)
	sixes = append(
		sixes,
		passage{"DHCP answer on the link", public, "udp", "[fe80::3%eth0]:547", "[fe80::1%eth0]:546", true},
	)
	// Without the firewall everything is open: each of the refusals below can fail.
	wantPassages(t, true, slices.Concat(fours, sixes, []passage{
		{"any DHCP server", public, "udp", "192.0.2.2:67", "192.0.2.1:68", true},
		{"any DHCP server", public, "udp", "[2001:db8::2]:547", "[2001:db8::1]:546", true},
	}))
	// From another address: the flows of the fixed ports above are tracked by now.
	fours = append(fours, passage{"stranger as DHCP server", public, "udp", "192.0.2.11:67", "192.0.2.1:68", false})
	sixes = append(sixes,
		passage{"stranger as DHCP server", public, "udp", "[2001:db8::11]:547", "[2001:db8::1]:546", false})

	f := Firewall{BootstrapSources: []string{"192.0.2.2/32", "2001:db8::2"}}
	f.Nodes = []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")}
	for _, network := range []struct {
		pods, services, nobodys string
		passages                []passage
	}{
		{"10.55.0.0/16", "10.56.0.0/16", "10.56.9.9:443", fours},
		{"2001:db8:55::/48", "2001:db8:56::/48", "[2001:db8:56:9::9]:443", sixes},
	} {
		f.PodCIDR, f.ServiceCIDR = network.pods, network.services
		path := t.TempDir() + "/rules.nft"
		if err := os.WriteFile(path, []byte(ruleset(t, f)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		shell(t, `for again in 1 2; do nft -c -f "$RULES"; nft -f "$RULES"; done
[ "$(nft list table inet tinyrack | grep -c 'policy drop')" = 2 ]
nft list table ip kube-proxy >/dev/null`, "RULES="+path)
		wantPassages(t, false, network.passages)
		// Silence would have the pod wait.
		if out, err := pod.command(t.Context(), "refused", network.nobodys).CombinedOutput(); string(out) != "true\n" {
			t.Errorf("%s, which nobody rewrites, does not refuse: %v\n%s", network.nobodys, err, out)
		}
	}

	// Without nodes nobody on the public side reaches what they would.
	f.Nodes, f.BootstrapSources, f.PodCIDR, f.ServiceCIDR = nil, nil, "10.55.0.0/16", "10.56.0.0/16"
	shell(t, `printf '%s\n' "$RULES" | nft -f -`, "RULES="+ruleset(t, f))
	closed := []passage{}
	for _, p := range fours {
		if p.source == public && p.network == "tcp" {
			p.want = false
			closed = append(closed, p)
		}
	}
	wantPassages(t, false, closed)
}

// expand puts addresses in place of letters.
func expand(passages []passage, addresses map[byte]string) []passage {
	var all []passage
	for _, p := range passages {
		p.from = addresses[p.from[0]]
		p.to = net.JoinHostPort(addresses[p.to[0]], p.to[2:])
		all = append(all, p)
	}
	return all
}

// TestFirewallRealNft runs the scripts as they are against the real nft.
func TestFirewallRealNft(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	former, rules := firewallRules(t)
	h := newFirewallHost(t)
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Fatal(err)
	}
	h.Fake("nft", "exec "+nft+` "$@"`)
	list := func() string {
		return shell(t, "nft -s list ruleset")
	}
	clients := map[string]int{
		"203.0.113.7 50000 192.0.2.1 22": 0, "198.51.100.77 50000 192.0.2.1 22": 0, "2001:db8:1::5 50000 2001:db8::1 22": 0,
		"2001:db8:9::7 5 2001:db8::1 22": 0, "203.0.113.8 50000 192.0.2.1 22": 1, "2001:db8:9::8 5 2001:db8::1 22": 1,
		"fe80::1%eth0 5 fe80::2%eth0 22": 1, overTailnet: 0,
	}
	for client, code := range clients {
		if r := h.run("trial", rules, client); r.Code != code {
			t.Errorf("%s: %+v", client, r)
		}
	}
	h.pass(121)
	if got := list(); got != "" {
		t.Errorf("left after the trials:\n%s", got)
	}
	keep := func(rules string) {
		for _, step := range []string{"trial", "confirm"} {
			h.connect()
			if r := h.run(step, rules, fromBootstrap); r.Code != 0 {
				t.Fatalf("%s: %+v", step, r)
			}
		}
	}
	keep(former)
	want := list()
	h.run("trial", rules, fromBootstrap)
	if list() == want {
		t.Error("the other rules make no difference")
	}
	h.pass(121)
	if got := list(); got != want {
		t.Errorf("taken back, the kernel has\n%s\nwant\n%s", got, want)
	}
	keep(rules)
	want = list()

	for name, harm := range map[string]string{
		"nothing":          "true",
		"flush":            "nft flush ruleset",
		"stop of nftables": "nft flush ruleset",
		"nftables.conf":    "printf 'flush ruleset\ntable inet filter {\n}\n' | nft -f -; nft delete table inet filter",
		"a rule inserted":  "nft insert rule inet tinyrack input accept",
		"a rule added":     "nft add rule inet tinyrack input tcp dport 9100 accept",
		"a rule deleted": "nft delete rule inet tinyrack pods_out handle $(nft -a list chain inet tinyrack pods_out |" +
			" sed -n 's/.*169.254.*handle //p')",
		"an open policy":    "nft 'chain inet tinyrack forward { policy accept; }'",
		"a set widened":     "nft add element inet tinyrack bootstrap4 '{ 192.0.2.0/24 }'",
		"a set emptied":     "nft flush set inet tinyrack bootstrap4",
		"a chain flushed":   "nft flush chain inet tinyrack input",
		"a dormant table":   "nft 'add table inet tinyrack { flags dormant; }'",
		"another set added": "nft 'add set inet tinyrack x { type ipv4_addr; }'",
	} {
		shell(t, harm)
		if changed := list() != want; changed != (name != "nothing") {
			t.Errorf("%s: the kernel's rules changed is %v", name, changed)
		}
		r := h.watchdog("check")
		if told := r.Stderr != ""; r.Code != 0 || told != (name != "nothing") {
			t.Errorf("%s: %+v", name, r)
		}
		if got := list(); got != want {
			t.Errorf("after %q the kernel has\n%s\nwant\n%s", harm, got, want)
		}
	}
	// Traffic changes nothing that is compared.
	shell(t, "ip link set lo up; ping -c1 -W1 127.0.0.1 >/dev/null || true")
	if r := h.watchdog("check"); r.Code != 0 || r.Stderr != "" {
		t.Errorf("got %+v", r)
	}
	if r := h.Run(firewallResetText(t), ""); r.Code != 0 || list() != "" {
		t.Errorf("the reset left\n%s\n%+v", list(), r)
	}
}
