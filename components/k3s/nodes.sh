#!/bin/sh
# Takes the nodes out of the cluster that are no longer among NODES, before anything else of the run: once the other
# hosts' firewalls admit them no longer, a k3s that is started again has lost them, and etcd lets nobody go that not
# every member is connected to. The functions of leave.sh are above.
#
# Only who was on the list leaves: a node that a person added stays. The list itself is node.sh's to write.
#
# Header: NODES.

# leaving: the names on the list that are not among NODES.
leaving() {
	# shellcheck disable=SC2153 # the header's
	printf '%s\n' "$NODES" | tr ' ' '\n' | grep -vxF -f - "$ROOT$NODES_FILE"
}

main() {
	names=
	if [ -d "$ROOT$DATA/server/db" ] && [ -f "$ROOT$NODES_FILE" ]; then
		names=$(leaving) || true
	fi
	[ -n "$names" ] || {
		say "no node leaves the cluster"
		return 0
	}
	for NODE_NAME in $names; do
		wait_for 60 "the Kubernetes API" read_nodes ||
			die "the Kubernetes API does not answer here: $NODE_NAME cannot leave the cluster, and etcd would count it for" \
				"good: nothing was changed: list it in hosts again until the cluster is well (journalctl -u k3s), then take it" \
				"out"
		dismiss
	done
}

[ -n "${NODES_SOURCE_ONLY:-}" ] || main
