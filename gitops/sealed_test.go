package gitops

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCertificateRefusals(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	past, future := time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC), time.Now().Add(time.Hour)
	tests := map[string]struct{ text, want string }{
		"good":    {certificatePEM(t, rsaKey, future), ""},
		"not PEM": {"nothing", "is not a PEM certificate"},
		"not a certificate": {
			string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})),
			"is not a certificate: x509: malformed certificate",
		},
		"elliptic curve": {certificatePEM(t, ecKey, future), "is not for an RSA key"},
		"expired":        {certificatePEM(t, rsaKey, past), "expired on 2020-01-02"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sealing.crt")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got := ""
			if _, err := readCertificate(path); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if _, err := readCertificate("testdata/none"); err == nil || err.Error() != "cannot be read" {
		t.Errorf("a missing file gives %v", err)
	}
}

func certificatePEM(t *testing.T, key crypto.Signer, until time.Time) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
