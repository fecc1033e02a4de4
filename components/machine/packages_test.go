package machine

import (
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

// packagesHost has apt, dpkg, sysctl and systemctl that keep their state below /state: what is installed, the units and
// the kernel's settings. Installing nfs-common brings rpcbind, enabled and listening.
func packagesHost(t *testing.T) *remotetest.Host {
	t.Helper()
	h := remotetest.New(t)
	h.Write("/state/installed", "")
	h.Write("/state/kernel/x", "")
	h.Write("/state/units/iscsid", "disabled inactive\n")
	h.Write("/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n")
	h.Fake("tailscale", "")
	h.Fake("modprobe", `[ "$*" = "-q iscsi_tcp" ] && [ ! -f "$ROOT/state/no-module" ]`)
	h.Fake("dpkg-query", `for p; do :; done
grep -qx "$p" "$ROOT/state/installed" && printf 'install ok installed' || exit 1`)
	h.Fake("apt-get", `[ "$DEBIAN_FRONTEND" = noninteractive ] || exit 9
if [ -s "$ROOT/state/busy" ]; then
	n=$(cat "$ROOT/state/busy"); n=$((n - 1)); [ "$n" = 0 ] && : >"$ROOT/state/busy" || echo "$n" >"$ROOT/state/busy"
	echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1" >&2
	exit 100
fi
[ ! -f "$ROOT/state/halfway" ] || {
	echo "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem." >&2
	exit 100
}
case "$*" in *" install "*) ;; *) exit 0 ;; esac
for p; do case $p in
-*|install|*=*) ;;
nothing) echo "E: Unable to locate package nothing" >&2; exit 100 ;;
tailscale)
	printf '#!/bin/sh\n' >"$(dirname "$(command -v dpkg)")/tailscale"
	chmod 755 "$(dirname "$(command -v dpkg)")/tailscale" ;;
*)
	echo "$p" >>"$ROOT/state/installed"
	[ "$p" != nfs-common ] ||
		for u in rpcbind.socket rpcbind.service; do echo "enabled active" >"$ROOT/state/units/$u"; done ;;
esac; done
echo chatter`)
	h.Fake("dpkg", `case "$*" in *" --configure -a") rm -f "$ROOT/state/halfway" ;; *) exit 2 ;; esac`)
	h.Fake("sysctl", `case $1 in
-n) cat "$ROOT/state/kernel/$2" 2>/dev/null ;;
-q) case $3 in bad.*) exit 1 ;; esac; printf '%s\n' "${3#*=}" >"$ROOT/state/kernel/${3%%=*}" ;;
esac`)
	h.Fake("systemctl", `verb=$1; shift
quiet=; now=
while :; do case ${1:-} in -q) quiet=yes; shift ;; --now) now=yes; shift ;; *) break ;; esac; done
for unit; do
	file=$ROOT/state/units/$unit
	enabled=; active=
	[ ! -f "$file" ] || read -r enabled active <"$file"
	case $verb in
	is-enabled) [ -n "$quiet" ] || echo "${enabled:-not-found}"; [ "$enabled" = enabled ] || exit 1 ;;
	is-active) [ "$active" = active ] || exit 3 ;;
	enable) echo "enabled $active" >"$file" ;;
	start) [ ! -f "$ROOT/state/broken" ] && [ "$enabled" != masked ] || exit 1; echo "$enabled active" >"$file" ;;
	mask) [ ! -f "$ROOT/state/maskless" ] || exit 1; [ "$now" = yes ] && active=inactive; echo "masked $active" >"$file" ;;
	unmask) echo "enabled $active" >"$file" ;;
	try-restart) ;;
	*) exit 64 ;;
	esac
done`)
	return h
}

const someSysctl = "net.ipv4.ip_forward = 1\nnet.ipv4.ping_group_range = 0 2147483647"

func packagesText(t *testing.T, packages, sysctl string) string {
	t.Helper()
	return render(t, packagesScript, "PACKAGES", packages, "SYSCTL", sysctl)
}

func TestPackagesTwice(t *testing.T) {
	h := packagesHost(t)
	h.Fake("multipathd", "")
	h.Write("/state/installed", "curl\n")
	h.Write("/state/kernel/net.ipv4.ip_forward", "1\n") // the next one has to be set all the same
	text := packagesText(t, "open-iscsi curl", someSysctl)
	r := h.Run(text, "")
	if r.Code != 0 || r.Stdout != "" {
		t.Fatalf("got %+v", r)
	}
	if got := h.Read("/state/installed"); got != "curl\nopen-iscsi\n" {
		t.Errorf("installed %q: only what is missing may be installed", got)
	}
	// Without it dpkg would ask about a configuration file that somebody changed.
	if !r.Called("apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends " +
		"-o Dpkg::Options::=--force-confold open-iscsi") {
		t.Errorf("got %q", r.Calls)
	}
	if h.Read("/etc/sysctl.d/90-tinyrack.conf") != someSysctl+"\n" ||
		h.Read("/state/kernel/net.ipv4.ping_group_range") != "0 2147483647\n" ||
		h.Read("/state/kernel/net.ipv4.ip_forward") != "1\n" {
		t.Error("the kernel parameters were not set, now and for the next boot")
	}
	if h.Read("/state/units/iscsid") != "enabled active\n" {
		t.Errorf("iscsid is %q", h.Read("/state/units/iscsid"))
	}
	if !strings.Contains(h.Read("/etc/multipath/conf.d/tinyrack.conf"), `devnode "^sd[a-z0-9]+"`) ||
		!r.Called("systemctl try-restart multipathd") {
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

func TestPackagesTouchesOnlyWhatIsAsked(t *testing.T) {
	h := packagesHost(t)
	h.Write("/etc/sysctl.d/90-tinyrack.conf", "former")
	h.Write("/state/units/rpcbind.socket", "enabled active\n")
	before := h.Read("/etc/os-release")
	r := h.Run(packagesText(t, "", ""), "")
	if r.Code != 0 || r.Called("systemctl") || r.Called("apt-get") || h.Read("/etc/os-release") != before {
		t.Errorf("touched what nobody asked for: %+v", r)
	}
	if strings.Contains(h.Files(), "90-tinyrack") {
		t.Error("kernel parameters that were taken out of the settings stay for the next boot")
	}
}

// nfs-common brings rpcbind, which listens on port 111 of every address.
func TestPackagesMasksRpcbind(t *testing.T) {
	h := packagesHost(t)
	units := func() string {
		return h.Read("/state/units/rpcbind.socket") + h.Read("/state/units/rpcbind.service")
	}
	text := packagesText(t, "nfs-common", "")
	if r := h.Run(text, ""); r.Code != 0 || units() != "masked inactive\nmasked inactive\n" {
		t.Fatalf("units %q, %+v", units(), r)
	}
	if r := h.Run(text, ""); r.Code != 0 || r.Called("systemctl mask") {
		t.Errorf("masked again: %q", r.Calls)
	}
	// Whoever needs version 3 of NFS says so.
	if r := h.Run(packagesText(t, "nfs-common rpcbind", ""), ""); r.Code != 0 ||
		units() != "enabled active\nenabled active\n" {
		t.Errorf("units %q, %+v", units(), r)
	}
	if r := h.Run(packagesText(t, "nfs-common rpcbind", ""), ""); r.Code != 0 || r.Called("systemctl unmask") ||
		r.Called("systemctl start") {
		t.Errorf("unmasked again: %q", r.Calls)
	}
	// The firewall is there already, so a mask that fails is no reason to stop.
	h = packagesHost(t)
	h.Write("/state/maskless", "")
	if r := h.Run(text, ""); r.Code != 0 || !strings.Contains(r.Stderr, "warning: rpcbind.socket cannot be masked") {
		t.Errorf("got %+v", r)
	}
	// What somebody else masked is theirs to unmask.
	h = packagesHost(t)
	for _, unit := range []string{"rpcbind.socket", "rpcbind.service"} {
		h.Write("/state/units/"+unit, "masked inactive\n")
	}
	h.Write("/state/installed", "nfs-common\nrpcbind\n")
	if r := h.Run(packagesText(t, "nfs-common", ""), ""); r.Code != 0 || strings.Contains(h.Files(), "rpcbind-masked") {
		t.Errorf("got %+v", r)
	}
	if r := h.Run(packagesText(t, "nfs-common rpcbind", ""), ""); r.Code != 0 || r.Called("systemctl unmask") {
		t.Errorf("got %+v", r)
	}
}

// On a fresh image unattended upgrades are at work, and a reboot may have come in the middle of an installation.
func TestPackagesWaitsForAnotherAptAndResumes(t *testing.T) {
	h := packagesHost(t)
	h.Write("/state/busy", "3")
	h.Write("/state/halfway", "")
	r := h.Run(packagesText(t, "curl", ""), "")
	if r.Code != 0 || h.Read("/state/installed") != "curl\n" || !strings.Contains(r.Stderr, "waiting for another apt") {
		t.Errorf("got %+v", r)
	}
	h = tailscaleless(t, repositoryKey)
	h.Write("/state/busy", "3")
	h.Write("/state/halfway", "")
	if r := h.Run(packagesText(t, "", ""), ""); r.Code != 0 || !strings.Contains(r.Stderr, "waiting for another apt") {
		t.Errorf("tailscale: %+v", r)
	}
}

func TestPackagesFailures(t *testing.T) {
	tests := map[string]struct {
		packages, sysctl string
		change           func(*remotetest.Host)
		want             string
	}{
		"package": {"nothing", "", func(*remotetest.Host) {}, "could not install nothing: see its message above: correct " +
			"hosts.box.packages"},
		"sysctl": {"", "bad.key = 1", func(*remotetest.Host) {}, "sysctl bad.key=1 was refused: the kernel has no such " +
			"setting or forbids it here: correct hosts.box.sysctl"},
		"network": {"curl", "", func(h *remotetest.Host) {
			h.Fake("apt-get", "echo 'Temporary failure resolving' >&2; exit 100")
		}, "apt-get update failed: packages curl are not installed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := packagesHost(t)
			tt.change(h)
			if r := h.Run(packagesText(t, tt.packages, tt.sysctl), ""); !refused(r, tt.want) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// Without iSCSI Longhorn cannot work, but all else can.
func TestPackagesWithoutISCSI(t *testing.T) {
	for name, tt := range map[string]struct{ files, want, unit string }{
		"no module":   {"/state/no-module", "warning: the kernel has no module iscsi_tcp", "enabled inactive\n"},
		"loaded":      {"/state/no-module /sys/module/iscsi_tcp/refcnt", "", "enabled active\n"},
		"no start":    {"/state/broken", "warning: iscsid does not start", "enabled inactive\n"},
		"not at once": {"/state/no-module /state/broken", "iscsid is not started", "enabled inactive\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := packagesHost(t)
			for file := range strings.FieldsSeq(tt.files) {
				h.Write(file, "")
			}
			r := h.Run(packagesText(t, "open-iscsi", ""), "")
			if r.Code != 0 || !strings.Contains(r.Stderr, tt.want) || strings.Contains(r.Stderr, "warning") != (tt.want != "") {
				t.Errorf("got %+v", r)
			}
			if got := h.Read("/state/units/iscsid"); got != tt.unit {
				t.Errorf("iscsid is %q, want %q", got, tt.unit)
			}
		})
	}
}

const repositoryKey = "2596A99EAAB33821893C0A79458CA832957F5868"

// tailscaleless has no tailscale, and a repository signed by a key with this fingerprint.
func tailscaleless(t *testing.T, fingerprint string) *remotetest.Host {
	t.Helper()
	h := packagesHost(t)
	h.Remove("tailscale")
	h.Fake("curl", `while [ "$1" != -o ]; do shift; done; echo key >"$2"`)
	h.Fake("gpg", "printf 'pub:-:4096\\nfpr:::::::::"+fingerprint+":\\nsub:-\\nfpr:::::::::FFFF:\\n'")
	return h
}

func TestInstallTailscale(t *testing.T) {
	h := tailscaleless(t, repositoryKey)
	r := h.Run(packagesText(t, "", ""), "")
	if r.Code != 0 {
		t.Fatalf("got %+v", r)
	}
	want := "deb [signed-by=/usr/share/keyrings/tailscale-archive-keyring.gpg] https://pkgs.tailscale.com/stable/debian " +
		"bookworm main\n"
	if got := h.Read("/etc/apt/sources.list.d/tailscale.list"); got != want {
		t.Errorf("package source %q", got)
	}
	if h.Read("/usr/share/keyrings/tailscale-archive-keyring.gpg") != "key\n" ||
		h.Mode("/usr/share/keyrings/tailscale-archive-keyring.gpg") != 0o644 {
		t.Error("apt cannot read the repository's key")
	}
	if r = h.Run(packagesText(t, "", ""), ""); r.Code != 0 || r.Called("apt-get") || r.Called("curl") {
		t.Errorf("installed again: %+v", r)
	}
}

func TestInstallTailscaleFailures(t *testing.T) {
	h := tailscaleless(t, "0000")
	r := h.Run(packagesText(t, "", ""), "")
	if !refused(r, "fingerprint 0000, wanted "+repositoryKey) ||
		strings.Contains(h.Files(), "keyrings") || r.Called("apt-get") {
		t.Errorf("a foreign key was trusted: %+v", r)
	}
	h = tailscaleless(t, repositoryKey)
	h.Fake("curl", "exit 6")
	if r := h.Run(packagesText(t, "", ""), ""); !refused(r, "repository key cannot be downloaded") {
		t.Errorf("no network: %+v", r)
	}
	h = tailscaleless(t, repositoryKey)
	h.Write("/etc/os-release", "ID=\"alpine\"\n")
	if r := h.Run(packagesText(t, "", ""), ""); !refused(r, "this is alpine") {
		t.Errorf("unsupported distribution: %+v", r)
	}
	h = tailscaleless(t, repositoryKey)
	h.Fake("apt-get", `case "$*" in *" install "*) echo "E: held broken packages" >&2; exit 100 ;; esac`)
	if r := h.Run(packagesText(t, "", ""), ""); !refused(r, "could not install tailscale", "held broken") {
		t.Errorf("a refused installation: %+v", r)
	}
}
