#!/bin/sh
# Loads the machine's nftables table with a net below: unless a NEW connection
# comes in and confirms it, the former state returns by itself.
#
# Header: RULESET (the table's text), TAILNET_INTERFACE, STEP (apply or confirm).

TABLE=tinyrack
KEPT=/etc/tinyrack/firewall.nft
UNIT=/etc/systemd/system/tinyrack-firewall.service
TRIAL=/run/tinyrack/firewall.nft
ROLLBACK=tinyrack-firewall-rollback
WINDOW=120

UNIT_TEXT='[Unit]
Description=tinyrack firewall (nftables table inet tinyrack)
DefaultDependencies=no
Wants=network-pre.target
# After nftables.service and reloaded with it: its ruleset may begin with a flush.
After=nftables.service
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=NFT -f /etc/tinyrack/firewall.nft
ExecReload=NFT -f /etc/tinyrack/firewall.nft
# No ExecStop: stopping the unit must not open the machine.

[Install]
WantedBy=sysinit.target nftables.service'

loaded() {
	nft list table inet "$TABLE" >/dev/null 2>&1
}

# The last thing both steps ask: is the wanted text the one in force?
in_force() {
	loaded && [ -f "$ROOT$KEPT" ] && [ "$(cat "$ROOT$KEPT")" = "$RULESET" ]
}

on_trial() {
	loaded && [ -f "$ROOT$TRIAL" ] && [ "$(cat "$ROOT$TRIAL")" = "$RULESET" ]
}

stop_rollback() {
	systemctl stop "$ROLLBACK.timer" "$ROLLBACK.service" >/dev/null 2>&1 || true
	systemctl reset-failed "$ROLLBACK.timer" "$ROLLBACK.service" >/dev/null 2>&1 || true
}

# Back to the kept ruleset, or to none.
roll_back() {
	if [ -f "$ROOT$KEPT" ]; then
		nft -f "$ROOT$KEPT"
	else
		nft destroy table inet "$TABLE" 2>/dev/null || nft delete table inet "$TABLE" 2>/dev/null || true
	fi
	rm -f "$ROOT$TRIAL"
}

# Whether this session's peer could connect again. nft answers for the address
# ranges; anything arriving on the tailnet's address is admitted.
readmitted() {
	# shellcheck disable=SC2086 # client address, client port, server address, server port
	set -- ${SSH_CONNECTION:-}
	[ $# = 4 ] || return 0
	[ "$3" != "$1" ] || return 0
	case $1 in
	*:*) set -- "$1" "$3" bootstrap6 ;;
	*) set -- "$1" "$3" bootstrap4 ;;
	esac
	nft get element inet "$TABLE" "$3" "{ $1 }" >/dev/null 2>&1 && return 0
	ip -o address show dev "$TAILNET_INTERFACE" 2>/dev/null | awk -v want="$2" '{ split($4, a, "/"); if (a[1] == want) found = 1 } END { exit !found }'
}

try_ruleset() {
	have nft || die "the machine has no nft: the firewall cannot be loaded: add nftables to machine.packages"
	mkdir -p "$ROOT/run/tinyrack"
	write_file "$TRIAL" 600 "$RULESET"
	nft -c -f "$ROOT$TRIAL" >&2 || {
		rm -f "$ROOT$TRIAL"
		die "nft does not accept the firewall's rules: the former firewall is still in force: see its message above"
	}
	stop_rollback
	# Nothing may depend on this session staying alive from here on.
	systemd-run --quiet --collect --unit="$ROLLBACK" --on-active="$WINDOW" sh -c \
		"if [ -f $KEPT ]; then nft -f $KEPT; else nft delete table inet $TABLE; fi; rm -f $TRIAL" </dev/null >&2 ||
		die "the automatic roll-back cannot be scheduled: the firewall was not loaded, for a mistake would lock everybody out: see systemctl status"
	nft -f "$ROOT$TRIAL" >&2 || {
		stop_rollback
		rm -f "$ROOT$TRIAL"
		die "nft cannot load the firewall's rules: the former firewall is still in force: see its message above"
	}
	readmitted || {
		roll_back
		stop_rollback
		# shellcheck disable=SC2086
		set -- ${SSH_CONNECTION:-}
		die "the firewall would shut out this very connection (from $1 to $3): it was taken back: add $1 to machine.bootstrapSources, or connect over the tailnet"
	}
}

keep_ruleset() {
	stop_rollback
	write_file "$KEPT" 600 "$RULESET"
	rm -f "$ROOT$TRIAL"
	CHANGED=no
	write_file "$UNIT" 644 "$(printf '%s\n' "$UNIT_TEXT" | sed "s|NFT|$(command -v nft)|")"
	[ "$CHANGED" = no ] || systemctl daemon-reload
	systemctl is-enabled -q tinyrack-firewall || systemctl enable -q tinyrack-firewall
	# Loads the same text once more; from now on reloads of nftables reach it.
	systemctl is-active -q tinyrack-firewall || systemctl start tinyrack-firewall
}

main() {
	case $STEP in
	apply)
		in_force && return 0
		try_ruleset
		say "firewall loaded on trial: it is taken back in ${WINDOW}s unless a new connection confirms it"
		;;
	confirm)
		# The trial may be over when an earlier run was interrupted. Then this
		# connection could come in without the firewall proving anything, and
		# readmitted has to be proof enough.
		in_force || on_trial || try_ruleset
		keep_ruleset
		say "firewall confirmed and kept across reboots"
		;;
	esac
}

[ -n "${FIREWALL_SOURCE_ONLY:-}" ] || main
