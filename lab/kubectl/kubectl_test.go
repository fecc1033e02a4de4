package kubectl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestArguments(t *testing.T) {
	cmd := command(t.Context(), layout.Layout{State: "/state"}, []string{"get", "nodes"})
	want := "ip netns exec tinyrack-operator /state/bin/kubectl --kubeconfig=/state/kubeconfig --request-timeout=20s " +
		"get nodes"
	if got := strings.Join(cmd.Args, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// installed is a lab whose k3s is a script that gets kubectl's arguments.
func installed(t *testing.T, script string) layout.Layout {
	t.Helper()
	l := layout.Layout{State: t.TempDir()}
	programs := t.TempDir()
	ip := "#!/bin/sh\n" + `[ "$1 $2 $3" = "netns exec tinyrack-operator" ] || exit 9; shift 3; exec "$@"`
	if err := os.WriteFile(filepath.Join(programs, "ip"), []byte(ip), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	k3s := filepath.Join(t.TempDir(), "k3s")
	if err := os.WriteFile(k3s, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Install(l, k3s, "\nthe access\n\n"); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestInstall(t *testing.T) {
	l := installed(t, "cat ${1#--kubeconfig=}; shift 2; echo ${0##*/} \"$@\" in $K3S_DATA_DIR")
	if out, err := Run(t.Context(), l, "get", "nodes  $HOME"); err != nil ||
		out != "the access\nkubectl get nodes  $HOME in "+l.State+"/kubectl\n" {
		t.Errorf("%q, %v", out, err)
	}
	if info, err := os.Stat(l.Kubeconfig()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the access has mode %v, %v", info.Mode(), err)
	}
}
