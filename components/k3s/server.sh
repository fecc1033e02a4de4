#!/bin/sh
# Installs or updates the k3s server in place and waits until it serves.
#
# Header: BINARY_URL BINARY_SHA256 INSTALL_URL INSTALL_SHA256 CLUSTER_CIDR
# SERVICE_CIDR NODE_NAME, CONFIG (the text of the configuration file).
# Standard input: the cluster's token.

BINARY=/usr/local/bin/k3s
# A drop-in: config.yaml itself stays the administrator's.
CONFIG_FILE=/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml
TOKEN_FILE=/etc/rancher/k3s/token
SERVER=/var/lib/rancher/k3s/server
# The checksum of the install script that made the unit, and what the server was
# last started with: an interrupted run must not leave the former one running.
INSTALLED=/var/lib/tinyrack/k3s-install
STARTED=/var/lib/tinyrack/k3s-started

# The datastore's bootstrap data is encrypted with the token: k3s does not start
# with another one, and a restored snapshot cannot be opened (k3s-io/docs#454).
check_token() {
	[ -d "$ROOT$SERVER/db" ] && [ -f "$ROOT$SERVER/token" ] || return 0
	used=$(cat "$ROOT$SERVER/token")
	[ "${used##*::server:}" = "$token" ] ||
		die "the cluster on this machine was made with another token than this stack's: k3s would not start: bring back the stack's former state, or set its token with k3s token rotate"
}

install_binary() {
	artifact k3s "$BINARY_URL" "$BINARY_SHA256" || exit 1
	has_sha256 "$ROOT$BINARY" "$BINARY_SHA256" && return 0
	mkdir -p "$ROOT$(dirname "$BINARY")"
	cp "$ARTIFACT" "$ROOT$BINARY.tinyrack-new"
	chmod 755 "$ROOT$BINARY.tinyrack-new"
	# A rename: the running server keeps its own file.
	mv -f "$ROOT$BINARY.tinyrack-new" "$ROOT$BINARY"
	CHANGED=yes
}

install_unit() {
	artifact k3s-install "$INSTALL_URL" "$INSTALL_SHA256" || exit 1
	if [ -f "$ROOT/etc/systemd/system/k3s.service" ] && [ -f "$ROOT$BINARY-uninstall.sh" ] &&
		[ "$(cat "$ROOT$INSTALLED" 2>/dev/null)" = "$INSTALL_SHA256" ]; then
		return 0
	fi
	say "running the k3s install script"
	INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_SKIP_SELINUX_RPM=true INSTALL_K3S_EXEC=server \
		sh "$ARTIFACT" >&2 </dev/null ||
		die "the k3s install script failed: k3s has no unit to run in: see its message above"
	write_file "$INSTALLED" 644 "$INSTALL_SHA256"
	CHANGED=yes
}

# Each start of a unit has an id of its own: it tells the new server from the old
# one, which answers for a moment more.
started() {
	systemctl show -p InvocationID --value k3s 2>/dev/null || true
}

restarted() {
	systemctl is-active -q k3s && [ "$(started)" != "$former" ]
}

# The link that the install script makes, not "k3s kubectl", which a k3s built from
# its sources does not know.
kube() {
	kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml --request-timeout=10s "$@" 2>/dev/null </dev/null
}

api_ready() {
	kube get --raw /readyz >/dev/null
}

node_ready() {
	[ "$(kube get node "$NODE_NAME" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')" = True ]
}

not_ready() {
	say "the last lines of the k3s log:"
	journalctl -u k3s -n 20 --no-pager -o cat >&2 </dev/null || true
	die "k3s is installed but $1: see journalctl -u k3s on the machine, then run again"
}

main() {
	IFS= read -r token || true
	[ -n "$token" ] || die "no token on standard input: k3s would make up one that nobody keeps: this is a defect of the caller"
	check_cluster_networks "$CLUSTER_CIDR" "$SERVICE_CIDR" || exit 1
	check_token

	CHANGED=no
	install_binary
	write_file "$TOKEN_FILE" 600 "$token"
	write_file "$CONFIG_FILE" 600 "$CONFIG"
	install_unit
	wanted="$BINARY_SHA256 $INSTALL_SHA256 $(printf '%s\n' "$CONFIG" | sha256sum | cut -d' ' -f1)"
	if [ "$CHANGED" = yes ] || [ "$(cat "$ROOT$STARTED" 2>/dev/null)" != "$wanted" ] || ! systemctl is-active -q k3s; then
		former=$(started)
		say "starting k3s"
		# The unit's own start waits without bound and says nothing.
		systemctl restart --no-block k3s
		wait_for 300 "the k3s unit to start" restarted || not_ready "its unit does not start"
		write_file "$STARTED" 644 "$wanted"
	fi
	wait_for 300 "the Kubernetes API" api_ready || not_ready "its API is not ready"
	wait_for 300 "node $NODE_NAME to be Ready" node_ready || not_ready "node $NODE_NAME is not Ready"
	say "k3s is ready"
}

[ -n "${SERVER_SOURCE_ONLY:-}" ] || main
