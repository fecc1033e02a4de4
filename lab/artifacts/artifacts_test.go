package artifacts

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
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
	config := configOf(t, path, img.Ref)
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

// configOf reads the configuration of one image of a tarball.
func configOf(t *testing.T, path, ref string) *v1.ConfigFile {
	t.Helper()
	tag, err := name.NewTag(ref)
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
	return config
}

func TestEveryProgramIsPinned(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range append(binaries(), formerK3s, kubeBench, act) {
		if !strings.HasPrefix(b.Module.Sum, "h1:") || len(b.Module.Sum) != 47 || b.Module.Version == "" || seen[b.Name] {
			t.Errorf("%s: not pinned, or named twice: %+v", b.Name, b.Module)
		}
		seen[b.Name] = true
	}
}

func TestVersionsOfServers(t *testing.T) {
	const packages = "mariadb-common 1:10.11.14-0\nmariadb-server 1:10.11.14-0+deb12u2\npostgresql-15 15.20-0+deb12u1\n" +
		"postgresql-15-jit-llvm \npostgresql-9.1 \nredis-server 5:7.0.15-1~deb12u7\n"
	for want, server := range map[string]*regexp.Regexp{
		"15.20": postgresqlPackage, "10.11.14": mariadbPackage, "7.0.15": redisPackage,
	} {
		if got, err := version(packages, server); err != nil || got != want {
			t.Errorf("got %q, %v, want %s", got, err, want)
		}
		const clients = "postgresql-common 248\npostgresql-client-15 15.20-0\nmariadb-client 1:10.11.14\n" +
			"redis-tools 5:7.0.15\n"
		if _, err := version(clients, server); err == nil {
			t.Errorf("%s: a client was taken for a server", server)
		}
	}
}

// TestImagesOnOneBase wants the base once in the tarball, below what each image adds.
func TestImagesOnOneBase(t *testing.T) {
	c := open(t)
	dir := t.TempDir()
	base, program := filepath.Join(dir, "rootfs.tar"), filepath.Join(dir, "program")
	ghost := filepath.Join(dir, "ghost.tar")
	for path, text := range map[string]string{
		base: strings.Repeat("base", 1<<18), program: "#!/bin/sh\n", ghost: "ghost",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	images := Databases{
		RootFS: base, PostgreSQL: "15.20", MariaDB: "10.11.14", Redis: "7.0.15",
	}.images(program, program, ghost)
	path, err := c.Image(images...)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 2<<20 {
		t.Errorf("a tarball of %d bytes: %v", info.Size(), err)
	}
	if !strings.HasPrefix(filepath.Base(path), "postgresql.tar-") {
		t.Errorf("it is called %s", filepath.Base(path))
	}
	bottom := map[string]bool{}
	for i, img := range images {
		config := configOf(t, path, img.Ref)
		if want := []int{2, 2, 2, 2, 3}[i]; len(config.RootFS.DiffIDs) != want || config.Config.User == "" {
			t.Errorf("%s: %+v", img.Ref, config)
		}
		bottom[config.RootFS.DiffIDs[0].String()] = true
	}
	if len(bottom) != 1 {
		t.Errorf("they stand on %v", bottom)
	}
	for _, changed := range []string{base, ghost} {
		if err := os.WriteFile(changed, []byte("another"), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := c.Image(images...)
		if err != nil || again == path {
			t.Errorf("another %s made the same images: %v", filepath.Base(changed), err)
		}
		path = again
	}
}

// What is compiled beside the programs takes its turn among them, and gives it back; who no longer waits gets none.
func TestTurn(t *testing.T) {
	c := open(t)
	at, most := make(chan int, 1), 0
	at <- 0
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if err := c.Turn(t.Context(), func(context.Context) error {
				now := <-at + 1
				most = max(most, now)
				at <- now
				time.Sleep(10 * time.Millisecond)
				at <- <-at - 1
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most != 2 {
		t.Errorf("%d at a time", most)
	}
	failure := errors.New("failure")
	if err := c.Turn(t.Context(), func(context.Context) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	c.turns <- struct{}{}
	c.turns <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	err := c.Turn(ctx, func(context.Context) error { ran = true; return nil })
	if ran || !errors.Is(err, context.Canceled) {
		t.Errorf("ran: %v, %v", ran, err)
	}
}

// Two of a family would both compile what they share; but no turn is left unused.
func TestNext(t *testing.T) {
	waiting := []Binary{fluxOperator, cnpg, gitea, coredns}
	for _, c := range []struct {
		making []string
		want   int
	}{{nil, 0}, {[]string{kubernetes}, 2}, {[]string{kubernetes, "gitea"}, 3}, {[]string{kubernetes, "gitea", tools}, 0}} {
		making := map[string]int{"done": 0}
		for _, family := range c.making {
			making[family]++
		}
		if got := next(waiting, making); got != c.want {
			t.Errorf("beside %v: %s", c.making, waiting[got].Name)
		}
	}
}
