package summary

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

func TestPrint(t *testing.T) {
	l := layout.Layout{
		State: t.TempDir(), Machines: []layout.Machine{{Name: "tinyrack", IPv4: "10.77.0.10"}},
	}
	stack := &pulumi.Stack{Name: "lab", Dir: l.Pulumi()}
	var out strings.Builder
	if err := Print(&out, l, stack, progress.New(&out)); err == nil {
		t.Error("a run that left no events is no error")
	}
	events := `{"timestamp":11,"resourcePreEvent":{"metadata":{"op":"create","urn":"urn::a::slow"}}}
{"timestamp":15,"resOutputsEvent":{"metadata":{"op":"create","urn":"urn::a::slow"}}}
{"timestamp":16,"resOutputsEvent":{"metadata":{"op":"same","urn":"urn::a::other"}}}
`
	if err := os.MkdirAll(l.Pulumi(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.Pulumi(), "events.json"), []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := Print(&out, l, stack, progress.New(&out)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"The site is up: 1 create, 1 same.\n", "  machine     10.77.0.10 (public side): ip netns exec tinyrack-operator " +
			"ssh -i " + l.MachineKey() +
			" root@tinyrack.tail.lab.test\n",
		"ip netns exec tinyrack-operator " + l.Kubectl() + " --kubeconfig=" + l.Kubeconfig() + " get pods",
		"https://10.77.0.1:3000/tinyrack/infrastructure.git (user tinyrack, token in ",
		"  visit       curl --cacert " + l.CA() + " --resolve notes.lab.test:443:10.77.0.1 https://notes.lab.test/\n",
		"backend file://" + l.Pulumi() + "/backend?metadata=skip\n", "\nand in pulumi up:\n  slow ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestBars(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	got := bars([]pulumi.Span{
		{URN: "urn::late", Op: "update", Start: at(14), End: at(20)},
		{URN: "urn::first", Op: "same", Start: at(10), End: at(11)},
		{URN: "urn::unbegun", Op: "create", End: at(30)},
	})
	if want := []progress.Span{{Name: "late", Start: 4 * time.Second, End: 10 * time.Second}}; !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
