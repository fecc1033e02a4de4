#!/bin/sh
# Removes k3s and its data. Runs only when the host is released, and after the first server took the node out of the
# cluster (dismiss.sh).
#
# Header: ROLE NODE_NAME.

ETC=/etc/rancher/k3s
DATA=/var/lib/rancher/k3s
# The uninstall script of k3s removes itself even where it fails: a copy lets the next run go on. node.sh removes it.
COPY=/var/lib/tinyrack/k3s-uninstall.sh
# Made by a person, as dismiss.sh says.
ABANDONED=/var/lib/tinyrack/k3s-abandoned

# check_member: the order of the deletes says that this node has left; its own API, as long as it answers, whether that
# is so. etcd counts a member that is simply gone for good.
check_member() {
	[ "$ROLE" = server ] && [ ! -e "$ROOT$ABANDONED" ] || return 0
	members=$(kubectl --kubeconfig="$ETC/k3s.yaml" --request-timeout=10s get nodes -l node-role.kubernetes.io/etcd=true \
		-o 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}' 2>/dev/null </dev/null) || return 0
	others=$(printf '%s\n' "$members" | grep -vxF "$NODE_NAME") || return 0
	printf '%s\n' "$members" | grep -qxF "$NODE_NAME" || return 0
	die "this server is still a member of the cluster, beside $(printf '%s' "$others" | tr '\n' ' '): they would wait" \
		"for it for good: nothing was removed: run kubectl delete node $NODE_NAME on one of them, then run again"
}

main() {
	unit=k3s
	[ "$ROLE" = server ] || unit=k3s-agent
	# The copy is made once that is sure.
	[ -f "$ROOT$COPY" ] || check_member
	if [ -f "$ROOT/usr/local/bin/$unit-uninstall.sh" ]; then
		mkdir -p "$ROOT$(dirname "$COPY")"
		cp "$ROOT/usr/local/bin/$unit-uninstall.sh" "$ROOT$COPY.new"
		mv -f "$ROOT$COPY.new" "$ROOT$COPY"
	fi
	if [ -f "$ROOT$COPY" ]; then
		sh "$ROOT$COPY" >&2 </dev/null ||
			die "$unit-uninstall.sh failed: parts of k3s are still there: see its message above, then run pulumi destroy again"
	fi
	# The script of k3s ends well whatever it left.
	for left in server/db agent; do
		[ ! -e "$ROOT$DATA/$left" ] ||
			die "data of the cluster are still in $DATA/$left: a new cluster could not start on them: see what" \
				"$unit-uninstall.sh said above, then run pulumi destroy again"
	done
	rm -rf "$ROOT$ETC" "$ROOT/etc/systemd/system/$unit.service.d/10-tinyrack.conf"
	rm -f "$ROOT/etc/sysctl.d/80-tinyrack-kubelet.conf" "$ROOT/usr/local/bin/k3s" "$ROOT/usr/local/bin/k3s.tinyrack-new"
	for name in k3s-install k3s-started k3s-nodes k3s-abandoned k3s-uninstall.sh.new k3s-uninstall.sh; do
		rm -f "$ROOT/var/lib/tinyrack/$name"
	done
	for folder in "/etc/systemd/system/$unit.service.d" /etc/rancher /var/lib/tinyrack; do
		rmdir "$ROOT$folder" 2>/dev/null || true
	done
	systemctl daemon-reload
}

[ -n "${UNINSTALL_SOURCE_ONLY:-}" ] || main
