package scan

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	stranger = "stranger"
	four     = "192.0.2.1"
	six      = "2001:db8::1"
	absent   = "192.0.2.9"
)

// asMachine runs the calling test once more as a machine with a stranger beside it, in namespaces of its own. It
// returns true there. A missing tool is a failure: a test that skips guards nothing.
func asMachine(t *testing.T) bool {
	t.Helper()
	if os.Getenv("SCAN_TEST_INSIDE") != "" {
		shell(t, `
		mount -t tmpfs none /run
		ip link set lo up
		ip netns add `+stranger+`
		ip link add eth0 type veth peer name eth0 netns `+stranger+`
		ip link set eth0 up
		ip -n `+stranger+` link set eth0 up
		ip addr add `+four+`/24 dev eth0
		ip addr add `+six+`/64 dev eth0 nodad
		ip -n `+stranger+` addr add 192.0.2.2/24 dev eth0
		ip -n `+stranger+` addr add 2001:db8::2/64 dev eth0 nodad`)
		return true
	}
	for _, tool := range []string{"nmap", "nft", "ip", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: apt-get install nmap nftables iproute2 util-linux", err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-Urnm", "--kill-child",
		os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "SCAN_TEST_INSIDE=yes")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Errorf("in namespaces (they need kernel.unprivileged_userns_clone=1 for a user other than root): %v\n%s", err, out)
	}
	return false
}

func shell(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "sh", "-euc", script).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
}

// listen answers on a port of both families, or of the one whose address is given.
func listen(t *testing.T, network, address string) {
	t.Helper()
	if strings.HasPrefix(network, "tcp") {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return
	}
	c, err := net.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		for buffer := make([]byte, 1500); ; {
			n, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(buffer[:n], from)
		}
	}()
}

// TestWhole looks at one machine without a firewall, and behind firewalls that say nothing, something, and too much.
func TestWhole(t *testing.T) {
	if !asMachine(t) {
		return
	}
	for _, l := range []string{"tcp :1", "tcp :22", "tcp :65535", "tcp4 :4444", "tcp6 :6666", "udp :53", "udp6 :31337"} {
		network, address, _ := strings.Cut(l, " ")
		listen(t, network, address)
	}
	const (
		every4 = "tcp 1, tcp 22, tcp 4444, tcp 65535, udp 53"
		every6 = "tcp 1, tcp 22, tcp 65535, tcp 6666, udp 31337, udp 53"
	)
	for _, test := range []struct {
		name, rules, open4, open6 string
		refused, whole            bool
	}{
		{"no firewall", "", every4, every6, true, true},
		{"silent", "tcp dport 22 meta nfproto ipv4 accept; drop", "tcp 22", "", false, true},
		{"silent to all", "drop", "", "", false, false},
		{"a reset", "tcp dport 80 reject with tcp reset; drop", "", "", true, false},
		{"a message", "tcp dport 81 reject with icmpx type admin-prohibited; drop", "", "", true, false},
		{"a forgotten port", "th dport 2049 accept; drop", "", "", true, false},
		{"UDP forgotten", "meta l4proto udp accept; drop", "udp 53", "udp 31337, udp 53", true, false},
	} {
		rules := "flush ruleset"
		if test.rules != "" {
			rules += "\ntable inet t {\nchain input {\ntype filter hook input priority 0\n" +
				"icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n" +
				strings.ReplaceAll(test.rules, "; ", "\n") + "\n}\n}"
		}
		shell(t, "nft -f - <<'RULES'\n"+rules+"\nRULES")
		started := time.Now()
		var got []Answers
		var err error
		if test.whole {
			got, err = Whole(t.Context(), stranger, four, six)
		} else { // a second of the 13 that silence takes
			some := append(ports{"-p1-5000,65535"}, everyTCP[:1]...)
			got, err = run(t.Context(), stranger, []string{four, six}, append(some, everyTCP[2:]...), commonUDP)
		}
		t.Logf("%s: %s, %v", test.name, time.Since(started).Round(100*time.Millisecond), got)
		if err != nil || len(got) != 2 {
			t.Fatalf("%s: %v", test.name, err)
		}
		for i, want := range []string{test.open4, test.open6} {
			if open := strings.Join(got[i].Open, ", "); open != want {
				t.Errorf("%s: open on %s are %s, want %s", test.name, got[i].Address, open, want)
			}
			if (got[i].Refused > 0) != test.refused {
				t.Errorf("%s: %v", test.name, got[i])
			}
			if silent := want == "" && !test.refused; got[i].Silent() != silent || got[i].Absent {
				t.Errorf("%s: taken for silent or absent: %v", test.name, got[i])
			}
		}
	}
}

// The silence of nobody is no success.
func TestAbsent(t *testing.T) {
	if !asMachine(t) {
		return
	}
	listen(t, "tcp", ":22")
	got, err := TCP(t.Context(), stranger, []int{22, 80}, four, absent, six)
	want := []Answers{
		{Address: four, Open: []string{"tcp 22"}, Refused: 1},
		{Address: absent, Absent: true},
		{Address: six, Open: []string{"tcp 22"}, Refused: 1},
	}
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || got[1].Silent() {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if _, err := TCP(t.Context(), "nowhere", []int{22}, four); err == nil {
		t.Error("a scan from a namespace that is not there succeeds")
	}
}

func TestCommand(t *testing.T) {
	for want, got := range map[string][]string{
		"-sS -p- --min-rate=10000 --max-retries=1 --max-scan-delay=5ms " + four: command("ns", four, everyTCP),
		"-sU --top-ports=1000 --min-rate=2000 --max-retries=1 -6 " + six:        command("ns", six, commonUDP),
		"-sS -p22,80 --min-rate=200 --max-retries=1 " + four:                    command("ns", four, someTCP([]int{22, 80})),
	} {
		want = "ip netns exec ns nmap -n -Pn --send-ip -oX - " + want
		if strings.Join(got, " ") != want {
			t.Errorf("got %s, want %s", strings.Join(got, " "), want)
		}
	}
}

func TestReport(t *testing.T) {
	const asked = `<scaninfo type="syn" protocol="tcp" numservices="5"/>`
	host := func(ports string) string { return "<host><ports>" + ports + "</ports></host>" }
	port := func(state, reason string) string {
		return `<port protocol="tcp" portid="22"><state state="` + state + `" reason="` + reason + `"/></port>`
	}
	rest := func(state, reasons string) string {
		return `<extraports state="` + state + `" count="4">` + reasons + `</extraports>`
	}
	const quiet = `<extrareasons reason="no-response" count="3"/><extrareasons reason="host-prohibited" count="1"/>`
	for text, want := range map[string]Answers{
		asked + host(port("open", "syn-ack")+rest("filtered", quiet)):         {Open: []string{"tcp 22"}, Refused: 1},
		asked + host(port("closed", "reset")+rest("filtered", quiet)):         {Refused: 2},
		asked + host(port("filtered", "no-response")+rest("filtered", quiet)): {Refused: 1},
	} {
		got, err := read([]byte("<nmaprun>" + text + "</nmaprun>"))
		if err != nil || !slices.Equal(got.Open, want.Open) || got.Refused != want.Refused {
			t.Errorf("%s\n%v (%v), want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                                    "not one of one protocol and one address",
		asked:                                 "not one of one protocol and one address",
		host(""):                              "not one of one protocol and one address",
		asked + host("") + host(""):           "not one of one protocol and one address",
		asked + host(rest("filtered", quiet)): "nmap tried 4 of 5 ports",
		asked + host(port("open", "syn-ack")+rest("open", quiet)):     "does not name the open ports",
		asked + host(port("closed", "reset")) + "</nmaprun><nmaprun>": "nmap tried 1 of 5 ports",
		asked + "<host>": "nmap's report",
	} {
		if _, err := read([]byte("<nmaprun>" + text + "</nmaprun>")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v, want %s", text, err, want)
		}
	}
}
