#!/bin/sh
# Prints the administrator's kubeconfig. Its output is a secret.
#
# Header: GENERATION, changed whenever the server is, so that the client
# certificate k3s renews is fetched again.

main() {
	wait_for 60 "the kubeconfig of generation $GENERATION" test -s "$ROOT/etc/rancher/k3s/k3s.yaml" ||
		die "k3s has written no kubeconfig: nothing can be deployed: see journalctl -u k3s on the machine"
	cat "$ROOT/etc/rancher/k3s/k3s.yaml"
}

[ -n "${KUBECONFIG_SOURCE_ONLY:-}" ] || main
