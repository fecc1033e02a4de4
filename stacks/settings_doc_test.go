package stacks

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented is one row of a table in docs/settings.md.
type documented struct{ kind, standard, meaning string }

var settingRow = regexp.MustCompile("^\\| `([^`]+)` \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$")

// readSettings returns the rows of all tables by their key.
func readSettings(t *testing.T) map[string]documented {
	t.Helper()
	text, err := os.ReadFile("../docs/settings.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]documented{}
	for i, line := range strings.Split(string(text), "\n") {
		found := settingRow.FindStringSubmatch(line)
		if found == nil {
			if strings.HasPrefix(line, "| `") {
				t.Errorf("docs/settings.md:%d: not a row of key, type, default and meaning", i+1)
			}
			continue
		}
		if _, twice := rows[found[1]]; twice {
			t.Errorf("docs/settings.md:%d: %s is there twice", i+1, found[1])
		}
		rows[found[1]] = documented{found[2], found[3], found[4]}
	}
	return rows
}

// walkSettings calls visit with every key below value that a stack's file may have.
func walkSettings(path string, value reflect.Value, visit func(path, kind string, value reflect.Value)) {
	inside := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	switch value.Kind() {
	case reflect.Pointer:
		visit(path, "group", value)
		walkFields(inside, reflect.New(value.Type().Elem()), visit)
	case reflect.Struct:
		walkFields(inside, value.Addr(), visit)
	case reflect.Map:
		item := reflect.New(value.Type().Elem())
		if item.Elem().Kind() == reflect.String {
			visit(path, "texts by name", value)
			return
		}
		visit(path, "groups by name", value)
		if group, ok := item.Interface().(interface{ setDefaults() }); ok {
			group.setDefaults()
		}
		name := "<name>"
		if item.Elem().Type() == reflect.TypeFor[Artifact]() {
			name = "<architecture>"
		}
		walkFields(func(field string) string { return inside(name + "." + field) }, item, visit)
	case reflect.Slice:
		item := reflect.New(value.Type().Elem())
		if item.Elem().Kind() == reflect.String {
			visit(path, "list of texts", value)
			return
		}
		visit(path, "list of groups", value)
		walkFields(func(field string) string { return path + "[]." + field }, item, visit)
	case reflect.Bool:
		visit(path, "true or false", value)
	case reflect.Int:
		visit(path, "whole number", value)
	default:
		kind := "text"
		if value.Type() == reflect.TypeFor[Secret]() {
			kind = "secret"
		}
		visit(path, kind, value)
	}
}

func walkFields(inside func(string) string, pointer reflect.Value, visit func(string, string, reflect.Value)) {
	fields := fieldsOf(pointer.Interface())
	for _, name := range sortedKeys(fields) {
		walkSettings(inside(name), fields[name], visit)
	}
}

// requiredSettings are the keys that the preview asks for.
func requiredSettings() []string {
	cfg := defaults()
	cfg.Hosts = map[string]Host{"<name>": {}}
	cfg.Cluster.Binaries = map[string]Artifact{"<architecture>": {}}
	cfg.Cluster.Snapshots, cfg.Backups, cfg.Restore = &Snapshots{}, &Backups{}, &Restore{}
	report := &Report{}
	require(report, cfg)
	keys := []string{"hosts", "cluster.binaries"}
	for _, key := range report.missing {
		keys = append(keys, strings.TrimPrefix(key, project+":"))
	}
	for _, command := range report.Secrets {
		for word := range strings.FieldsSeq(command) {
			if key, isKey := strings.CutPrefix(word, project+":"); isKey {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// TestSettingsAreDocumented compares keys, types and defaults of docs/settings.md with what the program reads.
func TestSettingsAreDocumented(t *testing.T) {
	rows, needed := readSettings(t), requiredSettings()
	cfg, known := defaults(), map[string]bool{}
	check := func(key, kind string, value reflect.Value) {
		known[key] = true
		row, found := rows[key]
		if !found {
			t.Errorf("%s (%s): not in docs/settings.md", key, kind)
			return
		}
		if row.kind != kind {
			t.Errorf("%s: docs/settings.md calls it %s, it is %s", key, row.kind, kind)
		}
		required, said := slices.Contains(needed, key), strings.HasPrefix(row.standard, "required")
		if required != said && !isConditional(row) {
			t.Errorf("%s: docs/settings.md has the default %q, required: %t", key, row.standard, required)
		}
		want := ""
		if value.Kind() == reflect.Bool || !value.IsZero() {
			want = fmt.Sprintf("`%v`", value.Interface())
		}
		if literal := strings.HasPrefix(row.standard, "`"); literal != (want != "") || literal && row.standard != want {
			t.Errorf("%s: docs/settings.md has the default %s, it is %q", key, row.standard, want)
		}
	}
	walkSettings("", reflect.ValueOf(&cfg).Elem(), check)
	walkSettings("", reflect.ValueOf(&cfg.Secrets).Elem(), check)
	for _, key := range sortedKeys(rows) {
		if !known[key] {
			t.Errorf("%s: in docs/settings.md, and no setting", key)
		}
	}
}

// isConditional: what another setting makes necessary.
func isConditional(row documented) bool { return strings.HasPrefix(row.standard, "required with ") }

// TestSettingsWalkFindsEveryKind keeps the walk from passing because it visits nothing.
func TestSettingsWalkFindsEveryKind(t *testing.T) {
	found := map[string]string{}
	cfg := defaults()
	visit := func(key, kind string, _ reflect.Value) { found[key] = kind }
	walkSettings("", reflect.ValueOf(&cfg).Elem(), visit)
	walkSettings("", reflect.ValueOf(&cfg.Secrets).Elem(), visit)
	for key, kind := range map[string]string{
		"protect":                             "true or false",
		"cloudflare.ingress[].hostname":       "text",
		"hosts":                               "groups by name",
		"hosts.<name>.port":                   "whole number",
		"hosts.<name>.sysctl":                 "texts by name",
		"cluster.binaries.<architecture>.url": "text",
		"cluster.snapshots":                   "group",
		"cluster.snapshots.bucket":            "text",
		"flux.variables":                      "texts by name",
		"gitToken":                            "secret",
	} {
		if found[key] != kind {
			t.Errorf("%s: %q, want %q", key, found[key], kind)
		}
	}
}
