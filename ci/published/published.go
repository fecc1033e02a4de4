// Package published makes a stack's state fit to be seen by everybody, and previews changes against it. Every secret in
// it is a placeholder of the same form, and what the program derives from secrets is derived from the placeholders. So
// a change that a stranger proposes is previewed with its real operations, by code that has no secret to give away.
package published

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/ci/engine"
	"github.com/tinyrack-net/infrastructure/ci/report"
)

// Branch is the branch of the repository that holds a stack's published state, and File its only file.
func Branch(stack string) string { return "published/" + stack }

// File is the file in the branch.
const File = "state.json"

// State is what is published of a stack. Nothing in it is secret.
type State struct {
	Stack string `json:"stack"`
	// Commit is what was applied.
	Commit string `json:"commit"`
	// Secrets are the stack's secret settings by name.
	Secrets map[string]Placeholder `json:"secrets"`
	// Certificate belongs to the placeholder of the sealing key.
	Certificate Placeholder `json:"certificate"`
	// Protected are the resources that the engine refuses to delete. In the deployment they are not: their deletion is
	// to be shown, and not refused.
	Protected []string `json:"protected"`
	// Deployment is the state as the engine exports it.
	Deployment json.RawMessage `json:"deployment"`
}

// Placeholder stands in the place of a secret.
type Placeholder struct {
	Value string `json:"value"`
	// Mark is the sha256 of what git holds in the secret's place, its ciphertext: a change of that is a change of the
	// secret.
	Mark string `json:"mark"`
}

// Box runs an engine for code that nobody trusts: it has a folder with the project, a backend of its own and nothing
// else.
type Box interface {
	// Engine is an engine in a new backend for the project in tree, which is the code of one commit.
	Engine(ctx context.Context, tree string) (*engine.Engine, error)
}

// maxRounds is how often placeholders may have to go through the program until all that is derived from them is.
const maxRounds = 3

// Make makes the state of a stack, exported in clear, fit to be published: with the code that it was applied with, in
// tree, which a box takes. secrets are the stack's secret settings in clear.
func Make(
	ctx context.Context, box Box, stack, commit, tree, exported string, secrets map[string]string,
) (*State, error) {
	raw, err := readDeployment(exported)
	if err != nil {
		return nil, err
	}
	public, err := readAll(tree)
	if err != nil {
		return nil, err
	}
	known, err := raw.secrets(func(name string) error {
		if isPublic(name, public) {
			return nil
		}
		return errors.New("a secret object has a name in it that stands in no file of the repository: it may be secret " +
			"as well: mark the values as secret and not the object, or make the object a text")
	})
	if err != nil {
		return nil, fmt.Errorf("publish the state of %s: %w", stack, err)
	}
	known = slices.AppendSeq(known, maps.Values(secrets))
	places := newPlaceholders(known)
	s := &State{Stack: stack, Commit: commit, Secrets: map[string]Placeholder{}, Protected: raw.unprotect()}
	if err := raw.replace(places); err != nil {
		return nil, fmt.Errorf("publish the state of %s: %w", stack, err)
	}
	alsoPublic, err := raw.shortNumbers()
	if err != nil {
		return nil, err
	}
	files, err := readSettings(tree, stack)
	if err != nil {
		return nil, err
	}
	for name, value := range secrets {
		s.Secrets[name] = Placeholder{Value: places.of(value), Mark: files.mark(name)}
	}
	s.Certificate = Placeholder{Value: certificate(s.Secrets[files.project+":"+sealingKey].Value), Mark: files.certificate}
	e, err := s.open(ctx, box, tree)
	if err != nil {
		return nil, fmt.Errorf("publish the state of %s: %w", stack, err)
	}
	for round := 0; ; round++ {
		if s.Deployment, err = raw.text(); err != nil {
			return nil, err
		}
		digest, err := s.preview(ctx, e, tree, "--save-plan", planFile, "--show-secrets")
		if err != nil {
			return nil, fmt.Errorf("publish the state of %s: %w", stack, err)
		}
		if changes, _ := digest.Changes(); len(changes) == 0 {
			break
		} else if round == maxRounds {
			return nil, fmt.Errorf("publish the state of %s: after %d rounds %s still changes: strangers' previews would "+
				"show it with every change: see whether an up of %s changes anything", stack, round, changes[0].URN, commit)
		}
		if err := raw.settle(filepath.Join(tree, planFile)); err != nil {
			return nil, fmt.Errorf("publish the state of %s: %w", stack, err)
		}
	}
	text, err := s.Text()
	if err != nil {
		return nil, err
	}
	private := slices.DeleteFunc(notPublic(known, public), func(text string) bool { return alsoPublic[text] })
	if report.Leaks(string(text), slices.AppendSeq(private, maps.Values(secrets))) {
		return nil, fmt.Errorf("publish the state of %s: a secret is still in it: nothing is published: this is a defect of "+
			"the program, which puts a secret where none belongs", stack)
	}
	return s, nil
}

// Secrets are those in an exported state that have to be looked for, given that anybody can read the files in tree.
func Secrets(exported, tree string) ([]string, error) {
	raw := &deployment{}
	if err := readJSON([]byte(exported), raw); err != nil {
		return nil, errors.New("the exported state is not what the engine writes: what is secret in it is not known")
	}
	public, err := readAll(tree)
	if err != nil {
		return nil, err
	}
	// What cannot be published can be hidden.
	var names []string
	known, err := raw.secrets(func(name string) error {
		if !isPublic(name, public) {
			names = append(names, name)
		}
		return nil
	})
	if errors.Is(err, errUnknownKind) {
		err = nil // it cannot be published; all texts in it are among those found
	}
	return notPublic(append(known, names...), public), err
}

// notPublic are the secrets in these texts that have to be looked for. A secret object, a connection for one, has names
// of hosts in it, and what anybody can read in the repository, whose text is in public: settings, or the words of a
// script. A script holds more than its secrets, which are texts of their own elsewhere.
func notPublic(texts []string, public string) []string {
	var private []string
	for _, text := range texts {
		text = strings.TrimSpace(text)
		block, _ := pem.Decode([]byte(text))
		switch {
		case block != nil && strings.HasSuffix(block.Type, "PRIVATE KEY"):
			private = append(private, text)
		case kubeconfig.MatchString(text):
			for _, line := range credentials.FindAllString(text, -1) {
				if name, value, _ := strings.Cut(line, ": "); name != "certificate-authority-data" {
					private = append(private, value)
				}
			}
		case strings.Contains(text, "\n") || strings.Contains(public, text):
		case hostName.MatchString(text) && !number.MatchString(text):
		default:
			private = append(private, text)
		}
	}
	return private
}

// readAll is the text of all files of a tree but those that a box put there.
func readAll(tree string) (string, error) {
	var all strings.Builder
	err := filepath.WalkDir(tree, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || filepath.Dir(path) == tree && entry.Name()[0] == '.' {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // inside the tree
		all.Write(text)
		return err
	})
	return all.String(), err
}

var hostName = regexp.MustCompile(`^([a-z0-9-]+\.)+[a-z0-9-]+$`)

// Text is what is published, JSON.
func (s *State) Text() ([]byte, error) { return json.MarshalIndent(s, "", " ") }

// Preview is what a commit, whose code is in tree, changes against the published state.
func (s *State) Preview(ctx context.Context, box Box, tree string) (*engine.Digest, error) {
	e, err := s.open(ctx, box, tree)
	if err != nil {
		return nil, err
	}
	digest, err := s.preview(ctx, e, tree)
	if digest != nil {
		s.protect(digest)
	}
	return digest, err
}

// protect says again of the resources that they are protected.
func (s *State) protect(digest *engine.Digest) {
	for _, step := range digest.Steps {
		if step.Old != nil && slices.Contains(s.Protected, step.URN) {
			step.Old.Protect = true
		}
	}
}

// open makes an engine in a box for the code in tree, with the placeholders that go with it.
func (s *State) open(ctx context.Context, box Box, tree string) (*engine.Engine, error) {
	files, err := readSettings(tree, s.Stack)
	if err != nil {
		return nil, err
	}
	values, cert := s.values(files)
	if err := files.clean(tree, s.Stack, cert); err != nil {
		return nil, err
	}
	e, err := box.Engine(ctx, tree)
	if err != nil {
		return nil, err
	}
	if err := e.Init(ctx, s.Stack); err != nil {
		return nil, err
	}
	return e, e.SetPublicSecrets(ctx, s.Stack, values)
}

// preview puts the deployment in the place of the engine's state, and is what an up would do with that.
func (s *State) preview(
	ctx context.Context, e *engine.Engine, tree string, flags ...string,
) (*engine.Digest, error) {
	if err := s.place(tree); err != nil {
		return nil, err
	}
	if err := e.Import(ctx, s.Stack, importFile); err != nil {
		return nil, err
	}
	return e.Preview(ctx, s.Stack, flags...)
}

// importFile is where the state is put for the engine, below the tree.
const importFile = ".published.json"

// planFile is where the engine writes what it plans, with placeholders in clear, below the tree.
const planFile = ".published.plan.json"

// place writes the state as one of the box's stack, whose salt the engine wants in it.
func (s *State) place(tree string) error {
	var file struct {
		Salt string `yaml:"encryptionsalt"`
	}
	if err := readYAML(settingsFile(tree, s.Stack), &file); err != nil {
		return err
	}
	raw, err := readDeployment(string(s.Deployment))
	if err != nil {
		return err
	}
	raw.Deployment["secrets_providers"] = map[string]any{
		"type": "passphrase", "state": map[string]string{"salt": file.Salt},
	}
	text, err := raw.text()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(tree, importFile), text, 0o600)
}

// values are placeholders for the secret settings of a commit: those that were published, and new ones for secrets that
// the commit changes or adds, so that what is derived from them is seen to change.
func (s *State) values(files *settings) (values map[string]string, cert string) {
	values = map[string]string{}
	for name := range files.secure {
		published, known := s.Secrets[name]
		switch {
		case known && published.Mark == files.mark(name):
			values[name] = published.Value
		case known:
			values[name] = newPlaceholders(nil).of(published.Value)
		default:
			values[name] = unknownSecret(strings.TrimPrefix(name, files.project+":"))
		}
	}
	key := files.project + ":" + sealingKey
	cert = s.Certificate.Value
	if files.certificate != s.Certificate.Mark || values[key] != s.Secrets[key].Value {
		cert = certificate(values[key])
	}
	return values, cert
}

// mark is the sha256 of a text.
func mark(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
