// Package secret makes the lab's secrets, once for each lab, and keeps them in a file that root alone reads.
package secret

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/tinyrack-net/infrastructure/lab/file"
)

// Secrets are known to one lab alone. All of them are secret.
type Secrets struct {
	CloudflareToken       string
	TailscaleClientID     string
	TailscaleClientSecret string
	S3AccessKey           string
	S3SecretKey           string
	Passphrase            string
	GitToken              string // from the git server; empty until it runs

	MachineKey string            // private SSH key that logs in
	HostKeys   map[string]string // private SSH host keys by machine; see HostKey

	path string
}

// Open reads the secrets kept in the file at path, or makes them.
func Open(path string) (*Secrets, error) {
	s := &Secrets{path: path}
	text, err := os.ReadFile(path) //nolint:gosec // the lab's own file
	switch {
	case err == nil:
		if err := json.Unmarshal(text, s); err != nil {
			return nil, fmt.Errorf("%s: %w: nothing that runs could be reached with new ones: run `make down`", path, err)
		}
		return s, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	// As long as Cloudflare's own; the official client refuses other lengths.
	s.CloudflareToken = Token(20)
	s.TailscaleClientID, s.TailscaleClientSecret = "lab"+Token(8), "tskey-client-"+Token(16)
	s.S3AccessKey, s.S3SecretKey, s.Passphrase = Token(10), Token(20), Token(20)
	if s.MachineKey, err = SSHKey(); err != nil {
		return nil, err
	}
	return s, s.Save()
}

// HostKey is the private SSH host key of the machine of this name, made once.
func (s *Secrets) HostKey(name string) (string, error) {
	if key, made := s.HostKeys[name]; made {
		return key, nil
	}
	key, err := SSHKey()
	if err != nil {
		return "", err
	}
	if s.HostKeys == nil {
		s.HostKeys = map[string]string{}
	}
	s.HostKeys[name] = key
	return key, s.Save()
}

// Save writes the secrets back to their file.
func (s *Secrets) Save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return file.Write(s.path, text, 0o600)
}

// Token is a random text of twice as many hexadecimal digits as bytes.
func Token(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// SSHKey is a new private key in PEM.
func SSHKey() (string, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(key, "lab")
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(block)), nil
}

// PublicKey is the authorized_keys line of a private key.
func PublicKey(private string) (string, error) {
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}

// SealingPair is a sealing key and its certificate, both in PEM. It is for previews: the smallest that is accepted,
// soon made.
func SealingPair() (key, certificate []byte, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "throw-away"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
