package secret

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestSecretsAreMadeOnceAndKeptPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.json")
	first, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	first.GitToken = "from the git server"
	one, errOne := first.HostKey("one")
	two, errTwo := first.HostKey("two")
	again, errAgain := first.HostKey("one")
	if err := errors.Join(errOne, errTwo, errAgain); err != nil || one != again || one == two {
		t.Errorf("each machine has one host key of its own: %v", err)
	}
	if err := first.Save(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(path)
	if err != nil || !reflect.DeepEqual(first, second) {
		t.Errorf("made again: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if len(first.CloudflareToken) != 40 {
		t.Errorf("the official client refuses a token of %d characters", len(first.CloudflareToken))
	}
	other, err := Open(filepath.Join(t.TempDir(), "secrets.json"))
	if err != nil || other.Passphrase == first.Passphrase || other.MachineKey == first.MachineKey {
		t.Errorf("two labs share a secret, or two keys are one: %v", err)
	}
}

func TestADamagedFileIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "run `make down`") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "{" {
		t.Errorf("it now holds %q (%v)", text, err)
	}
}

func TestPublicKey(t *testing.T) {
	key, err := SSHKey()
	if err != nil {
		t.Fatal(err)
	}
	if public, err := PublicKey(key); err != nil || !strings.HasPrefix(public, "ssh-ed25519 ") ||
		strings.Contains(public, "\n") {
		t.Errorf("%q, %v", public, err)
	}
	if _, err := PublicKey("no key"); err == nil {
		t.Error("any text is taken for a key")
	}
}

func TestSealingPairBelongsTogether(t *testing.T) {
	key, certificate, err := SealingPair()
	if err != nil {
		t.Fatal(err)
	}
	keyBlock, _ := pem.Decode(key)
	certBlock, _ := pem.Decode(certificate)
	private, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	public, ok := parsed.PublicKey.(*rsa.PublicKey)
	if !ok || !public.Equal(private.(*rsa.PrivateKey).Public()) {
		t.Error("the certificate is of another key")
	}
}
