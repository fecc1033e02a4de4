#!/bin/sh
# Keeps the machine's nftables table as it was confirmed. Installed on the machine, it needs nothing but what is there:
#
#	load      loads the kept rules: at boot, before anything listens
#	watch     compares every few seconds and restores
#	check     does that once
#	rollback  ends a trial that nobody confirmed
set -eu
ROOT=${ROOT:-}
[ -n "$ROOT" ] || PATH=/usr/sbin:/usr/bin:/sbin:/bin
# None where these functions are part of another script.
VERB=${1:-}

TABLE=tinyrack
EVERY=15
KEPT=$ROOT/etc/tinyrack/firewall.nft
# On a tmpfs, which no full disk reaches: a second copy of the kept rules, and the table as the kernel lists it after
# the load. The listing is not kept across reboots, since another nft may word it differently.
RUN=$ROOT/run/tinyrack
COPY=$RUN/firewall.nft
LISTING=$RUN/firewall.listing
# While this directory is there, rules are on trial: the new ones, the former ones if any, when the trial ends, when the
# new ones were loaded, and this script.
TRIAL=$RUN/firewall-trial

log() {
	printf '%s\n' "$*" >&2
}

# Hundredths of a second since the boot, in which the kernel also says when a process began.
uptime_ticks() {
	read -r ticks_up _ <"$ROOT/proc/uptime"
	printf '%s%s\n' "${ticks_up%.*}" "${ticks_up#*.}"
}

# one_at_a_time SECONDS: the lock of everything that touches the table.
one_at_a_time() {
	(umask 077 && mkdir -p "$RUN")
	exec 8>>"$RUN/firewall.lock"
	flock -w "$1" 8
}

# intact FILE: whether it is a whole ruleset. nft loads an empty or cut one and reports success.
intact() {
	grep -qs "^table inet $TABLE {" "$1" &&
		[ "$(tail -n 1 "$1")" = "# sha256 $(sed '$d' "$1" | sha256sum | cut -d ' ' -f 1)" ]
}

list_table() {
	nft -s list table inet "$TABLE" 2>/dev/null
}

# as_loaded: whether the kernel's table is still what the last load made.
as_loaded() {
	[ -s "$LISTING" ] && listed=$(list_table) && [ "$listed" = "$(cat "$LISTING")" ]
}

load_rules() {
	rm -f "$LISTING"
	nft -f "$1" >&2 || return 1
	(umask 077 && list_table >"$LISTING.new") && mv -f "$LISTING.new" "$LISTING"
}

# replace FILE WITH: whole or not at all, also when the power fails.
replace() {
	if cp "$2" "$1.tinyrack-new" && sync "$1.tinyrack-new" && mv -f "$1.tinyrack-new" "$1" && sync "$(dirname "$1")"; then
		return 0
	fi
	rm -f "$1.tinyrack-new"
	return 1
}

# Back to the rules from before the trial, or to none. The trial is over only once that is done.
roll_back() {
	if [ -f "$TRIAL/former" ]; then
		load_rules "$TRIAL/former" || {
			log "the former firewall cannot be loaded: see the message above"
			return 1
		}
		cmp -s "$TRIAL/former" "$COPY" || cp "$TRIAL/former" "$COPY" || true
		# Unproven rules must not stay there; the watchdog writes a missing file from the copy.
		cmp -s "$TRIAL/former" "$KEPT" || replace "$KEPT" "$TRIAL/former" || rm -f "$KEPT"
	else
		rm -f "$KEPT" "$COPY" "$LISTING"
		if list_table >/dev/null; then
			nft delete table inet "$TABLE" >&2 || return 1
		fi
	fi
	rm -rf "$TRIAL"
}

# end_trial MESSAGE
end_trial() {
	if roll_back; then
		log "$1: the former firewall is back in force"
	else
		return 1
	fi
}

# restore loads the kept rules unless the table is what they made. If one of the two files is damaged, it is made from
# the other.
restore() {
	if intact "$KEPT"; then
		cmp -s "$KEPT" "$COPY" || cp "$KEPT" "$COPY" || true
		from=$KEPT
	elif intact "$COPY"; then
		from=$COPY
		if replace "$KEPT" "$COPY"; then
			log "$KEPT was damaged or missing and is written again"
		else
			log "$KEPT is damaged or missing and cannot be written: see whether the disk is full or read-only"
		fi
	else
		log "there are no rules to load: $KEPT is missing, empty or damaged: run pulumi up"
		return 1
	fi
	! as_loaded || return 0
	found="was missing"
	! list_table >/dev/null || found="had been changed"
	load_rules "$from" || {
		log "the table inet $TABLE $found and cannot be restored: see the message above"
		return 1
	}
	log "the table inet $TABLE $found and is loaded"
}

# A trial is the timer's to end; one that is long over has lost its timer.
check() {
	if [ -d "$TRIAL" ]; then
		[ "$(uptime_ticks)" -gt "$(($(cat "$TRIAL/end") + 1500))" ] || return 0
		end_trial "a trial was never ended"
		return
	fi
	restore
}

watch() {
	failure=
	while :; do
		# A process of its own each time: it is the installed script, and no failure in it ends the watch.
		if outcome=$(sh "$0" check 2>&1); then
			failure=
			[ -z "$outcome" ] || log "$outcome"
		elif [ "$outcome" != "$failure" ]; then
			failure=$outcome
			log "$outcome"
		fi
		sleep "$EVERY"
	done
}

case $VERB in
load)
	# During a trial the confirmation starts the unit and holds the lock.
	[ -d "$TRIAL" ] || {
		one_at_a_time 30 || true
		restore
	}
	;;
check)
	# Whoever holds the lock loads or keeps rules just now.
	! one_at_a_time 0 || check
	;;
watch) watch ;;
rollback)
	# Whatever hangs, the rules are taken back.
	one_at_a_time 30 || true
	[ ! -d "$TRIAL" ] || end_trial "no new connection confirmed the firewall"
	;;
esac
