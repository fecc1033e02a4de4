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
	GOBIN=$work GOCACHE=$work/cache CGO_ENABLED=0 GOFLAGS=-trimpath go install -ldflags='-s -w' "$1@$2" ||
		die "$program was not built: nothing was checked: see the message of go above"
	# A rename: what is there is complete.
	mv "$work/$program" "$TOOL"
	rm -rf "$work"
	trap - EXIT HUP INT TERM
}
