package stacks

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"embed"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/yaml"
)

//go:embed testdata
var testdata embed.FS

// material are the secrets of a test run, made anew for each, by the names the
// fixtures call them.
type material map[string]string

// secretName reports whether the material of this name must never be seen.
func (material) secretName(name string) bool {
	return name != "certificate" && name != "ssh-public-key"
}

var newMaterial = sync.OnceValue(func() material {
	m := material{}
	for _, name := range []string{
		"cloudflare-token", "tailscale-id", "tailscale-secret", "git-token", "git-status", "s3-access", "s3-secret",
		"backups-access", "backups-secret", "k3s-token",
		"not-a-key",
	} {
		m[name] = "canary-" + name + "-" + rand.Text()
	}
	for name, around := range map[string][2]string{
		"quoted": {`"`, `"`}, "placeholder": {"<", ">"}, "bearer": {"Bearer ", ""}, "two-lines": {"", "\ncanary-second-line"},
	} {
		m[name] = around[0] + "canary-" + name + "-" + rand.Text() + around[1]
	}
	m["certificate"], m["sealing-key"] = sealingPair()
	_, m["other-sealing-key"] = sealingPair()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(err)
	block, err := ssh.MarshalPrivateKey(key, "")
	must(err)
	m["ssh-key"] = string(pem.EncodeToMemory(block))
	signer, err := ssh.NewSignerFromKey(key)
	must(err)
	m["ssh-public-key"] = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("passphrase"))
	must(err)
	m["locked-ssh-key"] = string(pem.EncodeToMemory(block))
	return m
})

func sealingPair() (certificate, key string) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	must(err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)}))
}

const rest = `{
	// The family.
	"groups": {"group:family": ["a@example.com"]},
	"grants": [{"src": ["group:family"], "dst": ["group:family"], "ip": ["*"]}],
}`

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// newRoot returns a project directory with the environments named, and the rest of a tailnet's policy.
func newRoot(t testing.TB, environments ...string) string {
	t.Helper()
	root := t.TempDir()
	must(os.WriteFile(filepath.Join(root, "rest.hujson"), []byte(rest), 0o600))
	for _, environment := range environments {
		dir := filepath.Join(root, "clusters", environment)
		must(os.MkdirAll(dir, 0o755))
		must(os.WriteFile(filepath.Join(dir, "infrastructure.yaml"), nil, 0o600))
		must(os.WriteFile(filepath.Join(dir, "sealing.crt"), []byte(newMaterial()["certificate"]), 0o600))
	}
	return root
}

// stackFile is a Pulumi.<stack>.yaml.
type stackFile struct {
	Salt   string         `json:"encryptionsalt"` // once there is a stack
	Config map[string]any `json:"config"`
}

func readStackFile(t testing.TB, path string) stackFile {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f stackFile
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

// over lays f over base.
func (f stackFile) over(base stackFile) stackFile {
	return stackFile{Config: merge(base.Config, f.Config)}
}

func merge(base, over map[string]any) map[string]any {
	out := map[string]any{}
	for key, value := range base {
		out[key] = value
	}
	for key, value := range over {
		below, isGroup := base[key].(map[string]any)
		above, areGroups := value.(map[string]any)
		switch {
		case value == nil:
			delete(out, key)
		case isGroup && areGroups:
			out[key] = merge(below, above)
		default:
			out[key] = value
		}
	}
	return out
}

// source returns what Pulumi would hand over for f.
func (f stackFile) source(stack, root string) Source {
	src := Source{Stack: stack, Root: root, Values: map[string]string{}, SecretKeys: []string{}}
	for key, value := range f.Config {
		plain := reveal(value)
		if group, ok := value.(map[string]any); ok && group["secure"] != nil {
			src.SecretKeys = append(src.SecretKeys, key)
		}
		text, ok := plain.(string)
		if !ok {
			data, err := json.Marshal(plain)
			must(err)
			text = string(data)
		}
		src.Values[key] = text
	}
	return src
}

// document is f as an editor has it: secrets are encrypted, and what else the fixtures name is there.
func (f stackFile) document() map[string]any {
	config := map[string]any{}
	for key, value := range f.Config {
		if group, ok := value.(map[string]any); !ok || group["secure"] == nil {
			value = reveal(value)
		}
		config[key] = value
	}
	return map[string]any{"config": config}
}

// reveal replaces every {secure: NAME} by the material it stands for.
func reveal(value any) any {
	group, ok := value.(map[string]any)
	if !ok {
		return value
	}
	if name, ok := group["secure"].(string); ok {
		return newMaterial()[name]
	}
	out := map[string]any{}
	for key, inner := range group {
		out[key] = reveal(inner)
	}
	return out
}

// leaks returns the name of the material that text shows, raw or in part, or "".
func leaks(text string) string {
	for name, secret := range newMaterial() {
		for line := range strings.Lines(secret) {
			line = strings.TrimSpace(line)
			secret := newMaterial().secretName(name) && !strings.HasPrefix(line, "-----")
			if secret && strings.Contains(text, line) {
				return name
			}
		}
	}
	return ""
}
