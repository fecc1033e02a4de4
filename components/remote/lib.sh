
# What every script shares. Output that matters to the caller goes to stdout,
# everything a person reads goes to stderr.
set -eu
umask 022
# Tests run the same text below a directory and with commands of their own.
ROOT=${ROOT:-}
if [ -z "$ROOT" ]; then
	# A login over SSH need not have the system's directories.
	PATH=${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin
	export PATH
fi
NEWLINE='
'
# Set to yes by write_file when it wrote something; read by the scripts.
# shellcheck disable=SC2034
CHANGED=no

say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "error: $*"
	exit 1
}

# One script at a time: a run that was killed may have left its script at work.
alone() {
	# Closed to other users: with the file open anybody could hold the lock, and up would wait for them.
	(umask 077 && mkdir -p "$ROOT/run/tinyrack")
	exec 9>>"$ROOT/run/tinyrack/lock"
	flock -n 9 || {
		say "waiting for the script of an earlier run to end"
		flock -w 900 9 || die "another script has been at work on this machine for 15 minutes: see ps -ef there, end it" \
			"and run the same command again"
	}
}

have() {
	command -v "$1" >/dev/null 2>&1
}

# write_file PATH MODE CONTENT: the content and a final newline, written only
# when it or the mode differs, and then atomically. The content never becomes an
# argument of another process.
write_file() {
	if [ -f "$ROOT$1" ] && [ "$(stat -c %a "$ROOT$1")" = "$2" ] &&
		[ "$(cat "$ROOT$1" && echo .)" = "$3$NEWLINE." ]; then
		return 0
	fi
	mkdir -p "$(dirname "$ROOT$1")" || return 1
	(
		umask 077
		printf '%s\n' "$3" >"$ROOT$1.tinyrack-new"
	) || return 1
	chmod "$2" "$ROOT$1.tinyrack-new" || return 1
	mv -f "$ROOT$1.tinyrack-new" "$ROOT$1" || return 1
	# shellcheck disable=SC2034
	CHANGED=yes
}

# has_sha256 FILE SHA256
has_sha256() {
	[ -f "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum -c --status - 2>/dev/null
}

# artifact NAME URL SHA256: the verified file in the cache, its path in ARTIFACT.
# A file with another checksum is never kept, let alone used.
artifact() {
	ARTIFACT=$ROOT/var/lib/tinyrack/artifacts/$3
	has_sha256 "$ARTIFACT" "$3" && return 0
	mkdir -p "$ROOT/var/lib/tinyrack/artifacts" || return 1
	rm -f "$ARTIFACT" "$ARTIFACT.part"
	say "downloading $1 from $2"
	if ! curl -fsSL --proto '=http,https' --connect-timeout 15 --retry 3 --retry-connrefused \
		--speed-limit 1024 --speed-time 60 -o "$ARTIFACT.part" "$2" </dev/null; then
		rm -f "$ARTIFACT.part"
		say "error: $1: $2 cannot be downloaded: nothing was installed: check the URL and the machine's way to it"
		return 1
	fi
	if ! has_sha256 "$ARTIFACT.part" "$3"; then
		say "error: $1: $2 has sha256 $(sha256sum "$ARTIFACT.part" | cut -d' ' -f1), wanted $3: the file was thrown away, nothing was installed: correct the checksum only if you trust this file"
		rm -f "$ARTIFACT.part"
		return 1
	fi
	mv -f "$ARTIFACT.part" "$ARTIFACT"
}

# wait_for SECONDS WHAT COMMAND...: polls the command each second, says every ten
# seconds what it waits for, and fails after the bound.
wait_for() {
	wait_limit=$1
	wait_what=$2
	shift 2
	wait_start=$(date +%s)
	wait_said=0
	until "$@"; do
		wait_spent=$(($(date +%s) - wait_start))
		if [ "$wait_spent" -ge "$wait_limit" ]; then
			say "error: gave up waiting for $wait_what after ${wait_spent}s"
			return 1
		fi
		if [ "$wait_spent" -ge "$((wait_said + 10))" ]; then
			say "waiting for $wait_what (${wait_spent}s of ${wait_limit}s)"
			wait_said=$wait_spent
		fi
		sleep 1
	done
}

# Who owns the machine, and how far: the owner, "taken" (a first run has not come to its end), "held" or "released", and
# the names of the resources that hold it, a line each.
OWNER_FILE=/etc/tinyrack/owner

# owner prints the owner, or nothing.
owner() {
	if [ -f "$ROOT$OWNER_FILE" ]; then head -n 1 "$ROOT$OWNER_FILE"; fi
}

# foreign: whether the machine belongs to another stack, or to this one under another name. It says what that would
# cause.
foreign() {
	owner=$(owner)
	# shellcheck disable=SC2153 # the header's
	if [ -z "$owner" ] || [ "$owner" = "$OWNER" ]; then
		return 1
	fi
	if [ "${owner%, host *}" = "${OWNER%, host *}" ]; then
		former=${owner##*, host }
		say "error: this machine is the host $former of this stack, the settings call it $HOST: nobody would reach it as" \
			"$former any more to undo what was set up: call it $former in hosts again, or take it out, run pulumi up, and" \
			"then add it as $HOST"
		return 0
	fi
	say "error: this machine belongs to $owner, not to $OWNER: two stacks would undo each other's work on it: name" \
		"another machine, destroy that stack first, or, if it is gone for good, remove $OWNER_FILE on the machine"
}

# owned STATE: whether the machine is this stack's in this state.
owned() {
	[ "$(owner)" = "$OWNER" ] && [ "$(sed -n 2p "$ROOT$OWNER_FILE")" = "$1" ]
}

# holders prints the names of the resources that hold the machine: none on one that was held before they were noted.
holders() {
	sed 1,2d "$ROOT$OWNER_FILE"
}

# claim takes the machine for this stack. What is held stays held.
claim() {
	! foreign || exit 1
	owned held || own taken
}

own() {
	write_file "$OWNER_FILE" 644 "$OWNER$NEWLINE$1" ||
		die "$OWNER_FILE cannot be written: nothing was changed: see whether the machine's disk is full or read-only"
}

# released_or_nothing [COMMAND...] ends a delete script that must not act. The delete of a replaced or renamed resource
# comes after the new one's creation and would undo what that just did (pulumi/pulumi#2877): while the stack holds the
# machine every delete is such a one. The engine deletes once everything is created, the hold too: on a machine that is
# only taken it is a destroy, of a first run that did not come to its end. A script on another host's behalf acts on a
# held machine, too, when COMMAND says that it is no such one.
released_or_nothing() {
	if owned released || owned taken; then
		return 0
	fi
	if [ $# -gt 0 ] && owned held && "$@"; then
		return 0
	fi
	owner=$(owner)
	if [ "$owner" = "$OWNER" ]; then
		say "this machine is still held by $OWNER: nothing was undone"
	else
		say "this machine belongs to ${owner:-nobody}, not to $OWNER: nothing was undone"
	fi
	exit 0
}

# apt_get ARGUMENTS: waits for another apt (unattended upgrades on a fresh machine), whose lock on the lists apt's own
# DPkg::Lock::Timeout does not cover. Hundreds of lines of output are worth reading only when it fails.
apt_get() {
	apt_log=$(mktemp)
	apt_end=$(($(date +%s) + 600))
	apt_said=no
	until DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" >"$apt_log" 2>&1 </dev/null; do
		if ! grep -q 'Could not get lock\|Unable to lock' "$apt_log" || [ "$(date +%s)" -ge "$apt_end" ]; then
			tail -n 20 "$apt_log" >&2
			rm -f "$apt_log"
			return 1
		fi
		[ "$apt_said" = yes ] || say "waiting for another apt to end"
		apt_said=yes
		sleep 2
	done
	rm -f "$apt_log"
}

# dpkg_complete finishes what a reboot in the middle of an installation left; apt-get refuses to go on from there.
dpkg_complete() {
	DEBIAN_FRONTEND=noninteractive dpkg --force-confold --configure -a >&2 </dev/null || true
}

alone
