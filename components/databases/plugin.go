package databases

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/pulumi/pulumi-random/sdk/v4/go/random"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Namespace is where the operator of PostgreSQL and its backup plugin run: upstream's manifests have no other.
const Namespace = "cnpg-system"

// The Secrets in Namespace in which the plugin and the operator look for their certificates, and their type:
// https://cloudnative-pg.io/plugin-barman-cloud/
const (
	PluginServerSecret = "barman-cloud-server-tls" //nolint:gosec // the name of a Secret, not one
	PluginClientSecret = "barman-cloud-client-tls" //nolint:gosec // the name of a Secret, not one
	PluginSecretType   = "kubernetes.io/tls"       //nolint:gosec // a type
)

// pluginService is the Service of the plugin, under whose name the operator calls it.
const pluginService = "barman-cloud"

// Plugin is how operator and plugin know each other: each has a certificate that it signed itself, and takes the
// other's alone. Upstream has cert-manager make them, a controller for two certificates that need no authority.
type Plugin struct {
	pulumi.ResourceState

	// Server and Client are the data of PluginServerSecret and PluginClientSecret. The keys in them are secret.
	Server, Client map[string]pulumi.StringInput
}

// NewPlugin registers a text that both pairs are derived from, <name>-seed: nothing else is in the state, and the same
// seed makes the same certificates. Replacing it replaces both pairs.
func NewPlugin(ctx *pulumi.Context, name string, opts ...pulumi.ResourceOption) (*Plugin, error) {
	fail := func(err error) (*Plugin, error) { return nil, fmt.Errorf("backup plugin %q: %w", name, err) }
	p := &Plugin{}
	if err := ctx.RegisterComponentResource("tinyrack:databases:Plugin", name, p, opts...); err != nil {
		return fail(err)
	}
	seed, err := random.NewRandomPassword(ctx, name+"-seed", &random.RandomPasswordArgs{
		Length: pulumi.Int(48), Special: pulumi.Bool(false),
	}, pulumi.Parent(p))
	if err != nil {
		return fail(err)
	}
	p.Server = pair(seed.Result, pluginService, x509.ExtKeyUsageServerAuth)
	p.Client = pair(seed.Result, pluginService+"-client", x509.ExtKeyUsageClientAuth)
	if err := ctx.RegisterResourceOutputs(p, pulumi.Map{}); err != nil {
		return fail(err)
	}
	return p, nil
}

func pair(seed pulumi.StringOutput, name string, usage x509.ExtKeyUsage) map[string]pulumi.StringInput {
	made := pulumi.ToSecret(seed.ApplyT(func(seed string) ([]string, error) {
		certificate, key, err := selfSigned(seed, name, usage)
		return []string{certificate, key}, err
	})).(pulumi.StringArrayOutput)
	return map[string]pulumi.StringInput{"tls.crt": made.Index(pulumi.Int(0)), "tls.key": made.Index(pulumi.Int(1))}
}

// selfSigned derives a key and its certificate for name from a seed, both PEM. Ed25519 signs without chance, so that
// equal seeds give equal certificates. It ends with RFC 5280's date for none: nobody would be there to renew it.
func selfSigned(seed, name string, usage x509.ExtKeyUsage) (certificate, key string, err error) {
	bytes, err := hkdf.Key(sha256.New, []byte(seed), nil, name, ed25519.SeedSize)
	if err != nil {
		return "", "", err
	}
	private := ed25519.NewKeyFromSeed(bytes)
	serial := sha256.Sum256(private.Public().(ed25519.PublicKey))
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:16]),
		Subject:      pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	der, err := x509.CreateCertificate(nil, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return text("CERTIFICATE", der), text("PRIVATE KEY", pkcs8), nil
}
