package k3s

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

// sealer is a machine with the real openssl, whose environment is looked at.
func sealer(t *testing.T) *remotetest.Host {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is not installed: apt-get install openssl")
	}
	h := remotetest.New(t)
	h.Fake("openssl", `env >>"$ROOT/environment"; exec `+path+` "$@"`)
	return h
}

func kubeconfigText(t *testing.T) string {
	t.Helper()
	return render(t, remote.Text{Body: kubeconfigScript, Vars: []remote.Var{{Name: "GENERATION", Value: "g"}}})
}

func TestKubeconfigIsSealed(t *testing.T) {
	h := sealer(t)
	text := kubeconfigText(t)
	for _, written := range []string{
		"server: " + localServer + "\nkey: s3cr3t\n", strings.Repeat("x", 14), strings.Repeat("x", 31),
		strings.Repeat("long\n", 5000),
	} {
		h.Write("/etc/rancher/k3s/k3s.yaml", written)
		r := h.Run(text, canary+"\n")
		if r.Code != 0 || r.Stderr != "" || strings.Count(r.Stdout, "\n") != 1 {
			t.Fatalf("got %+v", r)
		}
		r.NoSecret(t, canary)
		r.NoSecret(t, "s3cr3t")
		if strings.Contains(h.Read("/environment"), canary) {
			t.Error("the token is in the environment of openssl")
		}
		if got, err := unseal(r.Stdout, canary); err != nil || got != written {
			t.Errorf("came back as %q, %v", got, err)
		}
		if again := h.Run(text, canary); again.Stdout == r.Stdout {
			t.Error("sealed without salt")
		}
		raw, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(r.Stdout))
		changed := append([]byte{}, raw...)
		changed[20] ^= 1
		for name, sealed := range map[string]string{
			"clear": written, "empty": "", "half": base64.StdEncoding.EncodeToString(raw[:len(raw)-16]),
			"no block": base64.StdEncoding.EncodeToString(raw[:16]), "cut": r.Stdout[:len(r.Stdout)/2],
			"changed": base64.StdEncoding.EncodeToString(changed),
		} {
			if got, err := unseal(sealed, canary); err == nil || got != "" || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if _, err := unseal(r.Stdout, canary+"x"); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("another token: %v", err)
		}
	}
}

func TestKubeconfigIsRefused(t *testing.T) {
	text := kubeconfigText(t)
	h := sealer(t)
	clock(h)
	if r := h.Run(text, canary); r.Code == 0 || !strings.Contains(r.Stderr, "no kubeconfig") {
		t.Errorf("no file: %+v", r)
	}
	h.Write("/etc/rancher/k3s/k3s.yaml", "key: s3cr3t\n")
	if r := h.Run(text, ""); r.Code == 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "no token") {
		t.Errorf("no token: %+v", r)
	}
	h.Fake("openssl", "cat >/dev/null; exit 1")
	if r := h.Run(text, canary); r.Code == 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "could not seal") {
		t.Errorf("openssl fails: %+v", r)
	}
	h.Remove("openssl")
	if r := h.Run(text, canary); r.Code == 0 || r.Stdout != "" || !strings.Contains(r.Stderr, "openssl is missing") {
		t.Errorf("no openssl: %+v", r)
	}
	remotetest.ShellCheck(t, text)
}

// withCertificate returns a kubeconfig whose certificate ends at a time.
func withCertificate(t *testing.T, end time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	return fmt.Sprintf("clusters:\n- cluster:\n    server: %s\nusers:\n- user:\n    client-certificate-data: %s\n",
		localServer,
		base64.StdEncoding.EncodeToString(text))
}

func TestExpiry(t *testing.T) {
	end := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	if got := expiry(withCertificate(t, end)); !got.Equal(end) {
		t.Errorf("got %v", got)
	}
	for _, text := range []string{
		"", ":", "users: []", "users: [{user: {client-certificate-data: '!'}}]",
		"users: [{user: {client-certificate-data: aGk=}}]",
	} {
		if got := expiry(text); !got.IsZero() {
			t.Errorf("%q: %v", text, got)
		}
	}
}
