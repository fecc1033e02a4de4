package artifacts

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func open(t *testing.T) *Cache {
	t.Helper()
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnArtifactIsMadeOnceAndWhole(t *testing.T) {
	c := open(t)
	builds := 0
	build := func(scratch string) error {
		builds++
		if err := os.WriteFile(scratch, []byte("half"), 0o600); err != nil {
			return err
		}
		if builds == 1 {
			return errors.New("interrupted")
		}
		return os.WriteFile(scratch, []byte("whole"), 0o600)
	}
	if _, err := c.make("thing", "recipe", build); err == nil {
		t.Fatal("a failed build was taken for finished")
	}
	var path string
	for range 2 {
		var err error
		if path, err = c.make("thing", "recipe", build); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "whole" || builds != 2 {
		t.Errorf("%d builds, content %q, %v", builds, text, err)
	}
	other, err := c.make("thing", "another recipe", build)
	if err != nil || other == path {
		t.Errorf("another recipe gave the same artifact: %v", err)
	}
}

func TestUnpinnedModulesAreRefused(t *testing.T) {
	before := []byte("example.com/a v1.0.0 h1:x=\n")
	if err := unpinned(before, before); err != nil {
		t.Error(err)
	}
	err := unpinned(before, append(before, "example.com/b v1.0.0 h1:y=\n"...))
	if err == nil || !strings.Contains(err.Error(), "example.com/b v1.0.0 h1:y=") {
		t.Errorf("got %v", err)
	}
}

// The pinned hash is what stands between the lab and a module that was changed under its version.
func TestAModuleWithAnotherHashIsRefused(t *testing.T) {
	m := Module{Path: "sigs.k8s.io/yaml", Version: "v1.6.0", Sum: "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}
	_, err := m.fetch(t.Context())
	if err == nil || !strings.Contains(err.Error(), "refused") || errors.Is(err, errNotServed) {
		t.Errorf("got %v", err)
	}
}

func TestAModuleThatIsNotServedIsToldFromAChangedOne(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	m := Module{Path: "example.com/nobody", Version: "v1.0.0"}
	if _, err := m.fetch(t.Context()); !errors.Is(err, errNotServed) {
		t.Errorf("got %v", err)
	}
}

func TestImageIsWhatTheRuntimeExpects(t *testing.T) {
	c := open(t)
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	img := Image{
		Ref: "docker.io/example/thing:1.2.3", Files: map[string]string{"bin/thing": program},
		Links:      map[string]string{"bin/other": "thing"},
		Entrypoint: []string{"/bin/thing"}, Env: []string{"A=b"}, User: "65532",
	}
	path, err := c.Image(img)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Image(img)
	if err != nil || again != path {
		t.Fatalf("equal content made another image: %v", err)
	}
	tag, err := name.NewTag(img.Ref)
	if err != nil {
		t.Fatal(err)
	}
	read, err := tarball.ImageFromPath(path, &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := read.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532" || config.Config.Entrypoint[0] != "/bin/thing" || config.Architecture != arch ||
		len(config.RootFS.DiffIDs) != 1 {
		t.Errorf("config %+v", config)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if changed, err := c.Image(img); err != nil || changed == path {
		t.Errorf("another program made the same image: %v", err)
	}
}

func TestEveryProgramIsPinned(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range append(binaries(), formerK3s, kubeBench) {
		if !strings.HasPrefix(b.Module.Sum, "h1:") || len(b.Module.Sum) != 47 || b.Module.Version == "" || seen[b.Name] {
			t.Errorf("%s: not pinned, or named twice: %+v", b.Name, b.Module)
		}
		seen[b.Name] = true
	}
}
