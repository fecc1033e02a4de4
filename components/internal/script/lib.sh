
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
	mkdir -p "$ROOT/run"
	exec 9>>"$ROOT/run/tinyrack.lock"
	flock -n 9 || {
		say "waiting for the script of an earlier run to end"
		flock -w 900 9 || die "another script has been at work on this machine for 15 minutes: see ps -ef there, end it and run the same command again"
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

alone
