package k3s

import (
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/internal/script"
	"github.com/tinyrack-net/infrastructure/components/internal/script/scripttest"
)

// fakeBinary answers as k3s does once its unit was started.
const fakeBinary = `#!/bin/sh
echo "k3s $*" >>"$ROOT/state/k3s-calls"
[ -f "$ROOT/state/active" ] && [ ! -f "$ROOT/state/broken" ] || exit 1
case "$*" in
*/readyz*) echo ok ;;
*" get node tinyrack-1 "*) printf True ;;
*) exit 64 ;;
esac`

// fakeInstall is an install script that does what the flags of k3s' own ask for.
const fakeInstall = `#!/bin/sh
[ "$INSTALL_K3S_SKIP_DOWNLOAD$INSTALL_K3S_SKIP_START" = truetrue ] || exit 1
[ "$INSTALL_K3S_EXEC" = server ] && [ -x "$ROOT/usr/local/bin/k3s" ] || exit 1
[ ! -f "$ROOT/state/install-fails" ] || exit 1
mkdir -p "$ROOT/etc/systemd/system"
echo "[Service]" >"$ROOT/etc/systemd/system/k3s.service"
echo 'rm -rf "$ROOT/var/lib/rancher" "$ROOT/etc/systemd" "$ROOT/usr/local/bin/k3s" "$ROOT/usr/local/bin/k3s-uninstall.sh"' >"$ROOT/usr/local/bin/k3s-uninstall.sh"
echo run >>"$ROOT/state/installs"
echo "noise on stdout"`

func serverHost(t *testing.T) *scripttest.Host {
	t.Helper()
	h := scripttest.New(t)
	h.Write("/state/binary", fakeBinary)
	h.Write("/state/install", fakeInstall)
	h.Fake("curl", `for url; do :; done
while [ "$1" != -o ]; do shift; done
case $url in */k3s) cp "$ROOT/state/binary" "$2" ;; *) cp "$ROOT/state/install" "$2" ;; esac`)
	h.Fake("systemctl", `case $1 in
is-active) [ -f "$ROOT/state/active" ] ;;
show) cat "$ROOT/state/active" 2>/dev/null ;;
restart)
	echo "start $(cat "$ROOT/state/active" 2>/dev/null)" >"$ROOT/state/active"
	mkdir -p "$ROOT/var/lib/rancher/k3s/server/db" "$ROOT/etc/rancher/k3s"
	printf 'K10aaaa::server:%s\n' "$(cat "$ROOT/etc/rancher/k3s/token")" >"$ROOT/var/lib/rancher/k3s/server/token" ;;
esac`)
	h.Fake("kubectl", `exec "$ROOT/usr/local/bin/k3s" kubectl "$@"`) // the link
	h.Fake("journalctl", "echo 'fatal: the reason'")
	// Every look at the clock is half a minute later.
	h.Fake("date", `n=$(cat "$ROOT/../clock" 2>/dev/null || echo 0); echo $((n + 30)) >"$ROOT/../clock"; echo "$n"`)
	return h
}

func serverScriptText(t *testing.T, args *Args) string {
	t.Helper()
	text, err := args.serverText()
	if err != nil {
		t.Fatal(err)
	}
	return render(t, text)
}

func render(t *testing.T, text script.Text) string {
	t.Helper()
	out, err := script.Render("root", text.Vars, text.Body)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestServerTwice(t *testing.T) {
	h := serverHost(t)
	text := serverScriptText(t, testArgs())
	r := h.Run(text, canary+"\n")
	if r.Code != 0 || r.Stdout != "" {
		t.Fatalf("got %+v", r)
	}
	r.NoSecret(t, canary)
	if h.Read("/usr/local/bin/k3s") != fakeBinary || h.Mode("/usr/local/bin/k3s") != 0o755 {
		t.Error("the verified binary is not in place")
	}
	if h.Read("/etc/rancher/k3s/token") != canary+"\n" || h.Mode("/etc/rancher/k3s/token") != 0o600 {
		t.Errorf("token file: %v", h.Mode("/etc/rancher/k3s/token"))
	}
	config, _ := testArgs().Config()
	const dropIn = "/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml"
	if h.Read(dropIn) != config+"\n" || h.Mode(dropIn) != 0o600 {
		t.Errorf("configuration %q", h.Read(dropIn))
	}
	if !slices.Contains(r.Calls, "systemctl restart --no-block k3s") {
		t.Errorf("never started: %q", r.Calls)
	}

	h.Run(`rm "$ROOT/state/k3s-calls"`, "")
	before := h.Files()
	r = h.Run(text, canary+"\n")
	h.Run(`rm "$ROOT/state/k3s-calls"`, "")
	if r.Code != 0 || h.Files() != before || r.Called("systemctl restart") || r.Called("curl") {
		t.Errorf("the second run changed something: %+v", r)
	}
}

func TestServerRestartsOnlyOnChange(t *testing.T) {
	h := serverHost(t)
	h.Run(serverScriptText(t, testArgs()), canary)

	changed := testArgs()
	changed.KubeletArgs = nil
	r := h.Run(serverScriptText(t, changed), canary)
	if r.Code != 0 || !r.Called("systemctl restart") || h.Read("/state/installs") != "run\n" {
		t.Errorf("changed configuration: %+v", r)
	}
	// An update of k3s: a new binary and install script, in place.
	h.Write("/state/binary", fakeBinary+"\n# next")
	h.Write("/state/install", fakeInstall+"\n# next")
	changed.Binary.SHA256, changed.InstallScript.SHA256 = sum(fakeBinary+"\n# next"), sum(fakeInstall+"\n# next")
	r = h.Run(serverScriptText(t, changed), canary)
	if r.Code != 0 || !r.Called("systemctl restart") || h.Read("/state/installs") != "run\nrun\n" || !strings.HasSuffix(h.Read("/usr/local/bin/k3s"), "# next") {
		t.Errorf("changed release: %+v", r)
	}
	// A run that was killed between writing and restarting.
	h.Run(`rm "$ROOT/var/lib/tinyrack/k3s-started"`, "")
	if r = h.Run(serverScriptText(t, changed), canary); r.Code != 0 || !r.Called("systemctl restart") {
		t.Errorf("interrupted run: %+v", r)
	}
	// A server somebody stopped.
	h.Run(`rm "$ROOT/state/active"`, "")
	if r = h.Run(serverScriptText(t, changed), canary); r.Code != 0 || !r.Called("systemctl restart") {
		t.Errorf("stopped server: %+v", r)
	}
}

func TestServerFailures(t *testing.T) {
	other := func(change func(*Args)) *Args { a := testArgs(); change(a); return a }
	tests := map[string]struct {
		installed bool
		prepare   func(*scripttest.Host)
		args      *Args
		token     string
		want      string
	}{
		"no token":             {args: testArgs(), want: "no token on standard input"},
		"wrong binary":         {args: other(func(a *Args) { a.Binary.SHA256 = sum("x") }), token: canary, want: "k3s: https://host/k3s has sha256"},
		"wrong install script": {args: other(func(a *Args) { a.InstallScript.SHA256 = sum("x") }), token: canary, want: "k3s-install: https://host/install.sh has sha256"},
		"install fails":        {args: testArgs(), token: canary, prepare: func(h *scripttest.Host) { h.Write("/state/install-fails", "") }, want: "install script failed"},
		"other networks":       {installed: true, args: other(func(a *Args) { a.ClusterCIDR = "10.99.0.0/16" }), token: canary, want: "runs with cluster-cidr 10.55.0.0/16, the configuration wants 10.99.0.0/16"},
		"other token":          {installed: true, args: testArgs(), token: "another", want: "made with another token"},
		"never ready":          {args: testArgs(), token: canary, prepare: func(h *scripttest.Host) { h.Write("/state/broken", "") }, want: "its API is not ready"},
		"never starts":         {args: testArgs(), token: canary, prepare: func(h *scripttest.Host) { h.Fake("systemctl", `[ "$1" = restart ]`) }, want: "its unit does not start"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := serverHost(t)
			if tt.installed {
				h.Run(serverScriptText(t, testArgs()), canary)
			}
			if tt.prepare != nil {
				tt.prepare(h)
			}
			before := h.Files()
			r := h.Run(serverScriptText(t, tt.args), tt.token)
			if r.Code == 0 || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("got %+v", r)
			}
			r.NoSecret(t, canary)
			if strings.HasPrefix(name, "never") && !strings.Contains(r.Stderr, "fatal: the reason") {
				t.Error("the log's last lines are missing")
			}
			if (tt.installed || name == "no token" || name == "wrong binary") && h.Files() != before {
				t.Error("something was changed before the refusal")
			}
		})
	}
}

func TestUninstall(t *testing.T) {
	h := serverHost(t)
	h.Run(serverScriptText(t, testArgs()), canary)
	text := render(t, script.Text{Body: uninstallScript})
	for range 2 {
		if r := h.Run(text, ""); r.Code != 0 {
			t.Fatalf("got %+v", r)
		}
	}
	for _, left := range []string{"/etc/", "/usr/", "/var/lib/rancher", "k3s-install", "k3s-started"} {
		if strings.Contains(h.Files(), h.Root+left) {
			t.Errorf("%s was left:\n%s", left, h.Files())
		}
	}
	h.Write("/usr/local/bin/k3s-uninstall.sh", "exit 3")
	if r := h.Run(text, ""); r.Code == 0 || !strings.Contains(r.Stderr, "k3s-uninstall.sh failed") {
		t.Errorf("got %+v", r)
	}
}

func TestKubeconfigScript(t *testing.T) {
	h := serverHost(t)
	text := render(t, script.Text{Body: kubeconfigScript, Vars: []script.Var{{Name: "GENERATION", Value: "g"}}})
	if r := h.Run(text, ""); r.Code == 0 || !strings.Contains(r.Stderr, "no kubeconfig") {
		t.Errorf("got %+v", r)
	}
	h.Write("/etc/rancher/k3s/k3s.yaml", "server: "+localServer+"\n")
	if r := h.Run(text, ""); r.Code != 0 || r.Stdout != "server: "+localServer+"\n" {
		t.Errorf("got %+v", r)
	}
}
