package process

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestAnswersWantsAllOfThem(t *testing.T) {
	up := httptest.NewServer(http.NotFoundHandler()) // any answer counts
	defer up.Close()
	down := httptest.NewServer(http.NotFoundHandler())
	down.Close()
	if err := Answers(up.URL, up.URL)(t.Context()); err != nil {
		t.Error(err)
	}
	if err := Answers(down.URL, up.URL)(t.Context()); err == nil {
		t.Error("a server that is down answers")
	}
}

func TestShow(t *testing.T) {
	r := New(layout.Layout{State: t.TempDir()})
	spec := Spec{Name: "one", Args: []string{"sleep", "60"}, Ready: ready}
	if err := r.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Stop(t.Context(), "one") }()
	var out strings.Builder
	err := r.Show(&out, []string{"one", "two"})
	if err == nil || err.Error() != "two does not run" {
		t.Errorf("got %v", err)
	}
	if want := "  one                ✓ runs\n  two                ✗ does not run: `make up`\n"; out.String() != want {
		t.Errorf("shown\n%swant\n%s", out.String(), want)
	}
	if err := r.Show(&out, []string{"one"}); err != nil {
		t.Error(err)
	}
}
