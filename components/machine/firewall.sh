
# What follows loads the rules on trial and keeps them once they are proven. The functions of the watchdog are above.
#
# Header: STEP (trial or confirm), RULESET (the table's text), SSH_PORT, WINDOW (seconds), WATCH_SCRIPT, LOAD_UNIT,
# WATCH_UNIT (texts of files).

ROLLBACK=tinyrack-firewall-rollback
SCRIPT=/usr/local/lib/tinyrack/firewall.sh
UNITS=/etc/systemd/system
# Tells the engine to run the confirmation again, over a new connection.
AGAIN=75

# The last thing both steps ask: are the wanted rules kept, and the ones in force?
in_force() {
	[ ! -d "$TRIAL" ] && is_wanted "$KEPT" && as_loaded
}

is_wanted() {
	[ -f "$1" ] && [ "$(cat "$1")" = "$RULESET" ]
}

on_trial() {
	[ -f "$TRIAL/since" ] && [ "$(uptime_ticks)" -lt "$(cat "$TRIAL/end")" ] && is_wanted "$TRIAL/new" && as_loaded
}

# connected_at: when the process of this script's SSH session began.
connected_at() {
	process=self
	began=
	while read -r process_stat <"$ROOT/proc/$process/stat"; do
		process_name=${process_stat#*\(}
		# shellcheck disable=SC2086 # fields 3 and later of proc(5)
		set -- ${process_stat##*\) }
		case ${process_name%\)*} in
		sshd* | dropbear | tailscaled)
			began=${20}
			break
			;;
		esac
		began=${began:-${20}}
		process=$2
		[ "$process" -gt 1 ] || break
	done
	printf '%s\n' "$began"
}

# Only a connection that began after the rules were loaded has passed them.
is_new_connection() {
	[ "$(connected_at)" -gt "$(cat "$TRIAL/since")" ]
}

# Whether the peer of this session could connect again. nft answers for the address ranges.
check_readmitted() {
	# shellcheck disable=SC2086 # client address, client port, server address, server port
	set -- ${SSH_CONNECTION:-}
	[ $# = 4 ] || {
		say "error: this is not an SSH session: nobody could say whether the firewall shuts it out: run the program, not" \
			"the script"
		return 1
	}
	[ "$3" != "$1" ] || return 0
	# Everything that arrives on the tailnet's address is admitted.
	ip -o address show dev tailscale0 2>/dev/null |
		awk -v want="$3" '{ split($4, a, "/"); if (a[1] == want) found = 1 } END { exit !found }' && return 0
	[ "$4" = "$SSH_PORT" ] || {
		say "error: this connection came in on port $4 of the machine, the firewall admits port $SSH_PORT: nobody could" \
			"connect again: set the host's port to the one its sshd listens on, or leave address translation to the tailnet"
		return 1
	}
	case $1 in
	*:*) set -- "$@" bootstrap6 ;;
	*) set -- "$@" bootstrap4 ;;
	esac
	nft get element inet "$TABLE" "$5" "{ $1 }" >/dev/null 2>&1 || {
		say "error: the firewall would shut out this very connection (from $1 to $3): it was taken back: add $1 to the" \
			"host's bootstrapSources, or connect over the tailnet"
		return 1
	}
}

install_nft() {
	! have nft || return 0
	have apt-get || die "the machine has neither nft nor apt-get: the firewall cannot be loaded: install nftables"
	say "installing nftables"
	dpkg_complete
	apt_get update ||
		die "apt-get update failed: nftables is not installed and no rule is loaded: check the machine's package sources" \
			"and network"
	apt_get install -y --no-install-recommends -o Dpkg::Options::=--force-confold nftables ||
		die "apt-get could not install nftables: no rule is loaded: see its message above"
}

stop_timer() {
	systemctl stop "$ROLLBACK.timer" "$ROLLBACK.service" >/dev/null 2>&1 || true
	systemctl reset-failed "$ROLLBACK.timer" "$ROLLBACK.service" >/dev/null 2>&1 || true
}

# prepare_trial: everything that is needed to take the rules back, on a tmpfs.
prepare_trial() {
	rm -rf "$TRIAL.new" || return 1
	(
		umask 077
		mkdir -p "$TRIAL.new" &&
			printf '%s\n' "$RULESET" >"$TRIAL.new/new" &&
			printf '%s\n' "$WATCH_SCRIPT" >"$TRIAL.new/firewall.sh" &&
			printf '%s\n' "$(($(uptime_ticks) + WINDOW * 100))" >"$TRIAL.new/end"
	) || return 1
	for file in "$KEPT" "$COPY"; do
		if intact "$file"; then
			cp "$file" "$TRIAL.new/former" || return 1
			break
		fi
	done
	# Read back: a write may fail without a word, and an empty file is no ruleset.
	{ [ ! -e "$TRIAL.new/former" ] || intact "$TRIAL.new/former"; } &&
		is_wanted "$TRIAL.new/new" && intact "$TRIAL.new/new" &&
		[ "$(cat "$TRIAL.new/firewall.sh")" = "$WATCH_SCRIPT" ]
}

# take_back MESSAGE...: at once, and the timer with it. If that fails the timer is left to try again.
take_back() {
	if roll_back; then
		stop_timer
	else
		say "error: the rules could not be taken back at once: the machine tries again within ${WINDOW}s"
	fi
	die "$@"
}

start_trial() {
	prepare_trial ||
		die "the trial of the firewall cannot be prepared: the former firewall is still in force: see whether /run on the" \
			"machine is full"
	nft -c -f "$TRIAL.new/new" >&2 ||
		die "nft does not accept the firewall's rules: the former firewall is still in force: see its message above"
	mv "$TRIAL.new" "$TRIAL"
	# Nothing may depend on this session staying alive from here on. systemd would let a timer be a minute late.
	systemd-run --quiet --collect --unit="$ROLLBACK" --on-active="$WINDOW" --timer-property=AccuracySec=1s \
		/bin/sh "$TRIAL/firewall.sh" rollback </dev/null >&2 || {
		rm -rf "$TRIAL"
		die "the automatic roll-back cannot be scheduled: the firewall was not loaded, for a mistake would lock everybody" \
			"out: see systemctl status"
	}
	load_rules "$TRIAL/new" ||
		take_back "nft cannot load the firewall's rules: the former firewall is in force: see its message above"
	check_readmitted || take_back "the firewall was not kept"
	uptime_ticks >"$TRIAL/since" ||
		take_back "the trial cannot be noted: the firewall was taken back: see whether /run on the machine is full"
	# Processes are known by the hundredth of a second in which they began. The next connection begins in a later one.
	sleep 0.02
}

# write_synced PATH MODE CONTENT: like write_file, and it survives a power cut.
write_synced() {
	if [ -f "$ROOT$1" ] && [ "$(stat -c %a "$ROOT$1")" = "$2" ] && [ "$(cat "$ROOT$1" && echo .)" = "$3$NEWLINE." ]; then
		return 0
	fi
	if mkdir -p "$(dirname "$ROOT$1")" &&
		(umask 077 && printf '%s\n' "$3" >"$ROOT$1.tinyrack-new") &&
		chmod "$2" "$ROOT$1.tinyrack-new" && sync "$ROOT$1.tinyrack-new" &&
		mv -f "$ROOT$1.tinyrack-new" "$ROOT$1" && sync "$(dirname "$ROOT$1")" &&
		[ "$(cat "$ROOT$1")" = "$3" ]; then
		CHANGED=yes
		return 0
	fi
	rm -f "$ROOT$1.tinyrack-new"
	say "error: $1 cannot be written: see whether the machine's disk is full or read-only, then run the same command again"
	return 1
}

install_watchdog() {
	CHANGED=no
	write_synced "$SCRIPT" 755 "$WATCH_SCRIPT" &&
		write_synced "$UNITS/tinyrack-firewall.service" 644 "$LOAD_UNIT" &&
		write_synced "$UNITS/tinyrack-firewall-watch.service" 644 "$WATCH_UNIT" || return 1
	# A run that was killed may have written them and no more.
	case $(systemctl show -p NeedDaemonReload tinyrack-firewall tinyrack-firewall-watch) in
	*=yes*) systemctl daemon-reload || return 1 ;;
	esac
	for unit in tinyrack-firewall tinyrack-firewall-watch; do
		systemctl is-enabled -q "$unit" || systemctl enable -q "$unit" || return 1
	done
	systemctl is-active -q tinyrack-firewall || systemctl start tinyrack-firewall || return 1
	if [ "$CHANGED" = yes ]; then
		systemctl restart tinyrack-firewall-watch || return 1
	else
		systemctl is-active -q tinyrack-firewall-watch || systemctl start tinyrack-firewall-watch || return 1
	fi
}

# Kept means: it is on the disk, it reads back, and it is what the kernel has. Only then the roll-back may go. Whatever
# fails before, the timer takes the rules back, the kept file with them.
keep() {
	install_watchdog ||
		die "the firewall's watchdog cannot be installed: nothing is kept and the former firewall returns within" \
			"${WINDOW}s: see the message above"
	write_synced /etc/tinyrack/firewall.nft 600 "$RULESET" ||
		die "the firewall is proven but cannot be kept: the former one returns within ${WINDOW}s: see the message above"
	{ intact "$KEPT" && is_wanted "$KEPT" && as_loaded; } ||
		die "what is kept or loaded is not what was proven: the former firewall returns within ${WINDOW}s: run the same" \
			"command again"
	{ (umask 077 && cp "$KEPT" "$COPY.new") && mv -f "$COPY.new" "$COPY"; } ||
		die "/run/tinyrack cannot be written: the former firewall returns within ${WINDOW}s: see whether /run on the" \
			"machine is full"
	# The timer's script does nothing without this directory: its removal disarms.
	rm -rf "$TRIAL"
	stop_timer
}

main() {
	install_nft
	one_at_a_time 60 ||
		die "another script has been at the firewall for a minute: nothing was changed: run the same command again"
	cause="these rules were not in force when this connection came in, so it proves nothing"
	if [ "$STEP" = confirm ] && on_trial; then
		if is_new_connection && check_readmitted; then
			keep
			say "firewall confirmed and kept across reboots"
			return 0
		fi
		cause="this connection did not pass the rules, so it proves nothing"
	fi
	if [ -d "$TRIAL" ]; then
		roll_back || die "an earlier trial cannot be taken back: see the message above"
		stop_timer
	fi
	if in_force; then
		flock -u 8 # starting the unit takes the lock
		[ "$STEP" = trial ] || install_watchdog ||
			die "the firewall's watchdog cannot be installed: the rules are in force: see the message above"
		return 0
	fi
	start_trial
	if [ "$STEP" = confirm ]; then
		say "error: $cause: the firewall is on trial once more and nothing is kept: run the same command again within" \
			"${WINDOW}s"
		exit "$AGAIN"
	fi
	say "firewall loaded on trial: it is taken back in ${WINDOW}s unless a new connection confirms it"
}

[ -n "${FIREWALL_SOURCE_ONLY:-}" ] || main
