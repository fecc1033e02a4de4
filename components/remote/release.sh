#!/bin/sh
# The first thing that is deleted on a machine: from here on the delete scripts of its owner may act.

main() {
	owner=$(owner)
	# shellcheck disable=SC2153 # the header's
	[ "$owner" = "$OWNER" ] || {
		say "this machine belongs to ${owner:-nobody}, not to $OWNER: nothing on it will be undone"
		return 0
	}
	own released
	say "released: what $OWNER set up here may be undone now"
}

[ -n "${RELEASE_SOURCE_ONLY:-}" ] || main
