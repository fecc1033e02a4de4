#!/bin/sh
# The first session over the tailnet. That it runs proves the name, the policy and the firewall; what is left is whether
# it really came that way. The last line of standard output is the machine's IPv4 address in the tailnet.
#
# Header: that of identity.sh, SSH_PORT.

main() {
	# shellcheck disable=SC2086 # client address, client port, server address, server port
	set -- ${SSH_CONNECTION:-}
	[ $# = 4 ] || die "this is no SSH session: the way over the tailnet is not proven: this is a defect of the caller"
	status
	field .TailscaleIPs | grep -qxF "$3" ||
		die "$(fqdn) leads from $1 to $3, which is none of this machine's addresses in the tailnet" \
			"($(field .TailscaleIPs | tr '\n' ' ')): later sessions would miss the tailnet or be shut out: see what the name" \
			"resolves to where pulumi runs, and whether MagicDNS is on there"
	# shellcheck disable=SC2153 # the header's
	[ "$4" = "$SSH_PORT" ] ||
		die "the session came to port $4 of $(fqdn), the settings say $SSH_PORT: firewall and policy admit only that one:" \
			"set hosts.$HOST.port to $4"
	address=$(field .TailscaleIPs | awk '!/:/ { print; exit }')
	[ -n "$address" ] || die "the machine has no IPv4 address in the tailnet: the cluster could not be reached by it:" \
		"give the tailnet IPv4 addresses"
	say "reached from $1 over the tailnet"
	printf '%s\n' "$address"
}

[ -n "${DOOR_SOURCE_ONLY:-}" ] || main
