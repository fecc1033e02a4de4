#!/bin/sh
# Looks at the machine before anything is changed anywhere, the cloud included, and reports all problems at once. Leaves
# nothing behind but verified downloads in the artifact cache.
#
# Header: SSH_PORT, K3S_ROLE (server, agent or nothing), MIN_DISK_GIB MIN_MEMORY_MIB CLUSTER_CIDR SERVICE_CIDR,
# ARTIFACTS (lines of name, setting, architecture, URL, sha256 and release; "-" for none), GIT_* below, those of
# identity.sh, and SETTINGS, which is not read: it runs the check again. BUCKETS are lines of setting, URL, region and
# bucket. Standard input: for each of them a line with the two keys, a colon between them; then the git token or SSH key.

PROBLEMS=0

problem() {
	say "error: $*"
	PROBLEMS=$((PROBLEMS + 1))
}

check_owner() {
	! foreign || PROBLEMS=$((PROBLEMS + 1))
}

# Sets ARCH to the word of the settings for the machine's architecture.
check_system() {
	[ "$(uname -s)" = Linux ] || problem "the machine runs $(uname -s): k3s needs Linux: use a Linux host"
	case $(uname -m) in
	x86_64) ARCH=amd64 ;;
	aarch64) ARCH=arm64 ;;
	*)
		ARCH=
		problem "the machine's architecture is $(uname -m): nothing can be configured for it: use x86_64 or aarch64"
		;;
	esac
	[ -d "$ROOT/run/systemd/system" ] ||
		problem "the machine was not booted with systemd: k3s and the firewall could not be kept running: use a" \
			"distribution with systemd"
	[ "$(id -u)" = 0 ] ||
		problem "the login is not root and sudo gave no root either: nothing could be installed: allow passwordless sudo or" \
			"log in as root"
}

check_tools() {
	missing=
	for tool in curl flock sha256sum systemctl systemd-run awk sed df apt-get dpkg-query ip ss; do
		have "$tool" || missing="$missing $tool"
	done
	if [ -n "$GIT_SSH_HOST" ] && ! have ssh; then
		missing="$missing ssh"
	fi
	# The kubeconfig leaves the machine encrypted.
	if [ "$K3S_ROLE" = server ] && ! have openssl; then
		missing="$missing openssl"
	fi
	[ -z "$missing" ] ||
		problem "the machine has no$missing: the installation would stop half way: install these commands first (on Debian:" \
			"apt-get install curl coreutils util-linux systemd mawk sed iproute2 openssh-client openssl)"
}

# A packet must pass every firewall of a machine. Ubuntu starts the unit ufw even where ufw is off; its own file tells.
check_firewalls() {
	if grep -qi '^[[:space:]]*ENABLED=yes' "$ROOT/etc/ufw/ufw.conf" 2>/dev/null; then
		problem "ufw is active: what this stack's firewall admits (the tailnet, pods) ufw would drop, and neither knows of" \
			"the other: run ufw disable on the machine, then run again"
	fi
	if have systemctl && systemctl is-active -q firewalld 2>/dev/null; then
		problem "firewalld is active: what this stack's firewall admits (the tailnet, pods) firewalld would drop, and" \
			"neither knows of the other: run systemctl disable --now firewalld on the machine, then run again"
	fi
}

# The firewall admits one port, and the tailnet's policy lets the same one pass.
check_ssh_port() {
	# shellcheck disable=SC2086 # client address, client port, server address, server port
	set -- ${SSH_CONNECTION:-}
	if [ $# = 4 ] && [ "$4" != "$SSH_PORT" ]; then
		problem "sshd received this session on port $4, the settings say $SSH_PORT: firewall and tailnet would admit" \
			"$SSH_PORT alone and nobody could log in any more: set hosts.$HOST.port to $4 and reach the machine on it, or let" \
			"sshd listen on $SSH_PORT"
		return 0
	fi
	have ss || return 0
	listening=$(ss -ltnH 2>/dev/null | awk -v port="$SSH_PORT" '{
		address = $4
		if (!sub(":" port "$", "", address)) next
		gsub(/[][]/, "", address)
		sub(/%.*/, "", address)
		print address
	}')
	if [ -z "$listening" ]; then
		problem "nothing listens on port $SSH_PORT of the machine: nobody could log in over the tailnet: let sshd listen on" \
			"it (Port $SSH_PORT), or correct hosts.$HOST.port"
	elif ! { printf '%s\n0.0.0.0\n::\n*\n' "$(field .TailscaleIPs)" | grep . >"$WORK/admitted" &&
		printf '%s\n' "$listening" | grep -qxFf "$WORK/admitted"; }; then
		problem "sshd listens on $(printf '%s\n' "$listening" | tr '\n' ' ')alone: nobody could log in over the tailnet:" \
			"remove ListenAddress from its configuration"
	fi
}

# Whose login it is must be known before the firewall trusts the tailnet's interface.
check_login() {
	have tailscale || return 0
	status
	if [ -z "$STATUS" ]; then
		[ ! -e "$ROOT/var/lib/tailscale/tailscaled.state" ] ||
			problem "tailscaled does not run and has a former login: whose tailnet that is cannot be seen: run systemctl start" \
				"tailscaled on the machine, then run again"
		return 0
	fi
	settled || wait_for 30 "tailscaled to reach its login server" settled || true
	problems=$(login_problems)
	while IFS= read -r line; do
		[ -z "$line" ] || problem "$line"
	done <<-LINES
		$problems
	LINES
	warn_of_expiry
}

check_room() {
	if have df; then
		disk=$(df -Pk "$ROOT/var" | awk 'NR == 2 { print int($4 / 1048576) }')
		[ "${disk:-0}" -ge "$MIN_DISK_GIB" ] ||
			problem "${disk:-0} GiB are free below /var, $MIN_DISK_GIB GiB are needed: images and volumes would fill the disk:" \
				"free some space"
	fi
	memory=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' "$ROOT/proc/meminfo")
	[ "${memory:-0}" -ge "$MIN_MEMORY_MIB" ] ||
		problem "the machine has ${memory:-0} MiB of memory, $MIN_MEMORY_MIB MiB are needed: pods would be killed: use a" \
			"larger machine"
}

# What runs already must be this stack's, in the wanted role, by the wanted name, with the wanted networks.
check_cluster() {
	running=
	[ ! -f "$ROOT/etc/systemd/system/k3s-agent.service" ] || running=agent
	if [ -f "$ROOT/etc/systemd/system/k3s.service" ] || [ -d "$ROOT/var/lib/rancher/k3s/server/db" ]; then
		running=server
	fi
	[ -n "$running" ] || return 0
	if [ -z "$(owner)" ]; then
		problem "k3s runs on this machine and no stack owns it: this one would take the cluster over and uninstall it one" \
			"day: uninstall k3s (k3s-uninstall.sh deletes the cluster), or, if it is this stack's, say so on the machine:" \
			"mkdir -p /etc/tinyrack && printf '%s\\nheld\\n' '$OWNER' >$OWNER_FILE"
	fi
	if [ "$running" != "$K3S_ROLE" ]; then
		problem "k3s runs on this machine as ${running}, the settings want ${K3S_ROLE:-no k3s}: a node cannot change what" \
			"it is, and its data would be stranded: set the role in hosts.$HOST.roles back, or remove the host from hosts, run" \
			"pulumi up, and add it again with the new roles"
	fi
	node=$(k3s_setting node-name "$(uname -n | tr '[:upper:]' '[:lower:]')")
	if [ "$node" != "$HOST" ]; then
		problem "the node on this machine is called $node, the settings call it $HOST: Kubernetes would see a new node, and" \
			"the volumes of $node would be stranded: name the host $node in hosts, or drain and remove it first"
	fi
	if [ "$running" = server ] && [ "$K3S_ROLE" = server ]; then
		check_cluster_networks "$CLUSTER_CIDR" "$SERVICE_CIDR" || PROBLEMS=$((PROBLEMS + 1))
	fi
}

check_artifacts() {
	have curl && have sha256sum || return 0
	while read -r name setting arch url sha256 release; do
		case $arch in
		-) ;;
		"$ARCH") [ -n "$ARCH" ] || continue ;;
		*) continue ;;
		esac
		[ -n "$name" ] || continue
		if ! artifact "$name" "$url" "$sha256"; then
			PROBLEMS=$((PROBLEMS + 1))
		elif [ "$release" != - ]; then
			check_release
		fi
	done <<-LINES
		$ARTIFACTS
	LINES
	[ -n "$ARCH" ] || return 0
	lacking=$(printf '%s\n' "$ARTIFACTS" | awk -v arch="$ARCH" '
		NF { setting[$1] = $2 }
		$3 == "-" || $3 == arch { found[$1] = 1 }
		END { for (name in setting) if (!found[name]) print name, setting[name] }')
	while read -r name setting; do
		[ -z "$name" ] ||
			problem "$name: the settings have no file for $ARCH, which this machine is: it could not be installed: set" \
				"$setting.$ARCH.url and $setting.$ARCH.sha256"
	done <<-LINES
		$lacking
	LINES
}

# The checksum says that it is the file that was meant; only the file itself says what that is.
check_release() {
	chmod 700 "$ARTIFACT"
	if ! said=$("$ARTIFACT" --version 2>&1 </dev/null); then
		problem "$name: the file from $url does not run here ($(uname -m)): $(printf '%s\n' "$said" | tail -n 1): it is for" \
			"another architecture, or /var is mounted noexec: correct $setting.$ARCH"
		return 0
	fi
	said=$(printf '%s\n' "$said" | awk 'NR == 1 { print $3 }')
	[ "$said" = "$release" ] ||
		problem "$name: the file from $url is ${said:-of no known release}, the settings say $release: that one would be" \
			"installed: correct $setting.$ARCH (URL and checksum), or the version"
}

# The credentials live on tmpfs for the time of the check only.
check_git() {
	[ -n "$GIT_URL" ] || return 0
	if [ -n "$GIT_SSH_HOST" ]; then
		have ssh || return 0
		git_over_ssh || return 0
	else
		have curl || return 0
		git_over_http || return 0
	fi
	tr '\000' ' ' <"$WORK/refs" |
		awk -v ref="refs/heads/$GIT_BRANCH" '$2 == ref { found = 1 } END { exit !found }' ||
		problem "git repository $GIT_URL has no branch $GIT_BRANCH: Flux would have nothing to apply: push the branch, or" \
			"correct its name"
}

git_over_http() {
	set --
	if [ -n "$GIT_CA" ]; then
		printf '%s\n' "$GIT_CA" >"$WORK/ca.crt"
		set -- --cacert "$WORK/ca.crt"
	fi
	code=$(git_credentials | curl --config - -sSL --proto '=http,https' --connect-timeout 15 --max-time 60 "$@" \
		-o "$WORK/refs" -w '%{http_code}' "$GIT_URL/info/refs?service=git-upload-pack" 2>"$WORK/errors") || {
		problem "git repository $GIT_URL cannot be reached from the machine: Flux could not sync: check flux.url, the" \
			"network and flux.ca: $(tail -n 1 "$WORK/errors")"
		return 1
	}
	case $code in
	200) ;;
	401 | 403)
		problem "git repository $GIT_URL refuses the credentials (HTTP $code): Flux could not sync: set a username and a" \
			"token that may read it"
		return 1
		;;
	*)
		problem "git repository $GIT_URL cannot be read (HTTP $code): Flux could not sync: check the URL; servers answer" \
			"404 also for repositories the token may not see"
		return 1
		;;
	esac
}

# A curl configuration: credentials must not become arguments.
git_credentials() {
	[ -n "$GIT_SECRET" ] || return 0
	printf 'user = "%s"\n' "$(printf '%s:%s' "$GIT_USERNAME" "$GIT_SECRET" | sed 's/[\\"]/\\&/g')"
}

git_over_ssh() {
	(
		umask 077
		printf '%s\n' "$GIT_SECRET" >"$WORK/key"
		printf '%s\n' "$GIT_KNOWN_HOSTS" >"$WORK/known_hosts"
	)
	# shellcheck disable=SC2153 # all of these are the header's
	# A flush packet ends the conversation after the list of branches.
	printf '0000' | ssh -F none -i "$WORK/key" -p "$GIT_SSH_PORT" -o BatchMode=yes -o IdentitiesOnly=yes \
		-o StrictHostKeyChecking=yes -o UserKnownHostsFile="$WORK/known_hosts" -o ConnectTimeout=15 \
		"$GIT_SSH_USER@$GIT_SSH_HOST" \
		"git-upload-pack '$GIT_SSH_PATH'" >"$WORK/refs" 2>"$WORK/errors" || {
		problem "git repository $GIT_URL cannot be read over SSH: Flux could not sync: check the URL, the deploy key and" \
			"flux.knownHosts: $(tail -n 1 "$WORK/errors")"
		return 1
	}
}

# Looks into each bucket as k3s and the databases will. curl signs with all that S3 wants since 7.88; where nothing can be
# seen, nothing is refused.
check_buckets() {
	[ -n "$BUCKETS" ] && have curl || return 0
	if ! curl --version | awk 'NR == 1 { split($2, v, "."); exit !(v[1] > 7 || v[1] == 7 && v[2] >= 88) }'; then
		say "nobody looked into the buckets: curl is older than 7.88"
		return 0
	fi
	number=0
	while read -r setting url region bucket; do
		number=$((number + 1))
		server=${url#*://}
		case ${server%%:*} in
		*.ts.net | *."$TS_DOMAIN" | 100.6[4-9].* | 100.[7-9][0-9].* | 100.1[01][0-9].* | 100.12[0-7].*)
			say "$setting: nobody looked into the bucket: $server is in the tailnet, which comes later"
			;;
		*) check_bucket ;;
		esac
	done <<-LINES
		$BUCKETS
	LINES
}

check_bucket() {
	lost="no copy would get there"
	# The sum is that of no content: this curl signs what it is told to send of it.
	code=$(printf '%s\n' "$INPUT" | sed -n "${number}s/[\\\\\"]/\\\\&/g; ${number}s/.*/user = \"&\"/p" | curl --config - \
		-sS --proto '=http,https' --connect-timeout 15 --max-time 60 --aws-sigv4 "aws:amz:$region:s3" \
		-H "x-amz-content-sha256: $(printf '' | sha256sum | cut -d ' ' -f 1)" \
		-o "$WORK/answer" -w '%{http_code}' "$url/$bucket" 2>"$WORK/errors") || {
		problem "$setting: $url cannot be reached from the machine: $lost: check endpoint, insecure and the network:" \
			"$(tail -n 1 "$WORK/errors")"
		return 0
	}
	said=$(sed -n 's/.*<Code>\([A-Za-z]*\)<.*/\1/p' "$WORK/answer" | head -n 1)
	case $code/$said in
	200/*)
		grep -q ListBucketResult "$WORK/answer" ||
			problem "$setting: $url does not answer as an S3 server does: $lost: correct endpoint"
		;;
	5??/*) say "$setting: nobody looked into bucket $bucket: $url answers HTTP $code $said" ;;
	*/NoSuchBucket)
		problem "$setting: $url has no bucket $bucket: $lost: make it there, or correct bucket"
		;;
	*/AuthorizationHeaderMalformed | */InvalidRegion* | 301/* | 307/*)
		problem "$setting: $url expects another region than $region for bucket $bucket (HTTP $code $said): $lost: correct" \
			"region"
		;;
	*/RequestTimeTooSkewed)
		problem "$setting: $url says that the clock of the machine is wrong: $lost: run timedatectl on the machine"
		;;
	401/* | 403/* | */*User* | */*AccessKey*)
		problem "$setting: $url refuses the keys for bucket $bucket (HTTP $code $said): $lost: correct them, and let them" \
			"list, read and write there"
		;;
	*) problem "$setting: bucket $bucket of $url cannot be read (HTTP $code $said): $lost: correct endpoint and bucket" ;;
	esac
}

main() {
	INPUT=$(cat)
	buckets=$(printf '%s' "$BUCKETS" | grep -c . || true)
	GIT_SECRET=$(printf '%s\n' "$INPUT" | tail -n "+$((buckets + 1))")
	STATUS=
	rm -rf "$ROOT"/run/tinyrack/preflight.* # of a run that was killed
	WORK=$(mktemp -d "$ROOT/run/tinyrack/preflight.XXXXXX")
	trap 'rm -rf "$WORK"' EXIT
	trap 'exit 1' HUP INT TERM PIPE
	check_owner
	check_system
	check_tools
	check_firewalls
	check_login
	check_ssh_port
	check_room
	check_cluster
	check_artifacts
	check_git
	check_buckets
	[ "$PROBLEMS" = 0 ] || die "$PROBLEMS problem(s) on the machine, listed above; nothing was changed"
	say "machine checked: nothing stands in the way"
}

[ -n "${PREFLIGHT_SOURCE_ONLY:-}" ] || main
