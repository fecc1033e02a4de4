# The machine's login to a tailnet, read and compared with the wanted one. It stands before the bodies that need it.
#
# Header: TS_DOMAIN (the MagicDNS suffix of the wanted tailnet), TS_TAGS (words), TS_LOGIN_SERVER (empty for
# Tailscale's own).

# flatten turns JSON on standard input into lines "path<tab>value", one for each text, number or constant. Items of a
# list have the path of the list. No text of JSON goes over a line's end.
flatten() {
	awk '
		function value(text,    i, path) {
			for (i = 1; i <= depth; i++) if (key[i] != "") path = path "." key[i]
			print path "\t" text
		}
		{
			line = $0
			while (line != "") {
				first = substr(line, 1, 1)
				size = 1
				if (first == "{" || first == "[") {
					depth++
					kind[depth] = first
					key[depth] = ""
				} else if (first == "}" || first == "]") {
					depth--
				} else if (first == ",") {
					key[depth] = ""
				} else if (match(line, /^"([^"\\]|\\.)*"/)) {
					size = RLENGTH
					word = substr(line, 2, size - 2)
					if (kind[depth] == "{" && key[depth] == "") key[depth] = word
					else value(word)
				} else if (match(line, /^[A-Za-z0-9.+-]+/)) {
					size = RLENGTH
					value(substr(line, 1, size))
				}
				line = substr(line, size + 1)
			}
		}'
}

# status reads the login into STATUS; empty when tailscaled does not answer.
status() {
	STATUS=$(tailscale status --json --peers=false 2>/dev/null </dev/null | flatten)
}

# field PATH
field() {
	printf '%s\n' "$STATUS" | awk -F '\t' -v path="$1" '$1 == path { print $2 }'
}

# The names that tell machines apart: HostName is what a machine calls itself, whoever else does too.
dns_name() {
	name=$(field .Self.DNSName)
	printf '%s\n' "${name%.}"
}

fqdn() {
	# shellcheck disable=SC2153 # the header's
	printf '%s\n' "$HOST.$TS_DOMAIN"
}

# settled: whether tailscaled answers and knows by now whether it is logged in.
settled() {
	status
	case $(field .BackendState) in
	'' | NoState | Starting) return 1 ;;
	esac
}

logged_out() {
	case $(field .BackendState) in
	'' | NeedsLogin) return 0 ;;
	*) return 1 ;;
	esac
}

named_as_wanted() {
	status
	[ "$(field .BackendState)" = Running ] && [ "$(dns_name)" = "$(fqdn)" ]
}

# tag_words WORDS: sorted, separated by blanks.
tag_words() {
	# shellcheck disable=SC2086 # words
	printf '%s\n' $1 | sort | tr '\n' ' ' | sed 's/ *$//'
}

# server_name URL: Tailscale's own has two names, or none.
server_name() {
	case ${1%/} in
	'' | https://login.tailscale.com | https://controlplane.tailscale.com) echo https://login.tailscale.com ;;
	*) printf '%s\n' "${1%/}" ;;
	esac
}

# login_problems prints, one a line, why the present login must not be kept. A wrong name is none: join.sh corrects it.
# A machine that is logged in ignores a key (tailscale/tailscale#7995): only this comparison shows whose it is.
login_problems() {
	login_state=$(field .BackendState)
	case $login_state in
	'' | NeedsLogin) return 0 ;;
	Running) ;;
	NeedsMachineAuth)
		refusal "this machine waits for its approval in the tailnet as $(dns_name): nobody reaches it there before: approve" \
			"it in the admin console (Machines), then run again"
		return 0
		;;
	Stopped)
		refusal "tailscale is logged in here and switched off: whose tailnet that is cannot be seen: run tailscale up on" \
			"the machine, or tailscale logout if it may leave, then run again"
		return 0
		;;
	*)
		refusal "tailscale is logged in here and in the state $login_state: whose tailnet that is cannot be seen: see" \
			"tailscale status on the machine and whether it reaches its login server"
		return 0
		;;
	esac

	login_server=$(tailscale debug prefs 2>/dev/null </dev/null | flatten | awk -F '\t' '$1 == ".ControlURL" { print $2 }')
	if [ -n "$login_server" ] && [ "$(server_name "$login_server")" != "$(server_name "$TS_LOGIN_SERVER")" ]; then
		refusal "this machine joined through the login server $(server_name "$login_server"), the settings name" \
			"$(server_name "$TS_LOGIN_SERVER"): a changed login server needs a new login, which cuts every session over the" \
			"tailnet: set tailnet.loginServer back, or log the machine out (tailscale logout, in a session that does not come" \
			"over the tailnet)"
	fi
	login_name=$(dns_name)
	login_domain=${login_name#*.}
	if [ "$login_domain" != "$TS_DOMAIN" ]; then
		refusal "this machine is logged in to the tailnet ${login_domain:-without a name} of $(field .CurrentTailnet.Name)" \
			"as $login_name, not to $TS_DOMAIN: its members would pass the firewall and reach everything here: if it may" \
			"leave, log it out (tailscale logout, in a session that does not come over the tailnet), else name another" \
			"machine; if that is your tailnet, correct tailnet.domain"
		return 0
	fi
	login_tags=$(tag_words "$(field .Self.Tags)")
	# shellcheck disable=SC2153 # the header's
	wanted_tags=$(tag_words "$TS_TAGS")
	if [ -z "$login_tags" ]; then
		login_user=$(field ".User.$(field .Self.UserID).LoginName")
		refusal "this machine is in the tailnet as the device of ${login_user:-a user}, without the tags $wanted_tags: the" \
			"policy would not let it be managed, and its login expires: give the device $login_name these tags in the admin" \
			"console (Machines, Edit ACL tags), or log it out"
	elif [ "$login_tags" != "$wanted_tags" ]; then
		refusal "this machine is in the tailnet with the tags $login_tags, wanted are $wanted_tags: a machine that is" \
			"logged in does not change them by itself, and a new login would cut the running session: give the device" \
			"$login_name the wanted tags in the admin console (Machines, Edit ACL tags) or through the API, once the policy" \
			"knows them, then run again"
	fi
}

# refusal WORDS is one line of login_problems.
refusal() {
	printf '%s\n' "$*"
}

# Tagged devices do not expire; somebody may have switched that on again.
warn_of_expiry() {
	case $(field .Self.KeyExpiry) in
	'' | null | 0001-*) ;;
	*) say "warning: this machine's login to the tailnet ends on $(field .Self.KeyExpiry): nobody could manage it from" \
		"then on: disable the key's expiry of $(dns_name) in the admin console (Machines)" ;;
	esac
}
