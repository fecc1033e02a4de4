#!/bin/sh
# Makes the sealing key of one environment, or takes an existing one, and brings what
# git knows of it in line: clusters/<environment>/sealing.crt and the canary. The
# private key goes to a file of the operator's (0600) and nowhere else; it is never
# printed and an existing file is never overwritten.
set -eu
LC_ALL=C
export LC_ALL
umask 077

usage() {
	cat <<'TEXT'
usage: scripts/sealing-key.sh <environment> --out private.pem
       scripts/sealing-key.sh <environment> --key existing [--out private.pem]

  --key FILE   take this key instead of making one: a PEM file, or a backup of the
               controller's key Secret (kubectl get secret -o yaml: main.key.yaml)
  --out FILE   where the private key is written as PEM; outside the checkout
  --root DIR   the checkout to change (default: the one this script is in)
  KUBESEAL     the kubeseal binary (default: kubeseal on PATH)
TEXT
}

die() {
	printf 'sealing-key: %s\n' "$*" >&2
	exit 1
}

main() {
	here=$(dirname "$0")
	root=$here/.. environment='' key='' out=''
	while [ $# -gt 0 ]; do
		case $1 in
		--key | --out | --root)
			[ -n "${2-}" ] || die "$1 needs a value: nothing was changed"
			case $1 in
			--key) key=$2 ;;
			--out) out=$2 ;;
			--root) root=$2 ;;
			esac
			shift 2
			;;
		-h | --help)
			usage
			exit 0
			;;
		-*) die "unknown option $1: nothing was changed: see --help" ;;
		*)
			[ -z "$environment" ] || die "unexpected argument '$1': nothing was changed: see --help"
			environment=$1
			shift
			;;
		esac
	done
	if [ -z "$environment" ] || [ -z "$key$out" ]; then
		usage >&2
		exit 2
	fi
	check_request

	work=$(mktemp -d "$(dirname "${out:-$key}")/.sealing-key.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM HUP
	private=$work/private.pem

	if [ -n "$key" ]; then
		take_key
	else
		openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out "$private" 2>/dev/null ||
			die "openssl could not make a key: nothing was changed"
	fi
	prepare_certificate
	prepare_canary

	# The key first: a certificate in git without its key would lose what is sealed.
	[ -z "$out" ] || mv "$private" "$out"
	install_file "$work/root/clusters/$environment/sealing.crt" "$certificate"
	install_file "$work/canary.yaml" "$canary"
	report
}

check_request() {
	for tool in openssl "${KUBESEAL:-kubeseal}"; do
		command -v "$tool" >/dev/null 2>&1 ||
			die "$tool not found: nothing was changed: install it, or name kubeseal's path in KUBESEAL"
	done
	root=$(cd "$root" 2>/dev/null && pwd -P) || die "--root: no such directory: nothing was changed"
	certificate=$root/clusters/$environment/sealing.crt
	canary=$root/infrastructure/configs/$environment/canary.yaml
	for directory in "$(dirname "$certificate")" "$(dirname "$canary")"; do
		[ -d "$directory" ] || die "$directory: no such directory: nothing was changed: is '$environment' an environment" \
			"of this checkout?"
	done
	[ -z "$key" ] || [ -r "$key" ] || die "$key: cannot be read: nothing was changed"
	[ -n "$out" ] || return 0
	[ ! -e "$out" ] || die "$out exists: nothing was changed: a private key is never overwritten; choose another file," \
		"or take this one with --key"
	directory=$(cd "$(dirname "$out")" 2>/dev/null && pwd -P) || die "$(dirname "$out"): no such directory: nothing was changed"
	case $directory/ in
	"$root"/*) die "$out is inside the checkout, one git add away from being published: nothing was changed: choose a" \
		"place outside" ;;
	esac
}

# take_key normalises what --key names to an unencrypted PKCS#8 PEM file.
take_key() {
	if grep -q '^-----BEGIN' "$key"; then
		cp "$key" "$work/given.pem"
	else
		take_from_manifest
	fi
	openssl pkey -in "$work/given.pem" -passin pass: -out "$private" 2>/dev/null ||
		die "$key: not an unencrypted private key: nothing was changed: give a PEM file or a backup of the controller's" \
			"key Secret"
	modulus=$(openssl rsa -in "$private" -noout -modulus 2>/dev/null) ||
		die "$key: not an RSA key, the only kind the sealed-secrets controller can use: nothing was changed"
	modulus=${modulus#Modulus=}
	[ ${#modulus} -ge 512 ] || die "$key: an RSA key of less than 2048 bits: nothing was changed: make a new one" \
		"without --key"
}

take_from_manifest() {
	[ -n "$out" ] || die "$key: not a PEM file, which is what Pulumi takes: nothing was changed: name a file for it" \
		"with --out"
	encoded=$(sed -n 's/^[ -]*"\{0,1\}tls\.key"\{0,1\}: *"\{0,1\}\([A-Za-z0-9+/=]\{1,\}\).*/\1/p' "$key")
	case $encoded in
	*'
'*) die "$key: holds several keys, and which one seals is not written in it: nothing was changed: keep the newest" \
	"Secret in the file" ;;
	esac
	printf %s "$encoded" | openssl base64 -d -A >"$work/given.pem"
}

# prepare_certificate keeps the certificate in git while it is of this key and good
# for another month, so that a second run changes nothing.
prepare_certificate() {
	mkdir -p "$work/root/clusters/$environment"
	new=$work/root/clusters/$environment/sealing.crt
	if [ -r "$certificate" ] &&
		[ "$(openssl x509 -in "$certificate" -noout -pubkey 2>/dev/null)" = "$(openssl pkey -in "$private" -pubout)" ] &&
		openssl x509 -in "$certificate" -noout -checkend 2592000 >/dev/null; then
		cp "$certificate" "$new"
		return
	fi
	openssl req -x509 -new -key "$private" -sha256 -days 3650 -subj '/CN=sealed-secret/O=sealed-secret' -out "$new" 2>/dev/null ||
		die "openssl could not make a certificate: nothing was changed"
}

# prepare_canary seals a value that is no secret: that it can be read in the cluster
# shows that the key there is the key of the certificate here.
prepare_canary() {
	printf 'sealed for %s' "$environment" |
		sh "$here/seal.sh" --root "$work/root" "$environment" sealed-secrets canary message >"$work/canary.yaml"
	fingerprint=$(sed -n 's|^ *sealing\.tinyrack\.net/key: *||p' "$work/canary.yaml")
	# Sealing the same value twice gives two texts: one that is still good stays.
	if [ -r "$canary" ] && grep -qF "$fingerprint" "$canary"; then
		cp "$canary" "$work/canary.yaml"
	fi
}

# install_file replaces a file of the checkout at once, readable like its neighbours.
install_file() {
	cmp -s "$1" "$2" && return 0
	cp "$1" "$2.new"
	chmod 644 "$2.new"
	mv "$2.new" "$2"
}

report() {
	[ -z "$out" ] || printf 'private key: %s (0600): back it up; without it no sealed secret opens again\n' "$out"
	printf 'certificate: %s\ncanary:      %s\n' "$certificate" "$canary"
	stale=$(find "$root/clusters/$environment" "$root/infrastructure" "$root/databases" "$root/apps" -name '*.yaml' -path "*/$environment/*" -exec grep -l '^kind: SealedSecret' {} + |
		while IFS= read -r file; do
			grep -qF "$fingerprint" "$file" || printf '  %s\n' "$file"
		done)
	[ -z "$stale" ] || printf 'sealed with another key, seal them again with scripts/seal.sh:\n%s\n' "$stale"
	printf 'next, once there is a stack (pulumi stack init %s): pulumi config set --secret --stack %s tinyrack:sealingKey < %s\n' \
		"$environment" "$environment" "${out:-$key}"
}

main "$@"
