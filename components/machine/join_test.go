package machine

import (
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/internal/script/scripttest"
)

// joinHost has a tailscale that joins with any key and checks how it got it.
func joinHost(t *testing.T) *scripttest.Host {
	t.Helper()
	h := scripttest.New(t)
	h.Fake("systemctl", `[ "$1" != cat ]`) // no packaged daemon
	h.Fake("tailscale", fakeTailscale)
	return h
}

const fakeTailscale = `
case $1 in
status)
	[ -f "$ROOT/state/up" ] || { echo '{"BackendState": "NeedsLogin"}'; exit 1; }
	printf '{\n\t"Version": "1",\n\t"BackendState": "Running",\n\t"Self": {\n\t\t"ID": "n1",\n\t\t"HostName": "%s"\n\t},\n\t"Peer": {"k": {"HostName": "other"}}\n}\n' "$(cat "$ROOT/state/up")" ;;
ip) [ ! -f "$ROOT/state/up" ] || { echo 100.64.0.10; } ;;
logout) rm -f "$ROOT/state/up" ;;
up)
	mkdir -p "$ROOT/state"
	for a; do case $a in
	--auth-key=file:*) cp -p "${a#--auth-key=file:}" "$ROOT/state/key" ;;
	--hostname=*) echo "${a#--hostname=}" >"$ROOT/state/up" ;;
	esac; done
	echo "noise on stdout" ;;
esac`

func joinText(t *testing.T, hostname, server string) string {
	t.Helper()
	return render(t, joinScript, "TS_HOSTNAME", hostname, "TS_LOGIN_SERVER", server)
}

func TestJoinTwice(t *testing.T) {
	h := joinHost(t)
	text := joinText(t, "tinyrack-1", "http://10.77.0.1:7702")
	r := h.Run(text, canary+"\n")
	if r.Code != 0 || r.Stdout != "100.64.0.10\n" {
		t.Fatalf("got %+v", r)
	}
	r.NoSecret(t, canary)
	if h.Read("/state/key") != canary+"\n" || h.Mode("/state/key") != 0o600 {
		t.Errorf("the key did not arrive as a file for root only: %v", h.Mode("/state/key"))
	}
	if h.Read("/run/tinyrack/join-key") != "" {
		t.Error("the key was left on the machine")
	}
	want := "tailscale up --accept-dns=false --reset --timeout=90s --hostname=tinyrack-1 --auth-key=file:" + h.Root + "/run/tinyrack/join-key --login-server=http://10.77.0.1:7702"
	if !r.Called(want) || strings.Contains(strings.Join(r.Calls, "\n"), "--force-reauth") {
		t.Errorf("calls %q, want %q", r.Calls, want)
	}

	before := h.Files()
	r = h.Run(text, "another-key\n")
	if r.Code != 0 || r.Stdout != "100.64.0.10\n" || r.Called("tailscale up") || h.Files() != before {
		t.Errorf("the second run joined again: %+v", r)
	}
}

func TestJoinAgainWhenSettingsChange(t *testing.T) {
	h := joinHost(t)
	h.Run(joinText(t, "tinyrack-1", ""), canary)
	r := h.Run(joinText(t, "tinyrack-2", ""), canary)
	if r.Code != 0 || !r.Called("tailscale up") || strings.Contains(strings.Join(r.Calls, "\n"), "--force-reauth") {
		t.Errorf("a changed hostname: %+v", r)
	}
	r = h.Run(joinText(t, "tinyrack-2", "https://login.example"), canary)
	if r.Code != 0 || !strings.Contains(strings.Join(r.Calls, "\n"), "--force-reauth") {
		t.Errorf("a changed login server: %+v", r)
	}
	// Logged out behind our back.
	h.Run("rm -f $ROOT/state/up", "")
	if r = h.Run(joinText(t, "tinyrack-2", "https://login.example"), canary); !r.Called("tailscale up") {
		t.Errorf("a lost login: %+v", r)
	}
}

func TestJoinFailures(t *testing.T) {
	h := joinHost(t)
	if r := h.Run(joinText(t, "a", ""), ""); r.Code == 0 || !strings.Contains(r.Stderr, "no join key") {
		t.Errorf("no key: %+v", r)
	}
	h.Fake("tailscale", `[ "$1" = up ] && { echo "invalid key" >&2; exit 1; }; exit 0`)
	r := h.Run(joinText(t, "a", ""), canary)
	if r.Code == 0 || !strings.Contains(r.Stderr, "tailscale up failed") || r.Stdout != "" {
		t.Errorf("refused key: %+v", r)
	}
	r.NoSecret(t, canary)
	if h.Read("/run/tinyrack/join-key") != "" || h.Read("/etc/tinyrack/tailnet") != "" {
		t.Error("a failed join left its key or looks like a success")
	}
	h.Fake("tailscale", "")
	h.Fake("date", `n=$(cat "$ROOT/n" 2>/dev/null || echo 0); echo $((n + 30)) >"$ROOT/n"; echo "$n"`)
	if r := h.Run(joinText(t, "a", ""), canary); r.Code == 0 || !strings.Contains(r.Stderr, "no IPv4 address in the tailnet") {
		t.Errorf("no address: %+v", r)
	}
}

func TestInstallTailscale(t *testing.T) {
	host := func(fingerprint string) *scripttest.Host {
		h := joinHost(t)
		h.Remove("tailscale")
		h.Write("/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
		h.Fake("curl", `while [ "$1" != -o ]; do shift; done; echo key >"$2"`)
		h.Fake("gpg", "printf 'pub:-:4096\\nfpr:::::::::"+fingerprint+":\\nsub:-\\nfpr:::::::::FFFF:\\n'")
		h.Fake("dpkg", ":")
		h.Fake("apt-get", `case "$*" in *" install "*tailscale) cp "$ROOT/tailscale.sh" "$(dirname "$(command -v gpg)")/tailscale" ;; esac`)
		h.Write("/tailscale.sh", "#!/bin/sh\n"+fakeTailscale)
		h.Run(`chmod 755 "$ROOT/tailscale.sh"`, "")
		return h
	}
	const good = "2596A99EAAB33821893C0A79458CA832957F5868"
	h := host(good)
	r := h.Run(joinText(t, "a", ""), canary)
	if r.Code != 0 || !strings.HasSuffix(r.Stdout, "100.64.0.10\n") {
		t.Fatalf("got %+v", r)
	}
	want := "deb [signed-by=/usr/share/keyrings/tailscale-archive-keyring.gpg] https://pkgs.tailscale.com/stable/debian bookworm main\n"
	if got := h.Read("/etc/apt/sources.list.d/tailscale.list"); got != want {
		t.Errorf("package source %q", got)
	}

	h = host("0000")
	r = h.Run(joinText(t, "a", ""), canary)
	if r.Code == 0 || !strings.Contains(r.Stderr, "fingerprint 0000, wanted "+good) || strings.Contains(h.Files(), "keyrings") || r.Called("apt-get -q -o DPkg::Lock::Timeout=300 update") {
		t.Errorf("a foreign key was trusted: %+v", r)
	}
	h = host(good)
	h.Fake("curl", "exit 6")
	if r := h.Run(joinText(t, "a", ""), canary); r.Code == 0 || !strings.Contains(r.Stderr, "repository key cannot be downloaded") {
		t.Errorf("no network: %+v", r)
	}
	h = host(good)
	h.Write("/etc/os-release", "ID=\"alpine\"\n")
	if r := h.Run(joinText(t, "a", ""), canary); r.Code == 0 || !strings.Contains(r.Stderr, "this is alpine") {
		t.Errorf("unsupported distribution: %+v", r)
	}
}

func TestLeave(t *testing.T) {
	h := joinHost(t)
	h.Fake("systemd-run", "")
	h.Run(joinText(t, "a", ""), canary)
	text := render(t, leaveScript)
	r := h.Run("SSH_CONNECTION='100.64.0.2 50000 100.64.0.10 22'\n"+text, "")
	if r.Code != 0 || r.Called("tailscale logout") || !r.Called("systemd-run --quiet --on-active=5") {
		t.Errorf("a session over the tailnet must not cut itself off: %+v", r)
	}
	r = h.Run(text, "")
	if r.Code != 0 || !r.Called("tailscale logout") || strings.Contains(h.Files(), "/etc/tinyrack") {
		t.Errorf("got %+v", r)
	}
	h.Remove("tailscale")
	if r := h.Run(text, ""); r.Code != 0 {
		t.Errorf("a machine without tailscale: %+v", r)
	}
}
