#!/bin/sh
# Looks at the machine before anything is changed anywhere, the cloud included.
# Leaves nothing behind but verified downloads in the artifact cache.
#
# Header: MIN_DISK_GIB MIN_MEMORY_MIB CLUSTER_CIDR SERVICE_CIDR, ARTIFACTS (lines
# of name, URL and sha256), GIT_* below. Standard input: the git token or SSH key.

PROBLEMS=0

problem() {
	say "error: $*"
	PROBLEMS=$((PROBLEMS + 1))
}

check_system() {
	[ "$(uname -s)" = Linux ] || problem "the machine runs $(uname -s): k3s needs Linux: use a Linux host"
	case $(uname -m) in
	x86_64 | aarch64) ;;
	*) problem "the machine's architecture is $(uname -m): no k3s binary is configured for it: use x86_64 or aarch64" ;;
	esac
	[ -d "$ROOT/run/systemd/system" ] || problem "the machine was not booted with systemd: k3s and the firewall could not be kept running: use a distribution with systemd"
	[ "$(id -u)" = 0 ] || problem "the login is not root and sudo gave no root either: nothing could be installed: allow passwordless sudo or log in as root"
}

check_tools() {
	missing=
	for tool in curl flock sha256sum systemctl systemd-run awk sed df apt-get dpkg-query ip; do
		have "$tool" || missing="$missing $tool"
	done
	if [ -n "$GIT_SSH_HOST" ] && ! have ssh; then
		missing="$missing ssh"
	fi
	[ -z "$missing" ] || problem "the machine has no$missing: the installation would stop half way: install these commands first (on Debian: apt-get install curl coreutils systemd mawk sed iproute2 openssh-client)"
}

check_room() {
	if have df; then
		disk=$(df -Pk "$ROOT/var" | awk 'NR == 2 { print int($4 / 1048576) }')
		[ "${disk:-0}" -ge "$MIN_DISK_GIB" ] || problem "${disk:-0} GiB are free below /var, $MIN_DISK_GIB GiB are needed: images and volumes would fill the disk: free some space"
	fi
	memory=$(awk '$1 == "MemTotal:" { print int($2 / 1024) }' "$ROOT/proc/meminfo")
	[ "${memory:-0}" -ge "$MIN_MEMORY_MIB" ] || problem "the machine has ${memory:-0} MiB of memory, $MIN_MEMORY_MIB MiB are needed: pods would be killed: use a larger machine"
}

check_cluster() {
	[ -z "$CLUSTER_CIDR" ] || check_cluster_networks "$CLUSTER_CIDR" "$SERVICE_CIDR" || PROBLEMS=$((PROBLEMS + 1))
}

check_artifacts() {
	have curl && have sha256sum || return 0
	while read -r name url sha256; do
		[ -n "$name" ] || continue
		artifact "$name" "$url" "$sha256" || PROBLEMS=$((PROBLEMS + 1))
	done <<-LINES
		$ARTIFACTS
	LINES
}

# The credentials live in a directory on tmpfs for the time of the check only.
check_git() {
	[ -n "$GIT_URL" ] || return 0
	mkdir -p "$ROOT/run/tinyrack"
	rm -rf "$ROOT"/run/tinyrack/preflight.* # of a run that was killed
	WORK=$(mktemp -d "$ROOT/run/tinyrack/preflight.XXXXXX")
	trap 'rm -rf "$WORK"' EXIT
	trap 'exit 1' HUP INT TERM PIPE
	if [ -n "$GIT_SSH_HOST" ]; then
		have ssh || return 0
		git_over_ssh || return 0
	else
		have curl || return 0
		git_over_http || return 0
	fi
	tr '\000' ' ' <"$WORK/refs" | awk -v ref="refs/heads/$GIT_BRANCH" '$2 == ref { found = 1 } END { exit !found }' ||
		problem "git repository $GIT_URL has no branch $GIT_BRANCH: Flux would have nothing to apply: push the branch, or correct its name"
}

git_over_http() {
	set --
	if [ -n "$GIT_CA" ]; then
		printf '%s\n' "$GIT_CA" >"$WORK/ca.crt"
		set -- --cacert "$WORK/ca.crt"
	fi
	code=$(git_credentials | curl --config - -sSL --proto '=http,https' --connect-timeout 15 --max-time 60 "$@" -o "$WORK/refs" -w '%{http_code}' \
		"$GIT_URL/info/refs?service=git-upload-pack" 2>"$WORK/errors") || {
		problem "git repository $GIT_URL cannot be reached from the machine: Flux could not sync: check the URL, the network and flux.ca: $(tail -n 1 "$WORK/errors")"
		return 1
	}
	case $code in
	200) ;;
	401 | 403)
		problem "git repository $GIT_URL refuses the credentials (HTTP $code): Flux could not sync: set a username and a token that may read it"
		return 1
		;;
	*)
		problem "git repository $GIT_URL cannot be read (HTTP $code): Flux could not sync: check the URL; servers answer 404 also for repositories the token may not see"
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
	printf '0000' | ssh -F none -i "$WORK/key" -p "$GIT_SSH_PORT" -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
		-o UserKnownHostsFile="$WORK/known_hosts" -o ConnectTimeout=15 "$GIT_SSH_USER@$GIT_SSH_HOST" \
		"git-upload-pack '$GIT_SSH_PATH'" >"$WORK/refs" 2>"$WORK/errors" || {
		problem "git repository $GIT_URL cannot be read over SSH: Flux could not sync: check the URL, the deploy key and flux.knownHosts: $(tail -n 1 "$WORK/errors")"
		return 1
	}
}

main() {
	GIT_SECRET=$(cat)
	check_system
	check_tools
	check_room
	check_cluster
	check_artifacts
	check_git
	[ "$PROBLEMS" = 0 ] || die "$PROBLEMS problem(s) on the machine, listed above; nothing was changed"
	say "machine checked: nothing stands in the way"
}

[ -n "${PREFLIGHT_SOURCE_ONLY:-}" ] || main
