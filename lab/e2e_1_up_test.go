//go:build e2e

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestUpLeaksNothing brings the lab up from nothing while it watches every process' arguments, and then looks for each
// secret, in every encoding, in what was printed, logged and stored. A stranger watches the machines' public side from
// its first second: an `up` leaves no door open on its way either.
func TestUpLeaksNothing(t *testing.T) {
	succeed(t, "down")
	w := startWatch(t)
	cmd := command(t, "up")
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	arguments := map[string]bool{}
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("lab up: %v\n%s", err, printed.String())
			}
			running = false
		case <-time.After(20 * time.Millisecond):
			sampleArguments(arguments)
		}
	}
	if len(arguments) < 50 {
		t.Fatalf("only %d command lines were seen: the watch is broken", len(arguments))
	}
	w.end(t)
	l := running(t)
	t.Logf("a stranger saw, %s", w.seen())
	w.onlySSHOfBareMachines(t, l)
	sources := map[string][]byte{"what up prints": printed.Bytes()}
	for line := range arguments {
		sources[fmt.Sprintf("the process list, %d: %.40s", len(sources), line)] = []byte(line)
	}
	for _, pattern := range []string{
		"logs/*", "pulumi/*.log", "pulumi/events.json", "pulumi/backend/.pulumi/stacks/*/*",
		"pulumi/backend/.pulumi/history/*/*/*", "pulumi/home/logs/*",
	} {
		files, err := filepath.Glob(l.Path(pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil {
				sources[f] = unzipped(text)
			}
		}
	}
	for name, secret := range everySecret(t, l) {
		for encoding, form := range encodings(secret) {
			for where, text := range sources {
				if bytes.Contains(text, []byte(form)) {
					t.Errorf("%s is in %s, %s", name, where, encoding)
				}
			}
		}
	}
}

// unzipped opens what Pulumi's own log files are packed in; those of a stack are encrypted beside.
func unzipped(text []byte) []byte {
	packed, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		return text
	}
	open, _ := io.ReadAll(packed) // a killed run leaves it cut
	return open
}

// everySecret are the lab's own secrets and those that the stack made.
func everySecret(t *testing.T, l *lab) map[string]string {
	t.Helper()
	found := map[string]string{
		"the Cloudflare token": l.secrets.CloudflareToken, "the Tailscale client secret": l.secrets.TailscaleClientSecret,
		"the S3 secret key": l.secrets.S3SecretKey, "the git token": l.secrets.GitToken,
		"the passphrase": l.secrets.Passphrase,
		"the SSH key":    middle(l.secrets.MachineKey),
	}
	sealing, err := os.ReadFile(l.SealingKey())
	if err != nil {
		t.Fatal(err)
	}
	found["the sealing key"] = middle(string(sealing))
	outputs, err := l.stack.Outputs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"k3sToken", "tunnelToken", "webhookSecret", "kubeconfig"} {
		value, ok := outputs[name].(string)
		if !ok || len(value) < 20 {
			t.Fatalf("the stack exports no %s", name)
		}
		found["the output "+name] = value
	}
	// The tunnel's secret is inside its token, the administrator's key inside the kubeconfig.
	raw, err := base64.StdEncoding.DecodeString(found["the output tunnelToken"])
	if err != nil {
		t.Fatal(err)
	}
	var parts struct{ S string }
	if err := json.Unmarshal(raw, &parts); err != nil || parts.S == "" {
		t.Fatalf("the tunnel token holds no secret: %v", err)
	}
	found["the tunnel secret"] = parts.S
	if password, err := base64.StdEncoding.DecodeString(parts.S); err == nil {
		found["the tunnel password"] = string(password)
	}
	_, key, _ := strings.Cut(found["the output kubeconfig"], "client-key-data: ")
	found["the administrator's key"] = strings.TrimSpace(strings.Split(key, "\n")[0])
	delete(found, "the output kubeconfig")
	return found
}

// middle is a line from the middle of a PEM text: the whole is never on one line.
func middle(pem string) string {
	lines := strings.Split(strings.TrimSpace(pem), "\n")
	return lines[len(lines)/2]
}

func encodings(secret string) map[string]string {
	quoted, _ := json.Marshal(secret)
	// Base64 of a longer text that contains the secret differs at its ends, by where it begins.
	forms := map[string]string{
		"raw":          secret,
		"URL-escaped":  url.QueryEscape(secret),
		"JSON-escaped": strings.Trim(string(quoted), `"`),
	}
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		forms["base64 at "+strconv.Itoa(shift)] = text[4 : len(text)-4]
	}
	return forms
}

func sampleArguments(seen map[string]bool) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if text, err := os.ReadFile(f); err == nil && len(text) > 0 {
			seen[string(bytes.ReplaceAll(text, []byte{0}, []byte(" ")))] = true
		}
	}
}

func TestSecondUpChangesNothing(t *testing.T) {
	started := time.Now()
	succeed(t, "up")
	t.Logf("second up: %s", time.Since(started).Round(100*time.Millisecond))
	if changed := changes(t); len(changed) > 0 {
		t.Errorf("a second up changed %v", changed)
	}
}

func TestRefreshFindsNoDrift(t *testing.T) {
	l := running(t)
	var out strings.Builder
	l.stack.Out = &out
	if err := l.stack.RefreshUnchanged(t.Context()); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}
