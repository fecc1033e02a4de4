#!/bin/sh
# Takes the firewall off: its unit, its files and its own table, nothing else.

main() {
	systemctl stop tinyrack-firewall-rollback.timer >/dev/null 2>&1 || true
	systemctl disable -q --now tinyrack-firewall >/dev/null 2>&1 || true
	rm -f "$ROOT/etc/systemd/system/tinyrack-firewall.service" "$ROOT/etc/tinyrack/firewall.nft" "$ROOT/run/tinyrack/firewall.nft"
	systemctl daemon-reload
	rmdir "$ROOT/etc/tinyrack" 2>/dev/null || true
	if have nft && nft list table inet tinyrack >/dev/null 2>&1; then
		nft delete table inet tinyrack
	fi
}

[ -n "${FIREWALL_DELETE_SOURCE_ONLY:-}" ] || main
