package machine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

// served is what the fake curl answers, by the last part of the URL.
const (
	servedBinary = "#!/bin/sh\n[ \"$1\" = --version ] || exit 64\n" +
		"echo 'k3s version v1.32.4+k3s1 (6b330558)'\necho 'go version go1.23.6'\n"
	servedInstall = "install\n"
)

func sum(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

func testPreflight() *PreflightArgs {
	return &PreflightArgs{
		Host: testHost(), Settings: "0123abcd", Role: Server,
		Join:        Join{Tags: []string{testTag}},
		ClusterCIDR: "10.55.0.0/16", ServiceCIDR: "10.56.0.0/16",
		Artifacts: []Artifact{
			{
				Name: "k3s", Setting: "cluster.binaries", Arch: "amd64", URL: "https://host/k3s", SHA256: sum(servedBinary),
				Release: "v1.32.4+k3s1",
			},
			{
				Name: "k3s", Setting: "cluster.binaries", Arch: "arm64", URL: "https://host/k3s-arm64", SHA256: sum("arm64"),
				Release: "v1.32.4+k3s1",
			},
			{Name: "k3s-install", Setting: "cluster.installScript", URL: "https://host/install.sh", SHA256: sum(servedInstall)},
		},
		Git: Git{
			URL: "https://git.example/o/r.git", Branch: "main", Username: "flux", Token: pulumi.String(canary),
			CA: "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
		},
		MinDiskGiB: 20, MinMemoryMiB: 2000,
	}
}

// preflightHost passes every check.
func preflightHost(t *testing.T) *remotetest.Host {
	t.Helper()
	h := tailscaleHost(t)
	h.Write("/run/systemd/system/x", "")
	h.Write("/proc/meminfo", "MemTotal:        4096000 kB\n")
	h.Write("/served/k3s", servedBinary)
	h.Write("/served/k3s-arm64", "arm64")
	h.Write("/served/install.sh", servedInstall)
	h.Fake("uname", `case $1 in -s) echo Linux ;; -m) cat "$ROOT/arch" 2>/dev/null || echo x86_64 ;; -n) echo Box ;; esac`)
	h.Fake("id", "echo 0")
	h.Fake("df", `[ "$1 $2" = "-Pk $ROOT/var" ] || exit 64
printf 'Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/a 100000000 1 50000000 1%% /\n'`)
	h.Fake("systemctl", `[ "$1" = is-active ] && [ -f "$ROOT/active/$3" ]`)
	h.Write("/listen", "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\nLISTEN 0 128 [::]:22 [::]:*\n"+
		"LISTEN 0 10 127.0.0.1:2222 0.0.0.0:*\n")
	h.Fake("ss", `cat "$ROOT/listen"`)
	for _, name := range []string{"systemd-run", "apt-get", "dpkg-query", "ip", "openssl"} {
		h.Fake(name, "")
	}
	h.Fake("curl", `for url; do :; done
case $url in
*service=git-upload-pack) cat >"$ROOT/state-config" ;;
esac
while [ "$1" != -o ]; do
	case $1 in
	--cacert) grep -q CERTIFICATE "$2" || exit 60 ;;
	-k | --insecure) exit 64 ;;
	esac
	shift
done
case $url in
https://git.example/o/r.git/info/refs\?service=git-upload-pack)
	printf '001e# service=git-upload-pack\n00000153aaaa HEAD\000caps symref=HEAD:refs/heads/main\n' >"$2"
	printf '003faaaa refs/heads/main\n0000' >>"$2"
	printf 200 ;;
https://host/*) cp "$ROOT/served/${url##*/}" "$2" ;;
*) exit 22 ;;
esac`)
	return h
}

func preflightText(t *testing.T, args *PreflightArgs) string {
	t.Helper()
	if err := args.Validate(); err != nil {
		t.Fatal(err)
	}
	return "SSH_CONNECTION='203.0.113.7 50000 192.0.2.1 22'\n" + renderText(t, withHost(args.text()))
}

func TestPreflightTwice(t *testing.T) {
	h := preflightHost(t)
	args := testPreflight()
	text := preflightText(t, args)
	r := h.Run(text, canary)
	if r.Code != 0 || !strings.Contains(r.Stderr, "nothing stands in the way") {
		t.Fatalf("got %+v", r)
	}
	r.NoSecret(t, canary)
	for i, want := range []string{servedBinary, "", servedInstall} {
		if h.Read("/var/lib/tinyrack/artifacts/"+args.Artifacts[i].SHA256) != want {
			t.Errorf("the cache is wrong about %+v", args.Artifacts[i])
		}
	}
	// What curl reads has the credentials in its own syntax.
	if got, want := h.Read("/state-config"), `user = "flux:c4n4ry\"\\key=&%`+`"`+"\n"; got != want {
		t.Errorf("curl got %q, want %q", got, want)
	}
	if strings.Contains(h.Files(), "/run/tinyrack/preflight") || strings.Contains(h.Files(), "/etc/tinyrack") {
		t.Error("something was left, or the machine was taken")
	}
	clean := func() string { h.Run("rm -f $ROOT/state-config $ROOT/now", ""); return h.Files() }
	before := clean()
	r = h.Run(text, canary)
	if r.Code != 0 || strings.Contains(r.Stderr, "downloading") || clean() != before {
		t.Errorf("the second run changed something: %+v", r)
	}
}

func TestPreflightReportsEverything(t *testing.T) {
	h := preflightHost(t)
	h.Run(`rm -r "$ROOT/run"`, "")
	h.Write("/proc/meminfo", "MemTotal: 512000 kB\n")
	h.Write("/etc/tinyrack/owner", "acme/prod of acme.example\nheld\n")
	h.Write("/var/lib/rancher/k3s/server/db/x", "")
	h.Write("/etc/rancher/k3s/config.yaml", "cluster-cidr: 10.1.0.0/16\nservice-cidr: 10.2.0.0/16\nnode-name: former\n")
	h.Write("/etc/ufw/ufw.conf", "# x\nENABLED=yes\n")
	h.Write("/active/firewalld", "")
	loggedIn(h, "box", "box", "evil.ts.net", testTag)
	h.Fake("uname", `case $1 in -s) echo Darwin ;; -m) echo riscv64 ;; esac`)
	h.Fake("id", "echo 1000")
	h.Fake("df", `printf 'x\n/dev/a 1 1 1048576 1%% /\n'`)
	for _, name := range []string{"systemd-run", "dpkg-query", "openssl"} {
		h.Remove(name)
	}
	args := testPreflight()
	args.Host.Port = 2222
	args.Artifacts[2].SHA256 = strings.Repeat("0", 64)
	args.Git.Branch = "absent"
	r := h.Run(preflightText(t, args), canary)
	r.NoSecret(t, canary)
	wants := []string{
		"belongs to acme/prod of acme.example, not to " + testOwner,
		"runs Darwin", "architecture is riscv64", "not booted with systemd", "not root",
		"has no systemd-run dpkg-query openssl", "ufw is active", "firewalld is active",
		"received this session on port 22, the settings say 2222", "logged in to the tailnet evil.ts.net",
		"1 GiB are free below /var, 20 GiB are needed", "500 MiB of memory, 2000 MiB",
		"the node on this machine is called former, the settings call it box",
		"runs with cluster-cidr 10.1.0.0/16", "runs with service-cidr 10.2.0.0/16",
		"k3s-install: https://host/install.sh has sha256", "has no branch absent",
	}
	// The two networks count as one.
	for _, want := range append(wants, fmt.Sprintf("error: %d problem(s) on the machine", len(wants)-1)) {
		if !strings.Contains(r.Stderr, want) {
			t.Errorf("not reported: %q", want)
		}
	}
	if r.Code == 0 {
		t.Error("went on all the same")
	}
	if t.Failed() {
		t.Log(r.Stderr)
	}
}

// Each of these stands in the way by itself, and is said in this way.
func TestPreflightRefusesTheMachine(t *testing.T) {
	ours := testOwner + "\nheld\n"
	tests := map[string]struct {
		change func(*remotetest.Host, *PreflightArgs)
		want   string
	}{
		"foreign owner": {
			func(h *remotetest.Host, _ *PreflightArgs) { h.Write("/etc/tinyrack/owner", "a/b of c\nheld\n") },
			"belongs to a/b of c, not to " + testOwner,
		},
		"a host that was renamed": {
			func(h *remotetest.Host, a *PreflightArgs) {
				h.Write("/etc/tinyrack/owner", strings.Replace(testOwner, "box", "attic", 1)+"\nheld\n")
				a.Role = ""
			},
			"this machine is the host attic of this stack, the settings call it box",
		},
		"k3s of nobody": {
			func(h *remotetest.Host, _ *PreflightArgs) { h.Write("/etc/systemd/system/k3s.service", "") },
			"no stack owns it",
		},
		"server wanted as agent": {
			func(h *remotetest.Host, a *PreflightArgs) {
				h.Write("/etc/tinyrack/owner", ours)
				h.Write("/etc/systemd/system/k3s.service", "")
				a.Role = Agent
			}, "runs on this machine as server, the settings want agent",
		},
		"agent wanted as server": {
			func(h *remotetest.Host, _ *PreflightArgs) {
				h.Write("/etc/tinyrack/owner", ours)
				h.Write("/etc/systemd/system/k3s-agent.service", "")
			}, "runs on this machine as agent, the settings want server",
		},
		"server wanted without k3s": {
			func(h *remotetest.Host, a *PreflightArgs) {
				h.Write("/etc/tinyrack/owner", ours)
				h.Write("/var/lib/rancher/k3s/server/db/x", "")
				a.Role = ""
			}, "runs on this machine as server, the settings want no k3s: a node cannot change what it is",
		},
		"another node name": {
			func(h *remotetest.Host, _ *PreflightArgs) {
				h.Write("/etc/tinyrack/owner", ours)
				h.Write("/etc/systemd/system/k3s.service", "")
				h.Write("/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml", "node-name: old\ncluster-cidr: "+
					"10.55.0.0/16\nservice-cidr: 10.56.0.0/16\n")
			}, "the node on this machine is called old, the settings call it box",
		},
		"the node name of the machine": {
			func(h *remotetest.Host, a *PreflightArgs) {
				h.Write("/etc/tinyrack/owner", ours)
				h.Write("/etc/systemd/system/k3s-agent.service", "")
				h.Fake("uname", `case $1 in -s) echo Linux ;; -m) echo x86_64 ;; -n) echo Other ;; esac`)
				a.Role = Agent
			}, "the node on this machine is called other, the settings call it box",
		},
		"networks": {
			func(h *remotetest.Host, _ *PreflightArgs) {
				h.Write("/etc/tinyrack/owner", ours)
				h.Write("/var/lib/rancher/k3s/server/db/x", "")
			}, "runs with cluster-cidr 10.42.0.0/16, the configuration wants 10.55.0.0/16",
		},
		"ufw": {
			func(h *remotetest.Host, _ *PreflightArgs) {
				h.Write("/etc/ufw/ufw.conf", "LOGLEVEL=low\nenabled=YES\n")
			},
			"ufw is active",
		},
		"firewalld": {
			func(h *remotetest.Host, _ *PreflightArgs) { h.Write("/active/firewalld", "") }, "firewalld is active",
		},
		"sshd on another port than the session's": {
			func(_ *remotetest.Host, a *PreflightArgs) { a.Host.Port = 2222 },
			"received this session on port 22, the settings say 2222",
		},
		"sshd on the public address alone": {
			func(h *remotetest.Host, _ *PreflightArgs) {
				h.Write("/listen", "LISTEN 0 128 192.0.2.1:22 0.0.0.0:*\nLISTEN 0 128 [2001:db8::1]:22 [::]:*\nLISTEN 0 1 "+
					"0.0.0.0:8022 0.0.0.0:*\n")
			}, "sshd listens on 192.0.2.1 2001:db8::1 alone",
		},
		"a forwarded port": {
			func(h *remotetest.Host, _ *PreflightArgs) { h.Write("/listen", "LISTEN 0 1 0.0.0.0:8022 0.0.0.0:*\n") },
			"nothing listens on port 22",
		},
		"a stopped daemon with a login": {
			func(h *remotetest.Host, _ *PreflightArgs) {
				h.Write("/ts/packaged", "")
				h.Write("/var/lib/tailscale/tailscaled.state", "{}")
			}, "tailscaled does not run and has a former login",
		},
		"a stranger's tailnet": {
			func(h *remotetest.Host, _ *PreflightArgs) { loggedIn(h, "box", "box", "evil.ts.net", testTag) },
			"logged in to the tailnet evil.ts.net",
		},
		"other tags": {
			func(h *remotetest.Host, _ *PreflightArgs) { loggedIn(h, "box", "box", testDomain, "tag:x") },
			"with the tags tag:x, wanted are " + testTag,
		},
		"a login that does not come up": {
			func(h *remotetest.Host, _ *PreflightArgs) { h.Write("/ts/state", "Starting") },
			"in the state Starting",
		},
		"no binary for the architecture": {
			func(h *remotetest.Host, a *PreflightArgs) { h.Write("/arch", "aarch64"); a.Artifacts = a.Artifacts[:1] },
			"k3s: the settings have no file for arm64, which this machine is: it could not be installed: set " +
				"cluster.binaries.arm64.url",
		},
		"a binary of another architecture": {
			func(h *remotetest.Host, a *PreflightArgs) {
				content := "\x7fELF\x02\x01\x01\x00\x00\x00"
				h.Write("/served/k3s", content)
				a.Artifacts[0].SHA256 = sum(content)
			}, "k3s: the file from https://host/k3s does not run here (x86_64)",
		},
		"a binary of another release": {
			func(_ *remotetest.Host, a *PreflightArgs) { a.Artifacts[0].Release = "v1.33.0+k3s1" },
			"k3s: the file from https://host/k3s is v1.32.4+k3s1, the settings say v1.33.0+k3s1",
		},
		"a wrong checksum": {
			func(_ *remotetest.Host, a *PreflightArgs) { a.Artifacts[0].SHA256 = strings.Repeat("0", 64) },
			"k3s: https://host/k3s has sha256 " + sum(servedBinary),
		},
		"a branch whose name begins another's": {
			func(_ *remotetest.Host, a *PreflightArgs) { a.Git.Branch = "mai" }, "has no branch mai",
		},
		"no openssl on a server": {
			func(h *remotetest.Host, _ *PreflightArgs) { h.Remove("openssl") }, "the machine has no openssl",
		},
		"no ss": {func(h *remotetest.Host, _ *PreflightArgs) { h.Remove("ss") }, "the machine has no ss"},
		"memory": {
			func(h *remotetest.Host, _ *PreflightArgs) { h.Write("/proc/meminfo", "MemTotal: 2046976 kB\n") },
			"the machine has 1999 MiB of memory, 2000 MiB are needed",
		},
		"disk": {
			func(h *remotetest.Host, _ *PreflightArgs) { h.Fake("df", `printf 'x\n/dev/a 1 1 20971519 1%% /\n'`) },
			"19 GiB are free below /var, 20 GiB",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := preflightHost(t)
			args := testPreflight()
			tt.change(h, args)
			r := h.Run(preflightText(t, args), canary)
			if !refused(r, tt.want, "error: 1 problem(s)") {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// And these do not stand in the way.
func TestPreflightAccepts(t *testing.T) {
	tests := map[string]func(*remotetest.Host, *PreflightArgs){
		"our own machine": func(h *remotetest.Host, _ *PreflightArgs) {
			h.Write("/etc/tinyrack/owner", testOwner+"\nheld\n")
			h.Write("/etc/systemd/system/k3s.service", "ExecStart=/usr/local/bin/k3s \\\n\tserver \\\n")
			h.Write("/var/lib/rancher/k3s/server/db/x", "")
			h.Write("/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml", "node-name: box\ncluster-cidr: "+
				"10.55.0.0/16\nservice-cidr: 10.56.0.0/16\n")
			loggedIn(h, "box", "box", testDomain, testTag)
		},
		"a name that join corrects": func(h *remotetest.Host, _ *PreflightArgs) {
			loggedIn(h, "old", "old", testDomain,
				testTag)
		},
		"ufw installed and off": func(h *remotetest.Host, _ *PreflightArgs) {
			h.Write("/etc/ufw/ufw.conf", "# Set to yes to start on boot: ENABLED=yes\nENABLED=no\n")
			h.Write("/active/ufw", "")
		},
		"an agent without openssl": func(h *remotetest.Host, a *PreflightArgs) { h.Remove("openssl"); a.Role = Agent },
		"no tailscale yet":         func(h *remotetest.Host, _ *PreflightArgs) { h.Remove("tailscale") },
		"a daemon that never ran":  func(h *remotetest.Host, _ *PreflightArgs) { h.Write("/ts/packaged", "") },
		"sshd by socket": func(h *remotetest.Host, _ *PreflightArgs) {
			h.Write("/listen", "LISTEN 0 4096 *:22 *:*\n")
		},
		"sshd on the tailnet's address": func(h *remotetest.Host, _ *PreflightArgs) {
			loggedIn(h, "box", "box", testDomain, testTag)
			h.Write("/listen", "LISTEN 0 128 192.0.2.1:22 0.0.0.0:*\nLISTEN 0 128 100.64.0.10:22 0.0.0.0:*\n")
		},
		"a daemon that has just started": func(h *remotetest.Host, _ *PreflightArgs) {
			loggedIn(h, "box", "box", testDomain, testTag)
			h.Write("/ts/starting", "2")
		},
		"no git": func(_ *remotetest.Host, a *PreflightArgs) { a.Git = Git{} },
		"arm64": func(h *remotetest.Host, a *PreflightArgs) {
			h.Write("/arch", "aarch64")
			a.Artifacts[0].URL, a.Artifacts[1].URL = a.Artifacts[1].URL, a.Artifacts[0].URL
			a.Artifacts[0].SHA256, a.Artifacts[1].SHA256 = a.Artifacts[1].SHA256, a.Artifacts[0].SHA256
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			h := preflightHost(t)
			args := testPreflight()
			change(h, args)
			if r := h.Run(preflightText(t, args), canary); r.Code != 0 {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestPreflightRemovesTheCredentialsOfAKilledRun(t *testing.T) {
	for _, git := range []Git{testPreflight().Git, {}} {
		h := preflightHost(t)
		h.Write("/run/tinyrack/preflight.killed/key", canary)
		args := testPreflight()
		args.Git = git
		if r := h.Run(preflightText(t, args), canary); r.Code != 0 || strings.Contains(h.Files(), "preflight.killed") {
			t.Errorf("got %+v", r)
		}
	}
}

func TestPreflightGitRefusals(t *testing.T) {
	tests := map[string]struct{ answer, want string }{
		"credentials": {"printf 401", "refuses the credentials (HTTP 401)"},
		"forbidden":   {"printf 403", "refuses the credentials (HTTP 403)"},
		"absent":      {"printf 404", "cannot be read (HTTP 404)"},
		"unreachable": {
			"echo 'curl: (6) Could not resolve host' >&2; exit 6",
			"cannot be reached from the machine: Flux could not sync: check flux.url, the network and flux.ca: curl: (6)",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := preflightHost(t)
			h.Fake("curl", "cat >/dev/null\n"+tt.answer)
			args := testPreflight()
			args.Artifacts = nil
			r := h.Run(preflightText(t, args), canary)
			if !refused(r, tt.want, "1 problem(s)") {
				t.Errorf("got %+v", r)
			}
			r.NoSecret(t, canary)
		})
	}
}

func TestPreflightGitOverSSH(t *testing.T) {
	h := preflightHost(t)
	h.Fake("ssh", `while [ $# -gt 0 ]; do case $1 in
-i) cp -p "$2" "$ROOT/key" ;;
UserKnownHostsFile=*) cp "${1#*=}" "$ROOT/known_hosts" ;;
esac; shift; done
printf '00abcccc HEAD\000caps\n003fcccc refs/heads/main\n0000'`)
	args := testPreflight()
	args.Git = Git{
		URL: "ssh://git@git.example:2222/o/r.git", Branch: "main", SSHKey: pulumi.String("x"),
		KnownHosts: "git.example ssh-ed25519 AAAA",
	}
	text := preflightText(t, args)
	key := "-----BEGIN KEY-----\n" + canary + "\n-----END KEY-----\n"
	r := h.Run(text, key)
	r.NoSecret(t, canary)
	if r.Code != 0 || h.Read("/key") != key || h.Mode("/key") != 0o600 ||
		h.Read("/known_hosts") != args.Git.KnownHosts+"\n" {
		t.Errorf("key %q %v, got %+v", h.Read("/key"), h.Mode("/key"), r)
	}
	calls := strings.Join(r.Calls, "\n")
	for _, want := range []string{"-p 2222", "StrictHostKeyChecking=yes", "git@git.example git-upload-pack '/o/r.git'"} {
		if !strings.Contains(calls, want) {
			t.Errorf("ssh was not told %s: %q", want, calls)
		}
	}
	if strings.Contains(h.Files(), "/run/tinyrack/preflight") {
		t.Error("the key was left on the machine")
	}
	h.Fake("ssh", "echo 'Host key verification failed.' >&2; exit 255")
	if r := h.Run(text, key); !refused(r, "cannot be read over SSH", "Host key verification failed") {
		t.Errorf("got %+v", r)
	}
	h.Remove("ssh")
	if r := h.Run(text, key); !refused(r, "the machine has no ssh:") {
		t.Errorf("got %+v", r)
	}
}

func TestPreflightRefuses(t *testing.T) {
	if err := testPreflight().Validate(); err != nil {
		t.Fatalf("the valid arguments: %v", err)
	}
	args := testPreflight()
	args.Host, args.ClusterCIDR, args.ServiceCIDR, args.Role = nil, "10.55.0.0", "x", "boss"
	args.Join = Join{LoginServer: "login.example", Tags: []string{"tag:ok", "x; id"}}
	args.Artifacts = []Artifact{
		{Name: "k3s", Setting: "cluster.binaries", Arch: "amd64", URL: "ftp://x", SHA256: "ABC", Release: "v1 x"},
		{Name: "a b", Setting: "cluster.installScript", Arch: "sparc", URL: "https://x/a b", SHA256: sum("")},
	}
	args.MinDiskGiB = -1
	err := args.Validate()
	wantError(t, err, "host: missing", "role: \"boss\"", "clusterCidr: \"10.55.0.0\"", "serviceCidr: \"x\"",
		"join.loginServer: \"login.example\"", "join.tags[1]: \"x; id\"",
		"cluster.binaries.amd64.url: not an http(s) URL", "cluster.binaries.amd64.sha256: \"ABC\"",
		"cluster.binaries.amd64: release \"v1 x\"",
		"cluster.installScript.sparc: name \"a b\"", "cluster.installScript.sparc: no architecture",
		"cluster.installScript.sparc.url",
		"negative")
	if lines := strings.Count(err.Error(), "\n") + 1; lines != 13 {
		t.Errorf("%d problems:\n%v", lines, err)
	}
	nothing := testPreflight()
	nothing.MinDiskGiB, nothing.MinMemoryMiB = 0, 0
	if err := nothing.Validate(); err != nil {
		t.Errorf("no minimum: %v", err)
	}
	nothing.MinMemoryMiB = -1
	wantError(t, nothing.Validate(), "negative")
}

// bucketHost answers for the buckets of testBuckets: with the code and the body given, or as the text says.
func bucketHost(t *testing.T, answer string) *remotetest.Host {
	t.Helper()
	h := preflightHost(t)
	h.Fake("curl", `[ "$1" != --version ] || { echo "curl $(cat "$ROOT/curl" 2>/dev/null || echo 7.88.1) (x86_64)"; exit; }
for url; do :; done
printf '%s\n' "$*" >>"$ROOT/asked"
cat >>"$ROOT/configs"
while [ "$1" != -o ]; do shift; done
`+answer)
	return h
}

func testBuckets() *PreflightArgs {
	args := testPreflight()
	args.Artifacts, args.Git = nil, Git{}
	args.Buckets = []Bucket{
		{Setting: "cluster.snapshots", Endpoint: "s3.example:9000", Region: "eu-1", Name: "etcd"},
		{Setting: "backups", Endpoint: "s3.example", Insecure: true, Region: "auto", Name: "copies"},
	}
	return args
}

const bucketKeys = "id-one:" + canary + "\nid-two:second" + canary + "\n"

const listed = `printf '<ListBucketResult><Name>x</Name></ListBucketResult>' >"$2"; printf 200`

func TestPreflightLooksIntoBuckets(t *testing.T) {
	h := bucketHost(t, listed)
	r := h.Run(preflightText(t, testBuckets()), bucketKeys)
	r.NoSecret(t, canary)
	if r.Code != 0 {
		t.Fatalf("got %+v", r)
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace
	if got, want := h.Read("/configs"), "user = \"id-one:"+escape(canary)+"\"\nuser = \"id-two:second"+escape(canary)+
		"\"\n"; got != want {
		t.Errorf("curl got\n%s\nwant\n%s", got, want)
	}
	asked := strings.Split(strings.TrimSpace(h.Read("/asked")), "\n")
	for i, want := range []string{
		"--aws-sigv4 aws:amz:eu-1:s3 -H x-amz-content-sha256: " + sum("") + " ",
		"--aws-sigv4 aws:amz:auto:s3 -H x-amz-content-sha256: " + sum("") + " ",
	} {
		url := []string{" https://s3.example:9000/etcd", " http://s3.example/copies"}[i]
		if len(asked) != 2 || !strings.Contains(asked[i], want) || !strings.HasSuffix(asked[i], url) {
			t.Errorf("asked %q, want %s…%s", asked, want, url)
		}
	}
	// With the keys before it, git's secret is what it was: over SSH a text of several lines.
	args := testBuckets()
	args.Git = Git{URL: "ssh://git@git.example/o/r.git", Branch: "main", SSHKey: pulumi.String("x"), KnownHosts: "k"}
	h.Fake("ssh", `while [ $# -gt 0 ]; do case $1 in -i) cp -p "$2" "$ROOT/key" ;; esac; shift; done
printf '00abcccc HEAD\000caps\n003fcccc refs/heads/main\n0000'`)
	key := "-----BEGIN KEY-----\n" + canary + "\n-----END KEY-----\n"
	if r := h.Run(preflightText(t, args), bucketKeys+key); r.Code != 0 || h.Read("/key") != key {
		t.Errorf("the key is %q: %+v", h.Read("/key"), r)
	}
}

func TestPreflightRefusesBuckets(t *testing.T) {
	code := func(status, code string) string {
		return `printf '<?xml version="1.0"?><Error><Code>` + code + `</Code><Message>m</Message></Error>' >"$2"; printf ` +
			status
	}
	for name, tt := range map[string]struct{ answer, want string }{
		"unreachable": {
			"echo 'curl: (7) Failed to connect' >&2; exit 7",
			"https://s3.example:9000 cannot be reached from the machine: no copy would get there: check endpoint, insecure " +
				"and the network: curl: (7)",
		},
		"no bucket":      {code("404", "NoSuchBucket"), "https://s3.example:9000 has no bucket etcd"},
		"region":         {code("400", "AuthorizationHeaderMalformed"), "expects another region than eu-1 for bucket etcd"},
		"elsewhere":      {code("301", "PermanentRedirect"), "expects another region than eu-1"},
		"key":            {code("403", "InvalidAccessKeyId"), "refuses the keys for bucket etcd (HTTP 403 Invalid"},
		"secret":         {code("403", "SignatureDoesNotMatch"), "refuses the keys for bucket etcd"},
		"rights":         {code("403", "AccessDenied"), "let them list, read and write there"},
		"user":           {code("404", "XAdminUserNotFound"), "refuses the keys for bucket etcd (HTTP 404"},
		"clock":          {code("403", "RequestTimeTooSkewed"), "says that the clock of the machine is wrong"},
		"a web page":     {`echo '<html>' >"$2"; printf 200`, "does not answer as an S3 server does"},
		"no such page":   {`echo '<html>' >"$2"; printf 404`, "bucket etcd of https://s3.example:9000 cannot be"},
		"a wrong method": {code("405", "MethodNotAllowed"), "cannot be read (HTTP 405 MethodNotAllowed)"},
	} {
		t.Run(name, func(t *testing.T) {
			h := bucketHost(t, "case $url in */copies) "+listed+"; exit ;; esac\n"+tt.answer)
			r := h.Run(preflightText(t, testBuckets()), bucketKeys)
			if !refused(r, "cluster.snapshots: ", tt.want, "error: 1 problem(s)") {
				t.Errorf("got %+v", r)
			}
			r.NoSecret(t, canary)
		})
	}
}

// What cannot be seen yet, or not now, or not by this curl, is told and does not stand in the way.
func TestPreflightDoesNotLookIntoBuckets(t *testing.T) {
	for name, tt := range map[string]struct {
		endpoint, curl, answer, want string
	}{
		"a name of the tailnet":   {"nas.net.example:9000", "8.5.0", "exit 7", "is in the tailnet"},
		"another's tailnet":       {"nas.other.ts.net", "8.5.0", "exit 7", "is in the tailnet"},
		"its addresses' start":    {"100.64.0.9:9000", "8.5.0", "exit 7", "is in the tailnet"},
		"its addresses' end":      {"100.127.255.9", "8.5.0", "exit 7", "is in the tailnet"},
		"an old curl":             {"s3.example", "7.81.0", "exit 2", "curl is older than 7.88"},
		"a very old curl":         {"s3.example", "6.99", "exit 2", "curl is older than 7.88"},
		"a server in trouble":     {"s3.example", "8.5.0", `: >"$2"; printf 503`, "answers HTTP 503"},
		"100.128 is no tailnet's": {"100.128.0.9", "7.100.0", listed, ""},
		"100.63 is no tailnet's":  {"100.63.0.9", "10.1", listed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := bucketHost(t, tt.answer)
			h.Write("/curl", tt.curl)
			args := testBuckets()
			args.Buckets = args.Buckets[:1]
			args.Buckets[0].Endpoint, args.Host.Domain = tt.endpoint, "net.example"
			r := h.Run(preflightText(t, args), bucketKeys)
			if r.Code != 0 || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("got %+v", r)
			}
			if asked := tt.want == "" || tt.want == "answers HTTP 503"; asked != r.Called("curl --config") {
				t.Errorf("called %q", r.Calls)
			}
		})
	}
}

// The keys come before git's secret, and stay secret.
func TestPreflightSecret(t *testing.T) {
	args := testPreflight()
	if args.secret() != args.Git.Token {
		t.Error("without buckets there is more than git's secret")
	}
	args.Buckets = []Bucket{
		{AccessKey: pulumi.String("a"), SecretKey: pulumi.ToSecret(pulumi.String("b")).(pulumi.StringOutput)},
		{AccessKey: pulumi.String("c"), SecretKey: pulumi.String("d")},
	}
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		return pulumitest.Probe(ctx, "probe", pulumi.Map{"stdin": args.secret()})
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := recording.Get(t, "probe")
	if want := "a:b\nc:d\n" + canary; got.Plain()["stdin"] != want || len(got.Secrets()) != 1 {
		t.Errorf("got %+v, secret: %v", got.Plain(), got.Secrets())
	}
}

// All looks are taken, and all that they find is told.
func TestPreflightLooks(t *testing.T) {
	args := testPreflight()
	var taken []string
	for _, name := range []string{"one", "two", "three"} {
		args.Looks = append(args.Looks, func(context.Context) error {
			taken = append(taken, name)
			if name == "two" {
				return nil
			}
			return errors.New(name + " is wrong")
		})
	}
	err := args.look(t.Context())
	if len(taken) != 3 || err == nil || err.Error() != "one is wrong\nthree is wrong" {
		t.Errorf("taken %v: %v", taken, err)
	}
	if err := testPreflight().look(t.Context()); err != nil {
		t.Errorf("nothing to look at: %v", err)
	}
}
