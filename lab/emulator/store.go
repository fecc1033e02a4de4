package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Store keeps one value of T in memory and in a JSON file. Every change is on
// disk before it is visible, so an emulator killed at any moment restarts with
// all that it had acknowledged. It is safe for concurrent use.
type Store[T any] struct {
	mu    sync.Mutex
	path  string
	state *T
}

// OpenStore reads the store at path, or starts with initial if there is none.
func OpenStore[T any](path string, initial *T) (*Store[T], error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("emulator state %s: %w", path, err)
	}
	store := &Store[T]{path: path, state: initial}
	text, err := os.ReadFile(path) //nolint:gosec // the path is the lab's own state directory
	if errors.Is(err, fs.ErrNotExist) {
		return store, nil
	}
	if err != nil {
		return nil, fmt.Errorf("emulator state %s: %w", path, err)
	}
	if err := json.Unmarshal(text, store.state); err != nil {
		return nil, fmt.Errorf("emulator state %s: not readable: %w: the emulated cloud is lost; remove the file to start "+
			"with an empty one", path, err)
	}
	return store, nil
}

// View calls read with the current value, which must not be changed or kept.
func (s *Store[T]) View(read func(*T) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return read(s.state)
}

// Update calls change with a copy of the value and makes the copy current once
// it is on disk. Nothing changes when change or the write fails.
func (s *Store[T]) Update(change func(*T) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := json.Marshal(s.state)
	if err != nil {
		return fmt.Errorf("emulator state %s: %w", s.path, err)
	}
	next := new(T)
	if err := json.Unmarshal(text, next); err != nil {
		return fmt.Errorf("emulator state %s: %w", s.path, err)
	}
	if err := change(next); err != nil {
		return err
	}
	text, err = json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("emulator state %s: %w", s.path, err)
	}
	if err := WriteFile(s.path, append(text, '\n')); err != nil {
		return fmt.Errorf("emulator state %s: not saved: %w", s.path, err)
	}
	s.state = next
	return nil
}

// WriteFile replaces the file at path by one with this content, readable by its
// owner only. After a crash the file holds the old or the new content, whole.
func WriteFile(path string, content []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // fails once renamed, as it should
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
