package k3s

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// errSealed says nothing of the content.
var errSealed = errors.New("the kubeconfig that the machine sent cannot be opened: it is damaged or was sealed with " +
	"another token: write another text into cluster.renewal and run pulumi up again")

// unseal returns what kubeconfig.sh sealed: the output of "openssl enc -aes-256-cbc -pbkdf2", whose text begins with
// its own sha256. Between the machine and here nobody but SSH carries it; the sum tells a wrong token or a cut text.
func unseal(sealed, token string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(sealed))
	header := []byte("Salted__")
	if err != nil || !bytes.HasPrefix(raw, header) || len(raw) < 32 || len(raw)%aes.BlockSize != 0 {
		return "", errSealed
	}
	key, err := pbkdf2.Key(sha256.New, token, raw[8:16], 100_000, 32+aes.BlockSize)
	if err != nil {
		return "", errSealed
	}
	block, err := aes.NewCipher(key[:32])
	if err != nil {
		return "", errSealed
	}
	text := raw[16:]
	cipher.NewCBCDecrypter(block, key[32:]).CryptBlocks(text, text)
	padding := int(text[len(text)-1])
	if padding < 1 || padding > aes.BlockSize || padding > len(text) {
		return "", errSealed
	}
	sum, content, found := bytes.Cut(text[:len(text)-padding], []byte("\n"))
	wanted := sha256.Sum256(content)
	if !found || subtle.ConstantTimeCompare(sum, []byte(hex.EncodeToString(wanted[:]))) != 1 {
		return "", errSealed
	}
	return string(content), nil
}

// expiry returns when the client certificate of a kubeconfig ends, or the zero time when there is none to read.
func expiry(kubeconfig string) time.Time {
	var content struct {
		Users []struct {
			User struct {
				Certificate string `yaml:"client-certificate-data"`
			}
		}
	}
	if yaml.Unmarshal([]byte(kubeconfig), &content) != nil || len(content.Users) == 0 {
		return time.Time{}
	}
	raw, _ := base64.StdEncoding.DecodeString(content.Users[0].User.Certificate)
	block, _ := pem.Decode(raw)
	if block == nil {
		return time.Time{}
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}
	}
	return certificate.NotAfter
}
