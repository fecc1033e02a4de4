package sealedsecrets_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/sealedsecrets"
)

// pair returns a self-signed certificate and its key, both in PEM.
func pair(t *testing.T, key crypto.Signer, expires time.Duration) (certificate, private string) {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(expires),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", keyDER)
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCheckPair(t *testing.T) {
	certificate, key := pair(t, rsaKey(t), time.Hour)
	expired, expiredKey := pair(t, rsaKey(t), -time.Hour)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecCertificate, ecKey := pair(t, curve, time.Hour)

	for name, tt := range map[string]struct{ certificate, key, want string }{
		"a pair":           {certificate, key, ""},
		"expired":          {expired, expiredKey, ""},
		"another key":      {certificate, expiredKey, "do not match"},
		"another kind":     {certificate, ecKey, "do not match"},
		"not RSA":          {ecCertificate, ecKey, "not an RSA key"},
		"no certificate":   {"", key, "not a PEM certificate"},
		"swapped":          {key, certificate, "not a PEM certificate"},
		"no key":           {certificate, "", "not in PEM"},
		"certificate only": {certificate, certificate, "not in PEM"},
	} {
		err := sealedsecrets.CheckPair(tt.certificate, tt.key)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "BEGIN") || strings.Contains(err.Error(), key[40:60])) {
			t.Errorf("%s: the message shows the key", name)
		}
	}
}

func TestNew(t *testing.T) {
	certificate, key := pair(t, rsaKey(t), time.Hour)
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		var before pulumi.CustomResourceState
		if err := ctx.RegisterResource("test:index:Before", "before", pulumi.Map{}, &before); err != nil {
			return err
		}
		_, err := sealedsecrets.New(ctx, "sealed-secrets", &sealedsecrets.Args{
			Namespace: "sealed-secrets", Certificate: certificate, PrivateKey: key, DependsOn: []pulumi.Resource{&before},
		})
		return err
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := recording.Names(); !slices.Equal(got, []string{"before", "sealed-secrets-key", "sealed-secrets-namespace"}) {
		t.Errorf("children are %q", got)
	}
	if got := recording.Get(t, "sealed-secrets-namespace"); !slices.Contains(got.DependsOn, "before") ||
		got.Parent != "sealed-secrets" {
		t.Errorf("namespace: after %q, below %q", got.DependsOn, got.Parent)
	}
	secret := recording.Get(t, "sealed-secrets-key")
	if !slices.Contains(secret.DependsOn, "sealed-secrets-namespace") || secret.Parent != "sealed-secrets" {
		t.Errorf("key: after %q, below %q", secret.DependsOn, secret.Parent)
	}
	want := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
		"metadata": map[string]any{
			"name": "sealed-secrets-key", "namespace": "sealed-secrets",
			"labels": map[string]any{"sealedsecrets.bitnami.com/sealed-secrets-key": "active"},
		},
		"stringData": map[string]any{"tls.crt": certificate, "tls.key": key},
	}
	if got := secret.Plain(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("key is %v", got)
	}
	if !slices.Equal(secret.Secrets(), []string{"stringData"}) {
		t.Errorf("secret are only %q", secret.Secrets())
	}
	if recording.OutputsRegistered != 2 {
		t.Error("the component did not register its outputs")
	}
}

func TestNewRefuses(t *testing.T) {
	certificate, _ := pair(t, rsaKey(t), time.Hour)
	_, other := pair(t, rsaKey(t), time.Hour)
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := sealedsecrets.New(ctx, "sealed-secrets", &sealedsecrets.Args{Certificate: certificate, PrivateKey: other})
		return err
	}, nil)
	if err == nil || !strings.Contains(err.Error(), "namespace: missing") ||
		!strings.Contains(err.Error(), "do not match") {
		t.Errorf("got %v", err)
	}
	if len(recording.Names()) > 0 {
		t.Errorf("registered %q", recording.Names())
	}
}
