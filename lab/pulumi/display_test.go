package pulumi

import (
	"io"
	"strings"
	"testing"
)

func TestDisplayShowsWhatEnds(t *testing.T) {
	var out, log strings.Builder
	d := &display{out: &out, log: &log}
	text := "@ updating....\n" +
		" +  tinyrack:edge:Edge edge creating (0s) \n" +
		" +  command:remote:Command k3s-server creating (0s) \n" +
		" +  command:remote:Command k3s-server creating (2s) starting k3s\n" +
		" +  command:remote:Command k3s-server created (9s) k3s is ready\n" +
		"Resources:\n    + 51 created\n"
	// In pieces, as a pipe delivers it.
	for _, piece := range []string{text[:70], text[70:200], text[200:]} {
		if _, err := io.WriteString(d, piece); err != nil {
			t.Fatal(err)
		}
	}
	want := " +  k3s-server creating (2s) starting k3s\n +  k3s-server created (9s) k3s is ready\n" +
		"Resources:\n    + 51 created\n"
	if out.String() != want {
		t.Errorf("shown\n%s\nwant\n%s", out.String(), want)
	}
	if log.String() != text {
		t.Error("the log is not the whole")
	}
}
