package machine

import (
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

// resetHost has what New sets up, and is released.
func resetHost(t *testing.T) *remotetest.Host {
	t.Helper()
	h := tailscaleHost(t)
	loggedIn(h, "box", "box", testDomain, testTag)
	h.Write("/etc/tinyrack/owner", testOwner+"\nreleased\n")
	h.Write("/etc/sysctl.d/90-tinyrack.conf", "x")
	h.Write("/etc/multipath/conf.d/tinyrack.conf", "x")
	h.Write("/var/lib/tinyrack/rpcbind-masked", "by tinyrack\n")
	h.Write("/var/lib/tinyrack/artifacts/x", "x")
	h.Write("/etc/kept", "x")
	h.Fake("systemctl", "")
	// A timer that goes off once the session has ended.
	h.Fake("systemd-run", `for last; do :; done
case " $* " in *" --on-active=5 --timer-property=AccuracySec=1s "*) ;; *) exit 64 ;; esac
[ "$last" = logout ] || exit 64
[ -f "$ROOT/etc/tinyrack/owner" ] || exit 65
echo "logout" >"$ROOT/scheduled"`)
	return h
}

func resetTextWith(t *testing.T, firewall string) string {
	t.Helper()
	text := withHost(testArgs().resetText())
	text.Body = "released_or_nothing\n" + strings.Replace(text.Body, firewallResetScript, firewall, 1)
	return renderText(t, text)
}

const fakeReset = "\nfirewall_reset() { echo firewall_reset >>\"$ROOT/order\"; }\n"

func TestReset(t *testing.T) {
	h := resetHost(t)
	text := resetTextWith(t, fakeReset)
	r := h.Run(text, "")
	if r.Code != 0 || h.Read("/order") != "firewall_reset\n" || h.Read("/scheduled") != "logout\n" {
		t.Fatalf("got %+v", r)
	}
	if r.Called("tailscale logout") {
		t.Error("cut its own session before it could report")
	}
	if !r.Called("systemctl unmask -q rpcbind.socket rpcbind.service") || !r.Called("systemctl try-restart multipathd") {
		t.Errorf("calls %q", r.Calls)
	}
	files := h.Files()
	for _, gone := range []string{"/etc/tinyrack", "/var/lib/tinyrack", "sysctl.d/", "multipath/conf.d/"} {
		if strings.Contains(files, gone) {
			t.Errorf("left behind: %s", gone)
		}
	}
	if h.Read("/etc/kept") != "x" {
		t.Error("removed what is not ours")
	}
	// What cannot be restarted or unmasked keeps nothing from being given back.
	stuck := resetHost(t)
	stuck.Fake("systemctl", "exit 1")
	if r := stuck.Run(text, ""); r.Code != 0 || strings.Contains(stuck.Files(), "/etc/tinyrack") {
		t.Errorf("units that are stuck: %+v", r)
	}
	// An answer that was lost: the same delete comes again and finds nothing to do.
	r = h.Run(text, "")
	if r.Code != 0 || h.Read("/order") != "firewall_reset\n" || r.Called("systemd-run") {
		t.Errorf("the second time: %+v", r)
	}
}

// Whatever fails before the end, the mark stays, and the next destroy takes it up again.
func TestResetGoesOnAfterAFailure(t *testing.T) {
	h := resetHost(t)
	if r := h.Run(resetTextWith(t, "\nfirewall_reset() { die broken; }\n"), ""); r.Code == 0 ||
		h.Read("/etc/tinyrack/owner") == "" {
		t.Fatalf("got %+v", r)
	}
	if r := h.Run(resetTextWith(t, fakeReset), ""); r.Code != 0 || strings.Contains(h.Files(), "/etc/tinyrack") {
		t.Errorf("got %+v", r)
	}
}

func TestResetOnlyWhenReleased(t *testing.T) {
	for _, owner := range []string{testOwner + "\nheld\n", "another/stack\nreleased\n", ""} {
		h := resetHost(t)
		if owner == "" {
			h.Run(`rm -r "$ROOT/etc/tinyrack"`, "")
		} else {
			h.Write("/etc/tinyrack/owner", owner)
		}
		before := strip(h.Files())
		r := h.Run(resetTextWith(t, fakeReset), "")
		if r.Code != 0 || strip(h.Files()) != before || !strings.Contains(r.Stderr, "nothing was undone") {
			t.Errorf("owner %q: %+v", owner, r)
		}
	}
}

func TestResetLeavesAnotherLoginAlone(t *testing.T) {
	foreign := resetHost(t)
	loggedIn(foreign, "box", "box", "evil.ts.net", testTag)
	out := resetHost(t)
	out.Write("/ts/state", "NeedsLogin")
	none := resetHost(t)
	none.Remove("tailscale")
	for name, h := range map[string]*remotetest.Host{"foreign": foreign, "logged out": out, "no tailscale": none} {
		r := h.Run(resetTextWith(t, fakeReset), "")
		if r.Code != 0 || r.Called("systemd-run") || strings.Contains(h.Files(), "/etc/tinyrack") {
			t.Errorf("%s: %+v", name, r)
		}
		if (name == "foreign") != strings.Contains(r.Stderr, "another tailnet than "+testDomain) {
			t.Errorf("%s: says %q", name, r.Stderr)
		}
	}
	h := resetHost(t)
	h.Fake("systemd-run", "exit 1")
	if r := h.Run(resetTextWith(t, fakeReset), ""); r.Code != 0 || !strings.Contains(r.Stderr,
		"remove the device box."+testDomain) {
		t.Errorf("no timer: %+v", r)
	}
}

func firewallResetText(t *testing.T) string {
	t.Helper()
	text, err := remote.Render(nil, firewallResetScript+"firewall_reset\n")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestFirewallReset(t *testing.T) {
	_, rules := firewallRules(t)
	h := newFirewallHost(t)
	h.apply(rules)
	h.Run(`rm -f "$ROOT"/state/known.*`, "")
	h.connect()
	former, _ := firewallRules(t)
	h.run("trial", former, fromBootstrap)
	for range 2 {
		r := h.Run(firewallResetText(t), "")
		if r.Code != 0 {
			t.Fatalf("got %+v", r)
		}
	}
	for _, left := range []string{
		"/etc/", "/usr/", table, "/state/enabled", "/state/active", "/state/timer",
		"/run/tinyrack/firewall.nft", "/run/tinyrack/firewall.listing", "/run/tinyrack/firewall-trial",
	} {
		if strings.Contains(h.Files(), h.Root+left) {
			t.Errorf("%s was left:\n%s", left, h.Files())
		}
	}
}
