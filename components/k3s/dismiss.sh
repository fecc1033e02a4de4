#!/bin/sh
# Takes another node out of the cluster before it is uninstalled (uninstall.sh removes its data after this), unless
# nodes.sh has done so already. The functions of leave.sh are above.
#
# Header: NODE_NAME.

# Made by a person, for a destroy: the cluster is lost, nobody has to agree.
ABANDONED=/var/lib/tinyrack/k3s-abandoned

# left: whether the settings name the node no more. While they do, only its resources were replaced or renamed. Without
# the list nothing is known.
left() {
	[ -f "$ROOT$NODES_FILE" ] && ! grep -qxF "$NODE_NAME" "$ROOT$NODES_FILE"
}

main() {
	released_or_nothing left
	[ -d "$ROOT$DATA/server/db" ] || {
		say "there is no cluster on this machine"
		return 0
	}
	if [ -e "$ROOT$ABANDONED" ] && ! owned held; then
		say "the cluster is given up: $NODE_NAME does not leave it, it ends with it"
		return 0
	fi
	wait_for 60 "the Kubernetes API" read_nodes ||
		die "the Kubernetes API does not answer here: $NODE_NAME cannot leave the cluster: nothing was removed: see" \
			"journalctl -u k3s and run again; if the whole stack is destroyed and the cluster is lost, touch $ABANDONED on" \
			"this machine first"
	dismiss
}

[ -n "${DISMISS_SOURCE_ONLY:-}" ] || main
