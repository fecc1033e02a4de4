package flux

import (
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

const (
	oldCommit = "1111111111111111111111111111111111111111"
	newCommit = "2222222222222222222222222222222222222222"
	onOld     = "refs/heads/main@sha1:" + oldCommit
	onNew     = "refs/heads/main@sha1:" + newCommit
	onNewer   = "refs/heads/main@sha1:3333333333333333333333333333333333333333"
)

// fakeCluster answers the queries of wait.sh from files: /instance, /revision, /kustomizations and /message, and of the
// source /generations and /ready. A request to reconcile is handled at once, unless a file /deaf is there; it brings
// the commit of /next, and the one after it that of /later. While the Kustomizations are asked, /newer comes in.
const fakeCluster = `
case "$*" in
*" annotate "*gitrepositories*)
	for last; do :; done
	echo "${last#*=}" >"$ROOT/asked"
	[ ! -f "$ROOT/next" ] || mv "$ROOT/next" "$ROOT/revision"
	[ ! -f "$ROOT/later" ] || mv "$ROOT/later" "$ROOT/next" ;;
*" annotate "*kustomizations*" --all "*)
	: >"$ROOT/asked-all"
	[ ! -f "$ROOT/newer" ] || {
		mv "$ROOT/newer" "$ROOT/revision"
		mv "$ROOT/newer-kustomizations" "$ROOT/kustomizations"
	} ;;
*" get fluxinstances"*) cat "$ROOT/instance" ;;
*" get gitrepositories"*)
	token=$(cat "$ROOT/asked" 2>/dev/null)
	handled=$token
	[ ! -f "$ROOT/deaf" ] || handled=
	printf '%s|%s|%s|%s|%s|stored artifact | fine\n' "$(cat "$ROOT/generations")" "$token" "$handled" \
		"$(cat "$ROOT/ready")" "$(cat "$ROOT/revision")" ;;
*" get kustomizations"*range*) cat "$ROOT/kustomizations" ;;
*" get kustomizations"*) cat "$ROOT/message" ;;
*) echo "unexpected: $*" >&2; exit 64 ;;
esac`

const readyInstance = "1|1|True|Reconciliation finished\n"

// unit is one line of the list of Kustomizations.
func unit(name, ready, revision string) string {
	return name + "||GitRepository//flux-system|1|1|||" + ready + "|" + revision + "\n"
}

func cluster(t *testing.T, revision string, units ...string) *remotetest.Host {
	t.Helper()
	h := remotetest.New(t)
	h.Fake("kubectl", fakeCluster)
	// Every look at the clock is a minute later: a wait of 900 s has few rounds.
	h.Fake("date", `n=$(cat "$ROOT/clock" 2>/dev/null || echo 0); echo $((n + 60)) >"$ROOT/clock"; echo "$n"`)
	h.Write("/instance", readyInstance)
	h.Write("/generations", "1|1")
	h.Write("/ready", "True")
	h.Write("/revision", revision)
	h.Write("/kustomizations", strings.Join(units, ""))
	h.Write("/message", "kustomize build failed: no such file\nsecond line\n")
	return h
}

func renderedWait(t *testing.T, revision string) string {
	t.Helper()
	s := waitScript(revision)
	text, err := remote.Render(s.Vars, s.Body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestWaitEndsWhenReady(t *testing.T) {
	for name, wanted := range map[string]string{
		"newest of the branch": "", "commit": newCommit, "short commit": newCommit[:7], "Flux revision": onNew,
		"documented form": "main@sha1:" + newCommit,
	} {
		t.Run(name, func(t *testing.T) {
			h := cluster(t, onNew, unit("flux-system", "True", onNew), unit("apps", "True", onNew),
				"restore|true|GitRepository//flux-system|2|1|||False|\n",
				"charts||OCIRepository//charts|1|1|||True|latest@sha256:1\n")
			r := h.Run(renderedWait(t, wanted), "fingerprint")
			if r.Code != 0 || r.Stdout != onNew+"\n" {
				t.Errorf("got %d %q\n%s", r.Code, r.Stdout, r.Stderr)
			}
			if !r.Called("kubectl --kubeconfig=/etc/rancher/k3s/k3s.yaml --namespace flux-system --request-timeout=15s " +
				"annotate --overwrite kustomizations.kustomize.toolkit.fluxcd.io --all ") {
				t.Errorf("changed variables would not be picked up: %q", r.Calls)
			}
		})
	}
}

func TestWaitSeesTheWantedCommitArrive(t *testing.T) {
	h := cluster(t, onOld, unit("flux-system", "True", onNew))
	// The first request does not bring it yet.
	h.Write("/later", onNew)
	if r := h.Run(renderedWait(t, newCommit), ""); r.Code != 0 || r.Stdout != onNew+"\n" {
		t.Errorf("got %d %q\n%s", r.Code, r.Stdout, r.Stderr)
	}
}

// TestWaitFollowsANewerCommit pushes a commit while the wanted one is applied.
func TestWaitFollowsANewerCommit(t *testing.T) {
	h := cluster(t, onNew, unit("flux-system", "True", onOld))
	h.Write("/newer", onNewer)
	h.Write("/newer-kustomizations", unit("flux-system", "True", onNewer))
	if r := h.Run(renderedWait(t, newCommit), ""); r.Code != 0 || r.Stdout != onNewer+"\n" {
		t.Errorf("got %d %q\n%s", r.Code, r.Stdout, r.Stderr)
	}
}

func TestWaitNamesWhatIsNotReady(t *testing.T) {
	root := unit("flux-system", "True", onNew)
	tests := map[string]struct {
		spoil  func(*remotetest.Host)
		wanted string
		says   []string
	}{
		"a failing Kustomization": {
			func(h *remotetest.Host) { h.Write("/kustomizations", root+unit("apps", "False", onNew)) },
			"",
			[]string{"not Ready on " + onNew + " after 900s", "Kustomization apps: kustomize build failed: no such " +
				"file\n", "run \"up\" again"},
		},
		"one still on the old revision": {
			func(h *remotetest.Host) { h.Write("/kustomizations", root+unit("apps", "True", onOld)) },
			"",
			[]string{"Kustomization apps:"},
		},
		"one that has not seen its new text": {
			func(h *remotetest.Host) {
				h.Write("/kustomizations", root+"apps||GitRepository//flux-system|2|1|||True|"+onNew+"\n")
			},
			"",
			[]string{"Kustomization apps:"},
		},
		"one that has not handled the request": {
			func(h *remotetest.Host) {
				h.Write("/kustomizations", root+"apps||GitRepository/flux-system/flux-system|1|1|120-1|60-1|True|"+onNew+"\n")
			},
			"",
			[]string{"Kustomization apps:"},
		},
		"no root Kustomization": {
			func(h *remotetest.Host) { h.Write("/kustomizations", unit("apps", "True", onNew)) },
			"",
			[]string{"Kustomization flux-system:"},
		},
		"another revision than wanted": {
			func(*remotetest.Host) {},
			oldCommit,
			[]string{"GitRepository flux-system is at " + onNew + ", wanted " + oldCommit},
		},
		"a source that does not fetch": {
			func(h *remotetest.Host) { h.Write("/deaf", "") },
			"",
			[]string{"not Ready on any revision", "GitRepository flux-system: stored artifact | fine"},
		},
		"a source that has not seen its new text": {
			func(h *remotetest.Host) { h.Write("/generations", "2|1") },
			"",
			[]string{"not Ready on any revision", "GitRepository flux-system: stored artifact | fine"},
		},
		"a source that is not Ready": {
			func(h *remotetest.Host) { h.Write("/ready", "False") },
			"",
			[]string{"not Ready on any revision", "GitRepository flux-system: stored artifact | fine"},
		},
		"an instance that failed": {
			func(h *remotetest.Host) { h.Write("/instance", "1|1|False|health check failed\n") },
			"",
			[]string{"FluxInstance flux: health check failed"},
		},
		"an instance with older news": {
			func(h *remotetest.Host) { h.Write("/instance", "2|1|True|Reconciliation finished\n") },
			"",
			[]string{"FluxInstance flux: Reconciliation finished"},
		},
		"no right to look": {
			func(h *remotetest.Host) {
				h.Fake("kubectl", "echo 'error: You must be logged in (Unauthorized)' >&2; exit 1")
			},
			"",
			[]string{"FluxInstance flux: error: You must be logged in (Unauthorized)"},
		},
		"not installed yet": {
			func(h *remotetest.Host) {
				h.Fake("kubectl", "echo 'Error from server (NotFound): fluxinstances \"flux\" not found' >&2; exit 1")
			},
			"",
			[]string{"FluxInstance flux: not there yet"},
		},
		"an API that goes away": {
			func(h *remotetest.Host) {
				h.Fake("kubectl", strings.Replace(fakeCluster, `*" get kustomizations"*range*) cat "$ROOT/kustomizations" ;;`,
					`*" get kustomizations"*range*) echo "connection refused" >&2; exit 1 ;;`, 1))
			},
			"",
			[]string{"the Kubernetes API does not answer: connection refused"},
		},
		"no API": {
			func(h *remotetest.Host) { h.Fake("kubectl", "exit 1") },
			"",
			[]string{"FluxInstance flux: not there yet"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := cluster(t, onNew, root)
			tt.spoil(h)
			r := h.Run(renderedWait(t, tt.wanted), "")
			if r.Code != 1 || r.Stdout != "" {
				t.Errorf("got %d %q", r.Code, r.Stdout)
			}
			for _, want := range tt.says {
				if !strings.Contains(r.Stderr, want) {
					t.Errorf("does not say %q:\n%s", want, r.Stderr)
				}
			}
		})
	}
}

func TestWaitScriptIsClean(t *testing.T) {
	remotetest.ShellCheck(t, renderedWait(t, ""))
}
