#!/bin/sh
# Plants mistakes and tells which of them the tests notice: gremlins changes the Go code of the packages, and
# scripts/mutants.txt lists mistakes in shell, YAML and the checks of the tree. internal/mutants runs both.
#
# usage: scripts/mutants.sh [AREA...]   (default: all)
set -eu

GREMLINS=v0.6.0 # renovate: datasource=go depName=github.com/go-gremlins/gremlins

die() {
	printf 'mutants: %s\n' "$*" >&2
	exit 1
}

main() {
	cd "$(dirname "$0")/.."
	# shellcheck source=scripts/tools.sh
	. scripts/tools.sh
	install_go_tool github.com/go-gremlins/gremlins/cmd/gremlins "$GREMLINS"
	exec go run ./internal/mutants -gremlins "$TOOL" "$@"
}

main "$@"
