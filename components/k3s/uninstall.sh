#!/bin/sh
# Removes k3s and the cluster's data. Runs only when the stack is destroyed.

main() {
	if [ -f "$ROOT/usr/local/bin/k3s-uninstall.sh" ]; then
		sh "$ROOT/usr/local/bin/k3s-uninstall.sh" >&2 </dev/null ||
			die "k3s-uninstall.sh failed: parts of k3s are still there: see its message above, then run pulumi destroy again"
	fi
	# The script of k3s ends well whatever it left.
	[ ! -e "$ROOT/var/lib/rancher/k3s/server/db" ] ||
		die "the cluster's data is still in /var/lib/rancher/k3s: a new cluster could not start on it: see what k3s-uninstall.sh said above, then run pulumi destroy again"
	rm -rf "$ROOT/etc/rancher/k3s"
	rmdir "$ROOT/etc/rancher" 2>/dev/null || true
	rm -f "$ROOT/usr/local/bin/k3s" "$ROOT/var/lib/tinyrack/k3s-install" "$ROOT/var/lib/tinyrack/k3s-started"
	rmdir "$ROOT/var/lib/tinyrack" 2>/dev/null || true
}

[ -n "${UNINSTALL_SOURCE_ONLY:-}" ] || main
