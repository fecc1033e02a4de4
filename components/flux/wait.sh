#!/bin/sh
# Asks Flux to fetch from git, then waits until it is Ready on what it fetched.
# Progress goes to stderr, the revision alone to stdout.
#
# Header: NAMESPACE; INSTANCE, the FluxInstance; SYNC, the GitRepository and root
# Kustomization; REVISION, the wanted commit, or empty for the branch's newest;
# LIMIT, in seconds.
#
# Standard input is a fingerprint of what Flux was told. It is not read: a change
# in it is what makes the provider run this script again.

INSTANCE_KIND=fluxinstances.fluxcd.controlplane.io
SOURCE_KIND=gitrepositories.source.toolkit.fluxcd.io
KUSTOMIZATION_KIND=kustomizations.kustomize.toolkit.fluxcd.io
REQUEST=reconcile.fluxcd.io/requestedAt

# Fields for jsonpath. Messages may hold any character, so they come last.
READY='{.status.conditions[?(@.type=="Ready")].status}'
MESSAGE='{.status.conditions[?(@.type=="Ready")].message}'
READY_GENERATION='{.status.conditions[?(@.type=="Ready")].observedGeneration}'
REQUESTED='{.metadata.annotations.reconcile\.fluxcd\.io/requestedAt}'
HANDLED='{.status.lastHandledReconcileAt}'

STATE='asking Flux'
FETCHED=
MATCHED=no
ASKED=no
COMPLAINT=

kube() {
	kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml --namespace "$NAMESPACE" --request-timeout=15s "$@" </dev/null
}

# field RESOURCE NAME JSONPATH: the first line of it in LINE, or nothing. What kubectl complains about goes to
# COMPLAINT: an Unauthorized must not read as "not there yet".
field() {
	LINE=$(kube get "$1" "$2" -o "jsonpath=$3" 2>"$ERRORS" | head -n 1) || LINE=
	COMPLAINT=$(grep -v 'NotFound\|not found\|^$' "$ERRORS" | head -n 1) || COMPLAINT=
}

# The instance must have acted on its own newest text: until then the source may
# still be the old one.
instance_ready() {
	field "$INSTANCE_KIND" "$INSTANCE" "{.metadata.generation}|$READY_GENERATION|$READY|$MESSAGE"
	IFS='|' read -r generation observed ready message <<-END
		$LINE
	END
	STATE="FluxInstance $INSTANCE: ${message:-${COMPLAINT:-not there yet}}"
	[ "$ready" = True ] && [ "$observed" = "$generation" ]
}

# matches REVISION: whether it is the wanted one. Flux writes refs/heads/main@sha1:<commit>; people write the commit,
# possibly short, with or without what stands before it.
matches() {
	# shellcheck disable=SC2153 # the header's
	case ${1##*:} in
	"${REVISION##*:}"*) return 0 ;;
	esac
	return 1
}

# source_fetched sets FETCHED to what the source holds after our request.
source_fetched() {
	fields="{.metadata.generation}|{.status.observedGeneration}|$REQUESTED|$HANDLED|$READY"
	field "$SOURCE_KIND" "$SYNC" "$fields|{.status.artifact.revision}|$MESSAGE"
	IFS='|' read -r generation observed requested handled ready revision message <<-END
		$LINE
	END
	if [ "$requested" != "$TOKEN" ]; then
		STATE="GitRepository $SYNC: ${message:-${COMPLAINT:-not there yet}}"
		[ -z "$LINE" ] || ask "$SOURCE_KIND" "$SYNC"
		return 1
	fi
	if [ "$handled" != "$TOKEN" ] || [ "$observed" != "$generation" ] || [ "$ready" != True ]; then
		STATE="GitRepository $SYNC: ${message:-fetching}"
		return 1
	fi
	FETCHED=$revision
	if [ "$MATCHED" = no ] && ! matches "$revision"; then
		STATE="GitRepository $SYNC is at $revision, wanted $REVISION"
		# Fetch again: the wanted commit may still be on its way.
		TOKEN=$(token)
		return 1
	fi
	# From here on a newer commit may come in; that is Flux at work.
	MATCHED=yes
}

# applied looks at every Kustomization and sets PENDING to the names of those
# that are not Ready on FETCHED. Suspended ones are left alone: a staged restore
# suspends them on purpose.
applied() {
	PENDING=
	root=absent
	source='{.spec.sourceRef.kind}/{.spec.sourceRef.namespace}/{.spec.sourceRef.name}'
	fields="{.metadata.name}|{.spec.suspend}|$source|{.metadata.generation}|{.status.observedGeneration}"
	fields="$fields|$REQUESTED|$HANDLED|$READY|{.status.lastAppliedRevision}"
	if ! list=$(kube get "$KUSTOMIZATION_KIND" -o "jsonpath={range .items[*]}$fields{\"\\n\"}{end}" 2>"$ERRORS"); then
		STATE="the Kubernetes API does not answer: $(head -n 1 "$ERRORS")"
		return 1
	fi
	while IFS='|' read -r name suspended source generation observed requested handled ready revision; do
		[ "$name" != "$SYNC" ] || root=present
		if [ -z "$name" ] || [ "$suspended" = true ]; then
			continue
		fi
		case $source in
		"GitRepository//$SYNC" | "GitRepository/$NAMESPACE/$SYNC") wanted=$FETCHED ;;
		*) wanted=$revision ;; # another source has revisions of its own
		esac
		if [ "$ready" = True ] && [ "$observed" = "$generation" ] && [ "$revision" = "$wanted" ] &&
			{ [ -z "$requested" ] || [ "$requested" = "$handled" ]; }; then
			continue
		fi
		PENDING="$PENDING $name"
	done <<-END
		$list
	END
	[ "$root" = present ] || PENDING="$PENDING $SYNC"
	STATE="waiting for Kustomization$PENDING"
	[ -z "$PENDING" ]
}

# ready is one look at the whole chain.
ready() {
	instance_ready && source_fetched || return 1
	if [ "$ASKED" = no ]; then
		# Changed cluster variables reach an unchanged revision only on request.
		ask "$KUSTOMIZATION_KIND" --all && ASKED=yes
	fi
	applied
}

token() {
	printf '%s-%s' "$(date +%s)" "$$"
}

# ask RESOURCE NAME
ask() {
	kube annotate --overwrite "$1" "$2" "$REQUEST=$TOKEN" >/dev/null 2>&1
}

give_up() {
	say "error: Flux is not Ready on ${FETCHED:-any revision} after ${LIMIT}s"
	if [ -z "${PENDING:-}" ]; then
		say "  $STATE"
	else
		for name in $PENDING; do
			field "$KUSTOMIZATION_KIND" "$name" "$MESSAGE"
			say "  Kustomization $name: ${LINE:-${COMPLAINT:-no status yet}}"
		done
	fi
	say "what was set up stays and Flux keeps trying: correct the cause in git (or in the stack's tinyrack:flux), push," \
		"then run \"up\" again; to look: kubectl -n $NAMESPACE get fluxinstance,gitrepositories,kustomizations"
	exit 1
}

main() {
	# shellcheck disable=SC2153 # the library's
	ERRORS=$(mktemp "$ROOT/run/tinyrack/kubectl.XXXXXX")
	trap 'rm -f "$ERRORS"' EXIT
	trap 'exit 1' HUP INT TERM PIPE
	started=$(date +%s)
	TOKEN=$(token)
	said=
	until ready; do
		if [ "$(($(date +%s) - started))" -ge "$LIMIT" ]; then
			give_up
		fi
		if [ "$STATE" != "$said" ]; then
			say "$STATE"
			said=$STATE
		fi
		sleep 2
	done
	say "Flux is Ready on $FETCHED"
	printf '%s\n' "$FETCHED"
}

[ -n "${FLUX_SOURCE_ONLY:-}" ] || main
