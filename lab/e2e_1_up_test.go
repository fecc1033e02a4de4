//go:build e2e

package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/clouds"
	"github.com/tinyrack-net/infrastructure/lab/layout"
)

// TestInterruptedUp brings the lab up from nothing. The answer to each creation in the clouds is lost, as a kill or a
// dead network does between the request and the note in the state, and the first run is killed without warning at a
// random moment. `up` is run until it converges: nothing is there twice, and no hand was needed. Kills at every boundary
// are `make kills`.
//
// Meanwhile every process' arguments are watched, and each secret is looked for, in every encoding, in what was
// printed, logged and stored. A stranger watches the machines' public side from its first second: an `up` leaves no
// door open on its way either.
func TestInterruptedUp(t *testing.T) {
	succeed(t, "down")
	w := startWatch(t)
	arguments, stop := watchArguments()
	var printed bytes.Buffer
	failures := 0
	for ; ; failures++ {
		cmd := command(t, "up")
		from := printed.Len()
		cmd.Stdout, cmd.Stderr = &printed, &printed
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if failures == 0 {
			loseAnswers(t) // before the program comes to the clouds
			moment := time.Duration(rand.Int64N(int64(75 * time.Second)))
			t.Logf("killed after %s, unless it has ended by then", moment.Round(time.Second))
			kill := time.AfterFunc(moment, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
			err := cmd.Wait()
			kill.Stop()
			if err == nil {
				t.Error("it converged although no answer came")
			}
			continue
		}
		if err := cmd.Wait(); err == nil {
			break
		}
		if failures > 8 {
			t.Fatalf("up does not converge:\n%s", printed.Bytes()[from:])
		}
	}
	t.Logf("%d runs failed before the one that converged", failures)
	stop()
	if len(arguments) < 50 {
		t.Fatalf("only %d command lines were seen: the watch is broken", len(arguments))
	}
	w.end(t)
	for _, addr := range []string{layout.CloudflareAddr, layout.TailscaleAddr} {
		var left struct {
			Faults []any `json:"faults"`
		}
		fetch(t, http.MethodGet, "http://"+addr+"/lab/faults", &left)
		if len(left.Faults) > 0 {
			t.Errorf("%s: answers that were never lost: %v", addr, left.Faults)
		}
	}
	nothingTwice(t)
	l := running(t)
	t.Logf("a stranger saw, %s", w.seen())
	w.onlySSHOfBareMachines(t, l)
	sources := map[string][]byte{"what up prints": printed.Bytes()}
	for line := range arguments {
		sources[fmt.Sprintf("the process list, %d: %.40s", len(sources), line)] = []byte(line)
	}
	for _, pattern := range []string{
		"logs/*", "pulumi/*.log", "pulumi/events.json", "pulumi/backend/.pulumi/stacks/*/*",
		"pulumi/backend/.pulumi/history/*/*/*",
	} {
		files, err := filepath.Glob(l.Path(pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil {
				sources[f] = text
			}
		}
	}
	// Pulumi's own log would hold every property: nothing is in it, since it has no folder.
	if info, err := os.Stat(l.Path("pulumi", "home", "logs")); err != nil || !info.Mode().IsRegular() || info.Size() > 0 {
		t.Errorf("Pulumi keeps a log of its own: %v %v", info, err)
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

// watchArguments notes the command lines of all processes until it is stopped.
func watchArguments() (seen map[string]bool, stop func()) {
	seen = map[string]bool{}
	ended, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
				sampleArguments(seen)
			}
		}
	}()
	return seen, func() {
		close(ended)
		<-stopped
	}
}

// loseAnswers makes the clouds lose the answer to the next creation of each kind.
func loseAnswers(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/cfd_tunnel", "/access/policies", "/access/apps"} {
		arm(t, layout.CloudflareAddr, cloudflare.Prefix+"/accounts/"+cloudflare.DefaultAccountID+path)
	}
	arm(t, layout.CloudflareAddr, cloudflare.Prefix+"/zones/"+cloudflare.DefaultZoneID+"/dns_records")
	arm(t, layout.TailscaleAddr, "/api/v2/tailnet/"+layout.Tailnet+"/acl")
	arm(t, layout.TailscaleAddr, "/api/v2/tailnet/"+layout.Tailnet+"/keys")
}

// nothingTwice counts what the clouds hold.
func nothingTwice(t *testing.T) {
	t.Helper()
	for addr, want := range map[string]string{
		layout.CloudflareAddr: `{"accessApplications":1,"accessPolicies":1,"dnsRecords":4,"tunnelConfigs":1,"tunnels":1}`,
		layout.TailscaleAddr:  `{"devices":2,"keys":1,"policies":1,"validKeys":0}`,
	} {
		if got, err := clouds.State(t.Context(), addr); err != nil || string(got) != want {
			t.Errorf("%s holds %s (%v), want %s", addr, got, err, want)
		}
	}
}

// arm makes an emulated cloud lose its answer to the next creation at the path. It waits until the cloud is up.
func arm(t *testing.T, addr, path string) {
	t.Helper()
	body := `{"kind":"lost-answer","method":"POST","path":"` + path + `"}`
	for started := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		response, err := http.Post("http://"+addr+"/lab/faults", "application/json", strings.NewReader(body))
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusCreated {
				return
			}
			err = errors.New(response.Status)
		}
		if time.Since(started) > time.Minute {
			t.Fatalf("arm %s: %v", path, err)
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
