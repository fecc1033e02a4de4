package machine

import (
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

// watchdog runs a verb of the installed script.
func (h *firewallHost) watchdog(verb string) remotetest.Result {
	h.t.Helper()
	return h.Run(`exec sh "$ROOT`+watchOnBox+`" `+verb, "")
}

func TestFirewallWatchdogRestores(t *testing.T) {
	_, rules := firewallRules(t)
	const (
		restored = " and is loaded"
		repaired = "was damaged or missing and is written again"
		flush    = `rm "$ROOT` + table + `"; `
	)
	tests := map[string]struct{ harm, want string }{
		"flushed":                    {flush, "was missing" + restored},
		"edited":                     {`sed -i s/drop/accept/ "$ROOT` + table + `"`, "had been changed" + restored},
		"a rule inserted":            {`echo accept >>"$ROOT` + table + `"`, "had been changed" + restored},
		"rebooted":                   {flush + `rm -r "$ROOT/run/tinyrack"; mkdir "$ROOT/run/tinyrack"`, restored},
		"flushed and no file":        {flush + `rm "$ROOT` + keptRules + `"`, repaired},
		"flushed and an empty file":  {flush + `: >"$ROOT` + keptRules + `"`, repaired},
		"the file cut":               {`sed -i '$d' "$ROOT` + keptRules + `"`, repaired},
		"the file edited":            {`sed -i s/drop/accept/ "$ROOT` + keptRules + `"`, repaired},
		"flushed on a full disk":     {flush + `echo "mv ` + keptRules + `" >"$ROOT/state/faults"`, "was missing" + restored},
		"the copy lost":              {`rm "$ROOT` + copyRules + `"`, ""},
		"another wording of the nft": {`echo "other" >"$ROOT/run/tinyrack/firewall.listing"`, restored},
	}
	for name, tt := range tests {
		for _, verb := range []string{"check", "load"} {
			t.Run(verb+" "+name, func(t *testing.T) {
				t.Parallel()
				h := newFirewallHost(t)
				h.apply(rules)
				h.Run(tt.harm, "")
				r := h.watchdog(verb)
				if r.Code != 0 || !strings.Contains(r.Stderr, tt.want) {
					t.Errorf("got %+v", r)
				}
				h.wantKept(rules)
				if h.Read(copyRules) != rules+"\n" {
					t.Error("there is no second copy")
				}
				before := h.Files()
				if r := h.watchdog(verb); r.Code != 0 || r.Stderr != "" || h.Files() != before {
					t.Errorf("a second time it changed something: %+v", r)
				}
			})
		}
	}
}

// What is not a whole ruleset is never loaded: the unit fails, and with it what requires it.
func TestFirewallWatchdogLoadsNoDamagedRules(t *testing.T) {
	_, rules := firewallRules(t)
	for name, damaged := range map[string]string{
		"empty": "", "a line break": "\n", "cut": rules[:len(rules)/2] + "\n",
		"its checksum alone":      rules[strings.LastIndex(rules, "\n")+1:] + "\n",
		"the checksum of nothing": "# sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"edited":                  strings.Replace(rules, "drop", "accept", 1) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			h := newFirewallHost(t)
			h.apply(rules)
			h.Run(`rm -r "$ROOT/run/tinyrack" "$ROOT`+table+`"; mkdir "$ROOT/run/tinyrack"`, "")
			h.Write(keptRules, damaged)
			for _, verb := range []string{"load", "check"} {
				r := h.watchdog(verb)
				if r.Code == 0 || !strings.Contains(r.Stderr, "no rules to load") || r.Called("nft -f") {
					t.Errorf("%s: %+v", verb, r)
				}
			}
		})
	}
}

func TestFirewallWatchdogAndTheTrial(t *testing.T) {
	h, former, rules := firewallOnTrial(t)
	for _, verb := range []string{"check", "load"} {
		if r := h.watchdog(verb); r.Code != 0 || r.Stderr != "" {
			t.Errorf("%s: %+v", verb, r)
		}
		h.wantOnTrial(rules)
	}
	// Somebody stopped the timer.
	h.Run(`rm "$ROOT/state/timer"`, "")
	h.pass(130)
	if h.watchdog("check"); h.Read(table) != rules+"\n" {
		t.Error("the timer has had no time to do it")
	}
	h.pass(10)
	r := h.watchdog("check")
	if r.Code != 0 || !strings.Contains(r.Stderr, "a trial was never ended: the former firewall is back in force") {
		t.Errorf("got %+v", r)
	}
	h.wantKept(former)
	// While a step is at work the table is its.
	h.Run(`rm "$ROOT`+table+`"`, "")
	r = h.Run(`exec 7>>"$ROOT/run/tinyrack/firewall.lock"; flock 7; sh "$ROOT`+watchOnBox+`" check`, "")
	if r.Code != 0 || r.Called("nft") {
		t.Errorf("got %+v", r)
	}
	if r := h.watchdog("check"); r.Code != 0 {
		t.Errorf("got %+v", r)
	}
	h.wantKept(former)
}

// A roll-back that cannot load the former rules is not over: the watchdog tries again.
func TestFirewallRollBackIsTriedAgain(t *testing.T) {
	h, former, rules := firewallOnTrial(t)
	h.Write("/state/no-memory", "")
	h.pass(200)
	if h.Read(table) != rules+"\n" {
		t.Fatal("the fake loaded rules without memory")
	}
	h.Run(`rm "$ROOT/state/no-memory"`, "")
	if r := h.watchdog("check"); r.Code != 0 {
		t.Errorf("got %+v", r)
	}
	h.wantKept(former)
}

// Rules that are taken back do not stay kept, even when the disk has no room for the former ones.
func TestFirewallRollBackOnAFullDisk(t *testing.T) {
	h, former, rules := firewallOnTrial(t)
	h.connect()
	h.Write("/state/faults", "mv "+copyRules+"\n")
	if r := h.run("confirm", rules, fromBootstrap); r.Code != 1 || h.Read(keptRules) != rules+"\n" {
		t.Fatalf("it did not fail after the rules were written: %+v", r)
	}
	h.Write("/state/faults", "mv "+keptRules+"\n")
	h.pass(121)
	if h.Read(table) != former+"\n" || h.Read(keptRules) != "" {
		t.Errorf("in force:\n%s\nkept:\n%s", h.Read(table), h.Read(keptRules))
	}
	h.Run(`rm "$ROOT/state/faults"`, "")
	if r := h.watchdog("check"); r.Code != 0 {
		t.Errorf("got %+v", r)
	}
	h.wantKept(former)
}

// The watch goes on whatever happens, says what it did, and repeats no failure.
func TestFirewallWatch(t *testing.T) {
	_, rules := firewallRules(t)
	h := newFirewallHost(t)
	h.apply(rules)
	h.Fake("sleep", `echo . >>"$ROOT/state/slept"
case $(grep -c . "$ROOT/state/slept") in
1) rm "$ROOT`+table+`" ;;
2 | 3) rm -f "$ROOT`+table+`"; : >"$ROOT/state/no-memory" ;;
4) rm "$ROOT/state/no-memory" ;;
6) exit 1 ;;
esac`)
	r := h.watchdog("watch")
	if got := strings.Count(r.Stderr, "was missing and is loaded"); got != 2 {
		t.Errorf("%d restorations are told, want 2: %s", got, r.Stderr)
	}
	if got := strings.Count(r.Stderr, "cannot be restored"); got != 1 {
		t.Errorf("a lasting failure is told %d times: %s", got, r.Stderr)
	}
	if !slices.Contains(r.Calls, "sleep 15") {
		t.Errorf("it does not look every 15 seconds: %q", r.Calls)
	}
	h.wantKept(rules)
}

func TestFirewallWatchEndsATrialWithoutATimer(t *testing.T) {
	h, former, _ := firewallOnTrial(t)
	h.Run(`rm "$ROOT/state/timer"`, "")
	h.pass(140)
	h.Fake("sleep", "exit 1")
	if r := h.watchdog("watch"); !strings.Contains(r.Stderr, "a trial was never ended") {
		t.Errorf("got %+v", r)
	}
	h.wantKept(former)
}
