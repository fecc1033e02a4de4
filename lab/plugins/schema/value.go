package schema

import (
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
)

// Open returns the value without its secret marks, at every depth. What was a
// value not known yet stays one.
func Open(v resource.PropertyValue) resource.PropertyValue {
	switch {
	case v.IsSecret():
		return Open(v.SecretValue().Element)
	case v.IsOutput():
		if !v.OutputValue().Known {
			return resource.MakeComputed(resource.NewProperty(""))
		}
		return Open(v.OutputValue().Element)
	case v.IsArray():
		items := make([]resource.PropertyValue, len(v.ArrayValue()))
		for i, item := range v.ArrayValue() {
			items[i] = Open(item)
		}
		return resource.NewProperty(items)
	case v.IsObject():
		return resource.NewProperty(OpenMap(v.ObjectValue()))
	}
	return v
}

// OpenMap is Open for a map of values; nulls are left out.
func OpenMap(m resource.PropertyMap) resource.PropertyMap {
	opened := resource.PropertyMap{}
	for key, value := range m {
		if !value.IsNull() {
			opened[key] = Open(value)
		}
	}
	return opened
}

// Compare returns the difference of two sets of inputs by property path, such
// as config.ingresses[0].hostname. Secret marks make no difference; a value
// that is not known yet differs from every known one.
func Compare(olds, news resource.PropertyMap) map[string]plugin.PropertyDiff {
	return plugin.NewDetailedDiffFromObjectDiff(OpenMap(olds).DiffIncludeUnknowns(OpenMap(news)), true)
}
