package pulumi

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"os"
	"slices"
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
	doc, err := readConfig(s.committed())
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

// Empty are the places of a fact that the committed configuration has with nothing in them: facts that only the person
// knows who runs the stack. The path is dotted; a * in it stands for every name. They are sorted.
func (s *Stack) Empty(path string) ([]string, error) {
	doc, err := readConfig(s.committed())
	if err != nil {
		return nil, err
	}
	prefix := s.Project + ":"
	var found []string
	for _, place := range empty(doc.Config, splitPath(s.Project, path)) {
		found = append(found, strings.TrimPrefix(place, prefix))
	}
	return found, nil
}

func empty(m map[string]any, path []string) []string {
	names := []string{path[0]}
	if path[0] == "*" {
		names = slices.Sorted(maps.Keys(m))
	}
	var found []string
	for _, name := range names {
		value, there := m[name]
		if len(path) > 1 {
			child, _ := value.(map[string]any)
			for _, place := range empty(child, path[1:]) {
				found = append(found, name+"."+place)
			}
			continue
		}
		text, isText := value.(string)
		list, isList := value.([]any)
		if there && (value == nil || isText && text == "" || isList && len(list) == 0) {
			found = append(found, name)
		}
	}
	return found
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
