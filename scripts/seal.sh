#!/bin/sh
# Seals values into a SealedSecret manifest, offline, with the certificate of one
# environment. The manifest goes to standard output, or whole or not at all into the
# file of --out, and is safe to commit; only the cluster that holds the private key can
# open it, and only under this very namespace and name.
#
# The values never appear in arguments, in the environment or in a file: they are
# prompted for on a terminal. Otherwise standard input is the value (every byte of it)
# when there is one KEY, and one line per KEY when there are several.
set -eu
LC_ALL=C
export LC_ALL

usage() {
	cat <<'TEXT'
usage: scripts/seal.sh [--root DIR] [--out FILE] <environment> <namespace> <name> KEY...

  printf %s "$token" | scripts/seal.sh --out apps/production/memos/smtp.yaml \
    production memos-system smtp password

  --out FILE   where the manifest goes; its folder is made. What is there is replaced
               when all is sealed, and left alone otherwise (default: standard output)
  --root DIR   the checkout that holds clusters/<environment>/sealing.crt
               (default: the one this script is in)
  KUBESEAL     the kubeseal binary (default: kubeseal on PATH)
TEXT
}

die() {
	printf 'seal: %s\n' "$*" >&2
	exit 1
}

main() {
	root=$(dirname "$0")/..
	out=''
	while [ $# -gt 0 ]; do
		case $1 in
		--root)
			[ $# -ge 2 ] || die "--root needs a directory"
			root=$2
			shift 2
			;;
		--out)
			[ -n "${2:-}" ] || die "--out needs a file"
			out=$2
			shift 2
			;;
		-h | --help)
			usage
			exit 0
			;;
		-*) die "unknown option $1: nothing was sealed: see --help" ;;
		*) break ;;
		esac
	done
	if [ $# -lt 4 ]; then
		usage >&2
		exit 2
	fi
	environment=$1 namespace=$2 name=$3
	shift 3

	kubeseal=${KUBESEAL:-kubeseal}
	certificate=$root/clusters/$environment/sealing.crt
	check_request "$@"
	fingerprint=$(fingerprint)
	data=$(seal_all "$@")
	if [ -z "$out" ]; then
		print_manifest
		return
	fi
	if ! { mkdir -p "$(dirname "$out")" && print_manifest >"$out.new" && mv "$out.new" "$out"; } 2>/dev/null; then
		rm -f "$out.new"
		die "$out: cannot be written: nothing was changed: name a file in a folder of yours"
	fi
}

check_request() {
	for tool in openssl od "$kubeseal"; do
		command -v "$tool" >/dev/null 2>&1 ||
			die "$tool not found: nothing was sealed: install it, or name kubeseal's path in KUBESEAL"
	done
	[ -r "$certificate" ] ||
		die "$certificate: no such certificate: nothing was sealed: make it with scripts/sealing-key.sh $environment"
	is_name "$namespace" || die "namespace '$namespace' is not a Kubernetes name: nothing was sealed"
	is_name "$name" || die "name '$name' is not a Kubernetes name: nothing was sealed"
	seen=' '
	for key in "$@"; do
		# The offending text is not repeated: it may be a value given by mistake.
		case $key in
		'' | *[!-._a-zA-Z0-9]*)
			die "a KEY may hold letters, digits, '-', '_' and '.' only: nothing was sealed: values go to standard input," \
				"never into arguments"
			;;
		esac
		case $seen in
		*" $key "*) die "KEY $key is given twice: nothing was sealed" ;;
		esac
		seen="$seen$key "
	done
}

is_name() {
	case $1 in
	'' | *[!-.a-z0-9]* | [-.]* | *[-.]) return 1 ;;
	esac
}

# fingerprint names the public key, not the certificate: a certificate issued anew
# for the same key opens the same secrets.
fingerprint() {
	public=$(openssl x509 -in "$certificate" -noout -pubkey 2>/dev/null) ||
		die "$certificate: not a PEM certificate: nothing was sealed: make it again with scripts/sealing-key.sh $environment"
	digest=$(printf '%s\n' "$public" | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r)
	printf 'sha256:%s' "${digest%% *}"
}

seal_all() {
	if [ -t 0 ]; then
		trap 'stty echo' EXIT
		trap 'exit 130' INT TERM HUP
		stty -echo
		for key in "$@"; do
			printf 'value of %s (not shown): ' "$key" >&2
			seal_line "$key"
			printf '\n' >&2
		done
	elif [ $# -eq 1 ]; then
		seal_stream "$1"
	else
		for key in "$@"; do
			seal_line "$key"
		done
	fi
}

seal_line() {
	IFS= read -r value || [ -n "$value" ] || die "no value for $1: nothing was sealed: give one line per KEY"
	[ -n "$value" ] || die "the value of $1 is empty: nothing was sealed"
	sealed=$(printf %s "$value" | encrypt) || die "kubeseal failed: nothing was sealed"
	printf '    "%s": %s\n' "$1" "$sealed"
}

# seal_stream looks at the first byte alone, so that an empty input is refused and
# the rest passes through untouched, binary or not.
seal_stream() {
	first=$(dd bs=1 count=1 2>/dev/null | od -An -to1 | tr -d ' ')
	[ -n "$first" ] || die "the value of $1 is empty: nothing was sealed"
	# shellcheck disable=SC2059 # the format is the byte's own octal escape
	sealed=$({ printf "\\$first" && cat; } | encrypt) || die "kubeseal failed: nothing was sealed"
	printf '    "%s": %s\n' "$1" "$sealed"
}

encrypt() {
	"$kubeseal" --raw --scope strict --cert "$certificate" --namespace "$namespace" --name "$name"
}

# print_manifest records what the values were sealed for: the cluster would only say
# "no key could decrypt secret", these two lines let a check without the key say why.
# Names are quoted: YAML reads a bare y or 1e3 as something else than a string.
print_manifest() {
	cat <<YAML
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata:
  name: "$name"
  namespace: "$namespace"
  annotations:
    sealing.tinyrack.net/scope: $namespace/$name
    sealing.tinyrack.net/key: $fingerprint
spec:
  encryptedData:
$data
  template:
    metadata:
      name: "$name"
      namespace: "$namespace"
    type: Opaque
YAML
}

main "$@"
