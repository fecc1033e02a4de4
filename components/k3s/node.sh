#!/bin/sh
# Installs or updates k3s in place, as a server or an agent, and waits until the node serves.
#
# Header: ROLE (server or agent) FIRST (yes: the server that initialises the cluster) NODE_NAME VERSION AMD64_URL
# AMD64_SHA256 ARM64_URL ARM64_SHA256 INSTALL_URL INSTALL_SHA256 CLUSTER_CIDR SERVICE_CIDR PEERS (the addresses of the
# other servers) NODES RENEWAL, and the texts of files: CONFIG AUDIT ADMISSION KERNEL UNIT_DROP_IN, empty for none.
# Standard input: the cluster's token (of a server), then the agents' token.

BINARY=/usr/local/bin/k3s
ETC=/etc/rancher/k3s
# Drop-ins: config.yaml itself stays the administrator's.
CONFIG_FILE=$ETC/config.yaml.d/10-tinyrack.yaml
JOIN_FILE=$ETC/config.yaml.d/20-tinyrack-join.yaml
DATA=/var/lib/rancher/k3s
KERNEL_FILE=/etc/sysctl.d/80-tinyrack-kubelet.conf
# The checksum of the install script that made the unit, and what k3s was last started with: an interrupted run must not
# leave the former one running.
INSTALLED=/var/lib/tinyrack/k3s-install
STARTED=/var/lib/tinyrack/k3s-started
# The names of the cluster's nodes, on the first server.
NODES_FILE=/var/lib/tinyrack/k3s-nodes
# k3s renews at its start what ends within 120 days, the oldest accepted release within 90.
RENEW_BEFORE=$((90 * 86400))

put() {
	write_file "$@" || die "$1 cannot be written: k3s was not restarted: see whether the machine's disk is full or" \
		"read-only, then run again"
}

has_data() {
	[ -d "$ROOT$DATA/server/db" ]
}

check_role() {
	unit=k3s other=k3s-agent
	[ "$ROLE" = server ] || unit=k3s-agent other=k3s
	[ ! -f "$ROOT/etc/systemd/system/$other.service" ] ||
		die "this machine runs k3s in another role ($other): its data and volumes would be mixed up: take the host out of" \
			"the settings, run pulumi up, then add it again as $ROLE"
	have openssl ||
		die "openssl is missing: the age of the certificates could not be told: add openssl to the host's packages"
}

# The datastore's bootstrap data is encrypted with the token: k3s does not start with another one, and a restored
# snapshot cannot be opened (k3s-io/docs#454).
check_token() {
	has_data && [ -f "$ROOT$DATA/server/token" ] || return 0
	used=$(cat "$ROOT$DATA/server/token")
	[ "${used##*::server:}" = "$token" ] ||
		die "the cluster on this machine was made with another token than this stack's: k3s would not start: the state was" \
			"lost or is another's: set k3sToken (pulumi config set --secret k3sToken) to the former token: it is in the" \
			"escrow, and on this machine in $DATA/server/token"
}

# choose_binary: url and sha256 of this machine's architecture.
choose_binary() {
	machine=$(uname -m)
	case $machine in
	x86_64) architecture=amd64 url=$AMD64_URL sha256=$AMD64_SHA256 ;;
	aarch64) architecture=arm64 url=$ARM64_URL sha256=$ARM64_SHA256 ;;
	*) die "this machine is $machine: there is no k3s for it: use an amd64 or arm64 machine" ;;
	esac
	[ -n "$url" ] || die "this machine is $machine and binaries.$architecture is not set: nothing could be installed:" \
		"add its url and sha256"
}

# version_of FILE: the release it is, or nothing when it does not run. k3s calls itself by the name of its file.
version_of() {
	if [ -x "$1" ]; then
		"$1" --version 2>/dev/null </dev/null | awk 'NR == 1 && $2 == "version" { print $3 }'
	fi
}

# version_number VERSION: a number that grows with it.
version_number() {
	printf '%s\n' "$1" | sed 's/^v//; s/+k3s/./' | awk -F. '{ printf "%d%04d%04d%04d\n", $1, $2, $3, $4 }'
}

minor_of() {
	printf '%s\n' "$1" | cut -d. -f2
}

fetch_binary() {
	artifact k3s "$url" "$sha256" || exit 1
	mkdir -p "$(dirname "$candidate")"
	mv -f "$ARTIFACT" "$candidate" || {
		rm -f "$candidate"
		die "${candidate#"$ROOT"} cannot be written: k3s was not changed: see whether the machine's disk is full or" \
			"read-only, then run again"
	}
}

# prepare_binary: the verified binary that is to be installed in $candidate, asked for its version: a checksum and a
# version that do not belong together, or another architecture's file, are found here, before anything is changed.
prepare_binary() {
	candidate=$ROOT$BINARY
	if ! has_sha256 "$candidate" "$sha256"; then
		candidate=$ROOT$BINARY.tinyrack-new
		has_sha256 "$candidate" "$sha256" || fetch_binary
		chmod 755 "$candidate"
	fi
	got=$(version_of "$candidate")
	[ "$got" != "$VERSION" ] || return 0
	[ "$candidate" = "$ROOT$BINARY" ] || rm -f "$candidate"
	[ -n "$got" ] || die "the binary of binaries.$architecture does not run on this machine ($machine): nothing was" \
		"installed: see whether it is another architecture's"
	die "the binary of binaries.$architecture is k3s $got, version says $VERSION: nothing was installed: correct the" \
		"version, or url and sha256"
}

# check_upgrade: what ran here may be followed by the wanted version.
check_upgrade() {
	before=$(version_of "$ROOT$BINARY")
	[ -n "$before" ] && [ -e "$ROOT$DATA" ] || before=$VERSION
	if [ "$(version_number "$before")" -gt "$(version_number "$VERSION")" ]; then
		set -- "older than the $before of this machine: its data may be of a form that $VERSION cannot read: set version" \
			"to $before or a later one, or restore a snapshot of the time before on a new cluster"
	elif [ "$(minor_of "$VERSION")" -gt "$(($(minor_of "$before") + 1))" ]; then
		set -- "more than one minor release after the $before of this machine: Kubernetes supports no such step: upgrade" \
			"to the last release of each minor version in between first"
	else
		return 0
	fi
	[ "$candidate" = "$ROOT$BINARY" ] || rm -f "$candidate"
	die "version $VERSION is $*"
}

# default_address: what k3s takes without node-ip, the first address of the interface that the default route uses.
default_address() {
	device=$(ip -4 route show default 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p; q')
	[ -z "$device" ] ||
		ip -4 -o address show dev "$device" scope global 2>/dev/null | awk '{ split($4, a, "/"); print a[1]; exit }'
}

# check_address: etcd knows a member by its name and its address. Under another one k3s starts, does not find itself
# among the members and waits for good (Test in k3s' pkg/etcd). From one node to several, or back, node-ip comes or
# goes.
check_address() {
	[ "$ROLE" = server ] && has_data || return 0
	address='{.metadata.annotations.etcd\.k3s\.cattle\.io/node-address}'
	known=$(kube get node "$NODE_NAME" -o "jsonpath=$address") || return 0
	wanted=$(printf '%s\n' "$CONFIG" | sed -n 's/^node-ip: *//p' | tr -d "\"'")
	[ -n "$wanted" ] || wanted=$(default_address)
	[ -n "$known" ] && [ -n "$wanted" ] && [ "$known" != "$wanted" ] || return 0
	[ "$candidate" = "$ROOT$BINARY" ] || rm -f "$candidate"
	die "etcd knows this server by $known, and k3s would use $wanted: it would find no such member and never be ready:" \
		"k3s was not changed: set the nodeAddress of this host to $known"
}

# kernel_defaults: what the kubelet demands (protect-kernel-defaults). A write may seem to work and do nothing in a
# container: each value is read again.
kernel_defaults() {
	[ -n "$KERNEL" ] || {
		rm -f "$ROOT$KERNEL_FILE"
		return 0
	}
	put "$KERNEL_FILE" 644 "$KERNEL"
	printf '%s\n' "$KERNEL" | awk '!/^#/ { print $1, $3 }' | {
		wrong=
		while read -r key value; do
			file=$ROOT/proc/sys/$(printf %s "$key" | tr . /)
			[ "$(cat "$file" 2>/dev/null)" = "$value" ] || { printf '%s\n' "$value" >"$file"; } 2>/dev/null || true
			now=$(cat "$file" 2>/dev/null) || now=missing
			[ "$now" = "$value" ] || wrong="$wrong $key is $now, wanted $value;"
		done
		[ -z "$wrong" ] || die "the kernel does not take what the kubelet demands:$wrong k3s would not start: set it on the" \
			"machine that holds this container, or set protectKernelDefaults: false"
	}
}

# snapshot: the way back from an upgrade. k3s has to be at work for it.
snapshot() {
	[ "$FIRST" = yes ] && has_data && [ "$before" != "$VERSION" ] || return 0
	say "taking a snapshot before the upgrade from $before to $VERSION"
	"$ROOT$BINARY" etcd-snapshot save --name "pre-upgrade-$(printf %s "$VERSION" | tr + -)" >&2 </dev/null || {
		rm -f "$candidate"
		die "no snapshot could be taken before the upgrade to $VERSION: nothing was changed: bring $before to work again" \
			"(journalctl -u k3s), then run again"
	}
}

install_binary() {
	[ "$candidate" != "$ROOT$BINARY" ] || return 0
	# A rename: the running k3s keeps its own file.
	mv -f "$candidate" "$ROOT$BINARY"
	CHANGED=yes
}

# join_file: the first server initialises a cluster, unless it is the one that was rebuilt and the others are at work:
# then it would be a second cluster of the same name. With data of its own k3s heeds neither line.
join_file() {
	[ "$FIRST" = yes ] || {
		rm -f "$ROOT$JOIN_FILE"
		return 0
	}
	if has_data && [ -f "$ROOT$JOIN_FILE" ]; then return 0; fi
	join="cluster-init: true"
	if ! has_data; then
		for peer in $PEERS; do
			# Whoever answers: the join itself is proven by the token.
			if [ "$(curl -sk --max-time 3 "https://$peer:6443/ping" 2>/dev/null </dev/null)" = pong ]; then
				say "joining the cluster of the server at $peer"
				join="server: https://$peer:6443"
				break
			fi
		done
	fi
	put "$JOIN_FILE" 600 "$join"
}

optional() {
	if [ -n "$3" ]; then
		put "$1" "$2" "$3"
	elif [ -e "$ROOT$1" ]; then
		rm -f "$ROOT$1"
		CHANGED=yes
	fi
}

install_files() {
	if [ "$ROLE" = agent ]; then
		put "$ETC/token" 600 "$agent_token"
	else
		put "$ETC/token" 600 "$token"
		put "$ETC/agent-token" 600 "$agent_token"
	fi
	put "$CONFIG_FILE" 600 "$CONFIG"
	optional "$ETC/audit.yaml" 600 "$AUDIT"
	optional "$ETC/admission.yaml" 600 "$ADMISSION"
	optional "/etc/systemd/system/$unit.service.d/10-tinyrack.conf" 644 "$UNIT_DROP_IN"
	# The API server makes no folder for its audit log.
	[ "$ROLE" = agent ] || (umask 077 && mkdir -p "$ROOT$DATA/server/logs")
}

install_unit() {
	if [ -f "$ROOT/etc/systemd/system/$unit.service" ] && [ -f "$ROOT/usr/local/bin/$unit-uninstall.sh" ] &&
		[ "$(cat "$ROOT$INSTALLED" 2>/dev/null)" = "$INSTALL_SHA256" ]; then
		return 0
	fi
	artifact k3s-install "$INSTALL_URL" "$INSTALL_SHA256" || exit 1
	say "running the k3s install script"
	INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_SKIP_SELINUX_RPM=true INSTALL_K3S_EXEC=$ROLE \
		sh "$ARTIFACT" >&2 </dev/null ||
		die "the k3s install script failed: k3s has no unit to run in: see its message above"
	put "$INSTALLED" 644 "$INSTALL_SHA256"
	CHANGED=yes
}

# Each start of a unit has an id of its own: it tells the new k3s from the old one, which answers for a moment more.
started() {
	systemctl show -p InvocationID --value "$unit" 2>/dev/null || true
}

restarted() {
	systemctl is-active -q "$unit" && [ "$(started)" != "$former" ]
}

start() {
	former=$(started)
	say "starting $unit"
	systemctl daemon-reload
	# The unit's own start waits without bound and says nothing.
	systemctl restart --no-block "$unit"
	wait_for 300 "the unit $unit to start" restarted || not_ready "its unit does not start"
}

# The link that the install script makes, not "k3s kubectl", which a k3s built from its sources does not know. An agent
# has its kubelet's own credentials.
kube() {
	credentials=$ETC/k3s.yaml
	[ "$ROLE" = server ] || credentials=$DATA/agent/kubelet.kubeconfig
	kubectl --kubeconfig="$credentials" --request-timeout=10s "$@" 2>/dev/null </dev/null
}

api_ready() {
	kube get --raw /readyz >/dev/null
}

READY='{.status.conditions[?(@.type=="Ready")].status}'

# A node stays Ready for a while after its kubelet ended: the version tells whether it is this one.
node_ready() {
	[ "$(kube get node "$NODE_NAME" -o "jsonpath=$READY {.status.nodeInfo.kubeletVersion}")" = "True $VERSION" ]
}

not_ready() {
	log=$(journalctl -u "$unit" -n 20 --no-pager -o cat 2>&1 </dev/null) || true
	say "the last lines of the k3s log:$NEWLINE$log"
	case $log in
	*"password rejected"* | *"duplicate"*)
		say "the cluster still knows an earlier machine as $NODE_NAME: kubectl delete node $NODE_NAME on a server"
		;;
	esac
	die "k3s is installed but $1: see journalctl -u $unit on the machine, then run again"
}

wait_ready() {
	wait_for 300 "the Kubernetes API" api_ready || not_ready "its API is not ready"
	wait_for 300 "node $NODE_NAME to be Ready with $VERSION" node_ready ||
		not_ready "node $NODE_NAME is not Ready with $VERSION"
}

# near_expiry: whether a certificate of this machine ends soon.
near_expiry() {
	for certificate in "$ROOT$DATA"/server/tls/client-admin.crt "$ROOT$DATA"/server/tls/serving-kube-apiserver.crt \
		"$ROOT$DATA"/agent/client-kubelet.crt "$ROOT$DATA"/agent/serving-kubelet.crt; do
		[ -f "$certificate" ] || continue
		openssl x509 -checkend "$RENEW_BEFORE" -noout -in "$certificate" >/dev/null 2>&1 </dev/null || return 0
	done
	return 1
}

renew() {
	near_expiry || return 0
	say "renewing certificates that end within 90 days"
	start
	wait_ready
	! near_expiry || die "${certificate#"$ROOT"} still ends within 90 days after a restart: the cluster would" \
		"stop on that day: see k3s certificate check, then k3s certificate rotate on the machine"
}

# tighten: k3s makes certificates and the CNI's configuration readable to everybody, inside folders that are not; it
# keeps the mode of a file that is there.
tighten() {
	for folder in "$ROOT$DATA/server/tls" "$ROOT$DATA/agent/etc/cni"; do
		[ ! -d "$folder" ] || find "$folder" -type f -perm /077 -exec chmod 600 {} +
	done
	find "$ROOT$DATA/agent" -maxdepth 1 -type f -perm /077 -exec chmod 600 {} +
}

# note_nodes: dismiss.sh takes no node out of the cluster that is on this list.
note_nodes() {
	if [ "$FIRST" = yes ]; then
		write_file "$NODES_FILE" 644 "$(printf '%s\n' "$NODES" | tr ' ' '\n')" ||
			die "$NODES_FILE cannot be written: a host that leaves would stay in the cluster: see whether the machine's disk" \
				"is full or read-only, then run again"
	else
		rm -f "$ROOT$NODES_FILE"
	fi
}

main() {
	token=
	[ "$ROLE" = agent ] || IFS= read -r token || true
	IFS= read -r agent_token || true
	if [ -z "$agent_token" ] || { [ "$ROLE" = server ] && [ -z "$token" ]; }; then
		die "no token on standard input: k3s would make up one that nobody keeps: this is a defect of the caller"
	fi
	check_role
	if [ "$ROLE" = server ]; then
		check_cluster_networks "$CLUSTER_CIDR" "$SERVICE_CIDR" || exit 1
		check_token
	fi
	choose_binary
	prepare_binary
	check_upgrade
	check_address
	kernel_defaults
	snapshot

	# What an uninstallation that was not gone through with left.
	rm -f "$ROOT/var/lib/tinyrack/k3s-uninstall.sh" "$ROOT/var/lib/tinyrack/k3s-abandoned"
	CHANGED=no
	install_binary
	join_file
	install_files
	install_unit
	wanted=$(printf '%s\n' "$VERSION" "$sha256" "$INSTALL_SHA256" "$CONFIG" "$AUDIT" "$ADMISSION" "$UNIT_DROP_IN" |
		sha256sum | cut -d' ' -f1)
	if [ "$CHANGED" = yes ] || [ "$(cat "$ROOT$STARTED" 2>/dev/null)" != "$wanted" ] ||
		! systemctl is-active -q "$unit"; then
		rm -f "$ROOT$STARTED"
		start
		put "$STARTED" 644 "$wanted"
	fi
	wait_ready
	renew
	tighten
	note_nodes
	say "k3s is ready"
}

[ -n "${NODE_SOURCE_ONLY:-}" ] || main
