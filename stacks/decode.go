package stacks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
)

// decodeJSON sets into from one structured setting. Unlike encoding/json it
// reports every unknown field and every wrong type, each with its path, and
// never repeats a value it could not place: it may be a secret in a wrong spot.
func decodeJSON(report *Report, path, text string, into reflect.Value) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var value any
	err := dec.Decode(&value)
	if err == nil && dec.More() {
		err = errors.New("more than one value")
	}
	if err != nil && !errors.Is(err, io.EOF) {
		value = text // plain text: the wrong kind, reported as such below
	}
	decodeValue(report, path, value, into)
}

func decodeValue(report *Report, path string, value any, into reflect.Value) {
	wrong := func(want string) {
		report.refuse(path, kindOf(value)+", wanted "+want, "the setting cannot be understood", "correct the stack's file")
		report.unread = append(report.unread, path)
	}
	if value == nil {
		return // as if it were not there
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		decodeValue(report, path, value, into.Elem())
	case reflect.Struct:
		object, ok := value.(map[string]any)
		if !ok {
			wrong("a group of settings")
			return
		}
		fields := fieldsOf(into.Addr().Interface())
		for _, key := range sortedKeys(object) {
			if field, ok := fields[key]; ok {
				decodeValue(report, path+"."+key, object[key], field)
			} else {
				fix := didYouMean(key, sortedKeys(fields), "remove it")
				report.refuse(path+"."+key, "unknown setting", "it would have no effect", fix)
			}
		}
	case reflect.Map:
		object, ok := value.(map[string]any)
		if !ok {
			wrong("a group of settings")
			return
		}
		out := reflect.MakeMap(into.Type())
		for _, key := range sortedKeys(object) {
			item := reflect.New(into.Type().Elem())
			if group, ok := item.Interface().(interface{ setDefaults() }); ok {
				group.setDefaults()
			}
			decodeValue(report, path+"."+key, object[key], item.Elem())
			out.SetMapIndex(reflect.ValueOf(key), item.Elem())
		}
		into.Set(out)
	case reflect.Slice:
		list, ok := value.([]any)
		if !ok {
			wrong("a list")
			return
		}
		out := reflect.MakeSlice(into.Type(), len(list), len(list))
		for i, item := range list {
			decodeValue(report, fmt.Sprintf("%s[%d]", path, i), item, out.Index(i))
		}
		into.Set(out)
	case reflect.String:
		s, ok := value.(string)
		if !ok {
			wrong("a text (put it in quotes)")
			return
		}
		if strings.HasPrefix(s, "<") && strings.HasSuffix(s, ">") {
			report.refuse(path, "still the placeholder of a command", "nobody has said what it is", "write the value itself, "+
				"without < and >")
			report.unread = append(report.unread, path)
			return
		}
		into.SetString(s)
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			wrong("true or false")
			return
		}
		into.SetBool(b)
	case reflect.Int:
		n, ok := value.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil {
			wrong("a whole number")
			return
		}
		into.SetInt(i)
	default:
		panic("stacks: config field of kind " + into.Kind().String()) // a mistake in Config, caught by any test
	}
}

// kindOf names what value is without showing it.
func kindOf(value any) string {
	switch value.(type) {
	case map[string]any:
		return "a group of settings"
	case []any:
		return "a list"
	case string:
		return "a text"
	case bool:
		return "true or false"
	default:
		return "a number"
	}
}

// fieldsOf returns the settable fields of the struct behind pointer by their
// JSON names.
func fieldsOf(pointer any) map[string]reflect.Value {
	v := reflect.ValueOf(pointer).Elem()
	fields := make(map[string]reflect.Value, v.NumField())
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("json"); name != "-" {
			fields[name] = v.Field(i)
		}
	}
	return fields
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}

// didYouMean returns the fix for an unknown name: the closest known one, or
// otherwise.
func didYouMean(name string, known []string, otherwise string) string {
	best, distance := "", 4
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return otherwise
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance is the number of single-letter changes from a to b (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// unmarshalEnv sets into from a variable that Pulumi fills with JSON.
func unmarshalEnv(name string, into any) error {
	text := os.Getenv(name)
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		// The text holds secrets; encoding/json's errors may quote it.
		return fmt.Errorf("%s: not the JSON that Pulumi writes: the stack's settings cannot be read: run the program "+
			"through the pulumi command", name)
	}
	return nil
}
