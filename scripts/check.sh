#!/bin/sh
# Formatting, vet, lint, shell scripts and YAML of the whole checkout: everything that can be said of the text without
# running it. All problems of all tools are shown before it fails.
#
# Tools are pinned. The Go linter (go vet, gofumpt and goimports are parts of it) is built once from its module and kept
# outside the checkout; shellcheck and yamllint are distribution packages.
set -eu

GOLANGCI_LINT=v2.15.0 # renovate: datasource=go depName=github.com/golangci/golangci-lint/v2

die() {
	printf 'check: %s\n' "$*" >&2
	exit 1
}

main() {
	cd "$(dirname "$0")/.."
	# shellcheck source=scripts/tools.sh
	. scripts/tools.sh
	install_packages shellcheck yamllint
	install_go_tool github.com/golangci/golangci-lint/v2/cmd/golangci-lint "$GOLANGCI_LINT"
	linter=$TOOL

	failed=''
	step 'shell scripts' check_scripts
	step 'YAML' yamllint --strict .
	step 'Go, the program' golangci
	step 'Go, the lab' golangci lab
	step 'Go, the checks of the GitOps tree' golangci gitops
	step 'Go, previews and applies' golangci ci
	[ -z "$failed" ] || die "problems in:$failed"
	echo 'check: all clean'
}

step() {
	name=$1
	shift
	printf 'check: %s\n' "$name"
	"$@" || failed="$failed $name;"
}

# golangci [DIR] lints the module in DIR.
golangci() {
	(cd "${1:-.}" && "$linter" run ./...)
}

# Scripts are read as what they run in: without an interpreter line they are parts of a command for sh.
check_scripts() {
	{
		find . -name .git -prune -o \( -name '*.sh' -o -path ./scripts/pin \) -type f -print
		echo ./.ci/run
	} | {
		bad=0
		while IFS= read -r file; do
			shell='sh'
			case $(head -n 1 "$file") in
			'#!'*bash) shell='bash' ;;
			esac
			shellcheck --external-sources --shell="$shell" "$file" || bad=1
		done
		exit "$bad"
	}
}

main
