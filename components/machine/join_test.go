package machine

import (
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

// tailscaleHost has a tailscale with a state of its own below /ts, as the cloud's and headscale's answer:
//
//	state     BackendState; NeedsLogin at first
//	starting  how often it is Starting before that
//	name      what the machine calls itself; dns is the label the tailnet gave it
//	taken     names other devices hold
//	domain tags user server expiry  of the present login
//	key       the key that was spent
//
// A key "spent" is refused; a machine that is logged in ignores every key. Its flags were others before: without
// --reset up refuses.
func tailscaleHost(t *testing.T) *remotetest.Host {
	t.Helper()
	h := remotetest.New(t)
	h.Write("/ts/state", "NeedsLogin")
	h.Write("/ts/keydomain", testDomain)
	h.Write("/ts/keytags", testTag)
	h.Fake("tailscale", fakeTailscale)
	h.Fake("systemctl", `case "$1 $2" in
"cat tailscaled") [ -f "$ROOT/ts/packaged" ] ;;
"is-enabled -q") [ -f "$ROOT/ts/enabled" ] ;;
"is-active -q") [ -f "$ROOT/ts/active" ] ;;
"enable -q") : >"$ROOT/ts/enabled" ;;
"start tailscaled") : >"$ROOT/ts/active" ;;
*) exit 64 ;;
esac`)
	passTime(h)
	return h
}

// passTime makes every look at the clock ten seconds later than the one before.
func passTime(h *remotetest.Host) {
	h.Fake("date", `n=$(cat "$ROOT/now" 2>/dev/null || echo 0); echo $((n + 10)) >"$ROOT/now"; echo "$n"`)
}

const fakeTailscale = `
ts=$ROOT/ts
get() { cat "$ts/$1" 2>/dev/null || true; }
# The label for a name: with a number behind it when another device holds it.
label() { if grep -qx "$1" "$ts/taken" 2>/dev/null; then echo "$1-1"; else echo "$1"; fi; }
[ ! -f "$ts/packaged" ] || [ -f "$ts/active" ] || { echo "failed to connect to local tailscaled" >&2; exit 1; }
case "$1 $2" in
"status --json")
	[ "$3" = --peers=false ] || exit 64
	state=$(get state)
	n=$(get starting)
	[ "${n:-0}" = 0 ] || { state=Starting; echo $((n - 1)) >"$ts/starting"; }
	case $state in NeedsLogin | Stopped)
		cat <<-JSON
		{
		  "Version": "1.98.3",
		  "BackendState": "$state",
		  "Self": {
		    "ID": "",
		    "HostName": "$(get name)",
		    "DNSName": "",
		    "Tags": null
		  },
		  "CurrentTailnet": null,
		  "User": null
		}
		JSON
		exit 0 ;;
	esac
	tags=$(for t in $(get tags); do printf '      "%s",\n' "$t"; done | sed '$s/,$//')
	[ -z "$tags" ] || tags=$(printf '    "Tags": [\n%s\n    ],' "$tags")
	expiry=$(get expiry); [ -z "$expiry" ] || expiry=$(printf '    "KeyExpiry": "%s",' "$expiry")
	cat <<-JSON
	{
	  "Version": "1.98.3",
	  "BackendState": "$state",
	  "TailscaleIPs": [
	    "100.64.0.10",
	    "fd7a:115c:a1e0::10"
	  ],
	  "Self": {
	    "ID": "n1",
	    "HostName": "$(get name)",
	    "DNSName": "$(get dns).$(get domain).",
	    "UserID": 7,
	$tags
	$expiry
	    "CapMap": {
	      "https://tailscale.com/cap/x": [
	        {
	          "DNSName": "forged \"} in a text",
	          "Tags": ["tag:forged"]
	        }
	      ]
	    },
	    "Online": true
	  },
	  "CurrentTailnet": {
	    "Name": "$(get domain) org",
	    "MagicDNSSuffix": "$(get domain)"
	  },
	  "Peer": {
	    "nodekey:1": {"HostName": "other", "DNSName": "other.evil.", "Tags": []}
	  },
	  "User": {
	    "7": {
	      "ID": 7,
	      "LoginName": "eve@example.com"
	    }
	  }
	}
	JSON
	;;
"debug prefs") printf '{\n\t"ControlURL": "%s",\n\t"WantRunning": true\n}\n' "$(get server)" ;;
"set "*) case $2 in --hostname=*) ;; *) exit 64 ;; esac
	name=${2#--hostname=}
	# The tailnet is told of a change alone.
	[ "$name" = "$(get name)" ] || { printf '%s' "$name" >"$ts/name"; label "$name" >"$ts/dns"; } ;;
"logout "*) echo NeedsLogin >"$ts/state" ;;
"up "*)
	for a; do case $a in
	--auth-key=file:*) key=${a#--auth-key=file:}; stat -c %a "$key" >"$ts/keymode"; key=$(cat "$key") ;;
	--hostname=*) name=${a#--hostname=} ;;
	--login-server=*) server=${a#--login-server=} ;;
	--reset) reset=yes ;;
	--accept-dns=false | --timeout=90s | up) ;;
	*) exit 64 ;;
	esac; done
	[ "${reset:-}" = yes ] || { echo "Error: changing settings requires mentioning all flags" >&2; exit 1; }
	echo "chatter with $key in it"
	[ "$(get state)" = NeedsLogin ] || exit 0
	[ -n "$key" ] || exit 64
	[ ! -f "$ts/unreachable" ] || { echo "fetch control key: Get: dial tcp: i/o timeout" >&2; exit 1; }
	[ "$key" != spent ] || { echo "backend error: invalid key: API key k123 not valid" >&2; exit 1; }
	printf '%s' "$key" >"$ts/key"
	get keydomain >"$ts/domain"; get keytags >"$ts/tags"; printf '%s' "${server:-}" >"$ts/server"
	printf '%s' "$name" >"$ts/name"; label "$name" >"$ts/dns"
	[ ! -f "$ts/approval" ] || { echo NeedsMachineAuth >"$ts/state"; echo "timeout waiting" >&2; exit 1; }
	echo Running >"$ts/state" ;;
*) exit 64 ;;
esac`

// loggedIn gives the host a login.
func loggedIn(h *remotetest.Host, name, dns, domain, tags string) {
	for file, content := range map[string]string{
		"state": "Running", "name": name, "dns": dns, "domain": domain, "tags": tags,
	} {
		h.Write("/ts/"+file, content)
	}
}

func joinText(t *testing.T, changes ...func(*Join)) string {
	t.Helper()
	join := testArgs().Join
	for _, change := range changes {
		change(&join)
	}
	return renderText(t, withHost(remote.Text{Vars: join.vars(testHost()), Body: identityScript + joinScript}))
}

func TestJoinTwice(t *testing.T) {
	h := tailscaleHost(t)
	text := joinText(t, func(j *Join) { j.LoginServer = "http://10.77.0.1:7702" })
	r := h.Run(text, canary+"\n")
	if r.Code != 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "the machine is box."+testDomain) {
		t.Fatalf("got %+v", r)
	}
	r.NoSecret(t, canary)
	if h.Read("/ts/key") != canary || h.Read("/ts/keymode") != "600\n" || h.Read("/ts/name") != "box" ||
		h.Read("/ts/server") != "http://10.77.0.1:7702" {
		t.Errorf("key %q of mode %q, name %q", h.Read("/ts/key"), h.Read("/ts/keymode"), h.Read("/ts/name"))
	}
	if strings.Contains(h.Files(), "/run/tinyrack/join") {
		t.Error("the key was left on the machine")
	}

	h.Write("/now", "0")
	before := h.Files()
	r = h.Run(text, "another-key\n")
	h.Write("/now", "0")
	if r.Code != 0 || r.Called("tailscale up") || r.Called("tailscale set") || h.Read("/ts/key") != canary {
		t.Errorf("the second run joined again: %+v", r)
	}
	if strip(h.Files()) != strip(before) {
		t.Error("the second run changed a file")
	}
}

// strip takes away what the fake clock writes.
func strip(files string) string {
	var kept []string
	for line := range strings.Lines(files) {
		if !strings.Contains(line, "/now ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// A state file was lost: the stack comes with a new key, or with a spent one, to a machine that is in the tailnet.
func TestJoinSpendsNoKeyOfAJoinedMachine(t *testing.T) {
	for _, key := range []string{"fresh", "spent"} {
		h := tailscaleHost(t)
		loggedIn(h, "box", "box", testDomain, testTag)
		if r := h.Run(joinText(t), key); r.Code != 0 || r.Called("tailscale up") {
			t.Errorf("%s: %+v", key, r)
		}
	}
}

func TestJoinRenames(t *testing.T) {
	h := tailscaleHost(t)
	loggedIn(h, "former", "former", testDomain, testTag)
	r := h.Run(joinText(t), "spent")
	if r.Code != 0 || r.Called("tailscale up") || !r.Called("tailscale set --hostname=box") ||
		h.Read("/ts/dns") != "box\n" {
		t.Errorf("got %+v", r)
	}
	// The dead device that held the name was removed since: the same name must be said anew.
	h = tailscaleHost(t)
	loggedIn(h, "box", "box-1", testDomain, testTag)
	if r = h.Run(joinText(t), "spent"); r.Code != 0 || h.Read("/ts/dns") != "box\n" || h.Read("/ts/name") != "box" {
		t.Errorf("a name that is free again: %+v", r)
	}
}

func TestJoinRefusesATakenName(t *testing.T) {
	fresh := tailscaleHost(t)
	renamed := tailscaleHost(t)
	loggedIn(renamed, "former", "former", testDomain, testTag)
	again := tailscaleHost(t)
	loggedIn(again, "box", "box-1", testDomain, testTag)
	for name, h := range map[string]*remotetest.Host{"fresh": fresh, "renamed": renamed, "again": again} {
		h.Write("/ts/taken", "box\n")
		r := h.Run(joinText(t), canary)
		if !refused(r, "the name box is taken", "this machine became box-1."+testDomain, "the device box."+testDomain) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// A name that an administrator gave wins over the machine's own.
	h := tailscaleHost(t)
	loggedIn(h, "box", "pinned", testDomain, testTag)
	h.Write("/bin/tailscale", fakeTailscale)
	h.Fake("tailscale", `[ "$1" != set ] || exit 0; . "$ROOT/bin/tailscale"`)
	if r := h.Run(joinText(t), canary); !refused(r, "rename the device to box in the admin") {
		t.Errorf("pinned: %+v", r)
	}
}

// Each of these passes for a success when only the name and the state are looked at.
func TestJoinRefusesAStrangersLogin(t *testing.T) {
	tests := map[string]struct {
		change func(*remotetest.Host)
		want   []string
	}{
		"another tailnet": {
			func(h *remotetest.Host) { loggedIn(h, "box", "box", "evil.ts.net", testTag) },
			[]string{
				"logged in to the tailnet evil.ts.net of evil.ts.net org as box.evil.ts.net, not to " + testDomain,
				"tailscale logout",
			},
		},
		"a domain that ends alike": {
			func(h *remotetest.Host) { loggedIn(h, "box", "box", "x"+testDomain, testTag) },
			[]string{"not to " + testDomain},
		},
		"a user": {
			func(h *remotetest.Host) { loggedIn(h, "box", "box", testDomain, "") },
			[]string{"as the device of eve@example.com, without the tags " + testTag, "give the device box." + testDomain},
		},
		"other tags": {
			func(h *remotetest.Host) { loggedIn(h, "box", "box", testDomain, "tag:tinyrack-agent tag:a") },
			[]string{"with the tags tag:a tag:tinyrack-agent, wanted are " + testTag, "Edit ACL tags"},
		},
		"more tags": {
			func(h *remotetest.Host) { loggedIn(h, "box", "box", testDomain, testTag+" tag:x") },
			[]string{"wanted are " + testTag},
		},
		"another login server": {
			func(h *remotetest.Host) {
				loggedIn(h, "box", "box", testDomain, testTag)
				h.Write("/ts/server", "https://head.example")
			},
			[]string{"joined through the login server https://head.example, the settings name https://login.tailscale.com"},
		},
		"waiting for approval": {
			func(h *remotetest.Host) {
				loggedIn(h, "box", "box", testDomain, testTag)
				h.Write("/ts/state", "NeedsMachineAuth")
			},
			[]string{"waits for its approval", "approve it in the admin console"},
		},
		"switched off": {
			func(h *remotetest.Host) { h.Write("/ts/state", "Stopped") }, []string{"switched off", "run tailscale up"},
		},
		"in use by another user": {
			func(h *remotetest.Host) { h.Write("/ts/state", "InUseOtherUser") }, []string{"in the state InUseOtherUser"},
		},
		"a key of another tailnet": {
			func(h *remotetest.Host) { h.Write("/ts/keydomain", "other.ts.net") },
			[]string{"logged in to the tailnet other.ts.net", "correct tailnet.domain"},
		},
		"a key with other tags": {
			func(h *remotetest.Host) { h.Write("/ts/keytags", "tag:old") }, []string{"with the tags tag:old"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := tailscaleHost(t)
			tt.change(h)
			r := h.Run(joinText(t), canary)
			r.NoSecret(t, canary)
			if r.Code == 0 || r.Called("tailscale set") || r.Called("tailscale logout") {
				t.Errorf("went on: %+v", r)
			}
			if strings.Contains(name, "key") != r.Called("tailscale up") {
				t.Errorf("spent the key of a machine that is logged in, or not that of one that is not: %q", r.Calls)
			}
			for _, want := range tt.want {
				if !strings.Contains(r.Stderr, want) {
					t.Errorf("does not say %q:\n%s", want, r.Stderr)
				}
			}
		})
	}
}

func TestJoinKnowsTheNamesOfTailscalesServer(t *testing.T) {
	for _, server := range []string{"", "https://login.tailscale.com", "https://controlplane.tailscale.com/"} {
		h := tailscaleHost(t)
		loggedIn(h, "box", "box", testDomain, testTag)
		h.Write("/ts/server", server)
		if r := h.Run(joinText(t), canary); r.Code != 0 {
			t.Errorf("%s: %+v", server, r)
		}
	}
}

func TestJoinAcceptsTagsInAnyOrder(t *testing.T) {
	h := tailscaleHost(t)
	loggedIn(h, "box", "box", testDomain, "tag:b tag:a")
	if r := h.Run(joinText(t, func(j *Join) { j.Tags = []string{"tag:a", "tag:b"} }), canary); r.Code != 0 {
		t.Errorf("got %+v", r)
	}
}

// Right after its start the daemon does not know yet whose it is.
func TestJoinWaitsForTheDaemonsMind(t *testing.T) {
	h := tailscaleHost(t)
	loggedIn(h, "box", "box", testDomain, testTag)
	h.Write("/ts/starting", "3")
	if r := h.Run(joinText(t), "spent"); r.Code != 0 || r.Called("tailscale up") || r.Called("tailscale set") {
		t.Errorf("got %+v", r)
	}
	h.Write("/ts/starting", "1000")
	if r := h.Run(joinText(t), canary); !refused(r, "does not reach its login server") || r.Called("tailscale up") {
		t.Errorf("got %+v", r)
	}
}

func TestJoinWarnsOfAnExpiringLogin(t *testing.T) {
	h := tailscaleHost(t)
	loggedIn(h, "box", "box", testDomain, testTag)
	if r := h.Run(joinText(t), canary); strings.Contains(r.Stderr, "warning") {
		t.Errorf("got %+v", r)
	}
	h.Write("/ts/expiry", "2027-01-02T03:04:05Z")
	if r := h.Run(joinText(t), canary); r.Code != 0 || !strings.Contains(r.Stderr, "ends on 2027-01-02T03:04:05Z") {
		t.Errorf("got %+v", r)
	}
}

func TestJoinFailures(t *testing.T) {
	tests := map[string]struct {
		key, file, want string
	}{
		"no key":    {"", "", "no join key"},
		"spent key": {"spent", "", "pulumi up --replace '**TailnetKey::*box'"},
		"approval":  {canary, "/ts/approval", "approve it in the admin console"},
		"unreachable": {canary, "/ts/unreachable", "tailscale up failed: the machine is not in the tailnet: see its " +
			"message above and whether the machine reaches https://login.tailscale.com"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := tailscaleHost(t)
			if tt.file != "" {
				h.Write(tt.file, "")
			}
			r := h.Run(joinText(t), tt.key)
			if !refused(r, tt.want) {
				t.Errorf("got %+v", r)
			}
			r.NoSecret(t, canary)
			if strings.Contains(h.Files(), "/run/tinyrack/join") {
				t.Error("the key was left on the machine")
			}
		})
	}
	h := tailscaleHost(t)
	h.Remove("tailscale")
	if r := h.Run(joinText(t), canary); !refused(r, "has no tailscale") {
		t.Errorf("no tailscale: %+v", r)
	}
}

func TestJoinRemovesTheKeyOfAKilledRun(t *testing.T) {
	h := tailscaleHost(t)
	h.Write("/run/tinyrack/join.killed/key", canary)
	if r := h.Run(joinText(t), canary); r.Code != 0 || strings.Contains(h.Files(), "join.killed") {
		t.Errorf("got %+v", r)
	}
}

func TestJoinStartsThePackagedDaemon(t *testing.T) {
	h := tailscaleHost(t)
	h.Write("/ts/packaged", "")
	r := h.Run(joinText(t), canary)
	if r.Code != 0 || !r.Called("systemctl enable -q tailscaled") || !r.Called("systemctl start tailscaled") {
		t.Fatalf("got %+v", r)
	}
	if r = h.Run(joinText(t), canary); r.Called("systemctl enable") || r.Called("systemctl start") {
		t.Errorf("started again: %q", r.Calls)
	}
	h.Fake("systemctl", "")
	h.Run(`rm "$ROOT/ts/active"`, "")
	if r := h.Run(joinText(t), canary); !refused(r, "tailscaled does not answer") {
		t.Errorf("a daemon that does not run: %+v", r)
	}
}

// The reader takes any JSON: in one line, with braces and quotes in texts, with the same keys further inside.
func TestFlatten(t *testing.T) {
	h := remotetest.New(t)
	for _, text := range []string{
		`{"A":"x","S":{"T":["b","a"],"N":{"T":["no"],"D":"n"},"D":"d\"}{[,:","E":null,"L":[],"O":{}},"n":-1.5e3,"B":true}`,
		"{\n  \"A\": \"x\",\n  \"S\": {\n    \"T\": [\n      \"b\",\n      \"a\"\n    ],\n    \"N\": {\n      \"T\": [\n" +
			"        \"no\"\n      ],\n      \"D\": \"n\"\n    },\n    \"D\": \"d\\\"}{[,:\",\n    \"E\": null,\n    \"L\": " +
			"[]," +
			"\n    \"O\": {}\n  },\n  \"n\": -1.5e3,\n  \"B\": true\n}\n",
	} {
		r := h.Run(render(t, identityScript+"\nflatten", "TS_DOMAIN", "", "TS_TAGS", "", "TS_LOGIN_SERVER", ""), text)
		want := ".A\tx\n.S.T\tb\n.S.T\ta\n.S.N.T\tno\n.S.N.D\tn\n.S.D\td\\\"}{[,:\n.S.E\tnull\n.n\t-1.5e3\n.B\ttrue\n"
		if r.Stdout != want {
			t.Errorf("got %q, want %q", r.Stdout, want)
		}
	}
}
