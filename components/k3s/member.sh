#!/bin/sh
# Sees from the first server that another node is in its cluster. When it is deleted dismiss.sh runs in its place.
#
# Header: NODE_NAME.

READY='{.status.conditions[?(@.type=="Ready")].status}'

in_cluster() {
	[ "$(kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml --request-timeout=10s get node "$NODE_NAME" \
		-o "jsonpath=$READY" 2>/dev/null </dev/null)" = True ]
}

main() {
	wait_for 120 "node $NODE_NAME to be Ready here" in_cluster ||
		die "node $NODE_NAME is not Ready in the cluster of this machine: see kubectl get nodes here and journalctl -u" \
			"'k3s*' there, then run again; if an interrupted run took it out of the cluster before, it comes back only anew:" \
			"take the host out of hosts, run pulumi up, then add it again"
	say "node $NODE_NAME is in the cluster"
}

[ -n "${MEMBER_SOURCE_ONLY:-}" ] || main
