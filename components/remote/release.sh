#!/bin/sh
# The first thing that is deleted on a machine: from here on the delete scripts of its owner may act.
#
# Header: HOLD, the resource's name. A hold that was renamed is deleted after its successor was created: while another
# one holds the machine, nothing is released.

main() {
	owner=$(owner)
	# shellcheck disable=SC2153 # the header's
	[ "$owner" = "$OWNER" ] || {
		say "this machine belongs to ${owner:-nobody}, not to $OWNER: nothing on it will be undone"
		return 0
	}
	others=$(holders | grep -vxF "$HOLD" || true)
	if owned held && [ -n "$others" ]; then
		own "held$NEWLINE$others"
		say "this machine is still held by $OWNER, by $(printf '%s\n' "$others" | tr '\n' ' ')now: nothing on it will be" \
			"undone: if the stack has no such resource, remove its line from $OWNER_FILE first"
		return 0
	fi
	own released
	say "released: what $OWNER set up here may be undone now"
}

[ -n "${RELEASE_SOURCE_ONLY:-}" ] || main
