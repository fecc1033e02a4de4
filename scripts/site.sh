#!/bin/sh
# Makes what a site of another name needs in this checkout, or takes it away again: its settings, its folders in
# clusters/, infrastructure/, databases/ and apps/, its sealing key and, where git is read over SSH, its deploy key; then
# checks the tree and previews the site, reaching nothing. The site it begins from is production, or another, without
# what is that one's own: that is left empty, and the preview asks for it. From the lab it is one more site for the lab,
# in which all stays but names and address. On a terminal it asks for what is not given.
set -eu
LC_ALL=C
export LC_ALL

usage() {
	cat <<'TEXT'
usage: scripts/site.sh new NAME --zone DOMAIN --git URL --key FILE [--host NAME] [--root DIR]
       scripts/site.sh new NAME --from lab [--host NAME] [--root DIR]
       scripts/site.sh new                  asks for what is not given, on a terminal
       scripts/site.sh remove NAME [--root DIR]

  scripts/site.sh new acme --zone example.com --git https://git.example.com/me/site.git --key ~/acme-sealing.pem

  --from SITE    the site of this checkout that it begins from (default: production). From
                 lab, or a site that began from it, it is one for the lab, make up NAME=acme,
                 which has zone, git and key of its own
  --zone DOMAIN  the domain that the hostnames are in
  --git URL      this repository, as Flux will read it: https://, ssh:// or git@host:path.
                 With the latter two, NAME-deploy-key is made beside the sealing key
  --key FILE     where the private sealing key is written, outside the checkout; one
                 that is there is taken
  --host NAME    the machine's name, for good (default: NAME)
  --root DIR     the checkout to change (default: the one this script is in)
  KUBESEAL       the kubeseal binary (default: kubeseal on PATH)
TEXT
}

die() {
	printf 'site: %s\n' "$*" >&2
	exit 1
}

# The folders of an environment.
folders='clusters infrastructure/controllers infrastructure/configs infrastructure/connectors infrastructure/volumes
	databases apps'

main() {
	here=$(cd "$(dirname "$0")" && pwd -P)
	root=$here/.. from=production zone='' git='' key='' host=''
	verb=''
	name=''
	while [ $# -gt 0 ]; do
		case $1 in
		--from | --zone | --git | --key | --host | --root)
			[ -n "${2-}" ] || die "$1 needs a value: nothing was changed"
			case $1 in
			--from) from=$2 ;;
			--zone) zone=$2 ;;
			--git) git=$2 ;;
			--key) key=$2 ;;
			--host) host=$2 ;;
			--root) root=$2 ;;
			esac
			shift 2
			;;
		-h | --help)
			usage
			exit 0
			;;
		-*) die "unknown option $1: nothing was changed: see --help" ;;
		*)
			[ -z "$name" ] || die "unexpected argument '$1': nothing was changed: see --help"
			[ -z "$verb" ] || name=$1
			verb=${verb:-$1}
			shift
			;;
		esac
	done
	root=$(cd "$root" 2>/dev/null && pwd -P) || die "--root: no such directory: nothing was changed"
	from_here=$PWD
	cd "$root"
	case $verb in
	new) new ;;
	remove) remove ;;
	*)
		usage >&2
		exit 2
		;;
	esac
}

is_label() {
	case $1 in
	'' | *[!-a-z0-9]* | -* | *-) return 1 ;;
	esac
	[ ${#1} -le 63 ]
}

zone_of() {
	sed -n 's/^    zone: *\([^ ]*\).*/\1/p' "Pulumi.$1.yaml"
}

# in_lab SITE: the lab runs it. No domain ends in .test (RFC 6761), so no other site has that zone.
in_lab() {
	[ "$(zone_of "$1")" = lab.test ]
}

hosts_of() {
	sed -n '/^  tinyrack:hosts:/,/^  tinyrack:[^h]/s/^    \([a-z0-9][-a-z0-9]*\):$/\1/p' "Pulumi.$1.yaml"
}

# check_WHAT adds to problems what is wrong with one answer.
check_from() {
	[ -e "Pulumi.$from.yaml" ] || {
		problem "--from '$from': no site of this checkout: there would be nothing to begin from: name one, or leave it out"
		return
	}
	[ "$(hosts_of "$from" | wc -l)" -eq 1 ] || problem "--from '$from': has not one host: all would be called the same:" \
		"begin from a site of one, and add the others after it"
}

# check_own refuses what the lab has of its own. No value is repeated: the URL's may hold a password.
check_own() {
	[ -z "$zone$git$key" ] || problem "--zone, --git and --key beside --from $from: the lab has its own of each, and the" \
		"site could reach no other: leave them out"
}

check_name() {
	is_label "$name" || {
		problem "name '$name': not letters, digits and hyphens in lower case: no folder, stack and machine could be called" \
			"so: choose another"
		return
	}
	for path in "Pulumi.$name.yaml" $(paths "$name"); do
		[ ! -e "$path" ] || problem "$path: is there already: it would be lost: choose another name, or remove that site" \
			"with scripts/site.sh remove $name"
	done
}

check_host() {
	is_label "$host" || problem "--host '$host': not letters, digits and hyphens in lower case: no machine could be" \
		"called so: choose another"
}

check_zone() {
	case $zone in
	'' | *[!-.a-z0-9]* | [-.]* | *[-.] | *..*) problem "--zone '$zone': not a domain in lower case: no hostname could be" \
		"in it: write it like example.com" ;;
	*.*) ;;
	*) problem "--zone '$zone': not a domain: no hostname could be in it: write it like example.com" ;;
	esac
}

check_git() {
	case $git in
	# Not repeated: what stands before the host may be a password.
	https://*@*) problem "--git: a name or a password stands before the host: anyone who reads the settings has it: write" \
		"the URL alone; the token is a secret" ;;
	*[!-._~/:@%+A-Za-z0-9]*) problem "--git '$git': no URL: Flux could not read it: write it like" \
		"https://git.example.com/owner/repository.git" ;;
	https://?*/?* | ssh://?*/?*) ;;
	*://*) problem "--git '$git': neither https:// nor ssh://: Flux could not read it: write it like" \
		"https://git.example.com/owner/repository.git" ;;
	?*@?*:[!/]*) git=ssh://$(printf %s "$git" | sed 's|:|/|') ;;
	*) problem "--git '$git': neither https:// nor ssh://: Flux could not read it: write it like" \
		"https://git.example.com/owner/repository.git" ;;
	esac
}

check_key() {
	# shellcheck disable=SC2088 # a person typed it, and no shell has read it
	case $key in
	'')
		problem "--key: missing: what is sealed for the site could not be opened: name a file outside the checkout"
		return
		;;
	'~/'*) key=$HOME/${key#??} ;;
	/*) ;;
	*) key=$from_here/$key ;;
	esac
	directory=$(cd "$(dirname "$key")" 2>/dev/null && pwd -P) || {
		problem "--key: $(dirname "$key"): no such directory: there would be no key: make it first"
		return
	}
	case $directory/ in
	"$root"/*) problem "--key: $key is inside the checkout: one git add away from being published: name a file outside" ;;
	esac
}

# ask VARIABLE QUESTION [DEFAULT]: what is not given is asked for until it is right.
ask() {
	eval "answer=\$$1"
	# shellcheck disable=SC2154 # eval sets it
	[ -z "$answer" ] || return 0
	while :; do
		printf '%s%s: ' "$2" "${3:+ [$3]}" >&2
		IFS= read -r answer || die "no answer: nothing was changed"
		eval "$1=\${answer:-\${3-}}"
		problems=''
		"check_$1"
		[ -n "$problems" ] || return 0
		printf '%s\n' "${problems#?}" >&2
	done
}

ask_all() {
	ask name 'name of the site: stack, folders and tunnel'
	if in_lab "$from"; then
		ask host 'name of the machine, for good' "$name"
		return
	fi
	ask zone 'domain that its hostnames are in'
	ask git 'this repository, as Flux will read it (https://, ssh:// or git@host:path)'
	ask host 'name of the machine, for good' "$name"
	# shellcheck disable=SC2088 # shown as it is; check_key reads it
	ask key 'file for the private sealing key, outside the checkout' "~/$name-sealing.pem"
}

# All that is wrong is said at once, before anything is changed.
check_new() {
	problems=''
	check_from
	[ -z "$problems" ] || die "nothing was changed:$problems"
	[ ! -t 0 ] || ask_all
	host=${host:-$name}
	problems=''
	answers='name host zone git key'
	! in_lab "$from" || answers='name host own'
	for what in $answers; do
		"check_$what"
	done
	tools='go'
	case $git in
	ssh://*) tools='go ssh-keygen' ;;
	esac
	for tool in $tools; do
		command -v "$tool" >/dev/null 2>&1 || problem "$tool: not found: the site could not be made or checked: install it"
	done
	[ -z "$problems" ] || die "nothing was changed:$problems"
}

problem() {
	problems="$problems
  $*"
}

# paths are the folders of an environment of this name.
paths() {
	for folder in $folders; do
		printf '%s/%s\n' "$folder" "$1"
	done
}

new() {
	check_new
	trap undo EXIT
	trap 'exit 130' INT TERM HUP
	for folder in $folders; do
		[ -d "$folder/$from" ] || continue
		cp -R "$folder/$from" "$folder/$name"
	done
	# What is sealed for the lab is a placeholder: it seals all anew, with a key of its own.
	in_lab "$from" || leave_out_sealed
	for file in clusters/"$name"/*.yaml; do
		edit "$file" "s|/$from\$|/$name|; s|clusters/$from\\.|clusters/$name.|"
	done
	address=$(free_address)
	settings >"Pulumi.$name.yaml"
	in_lab "$from" || keys
	trap - EXIT
	cat <<TEXT

The site $name is in Pulumi.$name.yaml, and in:
$(paths "$name" | while IFS= read -r path; do [ ! -d "$path" ] || printf '  %s\n' "$path"; done)
TEXT
	look
	if in_lab "$from"; then
		printf '\nmake up NAME=%s runs it in the lab, make down ends it there.\n' "$name"
		return
	fi
	cat <<TEXT

Read them, commit and push. Then, one after the other:
  pulumi stack init $name
  pulumi config set --secret tinyrack:sealingKey --stack $name < $key$git_key
  pulumi preview -s $name
The last lists what is missing, with a command for each. It cannot ask for these: bootstrapSources of the host, your own
address for the first up; and bucket and region of cluster.snapshots and backups.
TEXT
}

keys() {
	if [ -e "$key" ]; then
		sealing_key --key "$key"
	else
		sealing_key --out "$key"
	fi
	git_key=''
	deploy_key
}

# sealing_key tells all but the next step, which stands with the others at the end.
sealing_key() {
	said=$(sh "$here/sealing-key.sh" --root "$root" "$name" "$@")
	printf '%s\n' "$said" | sed '/^next, /d'
}

# deploy_key makes the key that git is read with, where it is read over SSH; one that is there is taken.
deploy_key() {
	case $git in
	ssh://*) ;;
	*) return 0 ;;
	esac
	deploy=$(dirname "$key")/$name-deploy-key
	[ -e "$deploy" ] || (umask 077 && ssh-keygen -q -t ed25519 -N '' -C "flux of $name" -f "$deploy") ||
		die "$deploy: ssh-keygen could not make it"
	public=$(ssh-keygen -y -P '' -f "$deploy" 2>/dev/null) ||
		die "$deploy: no private key without a passphrase: Flux could not log in: name another folder by --key"
	printf 'deploy key: %s (0600): its public half is for the git host, to read this repository alone:\n  %s\n' \
		"$deploy" "$public"
	git_key="
  pulumi config set --secret tinyrack:gitSshKey --stack $name < $deploy"
}

# look checks the tree and previews the site, with values made up for what is missing; nothing is reached. The site stays:
# what is found may be repaired in it.
look() {
	export GOFLAGS='-buildvcs=false -trimpath' GOWORK=off CGO_ENABLED=0
	printf '\nchecking the tree\n'
	go -C gitops test -count=1 -run '^TestTree$' . ||
		die "the tree has problems: the site is made, and is not ready: see above, then make check-tree"
	printf 'previewing %s, the first time after minutes of compiling\n' "$name"
	go -C lab run . preview "$name" ||
		die "no preview of $name: the site is made, and is not ready: see above, then go -C lab run . preview $name"
}

take_away() {
	rm -rf "Pulumi.$name.yaml"
	paths "$name" | while IFS= read -r path; do rm -rf "$path"; done
}

# undo takes away what a run made that did not come to its end. The key stays: it is nowhere else.
undo() {
	status=$?
	take_away
	printf 'site: nothing was changed\n' >&2
	exit "$status"
}

# leave_out_sealed takes away what only the other site's cluster can open: the certificate, the canary, and what a
# person has sealed.
leave_out_sealed() {
	rm -f "clusters/$name/sealing.crt" "infrastructure/configs/$name/canary.yaml"
	paths "$name" | while IFS= read -r path; do
		[ -d "$path" ] || continue
		find "$path" -name '*.yaml' -exec grep -l '^kind: SealedSecret' {} + | while IFS= read -r file; do
			rm "$file"
			edit "$path/kustomization.yaml" "\\|^ *- ${file#"$path"/}\$|d"
			printf 'left out, for it is sealed for %s: %s\n' "$from" "$file"
		done
	done
}

edit() {
	sed "$2" "$1" >"$1.new"
	mv "$1.new" "$1"
}

# settings are the other site's under the new name, without its secrets and facts.
settings() {
	# A secret is two lines: its key, and what is encrypted.
	awk '
		/^encryptionsalt:/ { next }
		/^  tinyrack:[A-Za-z0-9]+:$/ { held = $0; next }
		held != "" && /^    secure:/ { held = ""; next }
		held != "" { print held; held = "" }
		{ print }
	' "Pulumi.$from.yaml" | sed -E "
		s/--stack $from/--stack $name/
		s|clusters/$from/|clusters/$name/|
		s|^    path: .*|    path: ./clusters/$name|
		s/^    tunnel: .*/    tunnel: $name/
		s/^    firstServer: .*/    firstServer: $host/
		s/^      folder: .*/      folder: $name/
		/^  tinyrack:hosts:/,/^  tinyrack:[^h]/s/^    [a-z0-9][-a-z0-9]*:\$/    $host:/
	" | if in_lab "$from"; then
		sed "s/^      address: .*/      address: $address/"
	else
		without_facts
	fi
}

# free_address is the first of the lab's for machines that no site of this checkout has: two never share one.
free_address() {
	last=10
	while grep -Eqs "^      address: 10\.77\.0\.$last( |\$)" Pulumi.*.yaml; do
		last=$((last + 1))
	done
	printf '10.77.0.%s\n' "$last"
}

# without_facts empties what only the other site's people know, and the preview asks for. Zone and git are known.
without_facts() {
	dots=$(zone_of "$from" | sed 's/\./\\./g')
	known=''
	case $git in
	ssh://*) known='\
    knownHosts: "" # ssh-keyscan of the git host, compared with what it publishes' ;;
	esac
	sed -E "
		s/$dots/$zone/g
		s/^    (accountId|zoneId|domain|endpoint): *[^ #]*/    \\1: \"\"/
		s/^      (address|hostKey|endpoint): *[^#]*[^ #]/      \\1: \"\"/
		s/^    (admins|accessEmails): *[^#]*[^ #]/    \\1: []/
		s/^      bootstrapSources: *[^#]*[^ #]/      bootstrapSources: []/
		/^  tinyrack:flux:/,\$s|^    url: .*|    url: $git$known|
		/^  tinyrack:flux:/,\$s/^    username: .*/    username: git/
	"
}

remove() {
	is_label "$name" || die "name '$name': not a site's: nothing was removed"
	case $name in
	production | lab) die "$name: the lab and every new site begin from it: nothing was removed" ;;
	esac
	[ -e "Pulumi.$name.yaml" ] || die "Pulumi.$name.yaml: there is no such site: nothing was removed"
	elsewhere='pulumi destroy, with the settings from git'
	! in_lab "$name" || elsewhere='make down'
	take_away
	printf '%s is gone from this checkout. What it made elsewhere is not: that is %s.\n' "$name" "$elsewhere"
}

main "$@"
