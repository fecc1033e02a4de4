# Programs for the checks, read in by the scripts that need them. They define die.

# install_go_tool PACKAGE VERSION: the program, built once from its module and kept outside the checkout; its path in
# TOOL. Linters understand code up to the version of Go that built them, so that is part of the name. The build cache is
# large and of no use to anything else.
install_go_tool() {
	home=${HOME:-${XDG_CACHE_HOME:?neither HOME nor XDG_CACHE_HOME is set: there is no place for tools: set one}}
	tools=${XDG_CACHE_HOME:-$home/.cache}/tinyrack-lab/tools
	program=${1##*/}
	TOOL=$tools/$program-$2-$(go env GOVERSION)
	[ ! -x "$TOOL" ] || return 0
	printf 'building %s %s, once: some minutes\n' "$program" "$2"
	mkdir -p "$tools"
	work=$(mktemp -d "$tools/build.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' HUP INT TERM
	# A larger heap costs the compiler a fifth less time.
	GOGC=400 GOMEMLIMIT=3GiB GOBIN=$work GOCACHE=$work/cache CGO_ENABLED=0 GOFLAGS=-trimpath \
		go install -ldflags='-s -w' "$1@$2" ||
		die "$program was not built: nothing was checked: see the message of go above"
	# A rename: what is there is complete.
	mv "$work/$program" "$TOOL"
	rm -rf "$work"
	trap - EXIT HUP INT TERM
}

# install_packages COMMAND[=PACKAGE]...: the distribution's packages of the commands that are missing. A package has the
# command's name where none is given.
install_packages() {
	missing=''
	for tool in "$@"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${tool%%=*}" >/dev/null 2>&1 || missing="$missing ${tool#*=}"
	done
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null 2>&1 ||
		die "missing:$missing: nothing was checked: install them with your package manager"
	[ "$(id -u)" = 0 ] || die "missing:$missing: nothing was checked: sudo apt-get install$missing"
	printf 'installing%s\n' "$missing"
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of words
	if ! { apt-get update -q && apt-get install -qy --no-install-recommends $missing; } >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		die "apt-get could not install$missing: nothing was checked: see its message above"
	fi
	rm -f "$log"
}
