package schema

import (
	"context"
	"errors"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Values are properties as plain Go values: strings, float64, bool, []any and
// map[string]any. Secret marks are gone, so Values must not be logged.
type Values map[string]any

// String returns a string property, empty when it is absent.
func (v Values) String(name string) string {
	s, _ := v[name].(string)
	return s
}

// Bool returns a boolean property, false when it is absent.
func (v Values) Bool(name string) bool {
	b, _ := v[name].(bool)
	return b
}

// Int returns a number property as an integer, 0 when it is absent.
func (v Values) Int(name string) int {
	n, _ := v[name].(float64)
	return int(n)
}

// Strings returns a list of strings, nil when it is absent.
func (v Values) Strings(name string) []string {
	items, _ := v[name].([]any)
	var out []string
	for _, item := range items {
		if s, ok := item.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// Object returns an object property, nil when it is absent.
func (v Values) Object(name string) Values {
	m, _ := v[name].(map[string]any)
	return m
}

// Has says whether the property is present.
func (v Values) Has(name string) bool {
	_, ok := v[name]
	return ok
}

// Output is a property that the resource has beside its inputs.
type Output struct {
	Secret bool
	// Volatile outputs are not known before an update has run.
	Volatile bool
	// Tainted outputs are secret when any input but those of Apart is.
	Tainted bool
}

// Resource is one resource type of a double. Create, Read, Update and Delete
// are called with everything known and never in a preview.
type Resource struct {
	Inputs  Properties
	Outputs map[string]Output
	// Apart names inputs that do not flow into tainted outputs.
	Apart []string
	// DeleteFirst makes a replacement delete the old one before.
	DeleteFirst bool

	// Validate refuses inputs beyond what their types say; it may see absent
	// and, in a preview, not yet known properties (as absent).
	Validate func(inputs Values) error
	// Create makes it and returns its ID and its outputs. Outputs may also hold
	// inputs that the service changed or completed.
	Create func(ctx context.Context, call Call) (id string, outputs Values, err error)
	// Read returns the live properties, inputs and outputs alike, or ErrGone.
	// Nil means the resource cannot be read: its state is believed.
	Read func(ctx context.Context, call Call) (Values, error)
	// Update changes it in place. Nil means every change replaces.
	Update func(ctx context.Context, call Call) (outputs Values, err error)
	// Delete removes it; gone already is not an error. Nil means there is
	// nothing to remove.
	Delete func(ctx context.Context, call Call) error
}

// Call is what a resource is called with.
type Call struct {
	URN  resource.URN
	Name string
	ID   string
	// Inputs are the wanted inputs; for Read and Delete the last ones.
	Inputs Values
	// State is the last state (inputs and outputs); empty for Create.
	State Values
}

// ErrGone says that the resource no longer exists.
var ErrGone = errors.New("the resource no longer exists")

// replaces says whether a change of the top-level input forces a replacement.
func (r Resource) replaces(name string) bool {
	return r.Update == nil || r.Inputs[name].Replace
}

// state builds the resource's state: its inputs with their secret marks, then
// its outputs.
func (r Resource) state(inputs, olds resource.PropertyMap, outputs Values) resource.PropertyMap {
	tainted := r.tainted(inputs)
	state := resource.PropertyMap{}
	for key, value := range inputs {
		state[key] = value
	}
	for name, value := range outputs {
		key := resource.PropertyKey(name)
		if value == nil {
			delete(state, key)
			continue
		}
		p := resource.NewPropertyValue(value)
		_, isInput := r.Inputs[name]
		secret := r.Outputs[name].Secret || r.Inputs[name].Secret || (r.Outputs[name].Tainted && tainted)
		if isInput && (sealed(inputs[key]) || sealed(olds[key])) {
			secret = true
		}
		if secret {
			p = resource.MakeSecret(p)
		}
		state[key] = p
	}
	return state
}

func (r Resource) tainted(inputs resource.PropertyMap) bool {
	for key, value := range inputs {
		apart := false
		for _, name := range r.Apart {
			apart = apart || string(key) == name
		}
		if !apart && sealed(value) {
			return true
		}
	}
	return false
}

// planned builds the state a preview shows: what is not known before the work
// is done stays unknown.
func (r Resource) planned(inputs, olds resource.PropertyMap) resource.PropertyMap {
	state := resource.PropertyMap{}
	for name, output := range r.Outputs {
		key := resource.PropertyKey(name)
		value, known := olds[key]
		if !known || output.Volatile {
			value = resource.MakeComputed(resource.NewProperty(""))
			if output.Secret || (output.Tainted && r.tainted(inputs)) {
				value = resource.MakeSecret(value)
			}
		}
		state[key] = value
	}
	for key, value := range inputs {
		state[key] = value
	}
	return state
}

// refreshed returns the inputs as they really are: those the live object
// shows otherwise are taken from it.
func (r Resource) refreshed(inputs resource.PropertyMap, live Values) resource.PropertyMap {
	out := resource.PropertyMap{}
	for key, value := range inputs {
		found, ok := live[string(key)]
		switch {
		case !ok:
			out[key] = value
		case found == nil:
		default:
			fresh := resource.NewPropertyValue(found)
			if fresh.DeepEquals(Open(value)) {
				fresh = value
			} else if sealed(value) {
				fresh = resource.MakeSecret(fresh)
			}
			out[key] = fresh
		}
	}
	return out
}

func sealed(v resource.PropertyValue) bool { return v.ContainsSecrets() }

// plain turns properties into Values; unknown ones are left out.
func plain(m resource.PropertyMap) Values {
	values := Values{}
	for key, value := range OpenMap(m) {
		if value.ContainsUnknowns() {
			continue
		}
		values[string(key)] = value.Mappable()
	}
	return values
}

// identify names a resource in errors.
func identify(token, name string) string { return fmt.Sprintf("%s %q", token, name) }
