package published

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/ci/engine"
	"github.com/tinyrack-net/infrastructure/ci/report"
)

// deployment is a state as the engine exports it.
type deployment struct {
	Version    int            `json:"version"`
	Deployment map[string]any `json:"deployment"`
}

func readDeployment(text string) (*deployment, error) {
	d := &deployment{}
	if err := readJSON([]byte(text), d); err != nil || d.Deployment == nil {
		return nil, errors.New("the exported state is not what the engine writes: nothing can be published of it")
	}
	// Whose salt opens the real one is nobody's business. Operations that were cut short are no part of a preview.
	delete(d.Deployment, "secrets_providers")
	delete(d.Deployment, "pending_operations")
	return d, nil
}

// readJSON reads all of a text, and every number as it is written: of a long one a float would lose something.
func readJSON(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more after its end")
	}
	return nil
}

func (d *deployment) text() (json.RawMessage, error) { return json.Marshal(d) }

func (d *deployment) resources() []map[string]any {
	list, _ := d.Deployment["resources"].([]any)
	var all []map[string]any
	for _, item := range list {
		if resource, ok := item.(map[string]any); ok {
			all = append(all, resource)
		}
	}
	return all
}

// secrets are the texts and the numbers of all secrets of the state. name may refuse a name in a secret object.
func (d *deployment) secrets(name func(string) error) ([]string, error) {
	found := map[string]bool{}
	err := d.mapSecrets(leaves{
		text: func(text string) string { found[text] = true; return text },
		number: func(n json.Number) json.Number {
			if text := strings.TrimPrefix(n.String(), "-"); digits(text) >= leastNumber {
				found[text] = true
			}
			return n
		},
		name: name,
	})
	return slices.Sorted(maps.Keys(found)), err
}

// shortNumbers are those that stand in the state, once its secrets are replaced. A secret one that is among them, the
// size of something for one, is a public one as well. Long ones are alike for a reason.
func (d *deployment) shortNumbers() (map[string]bool, error) {
	text, err := d.text()
	found := map[string]bool{}
	for _, number := range shortNumber.FindAllString(string(text), -1) {
		found[number] = true
	}
	return found, err
}

var shortNumber = regexp.MustCompile(`\b[0-9]{1,11}\b`)

// leastNumber is how many digits a secret number has that is looked for: a shorter one, a port for one, would be found
// everywhere.
const leastNumber = 6

// digits is how many there are in a text.
func digits(text string) int {
	return len(text) - len(strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, text))
}

// connection are the names of the secret object that most commands have. Source:
// github.com/pulumi/pulumi-command/sdk/go/command/remote, ConnectionArgs.
var connection = []string{
	"agentSocketPath", "dialErrorLimit", "host", "hostKey", "password", "perDialTimeout", "port", "privateKey",
	"privateKeyPassword", "proxy", "user",
}

// isPublic tells whether a name in a secret object, which is published, is known to all who can read the repository,
// whose text is in public. Another may be somebody's.
func isPublic(name, public string) bool {
	return slices.Contains(connection, name) || report.HoldsWord(public, name, "_-")
}

// replace puts placeholders in the place of all secrets.
func (d *deployment) replace(places *placeholders) error {
	return d.mapSecrets(leaves{
		text: places.of, number: places.number, name: func(string) error { return nil },
	})
}

// leaves says what becomes of what a secret is made of.
type leaves struct {
	text   func(string) string
	number func(json.Number) json.Number
	// name may refuse the name of a property: it stays.
	name func(string) error
}

// mapSecrets replaces what every secret holds. It goes on after an error, so that all are seen, and returns the first.
func (d *deployment) mapSecrets(l leaves) error {
	var first error
	for _, resource := range d.resources() {
		var problem error
		for key, value := range resource {
			resource[key] = engine.Map(value, func(part any) (any, bool) {
				if !engine.IsSecret(part) {
					return nil, false
				}
				with, err := l.replace(part)
				problem = cmp.Or(problem, err)
				return with, true
			})
		}
		if problem != nil && first == nil {
			first = fmt.Errorf("%v: %w", resource["urn"], problem)
		}
	}
	return first
}

// signature marks what is no plain object of a state: secrets, assets, references. Source:
// github.com/pulumi/pulumi/sdk/v3/go/common/resource, SigKey.
const signature = "4dabf18193072939515e22adb298388d"

// replace returns a secret, or what is in one, with its leaves replaced, and the first error. True, false and nothing
// stay: they are a bit.
func (l leaves) replace(value any) (with any, problem error) {
	switch v := value.(type) {
	case nil, bool:
		return v, nil
	case string:
		return l.text(v), nil
	case json.Number:
		return l.number(v), nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			out[i], err = l.replace(v[i])
			problem = cmp.Or(problem, err)
		}
		return out, problem
	case map[string]any:
		_, special := v[signature]
		if special && engine.IsSecret(v) {
			return l.replaceSecret(v)
		}
		out := make(map[string]any, len(v))
		for name, child := range v {
			if name == signature {
				continue // says of what kind it is
			}
			var err error
			if !special {
				err = l.name(name)
			}
			problem = cmp.Or(problem, err)
			out[name], err = l.replace(child)
			problem = cmp.Or(problem, err)
		}
		if special {
			problem = errUnknownKind
		}
		return out, problem
	}
	return nil, errUnknownKind
}

func (l leaves) replaceSecret(object map[string]any) (any, error) {
	text, _ := object["plaintext"].(string) // none, while it is encrypted
	var value any
	if readJSON([]byte(text), &value) != nil {
		return nil, errUnknownKind // no other error, which could quote the secret
	}
	value, err := l.replace(value)
	return engine.Secret(value), err
}

var errUnknownKind = errors.New("has a secret that is encrypted, or of another kind than texts, numbers, lists and " +
	"objects: what it holds could not be hidden: make it a text")

// unprotect takes the engine's protection off, and returns what had it.
func (d *deployment) unprotect() []string {
	var had []string
	for _, resource := range d.resources() {
		if resource["protect"] == true {
			urn, _ := resource["urn"].(string)
			had = append(had, urn)
			delete(resource, "protect")
		}
	}
	return had
}

// settle takes over what the program made of the placeholders, from the engine's plan: as inputs, and where the outputs
// repeat them, as outputs.
func (d *deployment) settle(plan string) error {
	var planned struct {
		Resources map[string]struct {
			Goal struct {
				Inputs struct {
					Adds    map[string]any `json:"adds"`
					Updates map[string]any `json:"updates"`
					Deletes []string       `json:"deletes"`
				} `json:"inputDiff"`
			} `json:"goal"`
		} `json:"resourcePlans"`
	}
	text, err := os.ReadFile(plan) //nolint:gosec // in the box's own tree
	if err == nil {
		err = readJSON(text, &planned)
	}
	if err != nil {
		return fmt.Errorf("the engine's plan: %w", err)
	}
	for _, resource := range d.resources() {
		urn, _ := resource["urn"].(string)
		goal, ok := planned.Resources[urn]
		inputs, isMap := resource["inputs"].(map[string]any)
		if !ok || !isMap {
			continue
		}
		outputs, _ := resource["outputs"].(map[string]any)
		for _, values := range []map[string]any{goal.Goal.Inputs.Adds, goal.Goal.Inputs.Updates} {
			for key, value := range values {
				if !known(value) {
					continue
				}
				inputs[key] = value
				if _, repeats := outputs[key]; repeats {
					outputs[key] = value
				}
			}
		}
		for _, key := range goal.Goal.Inputs.Deletes {
			delete(inputs, key)
		}
	}
	return nil
}

func known(value any) bool {
	text, err := json.Marshal(value)
	return err == nil && !strings.Contains(string(text), engine.Unknown)
}
