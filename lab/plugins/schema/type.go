// Package schema describes the resources of a plugin double by their
// properties, and makes a provider of such descriptions: it checks inputs,
// compares them, keeps secrets secret and leaves only the real work to each
// resource.
package schema

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
)

// Type is the type of a property's value.
type Type struct {
	name   string
	elem   *Type
	fields Properties
	values []string
}

// The simple types.
var (
	String  = Type{name: "string"}
	Boolean = Type{name: "boolean"}
	Integer = Type{name: "integer"}
	Number  = Type{name: "number"}
	Any     = Type{name: "any"}
)

// String is the type's name, such as "list".
func (t Type) String() string { return t.name }

// Enum is a string out of values.
func Enum(values ...string) Type { return Type{name: "string", values: values} }

// List is a list of elements of one type.
func List(elem Type) Type { return Type{name: "list", elem: &elem} }

// Map is a map from strings to values of one type.
func Map(elem Type) Type { return Type{name: "map", elem: &elem} }

// Object is an object with the given properties.
func Object(fields Properties) Type { return Type{name: "object", fields: fields} }

// Property is one property of a resource, of a provider's configuration or of
// an object.
type Property struct {
	Type     Type
	Required bool
	// Secret properties are sealed in the state, whoever wrote them.
	Secret bool
	// Replace says that a change cannot be made in place.
	Replace bool
	// Default is the value of an absent property; nil for none.
	Default any
}

// Properties are properties by name.
type Properties map[string]Property

// check returns values with defaults filled in and nulls left out, and all
// that is wrong with them. owner names the thing they belong to in messages.
func (ps Properties) check(owner string, values resource.PropertyMap) (resource.PropertyMap, []plugin.CheckFailure) {
	return ps.checkAt("", owner, values)
}

func (ps Properties) checkAt(
	path, owner string, values resource.PropertyMap,
) (resource.PropertyMap, []plugin.CheckFailure) {
	var failures []plugin.CheckFailure
	fail := func(at, format string, args ...any) {
		failures = append(failures, plugin.CheckFailure{
			Property: resource.PropertyKey(at),
			Reason:   fmt.Sprintf(format, args...),
		})
	}
	checked := resource.PropertyMap{}
	for _, key := range values.StableKeys() {
		value, at := values[key], join(path, string(key))
		if value.IsNull() {
			continue
		}
		p, ok := ps[string(key)]
		if !ok {
			fail(at, "the lab's double of %s does not support property %q", owner, at)
			continue
		}
		value, problems := p.Type.check(at, owner, value)
		failures = append(failures, problems...)
		if p.Secret && !value.IsSecret() {
			value = resource.MakeSecret(value)
		}
		checked[key] = value
	}
	for _, name := range ps.names() {
		p, key := ps[name], resource.PropertyKey(name)
		if _, ok := checked[key]; ok {
			continue
		}
		switch {
		case p.Default != nil:
			checked[key] = resource.NewPropertyValue(p.Default)
		case p.Required:
			fail(join(path, name), "%s: missing required property %q", owner, join(path, name))
		}
	}
	return checked, failures
}

func (ps Properties) names() []string {
	names := make([]string, 0, len(ps))
	for name := range ps {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// check returns the value with its object defaults filled in, and what is
// wrong with it. Values that are not known yet pass.
func (t Type) check(path, owner string, v resource.PropertyValue) (resource.PropertyValue, []plugin.CheckFailure) {
	switch {
	case v.IsSecret():
		inner, failures := t.check(path, owner, v.SecretValue().Element)
		return resource.MakeSecret(inner), failures
	case v.IsComputed():
		return v, nil
	case v.IsOutput():
		// The engine's rich form of a value; the double keeps the plain one.
		out := v.OutputValue()
		if !out.Known {
			return resource.MakeComputed(resource.NewProperty("")), nil
		}
		inner, failures := t.check(path, owner, out.Element)
		if out.Secret {
			inner = resource.MakeSecret(inner)
		}
		return inner, failures
	}

	wrong := func(want string) (resource.PropertyValue, []plugin.CheckFailure) {
		return v, []plugin.CheckFailure{{
			Property: resource.PropertyKey(path),
			Reason:   fmt.Sprintf("%s: property %s must be %s, got %s", owner, path, want, v.TypeString()),
		}}
	}
	switch t.name {
	case "any":
		return v, nil
	case "string":
		if !v.IsString() {
			return wrong("a string")
		}
		if len(t.values) > 0 && !slices.Contains(t.values, v.StringValue()) {
			return wrong("one of " + strings.Join(t.values, ", "))
		}
		return v, nil
	case "boolean":
		// Provider configuration may arrive as the text of a JSON value.
		if v.IsString() && (v.StringValue() == "true" || v.StringValue() == "false") {
			return resource.NewProperty(v.StringValue() == "true"), nil
		}
		if !v.IsBool() {
			return wrong("a boolean")
		}
		return v, nil
	case "integer":
		if !v.IsNumber() || v.NumberValue() != math.Trunc(v.NumberValue()) {
			return wrong("an integer")
		}
		return v, nil
	case "number":
		if !v.IsNumber() {
			return wrong("a number")
		}
		return v, nil
	case "list":
		if !v.IsArray() {
			return wrong("a list")
		}
		var failures []plugin.CheckFailure
		items := make([]resource.PropertyValue, len(v.ArrayValue()))
		for i, item := range v.ArrayValue() {
			checked, problems := t.elem.check(fmt.Sprintf("%s[%d]", path, i), owner, item)
			items[i], failures = checked, append(failures, problems...)
		}
		return resource.NewProperty(items), failures
	case "map":
		if !v.IsObject() {
			return wrong("a map")
		}
		var failures []plugin.CheckFailure
		entries := resource.PropertyMap{}
		for _, key := range v.ObjectValue().StableKeys() {
			checked, problems := t.elem.check(fmt.Sprintf("%s[%q]", path, key), owner, v.ObjectValue()[key])
			entries[key], failures = checked, append(failures, problems...)
		}
		return resource.NewProperty(entries), failures
	case "object":
		if !v.IsObject() {
			return wrong("an object")
		}
		fields, failures := t.fields.checkAt(path, owner, v.ObjectValue())
		return resource.NewProperty(fields), failures
	}
	return wrong("of a known type")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
