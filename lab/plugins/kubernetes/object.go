package kubernetes

import (
	"encoding/base64"
	"fmt"
	"math"
	"strings"

	property "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Annotations that steer the plugin; the official one's.
const (
	skipAwaitAnnotation    = "pulumi.com/skipAwait"
	timeoutAnnotation      = "pulumi.com/timeoutSeconds"
	waitForAnnotation      = "pulumi.com/waitFor"
	patchForceAnnotation   = "pulumi.com/patchForce"
	fieldManagerAnnotation = "pulumi.com/patchFieldManager"
	propagationAnnotation  = "pulumi.com/deletionPropagationPolicy"
)

// fieldManagerKey is where the state keeps who owns the fields in the cluster.
const fieldManagerKey = "__fieldManager"

// kindOf reads a type token: kubernetes:apps/v1:Deployment.
func kindOf(token string) (schema.GroupVersionKind, error) {
	parts := strings.Split(token, ":")
	if len(parts) != 3 || parts[0] != "kubernetes" {
		return schema.GroupVersionKind{}, fmt.Errorf("%q is not a kubernetes:<group/version>:<Kind> token", token)
	}
	group, version, ok := strings.Cut(parts[1], "/")
	kind := parts[2]
	switch {
	case !ok, group == "helm.sh", strings.HasPrefix(group, "yaml"), strings.HasPrefix(group, "kustomize"):
		return schema.GroupVersionKind{}, fmt.Errorf("the lab's double of the kubernetes plugin does not support %s: only "+
			"plain objects", token)
	case strings.HasSuffix(kind, "Patch"):
		return schema.GroupVersionKind{}, fmt.Errorf("the lab's double of the kubernetes plugin does not support patches "+
			"of objects such as %s", token)
	}
	if group == "core" {
		group = ""
	}
	return schema.GroupVersionKind{Group: group, Version: version, Kind: kind}, nil
}

// objectOf turns inputs into an object as the API wants it: without secret
// marks, nulls and the plugin's own keys, with whole numbers as integers, and
// a Secret's stringData encoded, so that a removed key is removed there too.
func objectOf(inputs property.PropertyMap) *unstructured.Unstructured {
	content := map[string]any{}
	for key, value := range inputs {
		if value = open(value); !value.IsNull() && !property.IsInternalPropertyKey(key) {
			content[string(key)] = native(value)
		}
	}
	obj := &unstructured.Unstructured{Object: content}
	if !isSecret(obj.GroupVersionKind()) {
		return obj
	}
	text, ok := content["stringData"].(map[string]any)
	if !ok {
		return obj
	}
	data, _ := content["data"].(map[string]any)
	if data == nil {
		data = map[string]any{}
	}
	for key, value := range text {
		if s, ok := value.(string); ok {
			data[key] = base64.StdEncoding.EncodeToString([]byte(s))
		}
	}
	content["data"] = data
	delete(content, "stringData")
	return obj
}

// open takes the marks off one value: secret and known.
func open(v property.PropertyValue) property.PropertyValue {
	for {
		switch {
		case v.IsSecret():
			v = v.SecretValue().Element
		case v.IsOutput() && v.OutputValue().Known:
			v = v.OutputValue().Element
		default:
			return v
		}
	}
}

func native(v property.PropertyValue) any {
	v = open(v)
	switch {
	case v.IsObject():
		out := map[string]any{}
		for key, value := range v.ObjectValue() {
			if !open(value).IsNull() {
				out[string(key)] = native(value)
			}
		}
		return out
	case v.IsArray():
		out := make([]any, 0, len(v.ArrayValue()))
		for _, item := range v.ArrayValue() {
			out = append(out, native(item))
		}
		return out
	case v.IsNumber() && v.NumberValue() == math.Trunc(v.NumberValue()) && math.Abs(v.NumberValue()) < 1<<53:
		return int64(v.NumberValue())
	}
	return v.Mappable()
}

func isSecret(kind schema.GroupVersionKind) bool { return kind.Group == "" && kind.Kind == "Secret" }

func isConfigMap(kind schema.GroupVersionKind) bool {
	return kind.Group == "" && kind.Kind == "ConfigMap"
}

// seal marks a Secret's contents as secret and leaves nulls out.
func seal(kind schema.GroupVersionKind, inputs property.PropertyMap) property.PropertyMap {
	sealed := property.PropertyMap{}
	for key, value := range inputs {
		if open(value).IsNull() {
			continue
		}
		if isSecret(kind) && (key == "data" || key == "stringData") && !value.IsSecret() {
			value = property.MakeSecret(value)
		}
		sealed[key] = value
	}
	return sealed
}

// text reads a string inside inputs; known is false when it, or what it is
// in, is not known yet.
func text(inputs property.PropertyMap, path ...string) (value string, known bool) {
	v := property.NewProperty(inputs)
	for _, key := range path {
		v = open(v)
		if v.IsComputed() || v.IsOutput() {
			return "", false
		}
		if !v.IsObject() {
			return "", true
		}
		v = v.ObjectValue()[property.PropertyKey(key)]
	}
	v = open(v)
	switch {
	case v.IsComputed() || v.IsOutput():
		return "", false
	case v.IsString():
		return v.StringValue(), true
	}
	return "", true
}

// identity is the ID of an object: namespace/name, or name.
func identity(obj *unstructured.Unstructured) string {
	if obj.GetNamespace() != "" {
		return obj.GetNamespace() + "/" + obj.GetName()
	}
	return obj.GetName()
}
