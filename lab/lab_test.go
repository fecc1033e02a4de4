package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/process"
)

func TestDisplayShowsWhatEnds(t *testing.T) {
	var out, log strings.Builder
	d := &display{out: &out, log: &log}
	text := "@ updating....\n" +
		" +  tinyrack:edge:Edge edge creating (0s) \n" +
		" +  command:remote:Command k3s-server creating (0s) \n" +
		" +  command:remote:Command k3s-server creating (2s) starting k3s\n" +
		" +  command:remote:Command k3s-server created (9s) k3s is ready\n" +
		"Resources:\n    + 51 created\n"
	// In pieces, as a pipe delivers it.
	for _, piece := range []string{text[:70], text[70:200], text[200:]} {
		if _, err := io.WriteString(d, piece); err != nil {
			t.Fatal(err)
		}
	}
	want := " +  k3s-server creating (2s) starting k3s\n +  k3s-server created (9s) k3s is ready\nResources:\n    + 51 created\n"
	if out.String() != want {
		t.Errorf("shown\n%s\nwant\n%s", out.String(), want)
	}
	if log.String() != text {
		t.Error("the log is not the whole")
	}
}

func TestSetPath(t *testing.T) {
	m := map[string]any{"a": map[string]any{"kept": 1}}
	setPath(m, []string{"a", "b", "c"}, "x")
	setPath(m, []string{"top"}, "y")
	a := m["a"].(map[string]any)
	if a["kept"] != 1 || a["b"].(map[string]any)["c"] != "x" || m["top"] != "y" {
		t.Errorf("got %v", m)
	}
}

func TestSecretsAreMadeOnceAndKeptPrivate(t *testing.T) {
	s := &state{dir: t.TempDir()}
	first, err := s.secrets()
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.secrets()
	if err != nil || *first != *second {
		t.Errorf("made again: %v", err)
	}
	if info, err := os.Stat(s.path("secrets.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if len(first.CloudflareToken) != 40 {
		t.Errorf("the official client refuses a token of %d characters", len(first.CloudflareToken))
	}
}

func TestEncryptedConfigurationHoldsNoSecret(t *testing.T) {
	dir := t.TempDir()
	committed := "# comment\nconfig:\n  tinyrack:machine:\n    address: 10.0.0.1\n"
	if err := os.WriteFile(filepath.Join(dir, "Pulumi.x.yaml"), []byte(committed), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &stack{name: "x", dir: filepath.Join(dir, "pulumi"), checkout: dir}
	if err := k.configure("phrase", map[string]any{"machine.hostKey": "ssh-ed25519 A"}, map[string]string{"gitToken": "canary-value"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(k.config())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"encryptionsalt: v1:", "hostKey: ssh-ed25519 A", "address: 10.0.0.1", "secure: v1:"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "canary-value") || strings.Contains(string(text), "phrase") {
		t.Errorf("a secret in clear:\n%s", text)
	}
}

func TestHostIsRefusedWithAllReasons(t *testing.T) {
	err := checkHost(true, "/proc") // no free space there
	if err == nil || !strings.Contains(err.Error(), "GiB free for /proc: the lab needs 20 GiB") {
		t.Errorf("a full disk: %v", err)
	}
	if os.Geteuid() != 0 && !strings.Contains(err.Error(), "not root") {
		t.Errorf("not root: %v", err)
	}
}

func TestAnotherCheckoutsLabIsReported(t *testing.T) {
	other := owner{Checkout: t.TempDir(), State: t.TempDir()}
	file := filepath.Join(t.TempDir(), "owner")
	if readOwner(file).not("/mine") != nil {
		t.Error("a host that nobody took has an owner")
	}
	text, err := json.Marshal(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if readOwner(file).not(other.Checkout) != nil {
		t.Error("the checkout that took the host is refused")
	}
	if readOwner(file).not("/mine") != nil {
		t.Error("the lab of a checkout that is gone can be ended by nobody")
	}
	if err := os.WriteFile(filepath.Join(other.Checkout, "Makefile"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found := readOwner(file).not("/mine")
	if found == nil || *found != other {
		t.Fatalf("the owner reads %v", found)
	}
	if found.running() {
		t.Error("a lab with no process counts as running")
	}
	runner := (&state{dir: other.State}).runner()
	spec := process.Spec{Name: "s3", Args: []string{"sleep", "60"}, Ready: func(context.Context) error { return nil }}
	if err := runner.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = runner.Stop(context.Background(), "s3") }()
	if !found.running() {
		t.Error("a lab whose object storage runs counts as dead")
	}
	if text := found.refusal().Error(); !strings.Contains(text, "make -C "+other.Checkout+" down") {
		t.Errorf("no way out in: %s", text)
	}
}

func TestOfficialPluginsTakeTheDoublesPlaces(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(officialPlugins, dir)
	at := filepath.Join("resource-command-"+plugins["command"], "pulumi-resource-command")
	if err := writeFile(filepath.Join(dir, at), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, want := pluginKinds(), "double cloudflare, kubernetes, random, tailscale; official command"; got != want {
		t.Errorf("plugins: %s, want %s", got, want)
	}
	k := &stack{dir: t.TempDir()}
	if err := k.lay("/pulumi", "/doubles"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"command": filepath.Join(dir, at), "random": "/doubles"} {
		link := k.path("home", "plugins", "resource-"+name+"-"+plugins[name], "pulumi-resource-"+name)
		if got, err := os.Readlink(link); err != nil || got != want {
			t.Errorf("%s leads to %s (%v), want %s", name, got, err, want)
		}
	}
}
