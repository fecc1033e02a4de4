package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/progress"
)

// preview previews every committed stack as a pull request would: with throw-away secrets, an empty state, and in a network
// namespace that reaches nothing at all.
func (s *state) preview(ctx context.Context) error {
	report := newReport()
	cacheAt, err := cacheDir()
	if err != nil {
		return err
	}
	cache, err := artifacts.Open(cacheAt)
	if err != nil {
		return err
	}
	var set artifacts.Set
	if err := report.Step(ctx, "pulumi and its plugins", func(ctx context.Context) error {
		progress.Waiting(ctx, "go build, once")
		own, err := s.ownPrograms(ctx)
		if err != nil {
			return err
		}
		set.Plugins = filepath.Join(own, "plugins")
		set.Pulumi, err = cache.PulumiCommand(ctx)
		return err
	}); err != nil {
		return err
	}
	// Outside the namespace, since the first build may have to download modules.
	if err := report.Step(ctx, "program", func(ctx context.Context) error { return s.buildProgram(ctx) }); err != nil {
		return err
	}
	for _, name := range []string{"production", "lab"} {
		if err := report.Step(ctx, "preview "+name, func(ctx context.Context) error { return s.previewStack(ctx, name, &set) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) buildProgram(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(s.checkout, ".bin", project), ".") //nolint:gosec // fixed
	cmd.Dir = s.checkout
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w:\n%s", err, out)
	}
	return nil
}

func (s *state) previewStack(ctx context.Context, name string, set *artifacts.Set) error {
	dir, err := os.MkdirTemp("", "preview")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var out strings.Builder
	k := &stack{name: name, dir: dir, checkout: s.checkout, out: &out, isolated: true}
	if err := k.install(set); err != nil {
		return err
	}
	facts, secrets, err := throwAway(name, dir)
	if err != nil {
		return err
	}
	if err := errors.Join(k.configure(token(8), facts, secrets), k.init(ctx)); err != nil {
		return err
	}
	if err := k.program(ctx, "preview"); err != nil {
		return fmt.Errorf("%w:\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), " to create") {
		return fmt.Errorf("the preview of %s plans nothing:\n%s", name, out.String())
	}
	for _, secret := range secrets {
		if strings.Contains(out.String(), secret) {
			return fmt.Errorf("the preview of %s prints a secret", name)
		}
	}
	return nil
}

// throwAway are facts and secrets that are well formed and open nothing, for what the committed configuration leaves out.
func throwAway(stack, dir string) (facts map[string]any, secrets map[string]string, err error) {
	login, err := sshKey()
	if err != nil {
		return nil, nil, err
	}
	hostKey, err := sshKey()
	if err != nil {
		return nil, nil, err
	}
	public, err := publicKey(hostKey)
	if err != nil {
		return nil, nil, err
	}
	sealing, certificate, err := sealingPair()
	if err != nil {
		return nil, nil, err
	}
	crt := filepath.Join(dir, "sealing.crt")
	if err := os.WriteFile(crt, certificate, 0o600); err != nil {
		return nil, nil, err
	}
	facts = map[string]any{"machine.hostKey": public, "k3s.binary.sha256": token(32), "sealedSecrets.certificate": crt}
	if stack == "production" {
		facts["cloudflare.accountId"], facts["cloudflare.zoneId"] = token(16), token(16)
		facts["tailnet.admins"] = []string{"admin@example.com"}
		facts["machine.address"], facts["machine.bootstrapSources"] = "192.0.2.10", []string{"192.0.2.7/32"}
		facts["k3s.snapshots.endpoint"] = "backup.example.com:9000"
	}
	return facts, map[string]string{
		"cloudflareApiToken": token(20), "tailscaleOauthClientId": token(8), "tailscaleOauthClientSecret": "tskey-client-" + token(16),
		"machinePrivateKey": login, "sealingKey": string(sealing), "gitToken": token(20), "s3AccessKey": token(10), "s3SecretKey": token(20),
	}, nil
}

func sealingPair() (key, certificate []byte, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
