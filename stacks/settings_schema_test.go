package stacks

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v5"
	"sigs.k8s.io/yaml"
)

// settingsSchema is what an editor completes and checks a stack's file by. The first line of each file names it.
const settingsSchema = "../docs/settings.schema.json"

// TestSettingsHaveASchema compares the schema with the types of the program and their comments.
// UPDATE_GOLDEN=1 writes it, but not in CI.
func TestSettingsHaveASchema(t *testing.T) {
	got := schemaOfSettings(t)
	if os.Getenv("UPDATE_GOLDEN") == "1" && os.Getenv("CI") == "" {
		if err := os.WriteFile(settingsSchema, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(settingsSchema)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Error("docs/settings.schema.json is not what the program reads: UPDATE_GOLDEN=1 writes it")
	}
	files, err := filepath.Glob("../Pulumi.*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stacks (%v)", err)
	}
	schema := compile(t, got)
	for _, file := range append(files, "testdata/valid/minimal.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := fits(t, schema, string(text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		named := strings.HasPrefix(string(text), "# yaml-language-server: $schema=docs/settings.schema.json\n")
		if !named && !strings.HasPrefix(file, "testdata") {
			t.Errorf("%s: its first line does not name the schema", file)
		}
	}
}

// TestTheSchemaRefuses has an editor see mistakes that the program would see.
func TestTheSchemaRefuses(t *testing.T) {
	schema := compile(t, schemaOfSettings(t))
	for name, text := range map[string]string{
		"an unknown group":     "config: {'tinyrack:cloud': {}}",
		"an unknown key":       "config: {'tinyrack:flux': {url: 'https://git.example.com/o/r.git', brunch: main}}",
		"an unknown key below": "config: {'tinyrack:cloudflare': {ingress: [{hostname: a.example.com, port: 80}]}}",
		"a host's unknown key": "config: {'tinyrack:hosts': {one: {addr: 192.0.2.1}}}",
		"a text as a number":   "config: {'tinyrack:hosts': {one: {port: '22'}}}",
		"a list as a text":     "config: {'tinyrack:tailnet': {admins: you@example.com}}",
		"a number as a text":   "config: {'tinyrack:flux': {variables: {replicas: 2}}}",
		"a secret in clear":    "config: {'tinyrack:gitToken': token}",
		"a key of the engine":  "confg: {}",
	} {
		if fits(t, schema, text) == nil {
			t.Errorf("%s: fits", name)
		}
	}
}

// unseen are the invalid fixtures that an editor takes for good: only the program's validation sees what is wrong.
var unseen = strings.Fields(`
	access another-program api-address architecture backups certificate-elsewhere certificate-names
	checksum cloudflare-ids cluster component-of-k3s control-server download-by-ftp duplicate-hostname
	email-twice even-servers everything-under-no-zone first-of-no-servers first-server-is-an-agent
	flags flannel flux-branch flux-host flux-path flux-revision flux-variables flux-version flux
	git-authority git-in-a-folder git-key-for-https git-not-a-repository git-option-for-ssh
	git-over-http git-page-of-a-branch git-page-of-a-group git-page-of-gitlab git-token-for-ssh
	git-unknown-host git-url-with-token git-with-a-query groups-of-nothing host-key host-name host
	hostname-not-in-ascii hostname-outside-the-zone k3s-version kernel-setting login-for-nobody
	login-name missing-secrets network-in-the-tailnet networks-of-others networks-too-small
	no-sealing-certificate no-server not-a-network not-an-email nothing-set old-k3s open-to-all
	overlapping-networks path-without-a-slash placeholders-as-pasted placeholders policy-file
	port-in-the-address ports private-key-with-passphrase private-key restore-from-nothing
	restore-of-itself restore-phase restore-until restore-volumes-name restore-volumes-without-longhorn
	restore-without-from restore-without-phase role-twice roles rsa-host-key same-address schedule
	sealing-key-not-a-key sealing-key-of-another-certificate service-not-a-url snapshots tailnet-admins
	tailnet-domain tailnet-name tailnet-tag tailnet-without-admins tokens-as-pasted
	which-server-is-first zone-is-nothing zone-not-in-ascii
`)

// TestTheSchemaOnInvalidFixtures keeps what the schema sees, and what it does not, as it is said to be.
func TestTheSchemaOnInvalidFixtures(t *testing.T) {
	schema := compile(t, schemaOfSettings(t))
	var fit []string
	for _, path := range fixtures(t, "invalid") {
		f := readStackFile(t, path).over(minimal(t))
		if schema.Validate(f.document()) == nil {
			fit = append(fit, strings.TrimSuffix(filepath.Base(path), ".yaml"))
		}
	}
	if !slices.Equal(fit, unseen) {
		t.Errorf("the schema does not see what is wrong with\n%s", strings.Join(fit, " "))
	}
}

func compile(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.CompileString("settings", text)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// fits compares a stack's file with the schema.
func fits(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	var document any
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	return schema.Validate(document)
}

// schemaOfSettings is the JSON Schema of a stack's file. It requires nothing: what is missing the preview lists, with
// the commands that set it.
func schemaOfSettings(t *testing.T) string {
	t.Helper()
	config := object()
	for _, setting := range settings(t) {
		at := place(config, setting.key)
		describeKind(at, setting.kind)
		at["description"] = plain(setting.meaning)
		if setting.example != "" {
			at["examples"] = []any{parsed(setting.example)}
		}
		if standard := setting.literal(); standard != "" {
			at["default"] = literal(standard, setting.value)
		}
	}
	// Settings of other programs and of Pulumi itself are theirs.
	properties, _ := config["properties"].(map[string]any)
	delete(config, "additionalProperties")
	config["propertyNames"] = map[string]any{"anyOf": []any{
		map[string]any{"enum": sortedKeys(properties)},
		map[string]any{"not": map[string]any{"pattern": "^" + project + ":"}},
	}}
	text := map[string]any{"type": "string"}
	schema := map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "title": "The settings of a stack of tinyrack infrastructure",
		"type": "object", "additionalProperties": false,
		"properties": map[string]any{
			"config": config, "encryptionsalt": text, "encryptedkey": text, "secretsprovider": text,
			"environment": true,
		},
	}
	out, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

func object() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
}

// place is the schema of a key, with all groups around it.
func place(root map[string]any, key string) map[string]any {
	at := root
	for i, name := range strings.Split(key, ".") {
		name, isList := strings.CutSuffix(name, "[]")
		if i == 0 {
			name = project + ":" + name
		}
		if strings.HasPrefix(name, "<") {
			if _, there := at["additionalProperties"].(map[string]any); !there {
				at["additionalProperties"] = object()
				delete(at, "properties")
			}
			at, _ = at["additionalProperties"].(map[string]any)
			continue
		}
		properties, _ := at["properties"].(map[string]any)
		if properties[name] == nil {
			properties[name] = object()
		}
		at, _ = properties[name].(map[string]any)
		if isList {
			if at["items"] == nil {
				at["items"] = object()
			}
			at, _ = at["items"].(map[string]any)
		}
	}
	return at
}

// describeKind turns the schema of a group, which place makes, into that of another kind.
func describeKind(at map[string]any, kind string) {
	text := map[string]any{"type": "string"}
	become := func(schema map[string]any) {
		clear(at)
		maps.Copy(at, schema)
	}
	switch kind {
	case "text":
		become(text)
	case "secret":
		become(map[string]any{
			"type": "object", "additionalProperties": false, "required": []string{"secure"},
			"properties": map[string]any{"secure": text},
		})
	case "true or false":
		become(map[string]any{"type": "boolean"})
	case "whole number":
		become(map[string]any{"type": "integer"})
	case "list of texts":
		become(map[string]any{"type": "array", "items": text})
	case "list of groups":
		become(map[string]any{"type": "array", "items": object()})
	case "texts by name":
		become(map[string]any{"type": "object", "additionalProperties": text})
	}
}

var link = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// plain is a text of Markdown as an editor shows it.
func plain(text string) string { return strings.ReplaceAll(link.ReplaceAllString(text, "$1"), "`", "") }

// literal is a default as JSON has it.
func literal(text string, value reflect.Value) any {
	if slices.Contains([]reflect.Kind{reflect.Bool, reflect.Int}, value.Kind()) {
		if number, err := strconv.Atoi(text); err == nil {
			return number
		}
		return text == "true"
	}
	return text
}
