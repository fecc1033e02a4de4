#!/bin/sh
# Packages, kernel settings, tailscale, and what Longhorn needs of the host.
#
# Header: PACKAGES (words), SYSCTL (lines "key = value").

# The key that signs Tailscale's package repository, as published at https://tailscale.com/kb/1485/install-clients.
REPOSITORY_FINGERPRINT=2596A99EAAB33821893C0A79458CA832957F5868
REPOSITORY_KEYRING=/usr/share/keyrings/tailscale-archive-keyring.gpg

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
	dpkg_complete
	apt_get update || die "apt-get update failed: packages$missing are not installed: check the machine's package" \
		"sources and network"
	# shellcheck disable=SC2086 # a list of validated package names
	apt_get install -y --no-install-recommends -o Dpkg::Options::=--force-confold $missing ||
		die "apt-get could not install$missing: see its message above: correct hosts.$HOST.packages or the package sources"
}

install_tailscale() {
	have tailscale && return 0
	say "installing tailscale from pkgs.tailscale.com"
	distribution=$(os_release ID)
	codename=$(os_release VERSION_CODENAME)
	case $distribution in
	debian | ubuntu) ;;
	*) die "tailscale is not installed and this is ${distribution:-an unknown distribution}: the machine cannot join the" \
		"tailnet: install tailscale by hand (https://tailscale.com/download), then run again" ;;
	esac
	dpkg_complete
	if [ ! -f "$ROOT$REPOSITORY_KEYRING" ]; then
		have gpg || apt_get install -y --no-install-recommends gpg ||
			die "gpg cannot be installed: tailscale's repository key could not be verified: install gpg or tailscale by hand"
		install_keyring
	fi
	write_file /etc/apt/sources.list.d/tailscale.list 644 \
		"deb [signed-by=$REPOSITORY_KEYRING] https://pkgs.tailscale.com/stable/$distribution $codename main"
	apt_get update || die "apt-get update failed: tailscale is not installed: check the machine's network and package" \
		"sources"
	apt_get install -y --no-install-recommends tailscale ||
		die "apt-get could not install tailscale: the machine cannot join the tailnet: see its message above, or install" \
			"tailscale by hand"
	have tailscale || die "the tailscale package brought no tailscale command: install it by hand"
}

install_keyring() {
	new=$ROOT$REPOSITORY_KEYRING.tinyrack-new
	mkdir -p "$(dirname "$new")"
	curl -fsSL --proto '=https' --connect-timeout 15 --retry 3 -o "$new" \
		"https://pkgs.tailscale.com/stable/$distribution/$codename.noarmor.gpg" </dev/null || {
		rm -f "$new"
		die "tailscale's repository key cannot be downloaded: the machine cannot join the tailnet: give it access to" \
			"pkgs.tailscale.com, or install tailscale by hand"
	}
	fingerprints=$(gpg --batch --show-keys --with-colons "$new" 2>/dev/null |
		awk -F: '$1 == "pub" { primary = 1 } $1 == "fpr" && primary { print $10; primary = 0 }')
	[ "$fingerprints" = "$REPOSITORY_FINGERPRINT" ] || {
		rm -f "$new"
		die "tailscale's repository key has fingerprint ${fingerprints:-unknown}, wanted $REPOSITORY_FINGERPRINT: nothing" \
			"was installed: somebody may be in between"
	}
	chmod 644 "$new"
	mv -f "$new" "$ROOT$REPOSITORY_KEYRING"
}

os_release() {
	sed -n "s/^$1=//p" "$ROOT/etc/os-release" | tr -d '"'
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
		sysctl -q -w "$key=$value" </dev/null ||
			die "sysctl $key=$value was refused: the kernel has no such setting or forbids it here: correct hosts.$HOST.sysctl"
	done
}

wanted() {
	case " $PACKAGES " in
	*" $1 "*) return 0 ;;
	*) return 1 ;;
	esac
}

# nfs-common brings rpcbind, which listens on port 111 of every address. NFS version 4 does without it; who needs
# version 3 names rpcbind among the packages.
mask_rpcbind() {
	if wanted rpcbind; then
		[ -f "$ROOT/var/lib/tinyrack/rpcbind-masked" ] || return 0
		systemctl unmask -q rpcbind.socket rpcbind.service
		systemctl start rpcbind.socket rpcbind.service
		rm -f "$ROOT/var/lib/tinyrack/rpcbind-masked"
		return 0
	fi
	wanted nfs-common || return 0
	for unit in rpcbind.socket rpcbind.service; do
		case $(systemctl is-enabled "$unit" 2>/dev/null || true) in
		masked | not-found | '') continue ;;
		esac
		# Only what was masked here is unmasked later.
		write_file /var/lib/tinyrack/rpcbind-masked 644 "by tinyrack"
		systemctl mask -q --now "$unit" ||
			say "warning: $unit cannot be masked: only the firewall keeps strangers from port 111: see systemctl status $unit"
	done
}

enable_iscsi() {
	wanted open-iscsi || return 0
	systemctl is-enabled -q iscsid || systemctl enable -q iscsid
	# On a kernel without it iscsid may not fail but never finish its start, until systemd gives up after 90 seconds.
	[ -d "$ROOT/sys/module/iscsi_tcp" ] || modprobe -q iscsi_tcp || {
		say "warning: the kernel has no module iscsi_tcp, iscsid is not started: Longhorn could not attach volumes here"
		return 0
	}
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
	mask_rpcbind
	install_tailscale
	set_sysctl
	enable_iscsi
	spare_longhorn_from_multipath
}

[ -n "${PACKAGES_SOURCE_ONLY:-}" ] || main
