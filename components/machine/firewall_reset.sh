# firewall_reset takes the firewall off: its units, its files and its own table, nothing else. The watchdog goes first,
# or it would put the table back.
firewall_reset() {
	systemctl disable -q --now tinyrack-firewall-watch.service tinyrack-firewall.service >/dev/null 2>&1 || true
	systemctl stop tinyrack-firewall-rollback.timer tinyrack-firewall-rollback.service >/dev/null 2>&1 || true
	rm -f "$ROOT/etc/systemd/system/tinyrack-firewall.service" "$ROOT/etc/systemd/system/tinyrack-firewall-watch.service" \
		"$ROOT/usr/local/lib/tinyrack/firewall.sh" "$ROOT/etc/tinyrack/firewall.nft" "$ROOT/run/tinyrack/firewall.nft" \
		"$ROOT/run/tinyrack/firewall.listing"
	rm -rf "$ROOT/run/tinyrack/firewall-trial" "$ROOT/run/tinyrack/firewall-trial.new"
	rmdir "$ROOT/usr/local/lib/tinyrack" 2>/dev/null || true
	systemctl daemon-reload
	if have nft && nft list table inet tinyrack >/dev/null 2>&1; then
		nft delete table inet tinyrack
	fi
}
