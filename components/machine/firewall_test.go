package machine

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/internal/golden"
	"github.com/tinyrack-net/infrastructure/components/internal/script/scripttest"
)

func ruleset(t *testing.T, f Firewall) string {
	t.Helper()
	text, err := f.Ruleset()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRuleset(t *testing.T) {
	golden.Check(t, "firewall.nft", ruleset(t, testFirewall()))
	closed := testFirewall()
	closed.BootstrapSources = nil
	closed.SSHPort = 2222
	closed.TailnetInterface = "ts9"
	closed.PodCIDR, closed.ServiceCIDR = "2001:db8:55::/56", "2001:db8:56::/112"
	golden.Check(t, "firewall-closed.nft", ruleset(t, closed))
}

func TestRulesetOwnsOneTable(t *testing.T) {
	for line := range strings.Lines(ruleset(t, testFirewall())) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "flush") || strings.HasPrefix(line, "table ") && !strings.HasPrefix(line, "table inet tinyrack") {
			t.Errorf("touches what others own: %q", line)
		}
	}
}

func TestFirewallRefuses(t *testing.T) {
	err := Firewall{
		BootstrapSources: []string{"0.0.0.0/0", "::/0", "nowhere", "10.0.0.0/33"},
		PodCIDR:          "10.55.0.0", ServiceCIDR: "x", SSHPort: 70000, TailnetInterface: "a b\" accept",
	}.Validate()
	wantError(t, err, `"0.0.0.0/0": the whole Internet`, `"::/0": the whole`, `"nowhere": not an address`, `"10.0.0.0/33"`,
		"podCIDR", "serviceCIDR", "sshPort: 70000", "tailnetInterface")
	f := testFirewall()
	f.ServiceCIDR = "10.55.128.0/17"
	wantError(t, f.Validate(), "overlap")
	if _, err := f.Ruleset(); err == nil {
		t.Error("rules were made from what Validate refuses")
	}
}

// The text is checked by the real nft, in a network namespace of its own.
func TestRulesetLoads(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	if err := exec.Command("unshare", "-n", "nft", "list", "ruleset").Run(); err != nil {
		t.Skip("nft cannot run in a network namespace here")
	}
	closed := testFirewall()
	closed.BootstrapSources = nil
	for _, f := range []Firewall{testFirewall(), closed} {
		// Twice, with a foreign table in between that must survive.
		cmd := exec.Command("unshare", "-n", "sh", "-ec",
			`nft add table ip kube-proxy; nft -c -f "$0"; nft -f "$0"; nft -f "$0"; nft list table ip kube-proxy >/dev/null; nft list table inet tinyrack`,
			writeTemp(t, ruleset(t, f)))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if n := strings.Count(string(out), "policy drop"); n != 2 {
			t.Errorf("%d chains drop, want 2:\n%s", n, out)
		}
	}
}

func writeTemp(t *testing.T, text string) string {
	t.Helper()
	path := t.TempDir() + "/rules.nft"
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// firewallHost has an nft that remembers what is loaded, and a systemd that
// remembers timers and units.
func firewallHost(t *testing.T) *scripttest.Host {
	t.Helper()
	h := scripttest.New(t)
	h.Write("/state/nothing", "")
	h.Fake("nft", `case "$1 $2" in
"-c -f") grep -q BROKEN "$3" && { echo "syntax error" >&2; exit 1; }; exit 0 ;;
"-f "*) cp "$2" "$ROOT/state/loaded" ;;
"list table") [ -f "$ROOT/state/loaded" ] ;;
"get element") grep -q "$(echo "$6" | tr -d '{} ')" "$ROOT/state/loaded" ;;
"destroy table"|"delete table") rm -f "$ROOT/state/loaded" ;;
*) exit 64 ;;
esac`)
	h.Fake("systemd-run", `: >"$ROOT/state/timer"`)
	h.Fake("systemctl", `case "$1 $2" in
"stop tinyrack-firewall-rollback.timer") rm -f "$ROOT/state/timer" ;;
"is-enabled -q") [ -f "$ROOT/state/enabled" ] ;;
"enable -q") : >"$ROOT/state/enabled" ;;
"is-active -q") [ -f "$ROOT/state/active" ] ;;
"start tinyrack-firewall") : >"$ROOT/state/active" ;;
"disable -q") rm -f "$ROOT/state/enabled" "$ROOT/state/active" ;;
esac`)
	h.Fake("ip", `echo "3: tailscale0    inet 100.64.0.10/32 scope global tailscale0"`)
	return h
}

func firewallText(t *testing.T, step, rules, connection string) string {
	t.Helper()
	return "SSH_CONNECTION='" + connection + "'\n" +
		render(t, firewallScript, "STEP", step, "TAILNET_INTERFACE", "tailscale0", "RULESET", rules)
}

const fromBootstrap = "203.0.113.7 50000 192.0.2.1 22"

func TestFirewallAppliedThenConfirmed(t *testing.T) {
	h := firewallHost(t)
	rules := ruleset(t, testFirewall())
	r := h.Run(firewallText(t, "apply", rules, fromBootstrap), "")
	if r.Code != 0 || h.Read("/state/loaded") != rules+"\n" {
		t.Fatalf("got %+v", r)
	}
	check, timer, load := -1, -1, -1
	for i, c := range r.Calls {
		switch {
		case strings.HasPrefix(c, "nft -c -f"):
			check = i
		case strings.HasPrefix(c, "systemd-run"):
			timer = i
		case strings.HasPrefix(c, "nft -f"):
			load = i
		}
	}
	if check < 0 || timer < check || load < timer {
		t.Errorf("checked at %d, roll-back armed at %d, loaded at %d: %q", check, timer, load, r.Calls)
	}
	if h.Read("/etc/tinyrack/firewall.nft") != "" || !strings.Contains(h.Files(), "/state/timer") {
		t.Error("the rules were kept before a new connection confirmed them")
	}

	confirm := firewallText(t, "confirm", rules, fromBootstrap)
	r = h.Run(confirm, "")
	if r.Code != 0 || h.Read("/etc/tinyrack/firewall.nft") != rules+"\n" || strings.Contains(h.Files(), "/state/timer") {
		t.Fatalf("not kept: %+v", r)
	}
	unit := h.Read("/etc/systemd/system/tinyrack-firewall.service")
	for _, want := range []string{"Before=network-pre.target", "/nft -f /etc/tinyrack/firewall.nft", "ReloadPropagatedFrom=nftables.service"} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit has no %q:\n%s", want, unit)
		}
	}
	if strings.Contains(unit, "ExecStop=") {
		t.Error("stopping the unit would open the machine")
	}
	if !r.Called("systemctl enable -q tinyrack-firewall") || r.Called("nft -f") {
		t.Errorf("calls: %q", r.Calls)
	}

	before := h.Files()
	for _, step := range []string{"apply", "confirm"} {
		r = h.Run(firewallText(t, step, rules, fromBootstrap), "")
		if r.Code != 0 || h.Files() != before || r.Called("nft -f") || r.Called("systemd-run") || r.Called("systemctl daemon-reload") || r.Called("systemctl enable") {
			t.Errorf("a second %s changed something: %+v", step, r)
		}
	}
}

// An interrupted run applied the rules and never confirmed; the roll-back came.
func TestFirewallConfirmAfterRollback(t *testing.T) {
	h := firewallHost(t)
	rules := ruleset(t, testFirewall())
	if r := h.Run(firewallText(t, "confirm", rules, fromBootstrap), ""); r.Code != 0 || h.Read("/state/loaded") != rules+"\n" || h.Read("/etc/tinyrack/firewall.nft") == "" {
		t.Errorf("did not converge: %+v", r)
	}
}

func TestFirewallNeverShutsOutItsOwnSession(t *testing.T) {
	h := firewallHost(t)
	rules := ruleset(t, testFirewall())
	const stranger = "192.0.2.99 50000 192.0.2.1 22"
	r := h.Run(firewallText(t, "apply", rules, stranger), "")
	if r.Code == 0 || !strings.Contains(r.Stderr, "add 192.0.2.99 to machine.bootstrapSources") {
		t.Errorf("got %+v", r)
	}
	if strings.Contains(h.Files(), "/state/loaded") || strings.Contains(h.Files(), "/state/timer") {
		t.Error("the rules were not taken back")
	}
	// With a former ruleset, that one comes back.
	h.Write("/etc/tinyrack/firewall.nft", "former\n")
	h.Run(firewallText(t, "apply", rules, stranger), "")
	if h.Read("/state/loaded") != "former\n" {
		t.Errorf("in force: %q", h.Read("/state/loaded"))
	}
	// The tailnet's address is always admitted.
	if r := h.Run(firewallText(t, "apply", rules, "100.64.0.2 50000 100.64.0.10 22"), ""); r.Code != 0 {
		t.Errorf("over the tailnet: %+v", r)
	}
}

func TestFirewallFailures(t *testing.T) {
	h := firewallHost(t)
	r := h.Run(firewallText(t, "apply", "BROKEN", fromBootstrap), "")
	if r.Code == 0 || !strings.Contains(r.Stderr, "nft does not accept") || r.Called("nft -f") {
		t.Errorf("broken rules: %+v", r)
	}
	h.Fake("systemd-run", "exit 1")
	r = h.Run(firewallText(t, "apply", "good", fromBootstrap), "")
	if r.Code == 0 || !strings.Contains(r.Stderr, "roll-back cannot be scheduled") || r.Called("nft -f") {
		t.Errorf("no roll-back: %+v", r)
	}
	h.Remove("nft")
	if r := h.Run(firewallText(t, "apply", "good", fromBootstrap), ""); r.Code == 0 || !strings.Contains(r.Stderr, "has no nft") {
		t.Errorf("no nft: %+v", r)
	}
}

func TestFirewallDelete(t *testing.T) {
	h := firewallHost(t)
	rules := ruleset(t, testFirewall())
	h.Run(firewallText(t, "apply", rules, fromBootstrap), "")
	h.Run(firewallText(t, "confirm", rules, fromBootstrap), "")
	for range 2 {
		if r := h.Run(render(t, firewallDeleteScript), ""); r.Code != 0 {
			t.Fatalf("got %+v", r)
		}
	}
	for _, left := range []string{"/etc/", "/state/loaded", "/state/enabled"} {
		if strings.Contains(h.Files(), left) {
			t.Errorf("%s was left:\n%s", left, h.Files())
		}
	}
}
