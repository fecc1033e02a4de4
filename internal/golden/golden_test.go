package golden

import "testing"

func TestDifference(t *testing.T) {
	const want = "  b\n  c\n  d\n- e\n- f\n+ E\n+ f\n"
	if got := difference("a\nb\nc\nd\ne\nf", "a\nb\nc\nd\nE\nf"); got != want {
		t.Errorf("got\n%s", got)
	}
}
