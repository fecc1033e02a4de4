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
	// A first one is not there yet; a damaged one is written anew.
	last, _ := readConfig(s.Config())
	if err := doc.fill(s.Project, passphrase, settings, last); err != nil {
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

// Text is what the committed configuration says at a dotted path, or "" where it says nothing.
func (s *Stack) Text(path string) (string, error) {
	doc, err := readConfig(s.committed())
	if err != nil {
		return "", err
	}
	var at any = doc.Config
	for _, name := range splitPath(s.Project, path) {
		group, _ := at.(map[string]any)
		at = group[name]
	}
	text, _ := at.(string)
	return text, nil
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

// fill puts the settings in. What last, the file of the last time, has encrypted of the same secrets with the same
// passphrase stays as it is: a new ciphertext would look like a new secret.
func (d *document) fill(project, passphrase string, settings Settings, last document) error {
	for path, value := range settings.Facts {
		setPath(d.Config, splitPath(project, path), value)
	}
	ctx := context.Background()
	crypter, salt := last.crypter(ctx, passphrase)
	if crypter == nil {
		bytes := []byte(secret.Token(4))
		crypter = config.NewSymmetricCrypterFromPassphrase(passphrase, bytes)
		check, err := crypter.EncryptValue(ctx, "pulumi")
		if err != nil {
			return err
		}
		salt, last = "v1:"+base64.StdEncoding.EncodeToString(bytes)+":"+check, document{}
	}
	d.Salt = salt
	for name, value := range settings.Secrets {
		key := project + ":" + name
		if same, _ := last.Config[key].(map[string]any); same != nil {
			secure, _ := same["secure"].(string)
			if text, err := crypter.DecryptValue(ctx, secure); err == nil && text == value {
				d.Config[key] = same
				continue
			}
		}
		secure, err := crypter.EncryptValue(ctx, value)
		if err != nil {
			return err
		}
		d.Config[key] = map[string]any{"secure": secure}
	}
	return nil
}

// crypter is what the document's secrets are encrypted with, and its salt; nil where another passphrase was used.
func (d *document) crypter(ctx context.Context, passphrase string) (config.Crypter, string) {
	_, rest, _ := strings.Cut(d.Salt, ":")
	text, check, _ := strings.Cut(rest, ":")
	salt, err := base64.StdEncoding.DecodeString(text)
	if err != nil || check == "" {
		return nil, ""
	}
	crypter := config.NewSymmetricCrypterFromPassphrase(passphrase, salt)
	if word, err := crypter.DecryptValue(ctx, check); err != nil || word != "pulumi" {
		return nil, ""
	}
	return crypter, d.Salt
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
