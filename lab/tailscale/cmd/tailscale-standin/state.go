package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// state is what the node remembers. NodeKey is a secret.
type state struct {
	NodeKey     string   `json:"nodeKey"`
	LoginServer string   `json:"loginServer"`
	WantRunning bool     `json:"wantRunning"`
	Prefs       *prefs   `json:"prefs"` // nil before the first up
	NodeID      string   `json:"nodeId"`
	Address     string   `json:"address"` // empty while logged out
	DNSName     string   `json:"dnsName"`
	Tags        []string `json:"tags"`
}

// load returns an empty state when there is none.
func (c *client) load() (*state, error) {
	st := &state{}
	text, err := os.ReadFile(c.statePath)
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return nil, fmt.Errorf("node state: %w", err)
	}
	if err := json.Unmarshal(text, st); err != nil {
		return nil, fmt.Errorf("node state %s: not readable: %w: remove it and log in with a new auth key", c.statePath, err)
	}
	return st, nil
}

// save replaces the state file, readable by its owner only.
func (c *client) save(st *state) error {
	text, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.statePath), 0o700); err != nil {
		return fmt.Errorf("node state: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(c.statePath), ".standin-*") // mode 0600
	if err != nil {
		return fmt.Errorf("node state: %w", err)
	}
	defer func() { _ = os.Remove(file.Name()) }() // fails once renamed, as it should
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), c.statePath)
	}
	if err != nil {
		return fmt.Errorf("node state %s: not saved: %w", c.statePath, err)
	}
	return nil
}
