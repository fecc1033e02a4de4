#!/bin/sh
# Takes back what packages.sh configured. Packages stay: others may use them.

main() {
	rm -f "$ROOT/etc/sysctl.d/90-tinyrack.conf"
	if [ -f "$ROOT/etc/multipath/conf.d/tinyrack.conf" ]; then
		rm -f "$ROOT/etc/multipath/conf.d/tinyrack.conf"
		systemctl try-restart multipathd || true
	fi
	rm -rf "$ROOT/var/lib/tinyrack/artifacts"
	rmdir "$ROOT/var/lib/tinyrack" 2>/dev/null || true
}

[ -n "${PACKAGES_DELETE_SOURCE_ONLY:-}" ] || main
