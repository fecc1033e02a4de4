#!/bin/sh
# Prints the administrator's kubeconfig, sealed with the cluster's token: when SSH breaks off before the end of a
# command the caller's error shows what was printed by then.
#
# Header: GENERATION, changed whenever the server or the period of renewal is, so that the certificate is fetched again.
# Standard input: the cluster's token.

KUBECONFIG_FILE=/etc/rancher/k3s/k3s.yaml

# seal: standard input is the token. It goes to openssl through a descriptor: arguments and environment can be read.
seal() {
	exec 4<&0
	{
		sha256sum <"$ROOT$KUBECONFIG_FILE" | cut -d' ' -f1
		cat "$ROOT$KUBECONFIG_FILE"
	} | openssl enc -aes-256-cbc -pbkdf2 -iter 100000 -md sha256 -salt -base64 -A -pass fd:4
}

main() {
	IFS= read -r token || true
	[ -n "$token" ] || die "no token on standard input: the kubeconfig would be printed in clear: this is a defect of" \
		"the caller"
	have openssl || die "openssl is missing: the kubeconfig could not be sealed: add openssl to the host's packages"
	wait_for 60 "the kubeconfig of generation $GENERATION" test -s "$ROOT$KUBECONFIG_FILE" ||
		die "k3s has written no kubeconfig: nothing can be deployed: see journalctl -u k3s on the machine"
	sealed=$(printf '%s\n' "$token" | seal) ||
		die "openssl could not seal the kubeconfig: nothing can be deployed: see its message above"
	printf '%s\n' "$sealed"
}

[ -n "${KUBECONFIG_SOURCE_ONLY:-}" ] || main
