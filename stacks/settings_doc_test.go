package stacks

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const settingsReference = "../docs/settings.md"

// setting is a key that a stack's file may have: one row of the reference.
type setting struct {
	key, kind string
	// value is the default.
	value reflect.Value
	// example and unset are tags of its field, meaning is the field's comment.
	example, unset, meaning string
}

// settings are all keys, in the order of the types.
func settings(t testing.TB) []setting {
	t.Helper()
	w := walk{t: t, comments: commentsOfFields(t)}
	cfg := defaults()
	w.fields("", reflect.ValueOf(&cfg).Elem())
	w.fields("", reflect.ValueOf(&cfg.Secrets).Elem())
	return w.found
}

// commentsOfFields are the comments of the types' fields by <type>.<field>.
func commentsOfFields(t testing.TB) map[string]string {
	t.Helper()
	comments := map[string]string{}
	for _, name := range []string{"config.go", "secrets.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, _ := n.(*ast.TypeSpec)
			if spec == nil {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					for _, name := range field.Names {
						comments[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
					}
				}
			}
			return false
		})
	}
	return comments
}

// walk finds the keys of a stack's file below a value.
type walk struct {
	t        testing.TB
	comments map[string]string
	found    []setting
}

func (w *walk) fields(prefix string, group reflect.Value) {
	for i := range group.NumField() {
		field := group.Type().Field(i)
		name := field.Tag.Get("json")
		if name == "-" {
			continue
		}
		w.visit(setting{
			key: prefix + name, value: group.Field(i), example: field.Tag.Get("example"), unset: field.Tag.Get("unset"),
		}, group.Type().Name()+"."+field.Name)
	}
}

// visit takes a field, and what is in it. Its place among the types is <type>.<field>.
func (w *walk) visit(s setting, place string) {
	add := func(kind string) {
		s.kind, s.meaning = kind, w.meaning(place)
		w.found = append(w.found, s)
	}
	switch value := s.value; value.Kind() {
	case reflect.Pointer:
		add("group")
		w.fields(s.key+".", reflect.New(value.Type().Elem()).Elem())
	case reflect.Struct:
		w.fields(s.key+".", value)
	case reflect.Map:
		item := reflect.New(value.Type().Elem())
		if item.Elem().Kind() == reflect.String {
			add("texts by name")
			return
		}
		add("groups by name")
		if group, ok := item.Interface().(interface{ setDefaults() }); ok {
			group.setDefaults()
		}
		name := ".<name>."
		if item.Elem().Type() == reflect.TypeFor[Artifact]() {
			name = ".<architecture>."
		}
		w.fields(s.key+name, item.Elem())
	case reflect.Slice:
		item := reflect.New(value.Type().Elem()).Elem()
		if item.Kind() == reflect.String {
			add("list of texts")
			return
		}
		add("list of groups")
		w.fields(s.key+"[].", item)
	case reflect.Bool:
		add("true or false")
	case reflect.Int:
		add("whole number")
	default:
		if value.Type() == reflect.TypeFor[Secret]() {
			add("secret")
			return
		}
		add("text")
	}
}

var document = regexp.MustCompile(`docs/((adr|runbooks)/[a-z0-9/.#-]+[a-z0-9])`)

// meaning is the comment of a field without its name, with links as the reference has them.
func (w *walk) meaning(place string) string {
	w.t.Helper()
	_, name, _ := strings.Cut(place, ".")
	text, named := strings.CutPrefix(w.comments[place], name+" ")
	if !named {
		w.t.Errorf("%s: its comment does not begin with its name: the reference would not say what it is", place)
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "is "), "are ")
	return document.ReplaceAllStringFunc(strings.TrimSuffix(text, "."), func(path string) string {
		path = strings.TrimPrefix(path, "docs/")
		word := map[bool]string{true: "decision", false: "runbook"}[strings.HasPrefix(path, "adr/")]
		return "[" + word + "](" + path + ")"
	})
}

// literal is the default that the program fills in, as a stack's file has it, or "".
func (s setting) literal() string {
	if s.value.Kind() == reflect.Bool || !s.value.IsZero() {
		return fmt.Sprint(s.value.Interface())
	}
	return ""
}

// standard is what the reference says of a key that is not set.
func (s setting) standard(required []string) string {
	switch literal := s.literal(); {
	case literal != "":
		return "`" + literal + "`"
	case s.unset != "":
		return s.unset
	case slices.Contains(required, s.key):
		return "required"
	}
	return "none"
}

// section is the part of the reference that a key is in.
func (s setting) section() string {
	if s.kind == "secret" {
		return "secrets"
	}
	name, _, _ := strings.Cut(strings.ReplaceAll(s.key, "[]", ""), ".")
	return name
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

var settingsBlock = regexp.MustCompile(`(?s)<!-- settings: ([A-Za-z0-9 ]+) -->\n.*?<!-- end of settings -->`)

// reference is docs/settings.md with its tables made of the types. Between them stands what a person wrote.
func reference(t *testing.T, text string) string {
	t.Helper()
	all, required := settings(t), requiredSettings()
	written := map[string]bool{}
	text = settingsBlock.ReplaceAllStringFunc(text, func(block string) string {
		var out strings.Builder
		sections := settingsBlock.FindStringSubmatch(block)[1]
		out.WriteString("<!-- settings: " + sections + " -->\n")
		out.WriteString("| key | type | default | example | meaning |\n|---|---|---|---|---|\n")
		for _, s := range all {
			if !slices.Contains(strings.Fields(sections), s.section()) {
				continue
			}
			if written[s.key] {
				t.Errorf("docs/settings.md: %s is there twice", s.key)
			}
			written[s.key] = true
			example := s.example
			if example != "" {
				example = "`" + example + "`"
			}
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s | %s |\n", s.key, s.kind, s.standard(required), example, s.meaning)
		}
		return out.String() + "<!-- end of settings -->"
	})
	for _, s := range all {
		if !written[s.key] {
			t.Errorf("docs/settings.md: no block of settings has %s (%s)", s.section(), s.key)
		}
	}
	return text
}

// TestSettingsAreDocumented compares the tables of docs/settings.md with the types. UPDATE_GOLDEN=1 writes them, but
// not in CI.
func TestSettingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(settingsReference)
	if err != nil {
		t.Fatal(err)
	}
	want := reference(t, string(text))
	if want == string(text) {
		return
	}
	if os.Getenv("UPDATE_GOLDEN") == "1" && os.Getenv("CI") == "" {
		if err := os.WriteFile(settingsReference, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	had := strings.Split(string(text), "\n")
	for line := range strings.SplitSeq(want, "\n") {
		if !slices.Contains(had, line) {
			t.Errorf("docs/settings.md is not what the program reads: UPDATE_GOLDEN=1 writes it: it lacks\n%s", line)
		}
	}
	t.Error("docs/settings.md is not what the program reads: UPDATE_GOLDEN=1 writes it")
}

// TestWhatIsUnset keeps the default that a field's tag speaks of from contradicting the program.
func TestWhatIsUnset(t *testing.T) {
	required := requiredSettings()
	for _, s := range settings(t) {
		switch {
		case s.unset != "" && s.literal() != "":
			t.Errorf("%s: unset is %q, and the program fills in %s", s.key, s.unset, s.literal())
		case s.unset != "" && !strings.HasPrefix(s.unset, "required with ") && slices.Contains(required, s.key):
			t.Errorf("%s: unset is %q, and the preview asks for it", s.key, s.unset)
		}
	}
}

// TestExamples reads each example of the reference in its place among the least that a stack must say.
func TestExamples(t *testing.T) {
	all := settings(t)
	root := newRoot(t, "test", "production")
	must(os.WriteFile(root+"/tailnet.hujson", []byte(rest), 0o600))
	without := []string{"flux.ca"} // a file's text, which no table holds
	for _, s := range all {
		group := s.kind == "secret" || strings.Contains(s.kind, "group")
		if (s.example == "") != (group || slices.Contains(without, s.key)) {
			t.Errorf("%s (%s): the example %q", s.key, s.kind, s.example)
		}
		if s.example == "" {
			continue
		}
		t.Run(s.key, func(t *testing.T) {
			f := stackFile{Config: map[string]any{}}
			for _, other := range all {
				if other.example != "" && goesWith(s.key, other.key) {
					f.set(other.key, other.example)
				}
			}
			f.set(s.key, s.example)
			for secret, name := range map[string]string{
				"s3AccessKey": "s3-access", "s3SecretKey": "s3-secret",
				"backupsAccessKey": "backups-access", "backupsSecretKey": "backups-secret",
			} {
				f.Config[project+":"+secret] = map[string]any{"secure": name}
			}
			cfg, err := Load(f.over(minimal(t)).source("test", root))
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(cfg)
			must(err)
			var read any
			must(json.Unmarshal(text, &read))
			for _, name := range places(s.key) {
				if list, is := read.([]any); is {
					read = list[0]
					continue
				}
				read = read.(map[string]any)[name] //nolint:forcetypeassert // a wrong one ends the test
			}
			if want := parsed(s.example); !reflect.DeepEqual(read, want) {
				t.Errorf("read as %v, want %v", read, want)
			}
		})
	}
}

// goesWith tells whether a setting makes no sense without another.
func goesWith(key, other string) bool {
	if key == "cluster.acceptVersion" {
		return false // with a version of its own, below
	}
	for _, group := range []string{"cluster.snapshots.", "backups.", "restore.", "cloudflare.ingress[]."} {
		if strings.HasPrefix(key, group) && strings.HasPrefix(other, group) {
			return true
		}
	}
	return strings.HasPrefix(key, "restore.") && strings.HasPrefix(other, "backups.")
}

// places are the names on the way to a key; "" is the first of a list.
func places(key string) []string {
	key = strings.NewReplacer("<name>", "node", "<architecture>", "amd64", "[].", "..", "[0]", ".").Replace(key)
	return strings.Split(key, ".")
}

func parsed(text string) any {
	var value any
	must(yaml.Unmarshal([]byte(text), &value))
	return value
}

// set puts a value, in YAML, where a key of the reference has it.
func (f stackFile) set(key, text string) {
	if key == "cluster.acceptVersion" {
		f.set("cluster.version", text)
	}
	f.put(key, parsed(text))
}

// put puts a value where a path of Pulumi, or a key of the reference, has it.
func (f stackFile) put(key string, value any) {
	var put func(into any, names []string) any
	put = func(into any, names []string) any {
		if len(names) == 0 {
			return value
		}
		if names[0] == "" {
			list, _ := into.([]any)
			if len(list) == 0 {
				list = []any{nil}
			}
			list[0] = put(list[0], names[1:])
			return list
		}
		group, _ := into.(map[string]any)
		if group == nil {
			group = map[string]any{}
		}
		group[names[0]] = put(group[names[0]], names[1:])
		return group
	}
	put(f.Config, places(project+":"+key))
}

// TestSettingsWalkFindsEveryKind keeps the walk from passing because it visits nothing.
func TestSettingsWalkFindsEveryKind(t *testing.T) {
	found := map[string]string{}
	for _, s := range settings(t) {
		found[s.key] = s.kind
	}
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
