package machine

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/retry"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
	"github.com/tinyrack-net/infrastructure/internal/golden"
)

// firewallFixture is a firewall with everything in it.
func firewallFixture() Firewall {
	return Firewall{
		BootstrapSources: []string{
			"203.0.113.7/32", "198.51.100.0/24", "198.51.100.9", "2001:db8:1::/64", "2001:db8:9::7",
		},
		PodCIDR: "10.55.0.0/16", ServiceCIDR: "10.56.0.0/16",
		Nodes: []netip.Addr{
			netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11"),
		},
	}
}

func ruleset(t *testing.T, f Firewall) string {
	t.Helper()
	text, err := f.Ruleset()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestFirewallRuleset(t *testing.T) {
	golden.Check(t, testdata, "firewall.nft", ruleset(t, firewallFixture()))
	golden.Check(t, testdata, "firewall-closed.nft", ruleset(t, Firewall{
		SSHPort: 2222, PodCIDR: "2001:db8:55::/56", ServiceCIDR: "2001:db8:56::/112",
	}))
}

func TestFirewallRulesetOwnsOneTable(t *testing.T) {
	for line := range strings.Lines(ruleset(t, firewallFixture())) {
		line = strings.TrimSpace(line)
		table, found := strings.CutPrefix(line, "table ")
		if strings.Contains(line, "flush") || found && !strings.HasPrefix(table, "inet tinyrack") {
			t.Errorf("touches what others own: %q", line)
		}
	}
}

// Each row breaks a valid firewall in one place and names the whole beginning of the refusal.
func TestFirewallRefuses(t *testing.T) {
	source := func(s string) func(*Firewall) { return func(f *Firewall) { f.BootstrapSources[1] = s } }
	node := func(s string) func(*Firewall) { return func(f *Firewall) { f.Nodes[1] = netip.MustParseAddr(s) } }
	tests := map[string]struct {
		spoil func(*Firewall)
		want  string
	}{
		"everybody":      {source("0.0.0.0/0"), `bootstrapSources[1]: "0.0.0.0/0" is the whole Internet`},
		"everybody, v6":  {source("::/0"), `bootstrapSources[1]: "::/0" is the whole Internet`},
		"half, v4":       {source("128.0.0.0/7"), `bootstrapSources[1]: "128.0.0.0/7" is wider than a provider`},
		"wide, v6":       {source("2000::/31"), `bootstrapSources[1]: "2000::/31" is wider than a provider`},
		"a name":         {source("nowhere"), `bootstrapSources[1]: "nowhere" is not an address or CIDR`},
		"a bad prefix":   {source("10.0.0.0/33"), `bootstrapSources[1]: "10.0.0.0/33" is not an address or CIDR`},
		"a zone":         {source("fe80::1%eth0"), `bootstrapSources[1]: "fe80::1%eth0" is not an address or CIDR`},
		"mapped":         {source("::ffff:192.0.2.1"), `bootstrapSources[1]: "::ffff:192.0.2.1" is an IPv4 address`},
		"mapped range":   {source("::ffff:192.0.2.0/120"), `bootstrapSources[1]: "::ffff:192.0.2.0/120" is an IPv4 address`},
		"no pods":        {func(f *Firewall) { f.PodCIDR = "10.55.0.0" }, `podCIDR: "10.55.0.0" is not a CIDR`},
		"no services":    {func(f *Firewall) { f.ServiceCIDR = "" }, `serviceCIDR: "" is not a CIDR`},
		"node zone":      {node("fe80::1%eth0"), `nodes[1]: "fe80::1%eth0" is not the address of a host`},
		"node mapped":    {node("::ffff:192.0.2.1"), `nodes[1]: "::ffff:192.0.2.1" is not`},
		"node any":       {node("0.0.0.0"), `nodes[1]: "0.0.0.0" is not`},
		"node itself":    {node("127.0.0.1"), `nodes[1]: "127.0.0.1" is not`},
		"node multicast": {node("224.0.0.1"), `nodes[1]: "224.0.0.1" is not`},
		"node missing":   {func(f *Firewall) { f.Nodes[1] = netip.Addr{} }, `nodes[1]: "invalid IP" is not`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := firewallFixture()
			tt.spoil(&f)
			err := f.Validate()
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want the one refusal %s", err, tt.want)
			}
			if _, err := f.Ruleset(); err == nil {
				t.Error("rules were made from what Validate refuses")
			}
		})
	}
	narrow := firewallFixture()
	narrow.BootstrapSources = []string{"10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "2001:db8::1"}
	if err := narrow.Validate(); err != nil {
		t.Error(err)
	}
	err := Firewall{BootstrapSources: []string{"x", "y"}}.Validate()
	if n := strings.Count(fmt.Sprint(err), "\n") + 1; n != 4 {
		t.Errorf("%d problems, want 4: %v", n, err)
	}
}

// The pauses are those of the provider's own library: the last attempt to connect must be over long before the machine
// takes the rules back.
func TestFirewallDialEndsBeforeTheWindow(t *testing.T) {
	for _, window := range []time.Duration{firewallWindow, 60 * time.Second, 300 * time.Second} {
		dial := firewallDial(window)
		spent := time.Duration(0)
		provider := retry.Retryer{After: func(pause time.Duration) <-chan time.Time {
			spent += pause
			now := make(chan time.Time, 1)
			now <- time.Time{}
			return now
		}}
		_, _, err := provider.Until(t.Context(), retry.Acceptor{Accept: func(try int, _ time.Duration) (bool, any, error) {
			spent += time.Duration(dial.Timeout) * time.Second
			if try+1 > dial.Tries {
				return true, nil, fmt.Errorf("after %d failed attempts", try)
			}
			return false, nil, nil
		}})
		if err == nil || spent > window-firewallMargin || spent < window-firewallMargin-15*time.Second {
			t.Errorf("window %s: %+v dials for %s (%v)", window, dial, spent, err)
		}
		if spent != dialBudget(dial.Tries) {
			t.Errorf("the provider dials for %s, the budget says %s", spent, dialBudget(dial.Tries))
		}
	}
	if got := firewallDial(dialBudget(3) + firewallMargin).Tries; got != 3 {
		t.Errorf("%d attempts where three fit", got)
	}
	if firewallWindow > 3*time.Minute || firewallMargin < 30*time.Second {
		t.Errorf("a window of %s with a margin of %s", firewallWindow, firewallMargin)
	}
}

func TestFirewallConfirmationIsRunAgainOnce(t *testing.T) {
	const again = "Process exited with status 75: running \"sh\":\nerror: on trial once more"
	tests := map[string]struct {
		errors []string
		want   bool
	}{
		"asked for":       {[]string{again}, true},
		"asked for twice": {[]string{again, again}, false},
		"locked out":      {[]string{"after 11 failed attempts: dial tcp: i/o timeout"}, false},
		"failed":          {[]string{"Process exited with status 1: running \"sh\""}, false},
		"failed then":     {[]string{"Process exited with status 1", again}, false},
	}
	for name, tt := range tests {
		explained := ""
		hook := confirmAgain(func(text string) { explained += text })
		if got, err := hook(&pulumi.ErrorHookArgs{Errors: tt.errors}); err != nil || got != tt.want {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
		if told := strings.Contains(explained, "the former rules return within 2m0s"); told != (name == "locked out") {
			t.Errorf("%s: explained by %q", name, explained)
		}
	}
}

func TestFirewallCommands(t *testing.T) {
	f := firewallFixture()
	f.SSHPort = 2222
	reset := remote.Text{Body: "reset_everything"}
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		host := &remote.Host{
			Name: "box", Domain: "example.ts.net", Owner: "us", Address: "192.0.2.10", Port: 2222, User: "root",
			HostKey: "ssh-ed25519 AAAA", PrivateKey: pulumi.String("key"),
		}
		return f.load(ctx, host, "box", reset)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(recording.Names(), " "); got != "box-firewall box-firewall-confirm" {
		t.Fatalf("registered %s", got)
	}
	for step, name := range map[string]string{"trial": "box-firewall", "confirm": "box-firewall-confirm"} {
		command := recording.Get(t, name)
		text := command.Plain()["stdin"].(string)
		for _, want := range []string{
			"STEP='" + step + "'\n", "RULESET=" + remote.Quote(ruleset(t, f)) + "\n", "SSH_PORT='2222'\n", "WINDOW='120'\n",
			"LOAD_UNIT='[Unit]\n", "WATCH_UNIT='[Unit]\n", "WATCH_SCRIPT='#!/bin/sh\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %q", name, want)
			}
		}
		hooks := command.RPC.GetHooks().GetOnError()
		dial := command.Plain()["connection"].(map[string]any)["dialErrorLimit"]
		if step == "trial" {
			if !strings.HasSuffix(text, "reset_everything") || command.Plain()["delete"] == nil || len(hooks) != 0 ||
				dial != 10.0 {
				t.Errorf("%s: hooks %v, dial %v", name, hooks, dial)
			}
			continue
		}
		if strings.Contains(text, "reset_everything") || fmt.Sprint(command.DependsOn) != "[box-firewall]" ||
			fmt.Sprint(hooks) != "[box-firewall-again]" || dial != float64(firewallDial(firewallWindow).Tries) {
			t.Errorf("%s: depends on %v, hooks %v, dial %v", name, command.DependsOn, hooks, dial)
		}
	}
}

// The order at boot is in the units alone: the rules come before everything that systemd starts by default, and
// stopping nftables stops nothing of ours.
func TestFirewallUnits(t *testing.T) {
	for unit, lines := range map[string][]string{
		firewallUnit: {
			"DefaultDependencies=no", "After=local-fs.target nftables.service", "Wants=network-pre.target",
			"Before=network-pre.target sysinit.target shutdown.target", "Conflicts=shutdown.target", "Type=oneshot",
			"RemainAfterExit=yes", "ExecStart=/bin/sh /usr/local/lib/tinyrack/firewall.sh load", "WantedBy=sysinit.target",
		},
		firewallWatchUnit: {
			"After=tinyrack-firewall.service", "ExecStart=/bin/sh /usr/local/lib/tinyrack/firewall.sh watch",
			"Restart=always", "StartLimitIntervalSec=0", "TimeoutStopSec=5", "WantedBy=multi-user.target",
		},
	} {
		have := strings.Split(unit, "\n")
		for _, line := range lines {
			if !slices.Contains(have, line) {
				t.Errorf("no line %q in\n%s", line, unit)
			}
		}
		for _, never := range []string{"ExecStop", "PartOf", "Requires", "BindsTo"} {
			if slices.ContainsFunc(have, func(line string) bool { return strings.HasPrefix(line, never) }) {
				t.Errorf("%s= would open the machine or stop with something else:\n%s", never, unit)
			}
		}
	}
	if FirewallUnit != "tinyrack-firewall.service" {
		t.Error("k3s would wait for another unit")
	}
}

func TestFirewallScriptsAreClean(t *testing.T) {
	text := Firewall{}.step("trial", "rules")
	for i := range text.Vars {
		text.Vars[i].Value = "value" // a script in quotes would be checked as one string
	}
	rendered, err := remote.Render(text.Vars, text.Body)
	if err != nil {
		t.Fatal(err)
	}
	remotetest.ShellCheck(t, rendered)
	remotetest.ShellCheck(t, firewallWatchScript)
	remotetest.ShellCheck(t, firewallResetText(t))
	for line := range strings.Lines(firewallScript + firewallWatchScript + firewallResetScript) {
		if len(line) > 121 { // with its line break
			t.Errorf("longer than 120 columns: %s", line)
		}
	}
}

func firewallText(t *testing.T, step, rules string) string {
	t.Helper()
	text := Firewall{}.step(step, rules)
	rendered, err := remote.Render(text.Vars, text.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rendered
}

// firewallHost has an nft that holds a table, a systemd that starts what its units say, and a clock at which timers go
// off.
type firewallHost struct {
	*remotetest.Host
	t   *testing.T
	now int // hundredths of a second
}

const (
	keptRules = "/etc/tinyrack/firewall.nft"
	copyRules = "/run/tinyrack/firewall.nft"
	table     = "/state/table"

	watchOnBox     = "/usr/local/lib/tinyrack/firewall.sh"
	unitOnBox      = "/etc/systemd/system/tinyrack-firewall.service"
	watchUnitOnBox = "/etc/systemd/system/tinyrack-firewall-watch.service"

	// The client's address and port, then the machine's.
	fromBootstrap = "203.0.113.7 50000 192.0.2.1 22"
	fromPort2222  = "203.0.113.7 50000 192.0.2.1 2222"
	overTailnet   = "100.64.0.2 50000 100.64.0.10 22"
)

func newFirewallHost(t *testing.T) *firewallHost {
	t.Helper()
	h := &firewallHost{Host: remotetest.New(t), t: t}
	h.Write("/state/nothing", "")
	h.Fake("nft", `case "$*" in
"-c -f "*) ! grep -q BROKEN "$3" || { echo "syntax error" >&2; exit 1; } ;;
"-f "*)
	[ ! -e "$ROOT/state/no-memory" ] || { echo "Cannot allocate memory" >&2; exit 1; }
	[ ! -s "$2" ] || cp "$2" "$ROOT/state/table" ;;
"-s list table inet tinyrack" | "list table inet tinyrack") exec cat "$ROOT/state/table" ;;
"get element inet tinyrack "*)
	address=${6#??}
	awk -v name="$5" -v address="${address%??}" '
		$1 == "set" { inside = ($2 == name) }
		inside && index($0, address) { found = 1 }
		$1 == "}" { inside = 0 }
		END { exit !found }' "$ROOT/state/table" ;;
"delete table inet tinyrack") rm "$ROOT/state/table" ;;
*) echo "nft: $*" >&2; exit 64 ;;
esac`)
	// A timer is a minute late unless told to be exact (systemd.timer(5), AccuracySec=).
	h.Fake("systemd-run", `[ ! -e "$ROOT/state/no-timers" ] || exit 1
[ ! -e "$ROOT/state/timer" ] || { echo "the unit was already loaded" >&2; exit 1; }
after= late=60
while :; do
	case $1 in
	--on-active=*) after=${1#*=} ;;
	--timer-property=AccuracySec=1s) late=0 ;;
	--*) ;;
	*) break ;;
	esac
	shift
done
read -r now idle <"$ROOT/proc/uptime"
echo "$((${now%.*} + after + late))" >"$ROOT/state/timer"
printf '%s\n' "$*" >"$ROOT/state/timer-command"`)
	h.Fake("systemctl", `units=$ROOT/etc/systemd/system
case $1 in
show)
	for u in $4 $5; do
		cmp -s "$units/$u.service" "$ROOT/state/known.$u" && echo NeedDaemonReload=no || echo NeedDaemonReload=yes
	done ;;
daemon-reload)
	for u in "$units"/*.service; do
		[ ! -e "$u" ] || { u=${u##*/}; cp "$units/$u" "$ROOT/state/known.${u%.service}"; }
	done ;;
is-enabled) [ -e "$ROOT/state/enabled.$3" ] ;;
enable)
	[ ! -e "$ROOT/state/flush" ] || rm -f "$ROOT/state/table"
	[ ! -e "$ROOT/state/full" ] && [ -e "$units/$3.service" ] && : >"$ROOT/state/enabled.$3" ;;
is-active) [ -e "$ROOT/state/active.$3" ] ;;
start | restart)
	[ -e "$ROOT/state/known.$2" ] || { echo "Unit $2.service not found." >&2; exit 5; }
	command=$(sed -n 's/^ExecStart=//p' "$ROOT/state/known.$2")
	set -- $2 $command
	case $4 in
	watch) ;;
	*) sh "$ROOT$3" "$4" || exit 1 ;;
	esac
	: >"$ROOT/state/active.$1" ;;
disable) for u in $4 $5; do rm -f "$ROOT/state/enabled.${u%.service}" "$ROOT/state/active.${u%.service}"; done ;;
stop) rm -f "$ROOT/state/timer" "$ROOT/state/timer-command" ;;
reset-failed) ;;
*) echo "systemctl: $*" >&2; exit 64 ;;
esac`)
	h.Fake("ip", `[ "$5" != tailscale0 ] || echo "3: tailscale0    inet 100.64.0.10/32 scope global tailscale0"`)
	h.Fake("sync", `[ -e "$1" ] || exit 1
[ ! -e "$ROOT/state/cut" ] || : >"$1"
! grep -qxF "sync ${1#"$ROOT"}" "$ROOT/state/faults" 2>/dev/null ||
	{ echo "sync: No space left on device" >&2; exit 1; }`)
	mv, err := exec.LookPath("mv")
	if err != nil {
		t.Fatal(err)
	}
	h.Fake("mv", `for to; do :; done
! grep -qxF "mv ${to#"$ROOT"}" "$ROOT/state/faults" 2>/dev/null || { echo "mv: No space left on device" >&2; exit 1; }
exec `+mv+` "$@"`)
	// Only once the trial's beginning is noted is there something to wait out.
	h.Fake("sleep", `[ -s "$ROOT/run/tinyrack/firewall-trial/since" ]`)
	h.now = 5000_00
	h.connect()
	return h
}

// connect begins a new SSH session now: the script's parent is a shell, whose parent is sshd's process for the session.
func (h *firewallHost) connect() {
	h.pass(1)
	stat := func(pid, name string, parent, began int) {
		text := fmt.Sprintf("%s (%s) S %d%s %d 7 8\n", pid, name, parent, strings.Repeat(" 0", 17), began)
		h.Write("/proc/"+pid+"/stat", text)
	}
	stat("self", "sh", 300, h.now+10)
	stat("300", "a (odd) name", 200, h.now+5)
	stat("200", "sshd-session", 100, h.now)
	stat("100", "sshd", 1, 100)
}

// pass lets seconds pass and runs the timer that is due.
func (h *firewallHost) pass(seconds int) {
	h.t.Helper()
	h.now += seconds * 100
	h.Write("/proc/uptime", fmt.Sprintf("%d.%02d 77.00\n", h.now/100, h.now%100))
	var due int
	if _, err := fmt.Sscan(h.Read("/state/timer"), &due); err != nil || h.now < due*100 {
		return
	}
	if r := h.Run(`rm "$ROOT/state/timer"; `+h.Read("/state/timer-command"), ""); r.Code != 0 {
		h.t.Logf("the timer's command failed: %+v", r)
	}
}

// run runs one step in the present SSH session.
func (h *firewallHost) run(step, rules, connection string) remotetest.Result {
	h.t.Helper()
	return h.Run("SSH_CONNECTION='"+connection+"'\n"+firewallText(h.t, step, rules), "")
}

// applied are the files of hosts that have been applied to, by their rules: many tests begin there.
var applied sync.Map

// apply runs both steps as the program does, the second over a new connection.
func (h *firewallHost) apply(rules string) {
	h.t.Helper()
	if files, found := applied.Load(rules); found {
		if err := os.CopyFS(h.Root, files.(fstest.MapFS)); err != nil {
			h.t.Fatal(err)
		}
		h.wantKept(rules)
		return
	}
	for _, step := range []string{"trial", "confirm"} {
		h.connect()
		if r := h.run(step, rules, fromBootstrap); r.Code != 0 {
			h.t.Fatalf("%s: %+v", step, r)
		}
	}
	h.wantKept(rules)
	files := fstest.MapFS{}
	for _, top := range []string{"etc", "usr", "state", "run"} {
		if err := fs.WalkDir(os.DirFS(h.Root), top, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || path == "state/nothing" || path == "run/tinyrack/lock" {
				return err
			}
			data, err := fs.ReadFile(os.DirFS(h.Root), path)
			files[path] = &fstest.MapFile{Data: data, Mode: h.Mode("/" + path)}
			return err
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	applied.Store(rules, files)
}

// wantKept says that rules are kept, in force, and that no timer takes them back. An empty text stands for no firewall.
func (h *firewallHost) wantKept(rules string) {
	h.t.Helper()
	h.pass(3600)
	if rules != "" {
		rules += "\n"
	}
	if got := h.Read(table); got != rules {
		h.t.Errorf("in force:\n%s\nwant:\n%s", got, rules)
	}
	if got := h.Read(keptRules); got != rules {
		h.t.Errorf("kept:\n%s\nwant:\n%s", got, rules)
	}
}

func (h *firewallHost) wantOnTrial(rules string) {
	h.t.Helper()
	if got := h.Read(table); got != rules+"\n" {
		h.t.Errorf("in force:\n%s", got)
	}
	if h.Read("/state/timer") == "" || h.Read(keptRules) == rules+"\n" {
		h.t.Error("the rules are not on trial: no timer takes them back, or they are kept already")
	}
}

// firewallRules are two rulesets, before and after a change of settings.
func firewallRules(t *testing.T) (former, rules string) {
	t.Helper()
	f := firewallFixture()
	rules = ruleset(t, f)
	f.BootstrapSources = append(f.BootstrapSources, "192.0.2.200")
	return ruleset(t, f), rules
}

// firewallOnTrial is a host with the former rules kept, and the changed ones on trial.
func firewallOnTrial(t *testing.T) (h *firewallHost, former, rules string) {
	t.Helper()
	former, rules = firewallRules(t)
	h = newFirewallHost(t)
	h.apply(former)
	h.connect()
	h.run("trial", rules, fromBootstrap)
	return h, former, rules
}

func TestFirewallTrialThenConfirmed(t *testing.T) {
	h := newFirewallHost(t)
	_, rules := firewallRules(t)
	r := h.run("trial", rules, fromBootstrap)
	if r.Code != 0 {
		t.Fatalf("got %+v", r)
	}
	h.wantOnTrial(rules)
	if !r.Called("sleep 0.02") {
		t.Errorf("the next connection may begin in the same hundredth of a second: %q", r.Calls)
	}
	at := func(prefix string) int {
		return slices.IndexFunc(r.Calls, func(c string) bool { return strings.HasPrefix(c, prefix) })
	}
	if check, timer, load := at("nft -c -f"), at("systemd-run"), at("nft -f"); check < 0 || timer < check || load < timer {
		t.Errorf("checked at %d, roll-back armed at %d, loaded at %d: %q", check, timer, load, r.Calls)
	}

	h.connect()
	r = h.run("confirm", rules, fromBootstrap)
	if r.Code != 0 || r.Called("nft -f") {
		t.Fatalf("got %+v", r)
	}
	synced, renamed := at("sync "+h.Root+keptRules+".tinyrack-new"), at("mv -f "+h.Root+keptRules)
	disarmed := at("systemctl stop")
	if synced < 0 || renamed < synced || disarmed < renamed {
		t.Errorf("synced at %d, renamed at %d, disarmed at %d: %q", synced, renamed, disarmed, r.Calls)
	}
	h.wantKept(rules)
	for path, want := range map[string]string{
		unitOnBox: firewallUnit, watchUnitOnBox: firewallWatchUnit, watchOnBox: firewallWatchScript, copyRules: rules + "\n",
	} {
		if got := h.Read(path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	if got := h.Mode(keptRules); got != 0o600 {
		t.Errorf("the rules have mode %o", got)
	}
	for _, state := range []string{"enabled", "active"} {
		for _, unit := range []string{"tinyrack-firewall", "tinyrack-firewall-watch"} {
			if !strings.Contains(h.Files(), "/state/"+state+"."+unit+" ") {
				t.Errorf("%s is not %s", unit, state)
			}
		}
	}

	before := h.Files()
	for _, step := range []string{"trial", "confirm"} {
		r = h.run(step, rules, fromBootstrap)
		if r.Code != 0 || h.Files() != before || r.Called("nft -f") || r.Called("systemd-run") ||
			r.Called("systemctl daemon-reload") || r.Called("systemctl enable") || r.Called("systemctl restart") {
			t.Errorf("a second %s changed something: %+v", step, r)
		}
	}
}

// In force is what the kernel has, not what a file says.
func TestFirewallStepsLookAtTheKernel(t *testing.T) {
	_, rules := firewallRules(t)
	for name, harm := range map[string]string{
		"flushed": `rm "$ROOT` + table + `"`,
		"changed": `echo accept >>"$ROOT` + table + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newFirewallHost(t)
			h.apply(rules)
			h.Run(harm, "")
			h.connect()
			r := h.run("trial", rules, fromBootstrap)
			if r.Code != 0 || !r.Called("systemd-run") || h.Read(table) != rules+"\n" {
				t.Errorf("got %+v", r)
			}
			h.connect()
			if r := h.run("confirm", rules, fromBootstrap); r.Code != 0 {
				t.Errorf("got %+v", r)
			}
			h.wantKept(rules)
		})
	}
}

func TestFirewallIsTakenBackWithoutProof(t *testing.T) {
	former, rules := firewallRules(t)
	for name, before := range map[string]string{"first": "", "a change": former} {
		t.Run(name, func(t *testing.T) {
			h := newFirewallHost(t)
			if before != "" {
				h.apply(before)
			}
			if r := h.run("trial", rules, fromBootstrap); r.Code != 0 {
				t.Fatalf("%+v", r)
			}
			h.pass(118)
			h.wantOnTrial(rules)
			h.pass(3)
			if got := strings.TrimSuffix(h.Read(table), "\n"); got != before {
				t.Errorf("after the window in force:\n%s", got)
			}
			h.wantKept(before)

			// The engine runs the confirmation alone: twice, the second time over a new connection.
			h.connect()
			r := h.run("confirm", rules, fromBootstrap)
			if r.Code != 75 || !strings.Contains(r.Stderr, "so it proves nothing") {
				t.Errorf("got %+v", r)
			}
			h.wantOnTrial(rules)
			h.connect()
			if r := h.run("confirm", rules, fromBootstrap); r.Code != 0 {
				t.Errorf("did not converge: %+v", r)
			}
			h.wantKept(rules)
		})
	}
}

// A confirmation that proves nothing keeps nothing, whatever it found.
func TestFirewallKeepsNothingWithoutProof(t *testing.T) {
	former, rules := firewallRules(t)
	tests := map[string]func(h *firewallHost){
		"nothing on trial":     func(*firewallHost) {},
		"the same connection":  func(h *firewallHost) { h.run("trial", rules, fromBootstrap) },
		"other rules on trial": func(h *firewallHost) { h.run("trial", former, fromBootstrap); h.connect() },
		"table flushed meanwhile": func(h *firewallHost) {
			h.run("trial", rules, fromBootstrap)
			h.connect()
			h.Run(`rm "$ROOT`+table+`"`, "")
		},
		"table changed meanwhile": func(h *firewallHost) {
			h.run("trial", rules, fromBootstrap)
			h.connect()
			h.Write(table, rules+"\nextra\n")
		},
		"killed after the time out": func(h *firewallHost) {
			h.run("trial", rules, fromBootstrap)
			h.Run(`rm "$ROOT/state/timer"`, "")
			h.pass(121)
			h.connect()
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			h := newFirewallHost(t)
			prepare(h)
			r := h.run("confirm", rules, fromBootstrap)
			if r.Code != 75 || !strings.Contains(r.Stderr, "run the same command again within 120s") {
				t.Errorf("got %+v", r)
			}
			h.wantOnTrial(rules)
			h.wantKept("")
		})
	}
}

func TestFirewallNeverShutsOutItsOwnSession(t *testing.T) {
	former, rules := firewallRules(t)
	tests := map[string]struct{ connection, want string }{
		"a stranger":          {"192.0.2.99 50000 192.0.2.1 22", "add 192.0.2.99 to the host's bootstrapSources"},
		"a stranger, IPv6":    {"2001:db8:7::1 50000 2001:db8::1 22", "add 2001:db8:7::1 to the host's bootstrapSources"},
		"another port":        {fromPort2222, "came in on port 2222 of the machine, the firewall admits port 22"},
		"no session":          {"", "not an SSH session"},
		"not quite tailnet":   {"203.0.113.99 50000 100.64.0.1 22", "add 203.0.113.99"},
		"IPv4":                {fromBootstrap, ""},
		"IPv6":                {"2001:db8:9::7 50000 2001:db8::1 22", ""},
		"tailnet":             {overTailnet, ""},
		"tailnet, other port": {"100.64.0.2 50000 100.64.0.10 2222", ""},
		"itself":              {"192.0.2.1 50000 192.0.2.1 2222", ""},
	}
	for name, tt := range tests {
		// The second step loads them alone when the first was over; then former rules are there more often than not.
		for step, before := range map[string]string{"trial": "", "confirm": former} {
			t.Run(step+" "+name, func(t *testing.T) {
				t.Parallel()
				h := newFirewallHost(t)
				if before != "" {
					h.apply(before)
					h.connect()
				}
				r := h.run(step, rules, tt.connection)
				if tt.want == "" {
					if r.Code != map[string]int{"trial": 0, "confirm": 75}[step] {
						t.Errorf("got %+v", r)
					}
					h.wantOnTrial(rules)
					return
				}
				if r.Code != 1 || !strings.Contains(r.Stderr, tt.want) || h.Read("/state/timer") != "" {
					t.Errorf("got %+v", r)
				}
				h.now -= 3600_00 // at once, not by the timer
				h.wantKept(before)
			})
		}
	}
}

// A confirmation over a way that the rules would not admit proves nothing about the wanted one.
func TestFirewallConfirmedOverTheWantedWay(t *testing.T) {
	h := newFirewallHost(t)
	_, rules := firewallRules(t)
	h.run("trial", rules, fromBootstrap)
	h.connect()
	if r := h.run("confirm", rules, fromPort2222); r.Code != 1 || !strings.Contains(r.Stderr, "came in on port 2222") {
		t.Errorf("got %+v", r)
	}
	h.wantKept("")
}

func TestFirewallTrialFailures(t *testing.T) {
	former, rules := firewallRules(t)
	tests := map[string]struct {
		rules, want string
		prepare     func(h *firewallHost)
	}{
		"refused by nft": {"BROKEN", "", func(*firewallHost) {}},
		"rules refused":  {strings.Replace(rules, "drop", "BROKEN", 1), "", func(*firewallHost) {}},
		"no timers":      {rules, "roll-back cannot be scheduled", func(h *firewallHost) { h.Write("/state/no-timers", "") }},
		"no memory":      {rules, "nft cannot load", func(h *firewallHost) { h.Write("/state/no-memory", "") }},
		"/run full at the copy": {rules, "trial of the firewall cannot be prepared", func(h *firewallHost) {
			h.Fake("cp", `: >"$2"`)
		}},
		"/run takes the rules and keeps nothing": {rules, "trial of the firewall cannot be prepared", func(h *firewallHost) {
			h.Fake("mkdir", `PATH=/usr/bin:/bin
mkdir "$@"
case $2 in *firewall-trial.new) ln -s /dev/null "$2/new" ;; esac`)
		}},
		"/run is full": {rules, "trial of the firewall cannot be prepared", func(h *firewallHost) {
			h.Write("/run/tinyrack/firewall-trial.new/new/x", "")
			h.Fake("rm", "exit 1")
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newFirewallHost(t)
			h.apply(former)
			h.connect()
			tt.prepare(h)
			r := h.run("trial", tt.rules, fromBootstrap)
			if r.Code != 1 || !strings.Contains(r.Stderr, tt.want) || r.Called("nft -f") && name != "no memory" {
				t.Errorf("got %+v", r)
			}
			if got := h.Read(table); got != former+"\n" {
				t.Errorf("in force: %s", got)
			}
		})
	}
}

// Whatever write fails: the run fails and says so, the former rules are back within the window, and once there is room
// the next run converges.
func TestFirewallConfirmOnAFullDisk(t *testing.T) {
	former, rules := firewallRules(t)
	faults := map[string]string{"enabling": "full", "a write that reports success": "cut", "flushed meanwhile": "flush"}
	for _, path := range []string{keptRules, watchOnBox, unitOnBox, watchUnitOnBox} {
		for _, fault := range []string{"write " + path, "sync " + path + ".tinyrack-new", "mv " + path} {
			faults[fault] = ""
		}
	}
	faults["sync /etc/tinyrack"] = ""
	faults["mv "+copyRules] = ""
	for fault, state := range faults {
		for _, before := range []string{"", former} {
			if before == "" && (strings.Contains(fault, "/usr/") || strings.Contains(fault, "/systemd/")) {
				continue // with nothing to go back to, what counts is that nothing is kept
			}
			t.Run(fmt.Sprintf("%s %d", fault, len(before)), func(t *testing.T) {
				t.Parallel()
				h := newFirewallHost(t)
				if before != "" {
					h.apply(before)
					// What is kept already is not written again: an older version was here.
					for _, path := range []string{watchOnBox, unitOnBox, watchUnitOnBox} {
						h.Write(path, "older\n")
					}
					h.Run(`rm "$ROOT"/state/enabled.*`, "")
				}
				h.connect()
				if r := h.run("trial", rules, fromBootstrap); r.Code != 0 {
					t.Fatalf("%+v", r)
				}
				h.Write("/state/faults", fault+"\n")
				path, write := strings.CutPrefix(fault, "write ")
				if write {
					h.Write(path+".tinyrack-new/x", "") // nothing can be written over a directory
				}
				if state != "" {
					h.Write("/state/"+state, "")
				}
				h.connect()
				r := h.run("confirm", rules, fromBootstrap)
				if r.Code != 1 || !strings.Contains(r.Stderr, "returns within 120s") {
					t.Errorf("got %+v", r)
				}
				h.pass(121)
				if got := strings.TrimSuffix(h.Read(table), "\n"); got != before {
					t.Errorf("in force after the window:\n%s", got)
				}
				if got := h.Read(keptRules); got == rules+"\n" {
					t.Error("rules that were taken back are kept")
				}

				h.Run(`cd "$ROOT/state" && rm -rf faults full cut flush "$ROOT`+path+`.tinyrack-new"`, "")
				for _, code := range []int{75, 0} {
					h.connect()
					if r := h.run("confirm", rules, fromBootstrap); r.Code != code {
						t.Fatalf("did not converge: %+v", r)
					}
				}
				h.wantKept(rules)
			})
		}
	}
}

func TestFirewallInstallsNft(t *testing.T) {
	h := newFirewallHost(t)
	_, rules := firewallRules(t)
	if r := h.Run(`mv "$(command -v nft)" "$ROOT/state/nft"`, ""); r.Code != 0 {
		t.Fatalf("%+v", r)
	}
	h.Fake("dpkg", "")
	h.Fake("apt-get", `case "$*" in *update*) exit 100 ;; esac`)
	if r := h.run("trial", rules, fromBootstrap); r.Code != 1 || !strings.Contains(r.Stderr, "apt-get update failed") {
		t.Errorf("got %+v", r)
	}
	h.Fake("apt-get", `case "$*" in *install*) exit 100 ;; esac`)
	r := h.run("trial", rules, fromBootstrap)
	if r.Code != 1 || !strings.Contains(r.Stderr, "could not install nftables") {
		t.Errorf("got %+v", r)
	}
	h.Fake("apt-get", `case "$*" in *"install -y "*nftables) cp "$ROOT/state/nft" `+h.Bin()+`/nft ;; esac`)
	if r := h.run("trial", rules, fromBootstrap); r.Code != 0 {
		t.Errorf("got %+v", r)
	}
	h.wantOnTrial(rules)
	h = newFirewallHost(t)
	h.Remove("nft")
	if r := h.run("trial", rules, fromBootstrap); r.Code != 1 || !strings.Contains(r.Stderr, "neither nft nor apt-get") {
		t.Errorf("got %+v", r)
	}
}
