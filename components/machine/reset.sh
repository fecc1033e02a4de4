#!/bin/sh
# Gives the machine back: configuration, firewall, login and the owner's mark. Packages stay: others may use them.
#
# Header: that of identity.sh. The functions of the firewall stand in front of this text.

take_back_configuration() {
	rm -f "$ROOT/etc/sysctl.d/90-tinyrack.conf"
	if [ -f "$ROOT/etc/multipath/conf.d/tinyrack.conf" ]; then
		rm -f "$ROOT/etc/multipath/conf.d/tinyrack.conf"
		systemctl try-restart multipathd || true
	fi
	if [ -f "$ROOT/var/lib/tinyrack/rpcbind-masked" ]; then
		systemctl unmask -q rpcbind.socket rpcbind.service || true
	fi
}

# Scheduled, because it would cut this very session before it could report; a transient timer is up to a minute late
# unless it is told otherwise. The device is removed from the tailnet through its API.
leave_tailnet() {
	have tailscale || return 0
	status
	! logged_out || return 0
	login=$(dns_name)
	if [ "${login#*.}" != "$TS_DOMAIN" ]; then
		say "warning: the machine is in another tailnet than $TS_DOMAIN by now ($login): its login is left alone"
		return 0
	fi
	systemctl stop tinyrack-logout.timer >/dev/null 2>&1 || true
	systemd-run --quiet --collect --unit=tinyrack-logout --on-active=5 --timer-property=AccuracySec=1s \
		"$(command -v tailscale)" logout >&2 </dev/null ||
		say "warning: tailscale logout cannot be scheduled: run it on the machine, or remove the device $login in the admin" \
			"console"
}

main() {
	take_back_configuration
	firewall_reset
	leave_tailnet
	rm -rf "$ROOT/var/lib/tinyrack"
	# The owner's mark goes last: without it nothing would be taken back by another try.
	rm -rf "$ROOT/etc/tinyrack"
	say "the machine is given back"
}

[ -n "${RESET_SOURCE_ONLY:-}" ] || main
