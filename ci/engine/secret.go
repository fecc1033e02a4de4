package engine

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// A secret in a state is an object with this key and mark, and the value beside it: as ciphertext, or as the JSON of
// the value in clear. Source: github.com/pulumi/pulumi/sdk/v3/go/common/resource, SigKey and SecretSig.
const (
	sigKey    = "4dabf18193072939515e22adb298388d"
	secretSig = "1b47061264138c4ac30d75fd1eb44270"
)

// Unknown is what the engine writes for a value that an up alone would tell. Source:
// github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin, UnknownStringValue.
const Unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

// Secret is a secret value of a state, in clear.
func Secret(value any) map[string]any {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // what came out of JSON goes into it
	}
	return map[string]any{sigKey: secretSig, "plaintext": string(text)}
}

// IsSecret tells whether a value of a state is secret as a whole.
func IsSecret(value any) bool {
	object, ok := value.(map[string]any)
	return ok && object[sigKey] == secretSig
}

// Clear is what a secret of a state that was exported in clear holds.
func Clear(secret any) (value any, ok bool) {
	object, _ := secret.(map[string]any)
	text, isText := object["plaintext"].(string)
	if !isText {
		return nil, false
	}
	return value, json.Unmarshal([]byte(text), &value) == nil
}

// hasSecret tells whether there is a secret anywhere in a value.
func hasSecret(value any) bool {
	if IsSecret(value) {
		return true
	}
	switch v := value.(type) {
	case map[string]any:
		for _, child := range v {
			if hasSecret(child) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasSecret)
	}
	return false
}

// Map returns the value with everything in it replaced that replace says is to be; what is in that is not looked at.
func Map(value any, replace func(part any) (with any, found bool)) any {
	if with, found := replace(value); found {
		return with
	}
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, child := range v {
			out[key] = Map(child, replace)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, child := range v {
			out[i] = Map(child, replace)
		}
		return out
	}
	return value
}

// differ calls found for every leaf that differs, with its path in the engine's words. A secret is a leaf.
func differ(path string, before, after any, found func(path string, before, after any)) {
	if !IsSecret(before) && !IsSecret(after) {
		oldMap, isOld := before.(map[string]any)
		newMap, isNew := after.(map[string]any)
		if isOld && isNew {
			keys := map[string]any{}
			maps.Copy(keys, oldMap)
			maps.Copy(keys, newMap)
			for _, key := range slices.Sorted(maps.Keys(keys)) {
				differ(join(path, key), oldMap[key], newMap[key], found)
			}
			return
		}
		oldList, isOld := before.([]any)
		newList, isNew := after.([]any)
		if isOld && isNew {
			for i := range max(len(oldList), len(newList)) {
				differ(path+"["+strconv.Itoa(i)+"]", at(oldList, i), at(newList, i), found)
			}
			return
		}
	}
	if text(before) != text(after) {
		found(path, before, after)
	}
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// text is a value as JSON, and nothing where there is none.
func text(value any) string {
	if value == nil {
		return ""
	}
	out, err := json.Marshal(value)
	if err != nil {
		panic(err) // what came out of JSON goes into it
	}
	return string(out)
}
