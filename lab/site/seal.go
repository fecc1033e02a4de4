package site

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/tinyrack-net/infrastructure/lab/file"
)

// certificate and sealed are the files that the sealing key decides.
func (s *Site) certificate() string { return filepath.Join("clusters", s.Stack, "sealing.crt") }

func (s *Site) sealed() []string {
	return []string{s.certificate(), filepath.Join("infrastructure", "configs", s.Stack, "canary.yaml")}
}

// Certificate is the public half of the lab's sealing key.
func (s *Site) Certificate() string { return filepath.Join(s.Site(), s.certificate()) }

// seal makes the lab's sealing key with the operator's own script, or seals again with the key that is there.
func (s *Site) seal(ctx context.Context) error {
	// The checkout's own are of another key. With those of the last time in place the script has nothing to do.
	for _, name := range s.sealed() {
		if err := file.IgnoreMissing(file.Copy(s.Path("sealed", name), filepath.Join(s.Site(), name), 0o644)); err != nil {
			return err
		}
	}
	_, err := os.Stat(s.SealingKey())
	if out, err := s.sealingKey(ctx, err == nil).CombinedOutput(); err != nil {
		return fmt.Errorf("make the lab's sealing key: %w: %s", err, out)
	}
	for _, name := range s.sealed() {
		if err := file.Copy(filepath.Join(s.Site(), name), s.Path("sealed", name), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// sealingKey is the operator's own script: it makes a key, or takes the one that is there.
func (s *Site) sealingKey(ctx context.Context, there bool) *exec.Cmd {
	option := "--out"
	if there {
		option = "--key"
	}
	script := filepath.Join(s.Checkout, "scripts", "sealing-key.sh")
	args := []string{s.Stack, "--root", s.Site(), option, s.SealingKey()}
	cmd := exec.CommandContext(ctx, script, args...) //nolint:gosec // the operator's own script
	cmd.Env = append(os.Environ(), "KUBESEAL="+s.Kubeseal)
	return cmd
}
