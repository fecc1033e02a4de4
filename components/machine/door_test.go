package machine

import (
	"strings"
	"testing"
)

func doorTextFor(t *testing.T, port int) string {
	t.Helper()
	args := testArgs()
	args.Host.Port = port
	return renderText(t, withHost(args.doorText()))
}

func TestDoor(t *testing.T) {
	tests := map[string]struct {
		session string
		port    int
		want    string
	}{
		"over the tailnet": {"100.64.0.2 50000 100.64.0.10 22", 22, ""},
		"over its IPv6":    {"fd7a:115c:a1e0::2 50000 fd7a:115c:a1e0::10 22", 22, ""},
		"another way": {"203.0.113.7 50000 192.0.2.1 22", 22, "box." + testDomain + " leads from 203.0.113.7 to " +
			"192.0.2.1, which is none"},
		"another port": {"100.64.0.2 50000 100.64.0.10 22", 2222, "came to port 22 of box." + testDomain + ", the " +
			"settings say 2222"},
		"an address alike":  {"100.64.0.2 50000 100.64.0.1 22", 22, "leads from 100.64.0.2 to 100.64.0.1"},
		"no session at all": {"", 22, "no SSH session"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := tailscaleHost(t)
			loggedIn(h, "box", "box", testDomain, testTag)
			r := h.Run("SSH_CONNECTION='"+tt.session+"'\n"+doorTextFor(t, tt.port), "")
			if tt.want == "" && (r.Code != 0 || r.Stdout != "100.64.0.10\n") {
				t.Errorf("got %+v", r)
			}
			if tt.want != "" && (r.Code == 0 || r.Stdout != "" || !strings.Contains(r.Stderr, tt.want)) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// Whichever address tailscaled names first, the one that is reported is that of IPv4.
func TestDoorReportsTheAddressOfIPv4(t *testing.T) {
	const four, six = `"100.64.0.10"`, `"fd7a:115c:a1e0::10"`
	turned := strings.NewReplacer(four, six, six, four).Replace(fakeTailscale)
	h := tailscaleHost(t)
	loggedIn(h, "box", "box", testDomain, testTag)
	h.Fake("tailscale", turned)
	r := h.Run("SSH_CONNECTION='100.64.0.2 50000 100.64.0.10 22'\n"+doorTextFor(t, 22), "")
	if r.Code != 0 || r.Stdout != "100.64.0.10\n" {
		t.Errorf("got %+v", r)
	}
}
