package machine

import (
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/internal/script/scripttest"
)

// packagesHost has apt, dpkg, sysctl and systemctl that keep their state in files.
func packagesHost(t *testing.T) *scripttest.Host {
	t.Helper()
	h := scripttest.New(t)
	h.Write("/state/installed", "nfs-common\n")
	h.Fake("dpkg-query", `for p; do :; done
grep -qx "$p" "$ROOT/state/installed" && printf 'install ok installed' || exit 1`)
	h.Fake("apt-get", `[ "$DEBIAN_FRONTEND" = noninteractive ] || exit 9
case "$*" in *" install "*) ;; *) exit 0 ;; esac
for p; do case $p in -*|install) ;; *=*) ;; *) echo "$p" >>"$ROOT/state/installed" ;; esac; done; echo chatter`)
	h.Fake("dpkg", `case "$*" in *" --configure -a") ;; *) exit 2 ;; esac`)
	h.Fake("sysctl", `case $1 in
-n) cat "$ROOT/state/$2" 2>/dev/null ;;
-q) case $3 in bad.*) exit 1 ;; esac; printf '%s\n' "${3#*=}" >"$ROOT/state/${3%%=*}" ;;
esac`)
	h.Fake("systemctl", `case $1 in
is-*) [ -f "$ROOT/state/$1" ] ;;
enable) : >"$ROOT/state/is-enabled" ;;
start) : >"$ROOT/state/is-active" ;;
esac`)
	return h
}

const someSysctl = "net.ipv4.ip_forward = 1\nnet.ipv4.ping_group_range = 0 2147483647"

func TestPackagesTwice(t *testing.T) {
	h := packagesHost(t)
	h.Fake("multipathd", "")
	text := render(t, packagesScript, "PACKAGES", "open-iscsi nfs-common", "SYSCTL", someSysctl)
	r := h.Run(text, "")
	if r.Code != 0 || r.Stdout != "" {
		t.Fatalf("got %+v", r)
	}
	if got := h.Read("/state/installed"); got != "nfs-common\nopen-iscsi\n" {
		t.Errorf("installed %q: only what is missing may be installed", got)
	}
	if h.Read("/etc/sysctl.d/90-tinyrack.conf") != someSysctl+"\n" || h.Read("/state/net.ipv4.ping_group_range") != "0 2147483647\n" {
		t.Error("the kernel parameters were not set, now and for the next boot")
	}
	if !r.Called("systemctl enable -q iscsid") || !r.Called("systemctl start iscsid") {
		t.Errorf("iscsid is not on: %q", r.Calls)
	}
	if !strings.Contains(h.Read("/etc/multipath/conf.d/tinyrack.conf"), `devnode "^sd[a-z0-9]+"`) || !r.Called("systemctl try-restart multipathd") {
		t.Error("multipathd would grab Longhorn's devices")
	}

	before := h.Files()
	r = h.Run(text, "")
	if r.Code != 0 || h.Files() != before || r.Stderr != "" {
		t.Errorf("the second run changed something: %+v", r)
	}
	for _, call := range []string{"apt-get", "sysctl -q", "systemctl enable", "systemctl start", "systemctl try-restart"} {
		if r.Called(call) {
			t.Errorf("the second run called %s", call)
		}
	}
}

func TestPackagesWithoutMultipathOrIscsi(t *testing.T) {
	h := packagesHost(t)
	r := h.Run(render(t, packagesScript, "PACKAGES", "nfs-common", "SYSCTL", ""), "")
	if r.Code != 0 || r.Called("systemctl") || r.Called("apt-get") || strings.Contains(h.Files(), "/etc/") {
		t.Errorf("touched what nobody asked for: %+v", r)
	}
}

func TestPackagesFailures(t *testing.T) {
	h := packagesHost(t)
	h.Fake("apt-get", `case "$*" in *install*) exit 100 ;; esac`)
	r := h.Run(render(t, packagesScript, "PACKAGES", "no-such-thing", "SYSCTL", ""), "")
	if r.Code == 0 || !strings.Contains(r.Stderr, "could not install no-such-thing") {
		t.Errorf("got %+v", r)
	}
	h = packagesHost(t)
	r = h.Run(render(t, packagesScript, "PACKAGES", "nfs-common", "SYSCTL", "bad.key = 1"), "")
	if r.Code == 0 || !strings.Contains(r.Stderr, "sysctl bad.key=1 was refused") {
		t.Errorf("got %+v", r)
	}
	// Without the module Longhorn cannot work, but all else can.
	h = packagesHost(t)
	h.Fake("systemctl", `[ "$1" = is-enabled ]`)
	r = h.Run(render(t, packagesScript, "PACKAGES", "open-iscsi", "SYSCTL", ""), "")
	if r.Code != 0 || !strings.Contains(r.Stderr, "warning: iscsid does not start") {
		t.Errorf("got %+v", r)
	}
}

func TestPackagesDelete(t *testing.T) {
	h := packagesHost(t)
	h.Fake("multipathd", "")
	h.Run(render(t, packagesScript, "PACKAGES", "nfs-common", "SYSCTL", someSysctl), "")
	h.Write("/var/lib/tinyrack/artifacts/x", "x")
	for range 2 {
		if r := h.Run(render(t, packagesDeleteScript), ""); r.Code != 0 {
			t.Fatalf("got %+v", r)
		}
	}
	if files := h.Files(); strings.Contains(files, "/etc/") || strings.Contains(files, "/var/lib/tinyrack") {
		t.Errorf("left behind:\n%s", files)
	}
}
