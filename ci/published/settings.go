package published

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// sealingKey is the setting of the sealing key, to which a certificate belongs.
const sealingKey = "sealingKey"

// cleanCertificate is where the placeholder of the certificate is, in the place of the committed one.
const cleanCertificate = ".published.crt"

// settings are the secrets of a stack's committed settings, as ciphertext.
type settings struct {
	project string
	secure  map[string]string
	// certificate is the sha256 of the sealing certificate.
	certificate string
}

func (s *settings) mark(name string) string { return mark(s.secure[name]) }

func settingsFile(tree, stack string) string { return filepath.Join(tree, "Pulumi."+stack+".yaml") }

// readSettings reads what a commit, in tree, says of a stack's secrets.
func readSettings(tree, stack string) (*settings, error) {
	var project struct {
		Name string `yaml:"name"`
	}
	if err := readYAML(filepath.Join(tree, "Pulumi.yaml"), &project); err != nil {
		return nil, err
	}
	var file struct {
		Config map[string]any `yaml:"config"`
	}
	if err := readYAML(settingsFile(tree, stack), &file); err != nil {
		return nil, err
	}
	s := &settings{project: project.Name, secure: map[string]string{}}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(file.Config)) {
		if object, ok := file.Config[name].(map[string]any); ok && len(object) == 1 {
			if secure, ok := object["secure"].(string); ok {
				s.secure[name] = secure
				continue
			}
		}
		if holdsSecret(file.Config[name]) {
			problems = append(problems, fmt.Errorf("%s: %s: has a secret inside: no placeholder can stand in its place: "+
				"make it a setting of its own", filepath.Base(settingsFile(tree, stack)), name))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if sealed, ok := file.Config[project.Name+":sealedSecrets"].(map[string]any); ok {
		if path, ok := sealed["certificate"].(string); ok && filepath.IsLocal(path) {
			text, err := os.ReadFile(filepath.Join(tree, path)) //nolint:gosec // inside the tree
			if err == nil {
				s.certificate = mark(string(text))
			}
		}
	}
	return s, nil
}

// holdsSecret tells whether a value is encrypted, or a part of it.
func holdsSecret(value any) bool {
	switch v := value.(type) {
	case map[string]any:
		if _, secure := v["secure"]; secure {
			return true
		}
		for _, child := range v {
			if holdsSecret(child) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, holdsSecret)
	}
	return false
}

// clean takes the salts and the ciphertexts out of every stack's settings in tree, and puts the placeholder of the
// certificate in the place of this stack's.
func (s *settings) clean(tree, stack, cert string) error {
	files, err := filepath.Glob(filepath.Join(tree, "Pulumi.*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // inside the tree
		if err != nil {
			return err
		}
		var doc yaml.Node
		if err := yaml.Unmarshal(text, &doc); err != nil {
			return unreadable(filepath.Base(file), err)
		}
		if len(doc.Content) == 0 {
			continue
		}
		top := doc.Content[0]
		remove(top, func(key, _ *yaml.Node) bool { return strings.HasPrefix(key.Value, "encrypt") })
		remove(top, func(key, _ *yaml.Node) bool { return key.Value == "secretsprovider" })
		withoutSecrets(top)
		if config := child(top, "config"); config != nil {
			if sealed := child(config, s.project+":sealedSecrets"); file == settingsFile(tree, stack) && sealed != nil {
				if at := child(sealed, "certificate"); at != nil && cert != "" {
					at.SetString(cleanCertificate)
				}
			}
		}
		out, err := yaml.Marshal(&doc)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, out, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(tree, cleanCertificate), []byte(cert), 0o600)
}

// withoutSecrets removes what is encrypted, wherever it stands: also where the engine would not look for it.
func withoutSecrets(node *yaml.Node) {
	secret := func(value *yaml.Node) bool { return child(value, "secure") != nil }
	remove(node, func(_, value *yaml.Node) bool { return secret(value) })
	if node.Kind == yaml.SequenceNode {
		node.Content = slices.DeleteFunc(node.Content, secret)
	}
	for _, below := range node.Content {
		withoutSecrets(below)
	}
}

// child is the value of a key of a mapping.
func child(node *yaml.Node, key string) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

func remove(node *yaml.Node, matches func(key, value *yaml.Node) bool) {
	if node.Kind != yaml.MappingNode {
		return
	}
	var kept []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		if !matches(node.Content[i], node.Content[i+1]) {
			kept = append(kept, node.Content[i], node.Content[i+1])
		}
	}
	node.Content = kept
}

func readYAML(path string, into any) error {
	text, err := os.ReadFile(path) //nolint:gosec // inside the tree
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: is not there: there is no such stack in this commit", filepath.Base(path))
	}
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		return unreadable(filepath.Base(path), err)
	}
	return nil
}

func unreadable(name string, err error) error {
	return fmt.Errorf("%s: is no YAML: %w: nothing can be previewed of it", name, err)
}
