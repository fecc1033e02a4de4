package gitops

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
)

// kubesealSwitch makes the test binary behave as kubeseal, for the scripts under test.
const kubesealSwitch = "GITOPS_TEST_KUBESEAL"

func TestMain(m *testing.M) {
	if os.Getenv(kubesealSwitch) != "" {
		if err := fakeKubeseal(os.Args[1:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "fake kubeseal:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeKubeseal does what kubeseal --raw --scope strict does, and refuses any other use. The real one runs in the lab,
// whose controller opens what it sealed.
func fakeKubeseal(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 9 || args[0] != "--raw" || args[1] != "--scope" || args[2] != "strict" ||
		args[3] != "--cert" || args[5] != "--namespace" || args[7] != "--name" {
		return fmt.Errorf("unknown use: %q", args)
	}
	text, err := os.ReadFile(args[4])
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return errors.New("no certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	value, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	session := make([]byte, 32)
	if _, err := rand.Read(session); err != nil {
		return err
	}
	public, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return errors.New("not an RSA certificate")
	}
	head, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, session, []byte(args[6]+"/"+args[8]))
	if err != nil {
		return err
	}
	gcm, err := newGCM(session)
	if err != nil {
		return err
	}
	sealed := binary.BigEndian.AppendUint16(nil, uint16(len(head)))
	sealed = append(sealed, head...)
	sealed = gcm.Seal(sealed, make([]byte, gcm.NonceSize()), value, nil)
	_, err = io.WriteString(out, base64.StdEncoding.EncodeToString(sealed))
	return err
}

// unseal opens a value as the controller does: the scope is the label of the RSA part,
// the session key is used once, so the nonce is zero.
func unseal(key *rsa.PrivateKey, scope, value string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, err
	}
	if len(raw) < 2 || len(raw) < 2+int(binary.BigEndian.Uint16(raw)) {
		return nil, errors.New("too short")
	}
	size := int(binary.BigEndian.Uint16(raw))
	session, err := rsa.DecryptOAEP(sha256.New(), nil, key, raw[2:2+size], []byte(scope))
	if err != nil {
		return nil, err
	}
	gcm, err := newGCM(session)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, make([]byte, gcm.NonceSize()), raw[2+size:], nil)
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
