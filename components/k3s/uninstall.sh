#!/bin/sh
# Takes a node out of its cluster and removes k3s and its data. Runs only when the host is released.
#
# Header: ROLE NODE_NAME PEERS (the addresses of the other servers).

ETC=/etc/rancher/k3s
DATA=/var/lib/rancher/k3s
# The uninstall script of k3s removes itself even where it fails: a copy lets the next run go on. node.sh removes it.
COPY=/var/lib/tinyrack/k3s-uninstall.sh
# Made by a person: this server's cluster is lost, nobody has to agree.
ABANDONED=/var/lib/tinyrack/k3s-abandoned

# kube asks any server: this one's API ends when etcd lets it go.
kube() {
	for server in $PEERS 127.0.0.1; do
		if kubectl --kubeconfig="$ETC/k3s.yaml" --server="https://$server:6443" --request-timeout=10s get --raw /readyz \
			>/dev/null 2>&1 </dev/null; then
			kubectl --kubeconfig="$ETC/k3s.yaml" --server="https://$server:6443" "$@" </dev/null
			return
		fi
	done
	return 1
}

kubelet() {
	kubectl --kubeconfig="$DATA/agent/kubelet.kubeconfig" --request-timeout=10s "$@"
}

# leave_server: etcd has to agree before the data go, or the others would count a member that never answers.
leave_server() {
	[ -d "$ROOT$DATA/server/db" ] && [ ! -e "$ROOT$ABANDONED" ] || return 0
	rows='{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
	if ! members=$(kube get nodes -l node-role.kubernetes.io/etcd=true -o "jsonpath=$rows" 2>/dev/null); then
		[ -n "$PEERS" ] || return 0
		die "no server of the cluster answers: whether the others can do without this one cannot be told: nothing was" \
			"removed: start k3s here or on another server and run again; if the whole cluster is to go, touch $ABANDONED on" \
			"this machine first"
	fi
	others=$(printf '%s\n' "$members" | awk -v me="$NODE_NAME" 'NF && $1 != me' | wc -l)
	[ "$others" -gt 0 ] || return 0
	if printf '%s\n' "$members" | awk -v me="$NODE_NAME" '$1 == me { found = 1 } END { exit !found }'; then
		healthy=$(printf '%s\n' "$members" | awk -v me="$NODE_NAME" 'NF && $1 != me && $2 == "True"' | wc -l)
		[ "$healthy" -gt "$((others / 2))" ] ||
			die "only $healthy of the $others other servers are Ready: without this one the cluster would lose its majority" \
				"and stop: nothing was removed: bring them back (kubectl get nodes) and run again"
		drain
		say "asking etcd to let this server go"
		kube annotate node "$NODE_NAME" etcd.k3s.cattle.io/remove=true --overwrite >/dev/null ||
			die "node $NODE_NAME cannot be marked for removal: nothing was removed: see kubectl's message above, then run again"
		wait_for 120 "etcd to let $NODE_NAME go" let_go ||
			die "etcd keeps $NODE_NAME as its member: nothing was removed: see journalctl -u k3s on the other servers, then" \
				"run again"
		kube delete node "$NODE_NAME" --wait=true --timeout=60s >&2 ||
			say "node $NODE_NAME is still listed: kubectl delete node $NODE_NAME on another server"
	fi
}

let_go() {
	removed='{.metadata.annotations.etcd\.k3s\.cattle\.io/removed-node-name}'
	state=$(kube get node "$NODE_NAME" --ignore-not-found -o "jsonpath=node $removed" 2>/dev/null) || return 1
	[ "$state" != "node " ]
}

# drain: pods that do not leave in time, for a budget of theirs or for want of room, end with the node.
drain() {
	say "draining $NODE_NAME"
	kube drain "$NODE_NAME" --ignore-daemonsets --delete-emptydir-data --force --timeout=120s >&2 ||
		say "some pods did not leave in two minutes: they end with the node"
}

# leave_agent does what the kubelet's credentials allow: no new pods, an eviction for each one here, and the mark by
# which the first server deletes the node. It never stops the uninstallation: the scheduler moves what is left.
leave_agent() {
	[ -f "$ROOT$DATA/agent/kubelet.kubeconfig" ] || return 0
	kubelet cordon "$NODE_NAME" >/dev/null 2>&1 </dev/null || {
		say "the cluster does not answer: pods of this node start elsewhere after five minutes"
		return 0
	}
	say "evicting the pods of $NODE_NAME"
	wait_for 120 "the pods to leave" evicted || say "some pods did not leave in two minutes: they end with the node"
	kubelet annotate node "$NODE_NAME" tinyrack.net/uninstalled=yes --overwrite >/dev/null 2>&1 </dev/null ||
		say "node $NODE_NAME stays listed: kubectl delete node $NODE_NAME on a server"
}

# evicted: whether only pods are left that belong to the node. It asks for the others to go.
evicted() {
	row='{.metadata.namespace} {.metadata.name} {.metadata.ownerReferences[0].kind} {.status.phase}{"\n"}'
	pods=$(kubelet get pods -A --field-selector="spec.nodeName=$NODE_NAME" -o "jsonpath={range .items[*]}$row{end}" \
		2>/dev/null </dev/null) || return 1
	pods=$(printf '%s\n' "$pods" | awk '
		$3 == "DaemonSet" || $3 == "Node" || $NF == "Succeeded" || $NF == "Failed" { next }
		NF { print $1, $2 }')
	[ -n "$pods" ] || return 0
	eviction='{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"namespace":"%s","name":"%s"}}\n'
	printf '%s\n' "$pods" | while read -r namespace pod; do
		# shellcheck disable=SC2059 # a format
		printf "$eviction" "$namespace" "$pod" |
			kubelet create --raw "/api/v1/namespaces/$namespace/pods/$pod/eviction" -f - >/dev/null 2>&1 || true
	done
	return 1
}

main() {
	unit=k3s
	[ "$ROLE" = server ] || unit=k3s-agent
	# The copy is made once the cluster has let the node go.
	[ -f "$ROOT$COPY" ] || "leave_$ROLE"
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
	for name in k3s-install k3s-started k3s-abandoned k3s-uninstall.sh.new k3s-uninstall.sh; do
		rm -f "$ROOT/var/lib/tinyrack/$name"
	done
	for folder in "/etc/systemd/system/$unit.service.d" /etc/rancher /var/lib/tinyrack; do
		rmdir "$ROOT$folder" 2>/dev/null || true
	done
	systemctl daemon-reload
}

[ -n "${UNINSTALL_SOURCE_ONLY:-}" ] || main
