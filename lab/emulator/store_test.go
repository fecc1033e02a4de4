package emulator

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type content struct {
	Names map[string]int `json:"names"`
}

func open(t *testing.T, path string) *Store[content] {
	t.Helper()
	store, err := OpenStore(path, &content{Names: map[string]int{}})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func read(t *testing.T, store *Store[content]) map[string]int {
	t.Helper()
	names := map[string]int{}
	err := store.View(func(c *content) error {
		for name, n := range c.Names {
			names[name] = n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestStoreSurvivesARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "state.json")
	store := open(t, path)
	err := store.Update(func(c *content) error {
		c.Names["a"] = 1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v: others can read the state", info.Mode().Perm())
	}
	if got := read(t, open(t, path)); got["a"] != 1 {
		t.Errorf("after a restart: %v", got)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("files left beside the state: %v %v", left, err)
	}
}

func TestStoreKeepsTheOldValueOnError(t *testing.T) {
	store := open(t, filepath.Join(t.TempDir(), "state.json"))
	refused := errors.New("refused")
	err := store.Update(func(c *content) error {
		c.Names["half"] = 1
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("error is %v", err)
	}
	if got := read(t, store); len(got) != 0 {
		t.Errorf("a refused change is visible: %v", got)
	}
}

func TestStoreKeepsTheOldValueWhenTheDiskFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	store := open(t, filepath.Join(dir, "state.json"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	err := store.Update(func(c *content) error {
		c.Names["lost"] = 1
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "not saved") {
		t.Errorf("error is %v", err)
	}
	if got := read(t, store); len(got) != 0 {
		t.Errorf("a change that is not on disk is visible: %v", got)
	}
}

func TestStoreRefusesABrokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(path, []byte(`{"names":`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenStore(path, &content{})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("error must name the file and the way out: %v", err)
	}
}
