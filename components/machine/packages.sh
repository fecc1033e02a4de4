#!/bin/sh
# Packages, kernel settings and what Longhorn needs of the host.
#
# Header: PACKAGES (words), SYSCTL (lines "key = value").

missing_packages() {
	for package in $PACKAGES; do
		status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) || status=
		[ "$status" = "install ok installed" ] || printf ' %s' "$package"
	done
}

install_packages() {
	missing=$(missing_packages)
	[ -n "$missing" ] || return 0
	say "installing:$missing"
	export DEBIAN_FRONTEND=noninteractive
	# A reboot in the middle of an installation leaves packages that apt-get refuses
	# to go on from.
	dpkg --force-confold --configure -a >&2 </dev/null || true
	apt_get update || die "apt-get update failed: packages$missing are not installed: check the machine's package sources and network"
	# shellcheck disable=SC2086 # a list of validated package names
	apt_get install -y --no-install-recommends -o Dpkg::Options::=--force-confold $missing ||
		die "apt-get could not install$missing: see its message above: correct machine.packages or the package sources"
}

# Another apt (unattended upgrades on a fresh machine) may hold the lock. Hundreds
# of lines of it are worth reading only when it fails.
apt_get() {
	apt_log=$(mktemp)
	if apt-get -q -o DPkg::Lock::Timeout=300 "$@" >"$apt_log" 2>&1 </dev/null; then
		rm -f "$apt_log"
		return 0
	fi
	tail -n 20 "$apt_log" >&2
	rm -f "$apt_log"
	return 1
}

set_sysctl() {
	[ -n "$SYSCTL" ] || {
		rm -f "$ROOT/etc/sysctl.d/90-tinyrack.conf"
		return 0
	}
	write_file /etc/sysctl.d/90-tinyrack.conf 644 "$SYSCTL"
	printf '%s\n' "$SYSCTL" | while IFS='= ' read -r key value; do
		# The kernel separates several values by tabs.
		[ "$(sysctl -n "$key" 2>/dev/null | tr '\t' ' ')" = "$value" ] && continue
		sysctl -q -w "$key=$value" </dev/null || die "sysctl $key=$value was refused: the kernel has no such setting or forbids it here: correct machine.sysctl"
	done
}

installed() {
	case " $PACKAGES " in
	*" $1 "*) return 0 ;;
	*) return 1 ;;
	esac
}

enable_iscsi() {
	installed open-iscsi || return 0
	systemctl is-enabled -q iscsid || systemctl enable -q iscsid
	systemctl is-active -q iscsid || systemctl start iscsid ||
		say "warning: iscsid does not start: Longhorn could not attach volumes here: see systemctl status iscsid"
}

# multipathd grabs Longhorn's block devices (longhorn/longhorn#1210).
spare_longhorn_from_multipath() {
	if have multipathd; then
		CHANGED=no
		write_file /etc/multipath/conf.d/tinyrack.conf 644 'blacklist {
	devnode "^sd[a-z0-9]+"
}'
		[ "$CHANGED" = no ] || systemctl try-restart multipathd
	fi
}

main() {
	install_packages
	set_sysctl
	enable_iscsi
	spare_longhorn_from_multipath
}

[ -n "${PACKAGES_SOURCE_ONLY:-}" ] || main
