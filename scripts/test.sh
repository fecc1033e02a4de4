#!/bin/sh
# All tests that need no running lab: those of the program and of the lab, the GitOps tree, and a preview of every stack.
# What the tests call is installed first: none of them is skipped for a missing tool.
set -eu

die() {
	printf 'test: %s\n' "$*" >&2
	exit 1
}

main() {
	cd "$(dirname "$0")/.."
	# shellcheck source=scripts/tools.sh
	. scripts/tools.sh
	install_packages shellcheck openssl flock=util-linux unshare=util-linux nft=nftables ip=iproute2 nmap ssh=openssh-client \
		script=bsdutils bwrap=bubblewrap
	go test ./...
	go -C lab test ./...
	# These read documents and go.mod, which lie outside of the lab's module: Go's test cache knows nothing of them.
	go -C lab test -count=1 . ./plugins
	go -C ci test ./...
	make --no-print-directory check-tree
	go -C lab run . preview
}

main
