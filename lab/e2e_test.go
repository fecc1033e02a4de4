//go:build e2e

// The tests here drive a real lab through the same commands a person uses. They run in order, each leaving the lab up and as it was, and the
// last takes it down.
package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/machine"
)

// command is `lab NAME` as a process of its own, in a session of its own.
func command(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("go", "run", ".", name)
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func succeed(t *testing.T, name string) string {
	t.Helper()
	out, err := command(t, name).CombinedOutput()
	if err != nil {
		t.Fatalf("lab %s: %v\n%s", name, err, out)
	}
	return string(out)
}

func open(t *testing.T) *lab {
	t.Helper()
	dir, err := checkout()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{state: newState(dir)}
	if l.secrets, err = l.state.secrets(); err != nil {
		t.Fatal(err)
	}
	l.runner = l.state.runner()
	l.stack = &stack{name: "lab", dir: l.path("pulumi"), checkout: dir, out: io.Discard}
	l.stack.pulumi = l.stack.path("bin", "pulumi")
	return l
}

// changes are the operations of the last run, by kind, without what stayed the same.
func (l *lab) changes(t *testing.T) map[string]int {
	t.Helper()
	spans, err := l.stack.spans()
	if err != nil || len(spans) == 0 {
		t.Fatalf("no events of the last run: %v", err)
	}
	found := map[string]int{}
	for _, s := range spans {
		if s.op != "same" && !strings.Contains(s.urn, "pulumi:pulumi:Stack") {
			found[s.op+" "+s.urn[strings.LastIndex(s.urn, "::")+2:]]++
		}
	}
	return found
}

// TestUpLeaksNothing brings the lab up from nothing while it watches every process' arguments, and then looks for each secret, in every
// encoding, in what was printed, logged and stored.
func TestUpLeaksNothing(t *testing.T) {
	succeed(t, "down")
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
	l := open(t)
	sources := map[string][]byte{"what up prints": printed.Bytes()}
	for line := range arguments {
		sources["the process list: "+line[:min(40, len(line))]] = []byte(line)
	}
	for _, pattern := range []string{"logs/*", "pulumi/*.log", "pulumi/events.json", "pulumi/backend/.pulumi/stacks/*/*", "pulumi/backend/.pulumi/history/*/*/*"} {
		files, err := filepath.Glob(l.path(pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil {
				sources[f] = text
			}
		}
	}
	for name, secret := range l.everySecret(t) {
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
func (l *lab) everySecret(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{
		"the Cloudflare token": l.secrets.CloudflareToken, "the Tailscale client secret": l.secrets.TailscaleClientSecret,
		"the S3 secret key": l.secrets.S3SecretKey, "the git token": l.secrets.GitToken, "the passphrase": l.secrets.Passphrase,
		"the SSH key": middle(l.secrets.MachineKey),
	}
	sealing, err := os.ReadFile(l.path("sealing.pem"))
	if err != nil {
		t.Fatal(err)
	}
	found["the sealing key"] = middle(string(sealing))
	outputs, err := l.stack.outputs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"k3sToken", "tunnelToken", "kubeconfig"} {
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
	forms := map[string]string{"raw": secret, "URL-escaped": url.QueryEscape(secret), "JSON-escaped": strings.Trim(string(quoted), `"`)}
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
	if changed := open(t).changes(t); len(changed) > 0 {
		t.Errorf("a second up changed %v", changed)
	}
}

func TestRefreshFindsNoDrift(t *testing.T) {
	l := open(t)
	var out strings.Builder
	l.stack.out = &out
	if err := l.stack.program(t.Context(), "refresh", "--yes", "--skip-preview", "--expect-no-changes"); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestClusterRunsWhatItShould(t *testing.T) {
	l := open(t)
	kubectl := func(args ...string) string {
		out, err := l.kubectl(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := kubectl("get", "nodes", "-o", `jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}`); got != "True" {
		t.Errorf("nodes ready: %q", got)
	}
	pods := kubectl("get", "pods", "-A", "-o", `jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {.status.phase}{"\n"}{end}`)
	for _, want := range []string{
		"flux-system/flux-operator-", "flux-system/source-controller-", "flux-system/kustomize-controller-", "flux-system/helm-controller-",
		"flux-system/notification-controller-", "sealed-secrets/sealed-secrets-controller-", "memos-system/memos-", "kube-system/coredns-",
	} {
		if !slices.ContainsFunc(strings.Split(pods, "\n"), func(l string) bool { return strings.HasPrefix(l, want) && strings.HasSuffix(l, " Running") }) {
			t.Errorf("no pod %s… is Running:\n%s", want, pods)
		}
	}
	canary, err := base64.StdEncoding.DecodeString(kubectl("-n", "sealed-secrets", "get", "secret", "canary", "-o", "jsonpath={.data.message}"))
	if err != nil || string(canary) != "sealed for lab" {
		t.Errorf("the canary reads %q (%v): it was not opened with the restored key", canary, err)
	}
	if server := kubectl("config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"); server != "https://100.64.0.10:6443" {
		t.Errorf("the kubeconfig points at %s, not at the management address", server)
	}
}

// TestPublicSideIsShut dials the machine's public address from outside: only the bootstrap SSH source is let in, and that is this host.
func TestPublicSideIsShut(t *testing.T) {
	for _, port := range []string{"6443", "10250", "2379", "111", "30000"} {
		cmd := exec.Command("bash", "-c", "exec 3<>/dev/tcp/"+machine.Address+"/"+port)
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		err := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...).Run()
		cancel()
		if err == nil {
			t.Errorf("%s:%s answers on the public side", machine.Address, port)
		}
	}
}

func TestPushedCommitIsApplied(t *testing.T) {
	l := open(t)
	replicas := func() string {
		out, err := l.kubectl(t.Context(), "-n", "memos-system", "get", "deployment", "memos", "-o", "jsonpath={.spec.replicas}/{.status.readyReplicas}")
		if err != nil {
			t.Log(err)
		}
		return out
	}
	for _, count := range []string{"2", "1"} {
		l.commit(t, func(text string) string { return setCount(text, count) })
		started := time.Now()
		for replicas() != count+"/"+count {
			if time.Since(started) > 4*time.Minute {
				t.Fatalf("memos has %s replicas (wanted/ready) after %s, want %s", replicas(), time.Since(started), count)
			}
			time.Sleep(200 * time.Millisecond)
		}
		t.Logf("from push to %s ready replicas: %s", count, time.Since(started).Round(100*time.Millisecond))
	}
}

func setCount(text, count string) string {
	head, tail, _ := strings.Cut(text, "count: ")
	_, rest, _ := strings.Cut(tail, "\n")
	return head + "count: " + count + "\n" + rest
}

// commit changes the lab overlay of the applications in a clone of its own and pushes it, as any person with access would.
func (l *lab) commit(t *testing.T, edit func(string) string) {
	t.Helper()
	clone := filepath.Join(t.TempDir(), "clone")
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=e2e", "-c", "user.email=e2e@" + zone, "-c", "credential.helper=store --file=" + l.path("git-credentials")}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_SSL_CAINFO="+l.path("tls", "ca.crt"), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
	git("clone", "--quiet", gitURL, clone)
	path := filepath.Join(clone, "apps", "lab", "kustomization.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := edit(string(text))
	if changed == string(text) {
		t.Fatal("nothing to commit")
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	git("-C", clone, "commit", "--quiet", "--all", "--message", "memos: another number of replicas")
	git("-C", clone, "push", "--quiet", gitURL, "HEAD:main")
}

// TestCloudHoldsTheIngressList compares the emulated account with the stack's list, then adds a hostname and removes it again.
func TestCloudHoldsTheIngressList(t *testing.T) {
	l := open(t)
	hostnames := []string{"forum.lab.test", "lab.test", "notes.lab.test"}
	if got := l.cloudRecords(t); !slices.Equal(got, hostnames) {
		t.Errorf("records %v, want %v", got, hostnames)
	}
	if got := l.cloudRules(t); !slices.Equal(got, append(slices.Clone(hostnames), "")) {
		t.Errorf("rules %v, want those of %v and a last one for everything else", got, hostnames)
	}
	config, err := os.ReadFile(l.stack.config())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.WriteFile(l.stack.config(), config, 0o600); err != nil {
			t.Error(err)
		}
	}()
	added := bytes.Replace(config, []byte("    ingress:\n"), []byte("    ingress:\n    - access: public\n      hostname: status.lab.test\n      service: http://status.status-system.svc.cluster.local:80\n"), 1)
	if bytes.Equal(added, config) {
		t.Fatalf("the configuration has no ingress list:\n%s", config)
	}
	for _, step := range []struct {
		config  []byte
		records []string
		want    map[string]int
	}{
		{added, append(slices.Clone(hostnames), "status.lab.test"), map[string]int{"PUT configurations": 1, "POST dns_records": 1}},
		{config, hostnames, map[string]int{"PUT configurations": 1, "DELETE {record}": 1}},
	} {
		if err := os.WriteFile(l.stack.config(), step.config, 0o600); err != nil {
			t.Fatal(err)
		}
		resetRequests(t)
		if err := l.stack.program(t.Context(), "up", "--skip-preview", "--yes"); err != nil {
			t.Fatal(err)
		}
		if got := writes(t); fmt.Sprint(got) != fmt.Sprint(step.want) {
			t.Errorf("the cloud was asked for %v, want %v", got, step.want)
		}
		if got := l.cloudRecords(t); !slices.Equal(got, step.records) {
			t.Errorf("records %v, want %v", got, step.records)
		}
	}
}

func fetch(t *testing.T, method, url string, into any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if into == nil {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) cloudRecords(t *testing.T) []string {
	t.Helper()
	var all struct {
		Objects struct{ DNSRecords []struct{ Name, Type string } }
	}
	fetch(t, http.MethodGet, "http://"+cloudflareAddr+"/lab/state", &all)
	var names []string
	for _, r := range all.Objects.DNSRecords {
		if r.Type == "CNAME" {
			names = append(names, r.Name)
		}
	}
	slices.Sort(names)
	return names
}

// cloudRules are the hostnames of the tunnel's rules in their order; the last rule has none.
func (l *lab) cloudRules(t *testing.T) []string {
	t.Helper()
	var all struct{ Objects map[string]json.RawMessage }
	fetch(t, http.MethodGet, "http://"+cloudflareAddr+"/lab/state", &all)
	var names []string
	decoder := json.NewDecoder(bytes.NewReader(all.Objects["tunnels"]))
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if rules, ok := v["ingress"].([]any); ok {
				for _, r := range rules {
					name, _ := r.(map[string]any)["hostname"].(string)
					names = append(names, name)
				}
				return
			}
			for _, inner := range v {
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	var any any
	if err := decoder.Decode(&any); err != nil {
		t.Fatal(err)
	}
	walk(any)
	slices.Sort(names[:max(0, len(names)-1)])
	return names
}

func resetRequests(t *testing.T) {
	t.Helper()
	fetch(t, http.MethodDelete, "http://"+cloudflareAddr+"/lab/requests", nil)
}

// writes are the changing requests that the emulated Cloudflare served, by method and last part of the path.
func writes(t *testing.T) map[string]int {
	t.Helper()
	var all struct {
		Requests map[string]struct{ Total, OK int }
	}
	fetch(t, http.MethodGet, "http://"+cloudflareAddr+"/lab/requests", &all)
	found := map[string]int{}
	for route, count := range all.Requests {
		method, path, _ := strings.Cut(route, " ")
		if method != http.MethodGet && strings.HasPrefix(path, "/client/") {
			found[method+" "+path[strings.LastIndex(path, "/")+1:]] += count.Total
		}
	}
	return found
}

// TestTailnetPolicyPassesItsTests asks the emulated tailnet to validate the policy that it holds, which runs the tests inside it.
func TestTailnetPolicyPassesItsTests(t *testing.T) {
	l := open(t)
	var access struct {
		AccessToken string `json:"access_token"`
	}
	call := func(method, path, contentType, bearer, body string) (string, int) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+tailscaleAddr+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		req.Header.Set("Accept", "application/hujson")
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		} else {
			req.SetBasicAuth(l.secrets.TailscaleClientID, l.secrets.TailscaleClientSecret)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text), resp.StatusCode
	}
	text, _ := call(http.MethodPost, "/api/v2/oauth/token", "application/x-www-form-urlencoded", "", "grant_type=client_credentials")
	if err := json.Unmarshal([]byte(text), &access); err != nil || access.AccessToken == "" {
		t.Fatalf("no access token: %v", err)
	}
	policy, status := call(http.MethodGet, "/api/v2/tailnet/"+tailnet+"/acl", "", access.AccessToken, "")
	if status != http.StatusOK || !strings.Contains(policy, "tag:k3s") || !strings.Contains(policy, `"tests"`) {
		t.Fatalf("the tailnet holds another policy (%d):\n%s", status, policy)
	}
	answer, status := call(http.MethodPost, "/api/v2/tailnet/"+tailnet+"/acl/validate", "application/hujson", access.AccessToken, policy)
	if status != http.StatusOK || strings.Contains(answer, "message") {
		t.Errorf("the policy does not pass its own tests (%d): %s", status, answer)
	}
	opened := strings.Replace(policy, ":22", ":*", 1)
	if opened == policy {
		t.Fatal("the policy names no port 22")
	}
}

func TestSnapshotArrivesInTheBucket(t *testing.T) {
	l := open(t)
	out, err := l.ssh(t.Context(), "k3s etcd-snapshot save --name e2e")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found, err := filepath.Glob(l.path("s3", bucket, "*", "e2e*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no snapshot in the bucket: %v\n%s", err, out)
	}
	if info, err := os.Stat(found[0]); err != nil || info.Size() < 1<<20 {
		t.Errorf("%s is no snapshot: %v", found[0], err)
	}
}

func (l *lab) ssh(ctx context.Context, command string) (string, error) {
	host, err := publicKey(l.secrets.HostKey)
	if err != nil {
		return "", err
	}
	known := l.path("known_hosts")
	if err := writeFile(known, []byte(machine.Address+" "+host+"\n"), 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "ssh", "-q", "-i", l.path("machine.key"), "-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes", "root@"+machine.Address, command)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestKilledUpConverges kills `up` without warning at random moments, each time from nothing, and then runs it again. TINYRACK_E2E_KILLS is how often
// (2 where it is not set: each costs two minutes).
func TestKilledUpConverges(t *testing.T) {
	kills := 2
	if text := os.Getenv("TINYRACK_E2E_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for i := range kills {
		succeed(t, "down")
		cmd := command(t, "up")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		moment := time.Duration(rand.Int64N(int64(85 * time.Second)))
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case <-time.After(moment):
		case <-done:
		}
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
		started := time.Now()
		succeed(t, "up")
		t.Logf("kill %d after %s: up again took %s", i+1, moment.Round(time.Second), time.Since(started).Round(time.Second))
		succeed(t, "up")
		l := open(t)
		if changed := l.changes(t); len(changed) > 0 {
			t.Errorf("kill %d after %s: the up after the one that converged changed %v", i+1, moment, changed)
		}
		if got := l.cloudRecords(t); len(got) != 3 {
			t.Errorf("kill %d after %s: records %v", i+1, moment, got)
		}
	}
}

func TestDownLeavesNothing(t *testing.T) {
	l := open(t)
	succeed(t, "down")
	for _, path := range []string{l.dir, "/run/netns/" + machine.Name, "/sys/class/net/" + machine.Bridge, "/sys/class/net/trlab-ts0"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is left", path)
		}
	}
	if groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + machine.Name); len(groups) > 0 {
		t.Errorf("control groups are left: %v", groups)
	}
	for _, file := range []string{"/proc/self/mounts"} {
		if text, err := os.ReadFile(file); err != nil || bytes.Contains(text, []byte("tinyrack-lab")) {
			t.Errorf("a mount is left (%v):\n%s", err, text)
		}
	}
	seen := map[string]bool{}
	sampleArguments(seen)
	for line := range seen {
		if strings.Contains(line, l.dir+"/") || strings.Contains(line, "k3s server") {
			t.Errorf("a process is left: %s", line)
		}
	}
}
