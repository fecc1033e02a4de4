#!/bin/sh
# The last thing a stack does on a machine, which the claim in front of this text has taken.
#
# Header: HOLD, the resource's name.

main() {
	# shellcheck disable=SC2153 # the header's
	own "held$NEWLINE$({
		! owned held || holders
		printf '%s\n' "$HOLD"
	} | sort -u)"
	say "held by $OWNER"
}

[ -n "${HOLD_SOURCE_ONLY:-}" ] || main
