# Functions that take another node out of the cluster, from the first server. The node, NODE_NAME, cannot ask for it
# itself: the other hosts admit it no longer by then, or it is gone.

ETC=/etc/rancher/k3s
# For the scripts that go on from here, as the next one.
# shellcheck disable=SC2034
DATA=/var/lib/rancher/k3s
# The names of the nodes that the settings had when this server was last worked on: node.sh writes it.
# shellcheck disable=SC2034
NODES_FILE=/var/lib/tinyrack/k3s-nodes
REMOVED='{.metadata.annotations.etcd\.k3s\.cattle\.io/removed-node-name}'

kube() {
	kubectl --kubeconfig="$ETC/k3s.yaml" "$@" </dev/null
}

# ask is for what answers at once.
ask() {
	kube --request-timeout=10s "$@"
}

# read_nodes reads a line of name, etcd, removed and Ready for each node into LISTED.
read_nodes() {
	etcd='{.metadata.labels.node-role\.kubernetes\.io/etcd}'
	ready='{.status.conditions[?(@.type=="Ready")].status}'
	row="{.metadata.name}|$etcd|$REMOVED|$ready"
	LISTED=$(ask get nodes -o "jsonpath={range .items[*]}$row{\"\\n\"}{end}" 2>/dev/null) && [ -n "$LISTED" ]
}

listed() {
	printf '%s\n' "$LISTED" | awk -F '|' -v name="$NODE_NAME" '$1 == name { found = 1 } END { exit !found }'
}

# A member of etcd counts for the majority, whatever has become of it.
is_server() {
	printf '%s\n' "$LISTED" | awk -F '|' -v name="$NODE_NAME" '$1 == name && $2 != "" { found = 1 } END { exit !found }'
}

check_majority() {
	others=$(printf '%s\n' "$LISTED" | awk -F '|' -v name="$NODE_NAME" '$1 != name && $2 != "" && $3 == ""')
	all=$(printf '%s\n' "$others" | grep -c .) || true
	healthy=$(printf '%s\n' "$others" | grep -c '|True$') || true
	[ "$healthy" -gt "$((all / 2))" ] ||
		die "only $healthy of the $all other servers are Ready: without $NODE_NAME the cluster would lose its majority and" \
			"stop: nothing was removed: bring them back (kubectl get nodes) and run again"
}

# drain: pods that do not leave in time, for a budget of theirs or for want of room, end with the node.
drain() {
	say "draining $NODE_NAME"
	kube drain "$NODE_NAME" --ignore-daemonsets --delete-emptydir-data --force --timeout=120s >&2 ||
		say "some pods did not leave in two minutes: they end with the node"
}

let_go() {
	state=$(ask get node "$NODE_NAME" --ignore-not-found -o "jsonpath=node $REMOVED" 2>/dev/null) || return 1
	[ "$state" != "node " ]
}

# leave_etcd: etcd has to agree before the data go, or the others would count a member that never answers.
leave_etcd() {
	say "asking etcd to let $NODE_NAME go"
	ask annotate node "$NODE_NAME" etcd.k3s.cattle.io/remove=true --overwrite >/dev/null ||
		die "node $NODE_NAME cannot be marked for removal: nothing was removed: see kubectl's message above, then run again"
	# Where the node itself held the lease of k3s' controllers another server takes it over first: 45 seconds.
	wait_for 120 "etcd to let $NODE_NAME go" let_go ||
		die "etcd keeps $NODE_NAME as its member: nothing was removed: see journalctl -u k3s on the servers, then run again"
}

# dismiss: drained, let go by etcd, deleted.
dismiss() {
	if listed; then
		! is_server || check_majority
		drain
		! is_server || leave_etcd
		kube delete node "$NODE_NAME" --ignore-not-found --timeout=180s >&2 ||
			die "node $NODE_NAME is still listed: see kubectl's message above, then run again"
	fi
	say "node $NODE_NAME is not in the cluster"
}

