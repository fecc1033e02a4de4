package benchmark

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

func TestCompiler(t *testing.T) {
	cmd := compiler(t.Context(), "/checkout", "/scratch", "generated_sdk")
	if got, want := strings.Join(cmd.Args, " "), "go build -tags=generated_sdk -o /scratch/program ."; got != want ||
		cmd.Dir != "/checkout" {
		t.Errorf("in %s: %s, want %s", cmd.Dir, got, want)
	}
	if !slices.Contains(cmd.Env, "GOCACHE=/scratch/cache") {
		t.Error("it would use what is compiled already")
	}
}

func TestCompileMeasures(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "program"), make([]byte, 3e6), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := compile(&out, exec.Command("true"), "nothing", dir); err != nil ||
		!strings.HasSuffix(out.String(), " | 3 |\n") {
		t.Errorf("%q, %v", out.String(), err)
	}
	err := compile(&out, exec.Command("sh", "-c", "echo reason >&2; exit 1"), "nothing", dir)
	if err == nil || !strings.Contains(err.Error(), "compile nothing: exit status 1: reason") {
		t.Errorf("got %v", err)
	}
}

func TestRow(t *testing.T) {
	var out strings.Builder
	row(&out, "x", []float64{3, 1, 2})
	if out.String() != "| x | 1.00 | 2.00 | 3.00 |\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestEmptyStackIsOfTheSitesOwnParts(t *testing.T) {
	site := &pulumi.Stack{Project: "tinyrack", Name: "lab", Dir: t.TempDir(), Checkout: t.TempDir()}
	plugins := pulumi.Plugins{Versions: map[string]string{"random": "v1.0.0"}, Doubles: "/doubles"}
	if _, err := emptyStack(t.Context(), t.TempDir(), site, plugins); err == nil ||
		!strings.Contains(err.Error(), "run `make up` first") {
		t.Errorf("without a lab: %v", err)
	}
	program := filepath.Join(t.TempDir(), "pulumi")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := site.Install(program, plugins); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if err := os.WriteFile(filepath.Join(site.Checkout, name), []byte("the site's "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	empty, err := emptyStack(t.Context(), t.TempDir(), site, plugins)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(empty.Checkout, "go.mod")); err != nil || string(got) != "the site's go.mod" {
		t.Errorf("its go.mod: %q, %v", got, err)
	}
	if got, err := os.Readlink(empty.Command()); err != nil || got != program {
		t.Errorf("its command is %s, %v", got, err)
	}
}
