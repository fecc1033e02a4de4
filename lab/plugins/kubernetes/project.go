package kubernetes

import (
	"encoding/base64"
	"fmt"

	property "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	quantities "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// project returns the inputs as the live object has them: what differs is
// taken from there, what the API server or controllers added is left out. So
// a refresh shows a change of what the program wants, and nothing else.
func project(inputs property.PropertyMap, live *unstructured.Unstructured) property.PropertyMap {
	out := property.PropertyMap{}
	for key, value := range inputs {
		switch {
		case property.IsInternalPropertyKey(key), key == "status":
			out[key] = value
		case key == "stringData" && isSecret(live.GroupVersionKind()):
			out[key] = projectText(value, live)
		default:
			if seen, ok := projectValue(string(key), value, live.Object[string(key)]); ok {
				out[key] = seen
			}
		}
	}
	return out
}

// projectText compares a Secret's stringData, which the API server never
// gives back, with its data.
func projectText(value property.PropertyValue, live *unstructured.Unstructured) property.PropertyValue {
	plain := open(value)
	if !plain.IsObject() {
		return value
	}
	data, _, _ := unstructured.NestedStringMap(live.Object, "data")
	out := property.PropertyMap{}
	for key, wanted := range plain.ObjectValue() {
		encoded, ok := data[string(key)]
		if !ok {
			continue
		}
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err == nil && open(wanted).IsString() && open(wanted).StringValue() == string(decoded) {
			out[key] = wanted
			continue
		}
		out[key] = property.NewProperty(string(decoded))
	}
	return property.MakeSecret(property.NewProperty(out))
}

// projectValue projects one value; ok is false when the live object lacks it.
// name is the key it is under.
func projectValue(name string, in property.PropertyValue, live any) (out property.PropertyValue, ok bool) {
	if in.IsSecret() {
		out, ok = projectValue(name, in.SecretValue().Element, live)
		return property.MakeSecret(out), ok
	}
	in = open(in)
	if live == nil {
		// The API server leaves out what is empty anyway.
		return in, empty(in)
	}
	switch {
	case in.IsObject():
		fields, isMap := live.(map[string]any)
		if !isMap {
			return fresh(in, live), true
		}
		seen := property.PropertyMap{}
		for key, value := range in.ObjectValue() {
			if v, ok := projectValue(string(key), value, fields[string(key)]); ok {
				seen[key] = v
			}
		}
		return property.NewProperty(seen), true
	case in.IsArray():
		return projectList(name, in, live), true
	case same(name, in, live):
		return in, true
	}
	return fresh(in, live), true
}

// projectList projects lists item by item: by the items' names where all have
// one, else by position. A list of another length is shown as it is.
func projectList(name string, in property.PropertyValue, live any) property.PropertyValue {
	items, isList := live.([]any)
	wanted := in.ArrayValue()
	if !isList || len(items) != len(wanted) {
		return fresh(in, live)
	}
	byName := map[string]any{}
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			if key, ok := m["name"].(string); ok {
				byName[key] = item
			}
		}
	}
	out := make([]property.PropertyValue, len(wanted))
	for i, item := range wanted {
		counterpart := items[i]
		if len(byName) == len(items) && open(item).IsObject() {
			if key, known := text(open(item).ObjectValue(), "name"); known && byName[key] != nil {
				counterpart = byName[key]
			}
		}
		seen, ok := projectValue(name, item, counterpart)
		if !ok {
			seen = fresh(item, counterpart)
		}
		out[i] = seen
	}
	return property.NewProperty(out)
}

// fresh is the live value, secret if the wanted one has secret parts.
func fresh(in property.PropertyValue, live any) property.PropertyValue {
	v := property.NewPropertyValue(live)
	if in.ContainsSecrets() {
		v = property.MakeSecret(v)
	}
	return v
}

// same says whether a simple value is the live one, perhaps in another
// notation.
func same(name string, in property.PropertyValue, live any) bool {
	v := property.NewPropertyValue(live)
	if in.DeepEquals(v) {
		return true
	}
	switch name {
	case "cpu", "memory", "storage", "ephemeral-storage", "sizeLimit":
		wanted, err := quantities.ParseQuantity(fmt.Sprint(in.V))
		seen, errSeen := quantities.ParseQuantity(fmt.Sprint(v.V))
		return err == nil && errSeen == nil && wanted.Cmp(seen) == 0
	}
	return false
}

// empty says whether a value says no more than its absence.
func empty(v property.PropertyValue) bool {
	v = open(v)
	switch {
	case v.IsNull():
		return true
	case v.IsBool():
		return !v.BoolValue()
	case v.IsNumber():
		return v.NumberValue() == 0
	case v.IsString():
		return v.StringValue() == ""
	case v.IsArray():
		return len(v.ArrayValue()) == 0
	case v.IsObject():
		for _, field := range v.ObjectValue() {
			if !empty(field) {
				return false
			}
		}
		return true
	}
	return false
}
