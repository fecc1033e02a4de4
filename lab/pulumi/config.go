package pulumi

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/config"
	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// Settings are what the committed configuration of a stack leaves out.
type Settings struct {
	// Facts by dotted path below the project: "cloudflare.accountId".
	Facts map[string]any
	// Secrets by name; they are written encrypted.
	Secrets map[string]string
}

// document is a stack's configuration file.
type document struct {
	Salt   string         `json:"encryptionsalt,omitempty"`
	Config map[string]any `json:"config"`
}

func readConfig(path string) (document, error) {
	doc := document{}
	text, err := os.ReadFile(path) //nolint:gosec // the checkout's own file
	if err == nil {
		err = yaml.Unmarshal(text, &doc)
	}
	if doc.Config == nil {
		doc.Config = map[string]any{}
	}
	return doc, err
}

// Configure writes the stack's configuration: the committed file with the settings in it, secrets encrypted with the
// passphrase.
func (s *Stack) Configure(passphrase string, settings Settings) error {
	doc, err := readConfig(filepath.Join(s.Checkout, "Pulumi."+s.Name+".yaml"))
	if err != nil {
		return err
	}
	if err := doc.fill(s.Project, passphrase, settings); err != nil {
		return err
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	return errors.Join(file.Write(s.path("passphrase"), []byte(passphrase), 0o600), file.Write(s.Config(), text, 0o600))
}

// LeavesEmpty tells whether the committed configuration has a place for a fact, at a dotted path, with nothing in it: a
// fact that only the person knows who runs the stack.
func (s *Stack) LeavesEmpty(path string) (bool, error) {
	doc, err := readConfig(filepath.Join(s.Checkout, "Pulumi."+s.Name+".yaml"))
	if err != nil {
		return false, err
	}
	keys := splitPath(s.Project, path)
	m := doc.Config
	for _, key := range keys[:len(keys)-1] {
		m, _ = m[key].(map[string]any)
	}
	value, found := m[keys[len(keys)-1]]
	switch v := value.(type) {
	case nil:
		return found, nil
	case string:
		return v == "", nil
	case []any:
		return len(v) == 0, nil
	}
	return false, nil
}

func (d *document) fill(project, passphrase string, settings Settings) error {
	for path, value := range settings.Facts {
		setPath(d.Config, splitPath(project, path), value)
	}
	salt := []byte(secret.Token(4))
	crypter := config.NewSymmetricCrypterFromPassphrase(passphrase, salt)
	encrypt := func(text string) (string, error) { return crypter.EncryptValue(context.Background(), text) }
	check, err := encrypt("pulumi")
	if err != nil {
		return err
	}
	d.Salt = "v1:" + base64.StdEncoding.EncodeToString(salt) + ":" + check
	for name, value := range settings.Secrets {
		secure, err := encrypt(value)
		if err != nil {
			return err
		}
		d.Config[project+":"+name] = map[string]string{"secure": secure}
	}
	return nil
}

func splitPath(project, path string) []string { return strings.Split(project+":"+path, ".") }

// setPath sets a value in nested maps, making those that are missing.
func setPath(m map[string]any, path []string, value any) {
	for ; len(path) > 1; path = path[1:] {
		child, ok := m[path[0]].(map[string]any)
		if !ok {
			child = map[string]any{}
			m[path[0]] = child
		}
		m = child
	}
	m[path[0]] = value
}
