package gitops

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// What scripts/seal.sh writes beside the values it seals.
const (
	scopeAnnotation = "sealing.tinyrack.net/scope"
	keyAnnotation   = "sealing.tinyrack.net/key"
)

// sealing is the public half of an environment's sealing key.
type sealing struct {
	fingerprint string // sha256 of the public key, as seal.sh writes it
	size        int    // of the key, in bytes
}

func (e *environment) loadSealing() *sealing {
	const file = "sealing.crt"
	where := filepath.Join("clusters", e.name, file)
	key, err := readCertificate(filepath.Join(e.tree.root, where))
	if err != nil {
		e.problem(where, "%v: nothing can be sealed for this environment: run scripts/sealing-key.sh %s", err, e.name)
		return nil
	}
	return key
}

func readCertificate(path string) (*sealing, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the checkout's own file
	if err != nil {
		return nil, errors.New("cannot be read")
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("is not a PEM certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("is not a certificate: %w", err)
	}
	public, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("is not for an RSA key")
	}
	if time.Now().After(certificate.NotAfter) {
		return nil, fmt.Errorf("expired on %s", certificate.NotAfter.Format(time.DateOnly))
	}
	digest := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	return &sealing{fingerprint: "sha256:" + hex.EncodeToString(digest[:]), size: public.Size()}, nil
}

// checkSealed tells whether the cluster will be able to open a SealedSecret, as far as
// that can be known without the private key. The namespace and the name are sealed in
// with every value (scope strict), so none of them can be changed afterwards.
func (e *environment) checkSealed(o object) {
	annotations := o.GetAnnotations()
	id := o.GetNamespace() + "/" + o.GetName()
	again := "seal it again with scripts/seal.sh " + e.name
	for _, wide := range []string{"sealedsecrets.bitnami.com/namespace-wide", "sealedsecrets.bitnami.com/cluster-wide"} {
		if _, ok := annotations[wide]; ok {
			e.problem(o.layer, "%s: is annotated %s: anyone who can create a SealedSecret could copy it and read "+
				"it: %s", o.id(), wide, again)
		}
	}
	if scope := annotations[scopeAnnotation]; scope != id {
		e.problem(o.layer, "%s: was sealed for %q: the cluster cannot open it under another name: %s", o.id(), scope, again)
	}
	if e.sealing != nil && annotations[keyAnnotation] != e.sealing.fingerprint {
		e.problem(o.layer, "%s: was sealed with another key than that of clusters/%s/sealing.crt: the cluster cannot open "+
			"it: %s", o.id(), e.name, again)
	}
	for _, field := range []string{"name", "namespace"} {
		own, _, _ := unstructured.NestedString(o.Object, "metadata", field)
		template, found, _ := unstructured.NestedString(o.Object, "spec", "template", "metadata", field)
		if found && template != own {
			e.problem(o.layer, "%s: its template has %s %q: the Secret would not be the one that is named "+
				"here: %s", o.id(), field, template, again)
		}
	}
	values, _, _ := unstructured.NestedStringMap(o.Object, "spec", "encryptedData")
	if len(values) == 0 {
		e.problem(o.layer, "%s: seals nothing: %s", o.id(), again)
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if e.sealing != nil && !e.sealing.plausible(values[key]) {
			e.problem(o.layer, "%s: %s is not a value sealed with this key, or was cut: the cluster cannot open "+
				"it: %s", o.id(), key, again)
		}
	}
}

// plausible checks the outer form of a sealed value: the length of the RSA part, the
// RSA part, and an AES-GCM part that has at least its 16-byte tag.
func (s *sealing) plausible(value string) bool {
	raw, err := base64.StdEncoding.DecodeString(value)
	return err == nil && len(raw) >= 2+s.size+16 && int(binary.BigEndian.Uint16(raw)) == s.size
}
