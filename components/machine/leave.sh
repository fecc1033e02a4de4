#!/bin/sh
# Leaves the tailnet, so that no dead device stays in it.

leave() {
	tailscale logout >&2 </dev/null ||
		say "warning: tailscale logout failed: remove the device in the admin console"
}

over_tailnet() {
	# SSH_CONNECTION: client address, client port, server address, server port.
	# shellcheck disable=SC2086
	set -- ${SSH_CONNECTION:-}
	[ -n "${3:-}" ] && [ "$3" = "$(tailscale ip -4 2>/dev/null </dev/null | head -n 1)" ]
}

main() {
	rm -f "$ROOT/etc/tinyrack/tailnet"
	rmdir "$ROOT/etc/tinyrack" 2>/dev/null || true
	have tailscale || return 0
	if over_tailnet; then
		# This very session would hang before it could report success.
		systemd-run --quiet --on-active=5 "$(command -v tailscale)" logout
	else
		leave
	fi
}

[ -n "${LEAVE_SOURCE_ONLY:-}" ] || main
