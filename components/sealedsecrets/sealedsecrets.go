// Package sealedsecrets brings back the key that opens the SealedSecrets in git:
// the controller's namespace and its key pair, both there before the controller
// first starts, so that it adopts the key instead of making one.
package sealedsecrets

import (
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// keyLabel marks the secrets the controller loads keys from:
// https://github.com/bitnami-labs/sealed-secrets/blob/main/docs/bring-your-own-certificates.md
const keyLabel = "sealedsecrets.bitnami.com/sealed-secrets-key"

// secretName is the key's Secret within the namespace.
const secretName = "sealed-secrets-key"

// Args describes the sealing key pair.
type Args struct {
	// Namespace is where the controller will run.
	Namespace string
	// Certificate is the public half, in PEM; the same that is in git.
	Certificate string
	// PrivateKey is the RSA private half, in PEM. Secret.
	PrivateKey string
	// Protect keeps the namespace from being deleted or replaced by Pulumi: the key in it would be gone, and the state
	// would say that it is there.
	Protect bool
	// DependsOn must exist before the namespace.
	DependsOn []pulumi.Resource
}

// Keys is a namespace with its sealing key. Its children, named after the
// component NAME:
//
//	NAME-namespace  the namespace
//	NAME-key        Secret sealed-secrets-key, the key pair
type Keys struct {
	pulumi.ResourceState

	// Done is what later steps depend on.
	Done []pulumi.Resource
}

// Validate returns every problem with a. No message holds any part of the key.
func (a *Args) Validate() error {
	if a == nil {
		return errors.New("no arguments: nothing sealed could be opened: pass Args")
	}
	var problems []error
	if a.Namespace == "" {
		problems = append(problems, errors.New("namespace: missing: the controller would not find its key: set the "+
			"controller's namespace"))
	}
	if err := CheckPair(a.Certificate, a.PrivateKey); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// CheckPair returns why certificate and key, both in PEM, are not one usable
// sealing pair, or nil. An expired certificate is no reason: it still opens what
// it sealed.
func CheckPair(certificate, key string) error {
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "does not match"):
		return errors.New("sealing key and certificate do not match: nothing sealed with this certificate could be opened: " +
			"restore the key that belongs to it, or commit the key's certificate and seal everything again")
	case strings.Contains(err.Error(), "certificate input"):
		return errors.New("sealing certificate: not a PEM certificate: there is nothing to compare the key with: commit " +
			"the certificate that kubeseal uses")
	default:
		return errors.New("sealing key or certificate: not in PEM: the controller would ignore the pair and make a key of " +
			"its own: restore both from the backup")
	}
	if _, ok := pair.PrivateKey.(*rsa.PrivateKey); !ok {
		return errors.New("sealing key: not an RSA key: sealed-secrets knows no other kind: restore the controller's own key")
	}
	return nil
}

// New registers the component. The caller passes the kubernetes provider with
// pulumi.Providers.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Keys, error) {
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("sealed secrets %q: nothing was registered: %w", name, err)
	}
	k := &Keys{}
	if err := ctx.RegisterComponentResource("tinyrack:sealedsecrets:Keys", name, k, opts...); err != nil {
		return nil, fmt.Errorf("sealed secrets %q: %w", name, err)
	}
	namespace, err := corev1.NewNamespace(ctx, name+"-namespace", &corev1.NamespaceArgs{
		Metadata: metav1.ObjectMetaArgs{Name: pulumi.String(args.Namespace)},
	}, pulumi.Parent(k), pulumi.DependsOn(args.DependsOn), pulumi.Protect(args.Protect))
	if err != nil {
		return nil, fmt.Errorf("sealed secrets %q: namespace: %w", name, err)
	}
	key, err := corev1.NewSecret(ctx, name+"-key", &corev1.SecretArgs{
		Metadata: metav1.ObjectMetaArgs{
			Name:      pulumi.String(secretName),
			Namespace: pulumi.String(args.Namespace),
			Labels:    pulumi.StringMap{keyLabel: pulumi.String("active")},
		},
		Type: pulumi.String("kubernetes.io/tls"),
		StringData: pulumi.StringMap{
			"tls.crt": pulumi.String(args.Certificate),
			"tls.key": pulumi.ToSecret(pulumi.String(args.PrivateKey)).(pulumi.StringOutput),
		},
	}, pulumi.Parent(k), pulumi.DependsOn([]pulumi.Resource{namespace}))
	if err != nil {
		return nil, fmt.Errorf("sealed secrets %q: key: %w", name, err)
	}
	k.Done = []pulumi.Resource{namespace, key}
	if err := ctx.RegisterResourceOutputs(k, pulumi.Map{}); err != nil {
		return nil, fmt.Errorf("sealed secrets %q: outputs: %w", name, err)
	}
	return k, nil
}
