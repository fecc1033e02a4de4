#!/bin/sh
# Joins the tailnet. The last line of standard output is the machine's IPv4
# address there.
#
# Header: TS_HOSTNAME, TS_LOGIN_SERVER (empty for Tailscale's own).
# Standard input: the join key.

# The key that signs Tailscale's package repository, as published at
# https://tailscale.com/kb/1485/install-clients.
REPOSITORY_FINGERPRINT=2596A99EAAB33821893C0A79458CA832957F5868
REPOSITORY_KEYRING=/usr/share/keyrings/tailscale-archive-keyring.gpg
# What this machine joined with, to tell a changed login server from the first
# join; tailscale's status does not show it.
JOINED=/etc/tinyrack/tailnet

install_tailscale() {
	have tailscale && return 0
	say "installing tailscale from pkgs.tailscale.com"
	distribution=$(os_release ID)
	codename=$(os_release VERSION_CODENAME)
	case $distribution in
	debian | ubuntu) ;;
	*) die "tailscale is not installed and this is ${distribution:-an unknown distribution}: the machine cannot join the tailnet: install tailscale by hand (https://tailscale.com/download), then run again" ;;
	esac
	if [ ! -f "$ROOT$REPOSITORY_KEYRING" ]; then
		have gpg || apt_get install -y --no-install-recommends gpg ||
			die "gpg cannot be installed: tailscale's repository key could not be verified: install gpg or tailscale by hand"
		install_keyring
	fi
	write_file /etc/apt/sources.list.d/tailscale.list 644 \
		"deb [signed-by=$REPOSITORY_KEYRING] https://pkgs.tailscale.com/stable/$distribution $codename main"
	# As for the packages: a reboot may have come in the middle of an installation.
	DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure -a >&2 </dev/null || true
	apt_get update || die "apt-get update failed: tailscale is not installed: check the machine's network and package sources"
	apt_get install -y --no-install-recommends tailscale ||
		die "apt-get could not install tailscale: the machine cannot join the tailnet: see its message above, or install tailscale by hand"
	have tailscale || die "the tailscale package brought no tailscale command: install it by hand"
}

install_keyring() {
	new=$ROOT$REPOSITORY_KEYRING.tinyrack-new
	mkdir -p "$(dirname "$new")"
	curl -fsSL --proto '=https' --connect-timeout 15 --retry 3 -o "$new" \
		"https://pkgs.tailscale.com/stable/$distribution/$codename.noarmor.gpg" </dev/null || {
		rm -f "$new"
		die "tailscale's repository key cannot be downloaded: the machine cannot join the tailnet: give it access to pkgs.tailscale.com, or install tailscale by hand"
	}
	fingerprints=$(gpg --batch --show-keys --with-colons "$new" 2>/dev/null | awk -F: '$1 == "pub" { primary = 1 } $1 == "fpr" && primary { print $10; primary = 0 }')
	[ "$fingerprints" = "$REPOSITORY_FINGERPRINT" ] || {
		rm -f "$new"
		die "tailscale's repository key has fingerprint ${fingerprints:-unknown}, wanted $REPOSITORY_FINGERPRINT: nothing was installed: somebody may be in between"
	}
	chmod 644 "$new"
	mv -f "$new" "$ROOT$REPOSITORY_KEYRING"
}

os_release() {
	sed -n "s/^$1=//p" "$ROOT/etc/os-release" | tr -d '"'
}

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >&2 </dev/null
}

start_daemon() {
	# Only a packaged daemon has a unit.
	systemctl cat tailscaled >/dev/null 2>&1 || return 0
	systemctl is-enabled -q tailscaled || systemctl enable -q tailscaled
	systemctl is-active -q tailscaled || systemctl start tailscaled
}

# status_field NAME: the first field of that name in tailscale's status, which is
# the machine's own: its peers come last.
status_field() {
	tailscale status --json 2>/dev/null </dev/null | tr '{' ',' | tr ',' '\n' |
		sed -n "s/^[[:space:]]*\"$1\":[[:space:]]*\"\([^\"]*\)\".*/\1/p" | head -n 1
}

settings() {
	printf 'hostname=%s\nlogin-server=%s' "$TS_HOSTNAME" "$TS_LOGIN_SERVER"
}

joined_as_wanted() {
	[ "$(status_field BackendState)" = Running ] && [ "$(status_field HostName)" = "$TS_HOSTNAME" ] &&
		[ "$(cat "$ROOT$JOINED" 2>/dev/null)" = "$(settings)" ]
}

join() {
	IFS= read -r key || true
	[ -n "$key" ] || die "no join key on standard input: the machine cannot join the tailnet: this is a defect of the caller"
	KEY_FILE=$ROOT/run/tinyrack/join-key
	mkdir -p "$ROOT/run/tinyrack"
	trap 'rm -f "$KEY_FILE"' EXIT
	trap 'exit 1' HUP INT TERM PIPE
	(
		umask 077
		rm -f "$KEY_FILE"
		printf '%s\n' "$key" >"$KEY_FILE"
	)
	# --reset: without it, up refuses whenever a flag differs from the last time.
	set -- --accept-dns=false --reset --timeout=90s "--hostname=$TS_HOSTNAME" "--auth-key=file:$KEY_FILE"
	[ -z "$TS_LOGIN_SERVER" ] || set -- "$@" "--login-server=$TS_LOGIN_SERVER"
	if [ -f "$ROOT$JOINED" ] && [ "$(sed -n 's/^login-server=//p' "$ROOT$JOINED")" != "$TS_LOGIN_SERVER" ]; then
		set -- "$@" --force-reauth
	fi
	say "joining the tailnet as $TS_HOSTNAME"
	tailscale up "$@" >&2 </dev/null ||
		die "tailscale up failed: the machine is not in the tailnet: if its key was used up or has expired, make a new one with pulumi up --replace URN-OF-THE-TAILNET-KEY"
	rm -f "$KEY_FILE"
	write_file "$JOINED" 644 "$(settings)"
}

find_address() {
	address=$(tailscale ip -4 2>/dev/null </dev/null | head -n 1)
	case $address in
	*[!0-9.]* | '') return 1 ;;
	*.*.*.*) return 0 ;;
	*) return 1 ;;
	esac
}

main() {
	install_tailscale
	start_daemon
	joined_as_wanted || join
	wait_for 60 "the machine's tailnet address" find_address ||
		die "the machine has no IPv4 address in the tailnet: it could not be managed: see tailscale status, and whether the device waits for approval"
	printf '%s\n' "$address"
}

[ -n "${JOIN_SOURCE_ONLY:-}" ] || main
