# k3s_setting KEY DEFAULT: what the installed k3s server uses for KEY, read from its files and the arguments of its
# unit; arguments beat files, later files beat earlier ones.
k3s_setting() {
	setting=$2
	for file in "$ROOT/etc/rancher/k3s/config.yaml" "$ROOT"/etc/rancher/k3s/config.yaml.d/*.yaml; do
		[ -f "$file" ] || continue
		value=$(awk -v key="$1:" '
			$1 == key { $1 = ""; text = $0; list = (text ~ /^ *$/); next }
			list && $1 == "-" { text = text "," $2; next }
			{ list = 0 }
			END { gsub(/["\047 \[\]]/, "", text); sub(/^,/, "", text); print text }
		' "$file")
		[ -z "$value" ] || setting=$value
	done
	if [ -f "$ROOT/etc/systemd/system/k3s.service" ]; then
		# The install script writes one quoted argument a line.
		value=$(tr -d "'\"\\\\" <"$ROOT/etc/systemd/system/k3s.service" | tr -s '[:blank:]' '\n' | awk -v key="--$1" '
			take && $0 != "" { text = $0; take = 0 }
			$0 == key { take = 1 }
			index($0, key "=") == 1 { text = substr($0, length(key) + 2) }
			END { print text }
		')
		[ -z "$value" ] || setting=$value
	fi
	printf '%s\n' "$setting"
}

# check_cluster_networks CLUSTER_CIDR SERVICE_CIDR: an existing cluster keeps the networks it was made with: k3s panics
# on others (k3s-io/k3s#2603).
check_cluster_networks() {
	[ -d "$ROOT/var/lib/rancher/k3s/server/db" ] || return 0
	networks=0
	check_network cluster-cidr 10.42.0.0/16 "$1" || networks=1
	check_network service-cidr 10.43.0.0/16 "$2" || networks=1
	return "$networks"
}

check_network() {
	running=$(k3s_setting "$1" "$2")
	[ "$running" = "$3" ] && return 0
	say "error: the k3s cluster on this machine runs with $1 $running, the configuration wants $3: k3s cannot change the" \
		"networks of a running cluster: set it back, or uninstall k3s first (which deletes the cluster)"
	return 1
}

