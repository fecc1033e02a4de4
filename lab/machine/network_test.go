package machine

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A leg has each address and the way out of its family.
func TestLeg(t *testing.T) {
	var got []string
	for _, s := range leg("ns", "trlab-m11", []string{"10.77.0.11", "fd77:0:0:1::11"}) {
		got = append(got, s.make)
	}
	want := []string{
		"netns add ns",
		"link add trlab-m11 type veth peer name eth0 netns ns",
		"link set trlab-m11 master trlab0 up",
		"-n ns addr replace 10.77.0.11/24 dev eth0",
		"-n ns addr replace fd77:0:0:1::11/64 dev eth0 nodad",
		"-n ns link set lo up",
		"-n ns link set eth0 up",
		"-n ns route replace default via 10.77.0.1",
		"-n ns route replace default via fd77:0:0:1::1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestHostEnd(t *testing.T) {
	var got []string
	for _, s := range hostEnd() {
		got = append(got, s.make)
	}
	if want := "addr replace 10.77.0.1/24 dev trlab0; addr replace fd77:0:0:1::1/64 dev trlab0 nodad; " +
		"link set trlab0 up"; strings.Join(got, "; ") != want {
		t.Errorf("got %q, want %s", got, want)
	}
}

func TestForeignNetworkIsRefused(t *testing.T) {
	for cidr, refused := range map[string]bool{
		"10.77.0.130/25": true, "10.0.0.7/8": true, "fd77:0:0:1::9/128": true, "fd77::9/32": true,
		"10.77.1.1/24": false, "192.0.2.1/24": false, "fe80::1/64": false, "fd77::9/64": false,
	} {
		addr, prefix, err := net.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		err = overlap("eth7", []net.Addr{&net.IPNet{IP: addr, Mask: prefix.Mask}})
		if (err != nil) != refused || refused && !strings.Contains(err.Error(), "interface eth7 has "+cidr+", which") {
			t.Errorf("%s: %v", cidr, err)
		}
	}
}

func TestIPv6IsSwitchedOn(t *testing.T) {
	setting := filepath.Join(t.TempDir(), "disable_ipv6")
	if err := enableIPv6(setting); err == nil || !strings.Contains(err.Error(), "without ipv6.disable=1") {
		t.Errorf("a kernel without IPv6: %v", err)
	}
	// What is as it should be is left alone: in a container the file may be read-only.
	for before, want := range map[string]string{"1\n": "0", "0\n": "0\n"} {
		if err := os.WriteFile(setting, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := enableIPv6(setting); err != nil {
			t.Error(err)
		}
		if text, err := os.ReadFile(setting); err != nil || string(text) != want {
			t.Errorf("the setting was %q and is %q, %v", before, text, err)
		}
	}
}
