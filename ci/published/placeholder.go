package published

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// placeholders are texts in the place of secrets: of the same form, and equal where the secrets are.
type placeholders struct {
	made map[string]string
	// keys are the secrets that may have sealed others.
	keys []string
}

func newPlaceholders(secrets []string) *placeholders {
	p := &placeholders{made: map[string]string{}, keys: secrets}
	for _, secret := range secrets {
		if _, bare, found := strings.Cut(secret, server); found {
			p.keys = append(p.keys, bare)
		}
	}
	return p
}

// A token of k3s begins with version, and has server before its secret part: the program refuses what has colons and
// neither.
const version, server = "K10", "::server:"

// of is the placeholder of a secret.
func (p *placeholders) of(secret string) string {
	if made, ok := p.made[secret]; ok {
		return made
	}
	made := p.form(secret)
	p.made[secret] = made
	return made
}

func (p *placeholders) form(secret string) string {
	if block, _ := pem.Decode([]byte(secret)); block != nil {
		if key := keyLike(block); key != "" {
			return key
		}
	}
	if kubeconfig.MatchString(secret) {
		return credentials.ReplaceAllStringFunc(secret, func(line string) string {
			name, value, _ := strings.Cut(line, ": ")
			return name + ": " + base64.StdEncoding.EncodeToString([]byte(random(value)))
		})
	}
	if text, key, ok := p.open(secret); ok {
		return seal(p.of(text), p.of(key))
	}
	if before, bare, found := strings.Cut(secret, server); found && strings.HasPrefix(before, version) {
		return version + random(before[len(version):]) + server + p.of(bare)
	}
	return random(secret)
}

var (
	kubeconfig  = regexp.MustCompile(`(?m)^kind: Config$`)
	credentials = regexp.MustCompile(`[a-z-]*(?:-data|token|password): \S+`)
)

// number is the placeholder of a secret number: sign, exponent and how many digits there are before and after the point
// stay. A text of the same digits has the same placeholder.
func (p *placeholders) number(n json.Number) json.Number {
	parts := number.FindStringSubmatch(n.String())
	if parts == nil {
		return "0" // no JSON has one
	}
	made := parts[1] + p.of(parts[2])
	if parts[3] != "" {
		made += "." + p.of(parts[3])
	}
	return json.Number(made + parts[4])
}

var number = regexp.MustCompile(`^(-?)([0-9]+)(?:\.([0-9]+))?([eE][+-]?[0-9]+)?$`)

// random is another text of as many bytes. It tells no more than the program and the providers look at: whether all are
// digits, or hexadecimal ones, and the padding of base64. Anything else becomes lower-case letters and digits, which a
// token, a name, a password and base64 can have. No word stays: a person may have chosen it.
func random(secret string) string {
	body, padding := secret, ""
	if _, err := base64.StdEncoding.DecodeString(secret); err == nil {
		body = strings.TrimRight(secret, "=")
		padding = secret[len(body):]
	}
	alphabet := "abcdefghijklmnopqrstuvwxyz0123456789"
	for _, narrow := range []string{"0123456789", "0123456789abcdef", "0123456789ABCDEF"} {
		if strings.Trim(secret, narrow) == "" {
			alphabet = narrow
			break
		}
	}
	for {
		out := make([]byte, len(body))
		_, _ = rand.Read(out) // never fails
		for i := range out {
			out[i] = alphabet[int(out[i])%len(alphabet)]
		}
		// A number has no zero before its other digits: where the secret has none the placeholder has none.
		if body != "" && len(alphabet) == 10 && body[0] != '0' && out[0] == '0' {
			continue
		}
		if made := string(out) + padding; made != secret || body == "" {
			return made
		}
	}
}

// keyLike is a new private key of the kind of a PEM block, or nothing when it is none.
func keyLike(block *pem.Block) string {
	switch block.Type {
	case "OPENSSH PRIVATE KEY":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return ""
		}
		made, err := ssh.MarshalPrivateKey(key, "placeholder")
		if err != nil {
			return ""
		}
		return string(pem.EncodeToMemory(made))
	case "RSA PRIVATE KEY":
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return ""
		}
		return encode(block.Type, x509.MarshalPKCS1PrivateKey(key))
	case "PRIVATE KEY", "EC PRIVATE KEY":
		return encode(pkcs8Like(block))
	}
	return ""
}

func pkcs8Like(block *pem.Block) (kind string, der []byte) {
	var key any
	if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		switch parsed.(type) {
		case *rsa.PrivateKey:
			key, _ = rsa.GenerateKey(rand.Reader, 2048) // fails for sizes below 1024 alone
		case ed25519.PrivateKey:
			_, key, _ = ed25519.GenerateKey(rand.Reader) // never fails
		}
	}
	if key == nil {
		key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // never fails
	}
	der, _ = x509.MarshalPKCS8PrivateKey(key) // every key made here has that form
	return "PRIVATE KEY", der
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// certificate is a certificate of a private key in PEM, PKCS #8 or PKCS #1, for ten years; nothing of any other text.
func certificate(key string) string {
	block, _ := pem.Decode([]byte(key))
	if block == nil {
		return ""
	}
	var private *rsa.PrivateKey
	if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		private, _ = parsed.(*rsa.PrivateKey)
	} else {
		private, _ = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	if private == nil {
		return ""
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "placeholder"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return ""
	}
	return encode("CERTIFICATE", der)
}

// The machines seal what they print with "openssl enc -aes-256-cbc -pbkdf2 -iter 100000 -base64", and the program opens
// it (components/k3s/seal.go): a placeholder that cannot be opened would stop it.
const rounds = 100_000

var header = []byte("Salted__")

// open tries all keys on what may be sealed with one of them.
func (p *placeholders) open(sealed string) (text, key string, ok bool) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(sealed))
	if err != nil || !bytes.HasPrefix(raw, header) || len(raw) < 32 || len(raw)%aes.BlockSize != 0 {
		return "", "", false
	}
	for _, key := range p.keys {
		out := make([]byte, len(raw)-16)
		cipher.NewCBCDecrypter(block(key, raw[8:16])).CryptBlocks(out, raw[16:])
		padding := int(out[len(out)-1])
		if padding < 1 || padding > aes.BlockSize || padding > len(out) {
			continue
		}
		sum, content, found := bytes.Cut(out[:len(out)-padding], []byte("\n"))
		wanted := sha256.Sum256(content)
		if found && string(sum) == hex.EncodeToString(wanted[:]) {
			return string(content), key, true
		}
	}
	return "", "", false
}

// block is the cipher and the initial vector of a passphrase and a salt.
func block(passphrase string, salt []byte) (cipher.Block, []byte) {
	key, err := pbkdf2.Key(sha256.New, passphrase, salt, rounds, 32+aes.BlockSize)
	if err != nil {
		panic(err) // lengths that are allowed
	}
	b, err := aes.NewCipher(key[:32])
	if err != nil {
		panic(err) // a length that is allowed
	}
	return b, key[32:]
}

// seal is what a machine would print.
func seal(content, passphrase string) string {
	salt := make([]byte, 8)
	_, _ = rand.Read(salt) // never fails
	sum := sha256.Sum256([]byte(content))
	text := append([]byte(hex.EncodeToString(sum[:])+"\n"), content...)
	padding := aes.BlockSize - len(text)%aes.BlockSize
	text = append(text, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block(passphrase, salt)).CryptBlocks(text, text)
	return base64.StdEncoding.EncodeToString(append(append(append([]byte{}, header...), salt...), text...))
}

// unknownSecret stands for a secret setting that a change adds: of the form that its name asks for.
func unknownSecret(name string) string {
	lower := strings.ToLower(name)
	switch {
	case name == sealingKey:
		key, _ := rsa.GenerateKey(rand.Reader, 2048) // fails for sizes below 1024 alone
		der, _ := x509.MarshalPKCS8PrivateKey(key)   // every key has that form
		return encode("PRIVATE KEY", der)
	case strings.Contains(lower, "ssh") || strings.Contains(lower, "privatekey"):
		return keyLike(&pem.Block{Type: "OPENSSH PRIVATE KEY"})
	}
	return random(strings.Repeat("0a", 20)) // 40 characters
}
