#!/bin/sh
# Joins the tailnet, or proves that the machine is in it already: in the wanted tailnet, with the wanted tags, by the
# wanted name. A key that is not needed is not spent.
#
# Header: that of identity.sh. Standard input: the join key.

start_daemon() {
	# Only a packaged daemon has a unit.
	systemctl cat tailscaled >/dev/null 2>&1 || return 0
	systemctl is-enabled -q tailscaled || systemctl enable -q tailscaled
	systemctl is-active -q tailscaled || systemctl start tailscaled
}

refuse_wrong_login() {
	problems=$(login_problems)
	[ -z "$problems" ] || die "$problems"
}

log_in() {
	WORK=$(mktemp -d "$ROOT/run/tinyrack/join.XXXXXX")
	trap 'rm -rf "$WORK"' EXIT
	trap 'exit 1' HUP INT TERM PIPE
	(
		umask 077
		printf '%s\n' "$key" >"$WORK/key"
	)
	# --reset: without it, up refuses whenever a flag differs from the last time.
	set -- --accept-dns=false --reset --timeout=90s "--hostname=$HOST" "--auth-key=file:$WORK/key"
	[ -z "$TS_LOGIN_SERVER" ] || set -- "$@" "--login-server=$TS_LOGIN_SERVER"
	say "joining the tailnet as $HOST"
	code=0
	tailscale up "$@" >"$WORK/said" 2>&1 </dev/null || code=$?
	# A line with the key in it is not for anybody's eyes.
	grep -vFf "$WORK/key" "$WORK/said" >&2 || true
	[ "$code" = 0 ] || not_joined
	rm -rf "$WORK"
}

not_joined() {
	status
	[ "$(field .BackendState)" != NeedsMachineAuth ] || refuse_wrong_login
	# In Tailscale's words and in headscale's.
	if grep -qiE 'invalid key|auth-?key|key .*(not valid|expired|used|revoked|not found|not exist)' "$WORK/said"; then
		die "the tailnet does not take the join key: it was used up, has expired or was revoked, and the machine is not in" \
			"the tailnet: make a new one with pulumi up --replace '**TailnetKey::*$HOST'"
	fi
	die "tailscale up failed: the machine is not in the tailnet: see its message above and whether the machine reaches" \
		"$(server_name "$TS_LOGIN_SERVER")"
}

# set, never up: up with a spent key can log a live machine out (tailscale/tailscale#16987, #19501).
rename() {
	former=$(dns_name)
	say "the machine is $former in the tailnet: renaming it to $(fqdn)"
	if [ "$(field .Self.HostName)" = "$HOST" ]; then
		# The tailnet looks at a name again only when it changes: the device that held the name may be gone by now.
		tailscale set --hostname=renaming >&2 </dev/null || rename_failed
		wait_for 15 "the tailnet to see the change" renamed_from "$former" 2>/dev/null || true
	fi
	tailscale set "--hostname=$HOST" >&2 </dev/null || rename_failed
}

rename_failed() {
	die "tailscale set failed: the machine keeps its former name in the tailnet, where nobody looks for it: see its" \
		"message above"
}

renamed_from() {
	status
	[ "$(dns_name)" != "$1" ]
}

misnamed() {
	name=$(dns_name)
	case ${name%%.*} in
	"$HOST"-[0-9]*)
		die "the name $HOST is taken in the tailnet, so this machine became $name: everything that is meant for it would" \
			"reach the device $(fqdn) instead: if that one is dead, remove it in the admin console (Machines) and run again," \
			"else give this host another name"
		;;
	*)
		die "this machine is ${name:-nameless} in the tailnet and not $(fqdn): everything that is meant for it would miss" \
			"it: an administrator's name for a device wins: rename the device to $HOST in the admin console (Machines), then" \
			"run again"
		;;
	esac
}

main() {
	IFS= read -r key || true
	[ -n "$key" ] || die "no join key on standard input: the machine cannot join the tailnet: this is a defect of the" \
		"caller"
	rm -rf "$ROOT"/run/tinyrack/join.* # of a run that was killed
	have tailscale || die "the machine has no tailscale: it cannot join the tailnet: install it by hand, then run again"
	start_daemon
	wait_for 60 "tailscaled" settled ||
		die "tailscaled does not answer or does not reach its login server: the machine cannot join the tailnet: see" \
			"systemctl status tailscaled and tailscale status on it"
	refuse_wrong_login
	if logged_out; then
		log_in
		wait_for 60 "the machine's login" settled ||
			die "the machine has joined and knows no tailnet yet: see tailscale status on it, then run again"
		# Whatever up did: is it the tailnet that was meant?
		refuse_wrong_login
		! logged_out || die "tailscale up ended well and the machine is not logged in: see tailscale status on it, then run" \
			"again"
	elif ! named_as_wanted; then
		rename
	fi
	wait_for 30 "the name $(fqdn)" named_as_wanted 2>/dev/null || misnamed
	warn_of_expiry
	say "the machine is $(fqdn) in the tailnet"
}

[ -n "${JOIN_SOURCE_ONLY:-}" ] || main
