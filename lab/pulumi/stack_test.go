package pulumi

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/file"
)

func TestVersionsComeFromGoMod(t *testing.T) {
	gomod := filepath.Join(t.TempDir(), "go.mod")
	text := `module example.org/x

go 1.26.0

require (
	github.com/pulumi/pulumi-random/sdk/v4 v4.21.0
	github.com/pulumi/pulumi-tailscale/sdk v0.29.0
	github.com/pulumi/pulumi/sdk/v3 v3.259.0
	github.com/pulumi/pulumi-command/sdk v1.2.1 // indirect
	example.org/pulumi-aws/sdk v1.0.0
)
`
	if err := os.WriteFile(gomod, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Versions(gomod)
	if want := map[string]string{"random": "v4.21.0", "tailscale": "v0.29.0", "command": "v1.2.1"}; err != nil ||
		!maps.Equal(got, want) {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if err := os.WriteFile(gomod, []byte("module example.org/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Versions(gomod); err == nil || !strings.Contains(err.Error(), "requires no SDK of a plugin") {
		t.Errorf("a program without plugins: %v", err)
	}
	if _, err := Versions(gomod + ".none"); err == nil {
		t.Error("a missing go.mod is no error")
	}
}

func TestOfficialPluginsTakeTheDoublesPlaces(t *testing.T) {
	official := t.TempDir()
	plugins := Plugins{
		Versions: map[string]string{
			"command":   "v1.2.1",
			"random":    "v4.21.0",
			"tailscale": "v0.29.0",
		}, Doubles: "/doubles", Official: official,
	}
	at := filepath.Join(official, "resource-command-v1.2.1", "pulumi-resource-command")
	// Of another version than the program needs.
	for _, path := range []string{at, filepath.Join(official, "resource-random-v4.20.0", "pulumi-resource-random")} {
		if err := file.Write(path, nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := plugins.String(), "double random, tailscale; official command"; got != want {
		t.Errorf("plugins: %s, want %s", got, want)
	}
	s := &Stack{Name: "lab", Dir: t.TempDir()}
	for range 2 { // the second changes nothing
		if err := s.Install("/pulumi", plugins); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		s.Command():                      "/pulumi",
		s.path("bin/pulumi-language-go"): "/doubles",
		s.path("home/plugins/resource-command-v1.2.1/pulumi-resource-command"):      at,
		s.path("home/plugins/resource-random-v4.21.0/pulumi-resource-random"):       "/doubles",
		s.path("home/plugins/resource-tailscale-v0.29.0/pulumi-resource-tailscale"): "/doubles",
	} {
		if got, err := os.Readlink(path); err != nil || got != want {
			t.Errorf("%s leads to %s (%v), want %s", path, got, err, want)
		}
	}
	plugins.Official = ""
	if err := s.Install("/newer", plugins); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.Readlink(s.path("home/plugins/resource-command-v1.2.1/pulumi-resource-command")); got != "/doubles" {
		t.Errorf("an official plugin stays: %s", got)
	}
	if got, _ := os.Readlink(s.Command()); got != "/newer" {
		t.Errorf("the command line stays %s", got)
	}
}

// TestPulumiKeepsNoLog: what an earlier one left is gone, too.
func TestPulumiKeepsNoLog(t *testing.T) {
	s := &Stack{Name: "lab", Dir: t.TempDir()}
	if err := file.Write(s.path("home", "logs", "one.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Install("/pulumi", Plugins{Doubles: "/doubles"}); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(s.path("home", "logs")); err != nil || !info.Mode().IsRegular() {
			t.Errorf("there is a folder for logs (%v)", err)
		}
	}
}

func committed(t *testing.T, text string) *Stack {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Pulumi.x.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Stack{Project: "tinyrack", Name: "x", Dir: filepath.Join(dir, "pulumi"), Checkout: dir}
}

func TestConfigurationHoldsNoSecretInClear(t *testing.T) {
	s := committed(t, "# comment\nconfig:\n  tinyrack:machine:\n    address: 10.0.0.1\n")
	settings := Settings{
		Facts:   map[string]any{"machine.hostKey": "ssh-ed25519 A", "hosts.one.roles": []string{"server"}},
		Secrets: map[string]string{"gitToken": "canary-value"},
	}
	if err := s.Configure("phrase", settings); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"encryptionsalt: v1:", "  tinyrack:machine:\n    address: 10.0.0.1\n    hostKey: ssh-ed25519 A\n",
		"  tinyrack:gitToken:\n    secure: v1:",
		"  tinyrack:hosts:\n    one:\n      roles:\n      - server\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "canary-value") || strings.Contains(string(text), "phrase") {
		t.Errorf("a secret in clear:\n%s", text)
	}
	for path, want := range map[string]string{s.path("passphrase"): "phrase", s.Config(): string(text)} {
		got, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || string(got) != want || info.Mode().Perm() != 0o600 {
			t.Errorf("%s holds %q, mode %v, %v", path, got, info.Mode(), err)
		}
	}
	if left, err := os.ReadFile(filepath.Join(s.Checkout, "Pulumi.x.yaml")); err != nil ||
		!strings.HasPrefix(string(left), "# comment") {
		t.Errorf("the committed file was changed: %s", left)
	}
}

// What has not changed is not encrypted anew: a new ciphertext would look like a new secret.
func TestCiphertextsStay(t *testing.T) {
	s := committed(t, "config: {}\n")
	configure := func(phrase, one, two string) document {
		t.Helper()
		if err := s.Configure(phrase, Settings{Secrets: map[string]string{"one": one, "two": two}}); err != nil {
			t.Fatal(err)
		}
		doc, err := readConfig(s.Config())
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	of := func(d document, name string) string { return fmt.Sprint(d.Config["tinyrack:"+name]) }
	first := configure("phrase", "1", "2")
	if again := configure("phrase", "1", "2"); again.Salt != first.Salt || of(again, "one") != of(first, "one") {
		t.Error("nothing changed, and the file did")
	}
	changed := configure("phrase", "1", "3")
	if changed.Salt != first.Salt || of(changed, "one") != of(first, "one") || of(changed, "two") == of(first, "two") {
		t.Error("one secret changed, and not its ciphertext alone")
	}
	other := configure("another", "1", "3")
	if other.Salt == first.Salt || of(other, "one") == of(first, "one") {
		t.Error("another passphrase, and the same ciphertexts")
	}
}

func TestAConfigurationWithoutSettings(t *testing.T) {
	s := committed(t, "")
	if err := s.Configure("phrase", Settings{Facts: map[string]any{"a.b": 1}}); err != nil {
		t.Error(err)
	}
	s.Name = "none"
	if err := s.Configure("phrase", Settings{}); err == nil {
		t.Error("a stack without a committed configuration is taken")
	}
}

func TestEmpty(t *testing.T) {
	s := committed(t, `config:
  tinyrack:hosts:
    b: {address: "", port: 22, sources: [], packages: [a], hostKey: ~}
    a: {address: ""}
    c: {address: 192.0.2.1}
  tinyrack:scalar: text
`)
	for path, want := range map[string]string{
		"hosts.*.address": "hosts.a.address hosts.b.address", "hosts.b.sources": "hosts.b.sources",
		"hosts.*.hostKey": "hosts.b.hostKey", "hosts.*.port": "", "hosts.*.packages": "",
		// No place for it: the stack does without.
		"hosts.b.none": "", "hosts.none.address": "", "snapshots.endpoint": "", "scalar.x": "", "none": "",
	} {
		if got, err := s.Empty(path); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v (%v), want %s", path, got, err, want)
		}
	}
}

func TestSpans(t *testing.T) {
	s := &Stack{Dir: t.TempDir()}
	if _, err := s.Spans(); err == nil {
		t.Error("a run without events is no error")
	}
	events := `{"timestamp":10,"preludeEvent":{}}
{"timestamp":11,"resourcePreEvent":{"metadata":{"op":"create","urn":"urn:pulumi:lab::tinyrack::a:b:C::one"}}}
cut off
{"timestamp":15,"resOutputsEvent":{"metadata":{"op":"create","urn":"urn:pulumi:lab::tinyrack::a:b:C::one"}}}
{"timestamp":16,"resOutputsEvent":{"metadata":{"op":"same","urn":"urn:pulumi:lab::tinyrack::a:b:C::two"}}}
`
	if err := os.WriteFile(s.events(), []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := s.Spans()
	want := []Span{
		{"urn:pulumi:lab::tinyrack::a:b:C::one", "create", time.Unix(11, 0), time.Unix(15, 0)},
		{"urn:pulumi:lab::tinyrack::a:b:C::two", "same", time.Time{}, time.Unix(16, 0)},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v (%v)\nwant %v", got, err, want)
	}
	if got[0].Name() != "one" {
		t.Errorf("its name is %q", got[0].Name())
	}
}

func TestWatch(t *testing.T) {
	s := &Stack{Dir: t.TempDir()}
	write := func(text string) {
		t.Helper()
		f, err := os.OpenFile(s.events(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"resourcePreEvent":{"metadata":{"op":"create","urn":"of the last run"}}}` + "\n")
	w, err := s.Watch()
	if err != nil {
		t.Fatal(err)
	}
	const urn = "urn:pulumi:lab::tinyrack::a:b:C::one"
	for _, step := range []struct {
		text string
		want []Boundary
	}{
		{"", nil},
		{`{"preludeEvent":{}}` + "\n" + `{"resourcePreEvent":{"metadata":{"op":"create","urn":"` + urn, nil},
		{`"}}}` + "\n{cut off}\n", []Boundary{{urn, "create", false}}},
		{"", nil},
		{
			`{"resOutputsEvent":{"metadata":{"op":"create","urn":"` + urn + `"}}}` + "\n" + `{"summaryEvent":{}}` + "\n",
			[]Boundary{{urn, "create", true}, {Ended: true}},
		},
	} {
		if step.text != "" {
			write(step.text)
		}
		if got, err := w.Boundaries(); err != nil || !reflect.DeepEqual(got, step.want) {
			t.Errorf("after %q: %v (%v), want %v", step.text, got, err, step.want)
		}
	}
	if name := (Boundary{URN: urn}).Name(); name != "one" {
		t.Errorf("its name is %q", name)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
