package machine

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/script"
	"github.com/tinyrack-net/infrastructure/components/internal/script/scripttest"
)

func testPreflight() *PreflightArgs {
	return &PreflightArgs{
		Connection: testConnection(), User: "root",
		ClusterCIDR: "10.55.0.0/16", ServiceCIDR: "10.56.0.0/16",
		Artifacts: []Artifact{
			{Name: "k3s", URL: "https://host/k3s", SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte("https://host/k3s")))},
			{Name: "k3s-install", URL: "https://host/install.sh", SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte("https://host/install.sh")))},
		},
		Git: Git{
			URL: "https://git.example/o/r.git", Branch: "main", Username: "flux",
			Token: pulumi.ToSecret(pulumi.String(canary)).(pulumi.StringOutput), CA: "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
		},
		MinDiskGiB: 20, MinMemoryMiB: 2000,
	}
}

// preflightHost passes every check. Its curl serves each URL as its own content
// and a repository with a main branch.
func preflightHost(t *testing.T) *scripttest.Host {
	t.Helper()
	h := scripttest.New(t)
	h.Write("/run/systemd/system/x", "")
	h.Write("/proc/meminfo", "MemTotal:        4096000 kB\n")
	h.Fake("uname", `case $1 in -s) echo Linux ;; -m) echo x86_64 ;; esac`)
	h.Fake("id", "echo 0")
	h.Fake("df", `printf 'Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/a 100000000 1 50000000 1%% /\n'`)
	for _, name := range []string{"systemctl", "systemd-run", "apt-get", "dpkg-query", "ip"} {
		h.Fake(name, "")
	}
	h.Fake("curl", `for url; do :; done
case $url in
*service=git-upload-pack) cat >"$ROOT/state-config" ;;
esac
while [ "$1" != -o ]; do [ "$1" != --cacert ] || grep -q CERTIFICATE "$2" || exit 60; shift; done
case $url in
*service=git-upload-pack)
	printf '001e# service=git-upload-pack\n00000153aaaa HEAD\000caps symref=HEAD:refs/heads/main\n003faaaa refs/heads/main\n0000' >"$2"; printf 200 ;;
*) printf '%s' "$url" >"$2" ;;
esac`)
	return h
}

func preflightText(t *testing.T, args *PreflightArgs) string {
	t.Helper()
	if err := args.Validate(); err != nil {
		t.Fatal(err)
	}
	text, err := script.Render("root", args.vars(), script.Cluster+preflightScript)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPreflightTwice(t *testing.T) {
	h := preflightHost(t)
	args := testPreflight()
	text := preflightText(t, args)
	r := h.Run(text, canary)
	if r.Code != 0 {
		t.Fatalf("got %+v", r)
	}
	r.NoSecret(t, canary)
	for _, a := range args.Artifacts {
		if h.Read("/var/lib/tinyrack/artifacts/"+a.SHA256) != a.URL {
			t.Errorf("%s is not in the cache", a.Name)
		}
	}
	// What curl reads has the credentials in its own syntax.
	if got, want := h.Read("/state-config"), `user = "flux:c4n4ry\"\\key=&%"`+"\n"; got != want {
		t.Errorf("curl got %q, want %q", got, want)
	}
	if strings.Contains(h.Files(), "/run/tinyrack/") {
		t.Error("the credentials' directory was left")
	}
	before := h.Files()
	h.Run("rm -f $ROOT/state-config", "")
	r = h.Run(text, canary)
	h.Run("rm -f $ROOT/state-config", "")
	if r.Code != 0 || strings.Contains(r.Stderr, "downloading") || strings.Count(before, "\n") < strings.Count(h.Files(), "\n") {
		t.Errorf("the second run changed something: %+v", r)
	}
}

func TestPreflightReportsEverything(t *testing.T) {
	h := preflightHost(t)
	h.Run(`rm -r "$ROOT/run"`, "")
	h.Write("/proc/meminfo", "MemTotal: 512000 kB\n")
	h.Write("/var/lib/rancher/k3s/server/db/x", "")
	h.Write("/etc/rancher/k3s/config.yaml", "cluster-cidr: 10.1.0.0/16\nservice-cidr: 10.2.0.0/16\n")
	h.Fake("uname", `case $1 in -s) echo Darwin ;; -m) echo riscv64 ;; esac`)
	h.Fake("id", "echo 1000")
	h.Fake("df", `printf 'x\n/dev/a 1 1 1048576 1%% /\n'`)
	h.Remove("systemd-run")
	h.Remove("dpkg-query")
	args := testPreflight()
	args.Artifacts[0].SHA256 = strings.Repeat("0", 64)
	args.Git.Branch = "absent"
	r := h.Run(preflightText(t, args), canary)
	r.NoSecret(t, canary)
	for _, want := range []string{
		"runs Darwin", "architecture is riscv64", "not booted with systemd", "not root", "has no systemd-run dpkg-query",
		"1 GiB are free below /var, 20 GiB are needed", "500 MiB of memory, 2000 MiB", "runs with cluster-cidr 10.1.0.0/16", "runs with service-cidr 10.2.0.0/16",
		"k3s: https://host/k3s has sha256", "has no branch absent", "problem(s) on the machine",
	} {
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

func TestPreflightGitRefusals(t *testing.T) {
	tests := map[string]struct{ answer, want string }{
		"credentials": {"printf 401", "refuses the credentials (HTTP 401)"},
		"absent":      {"printf 404", "cannot be read (HTTP 404)"},
		"unreachable": {"echo 'curl: (6) Could not resolve host' >&2; exit 6", "cannot be reached from the machine: Flux could not sync: check the URL, the network and flux.ca: curl: (6)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := preflightHost(t)
			h.Fake("curl", "cat >/dev/null\n"+tt.answer)
			args := testPreflight()
			args.Artifacts = nil
			r := h.Run(preflightText(t, args), canary)
			if r.Code == 0 || !strings.Contains(r.Stderr, tt.want) {
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
	args.Git = Git{URL: "ssh://git@git.example:2222/o/r.git", Branch: "main", SSHKey: pulumi.String("x"), KnownHosts: "git.example ssh-ed25519 AAAA"}
	text := preflightText(t, args)
	key := "-----BEGIN KEY-----\n" + canary + "\n-----END KEY-----\n"
	r := h.Run(text, key)
	r.NoSecret(t, canary)
	if r.Code != 0 || h.Read("/key") != key || h.Mode("/key") != 0o600 || h.Read("/known_hosts") != args.Git.KnownHosts+"\n" {
		t.Errorf("key %q %v, got %+v", h.Read("/key"), h.Mode("/key"), r)
	}
	if calls := strings.Join(r.Calls, "\n"); !strings.Contains(calls, "-p 2222") || !strings.Contains(calls, "StrictHostKeyChecking=yes") || !strings.Contains(calls, "git@git.example git-upload-pack '/o/r.git'") {
		t.Errorf("calls %q", calls)
	}
	if strings.Contains(h.Files(), "/run/tinyrack/") {
		t.Error("the key was left on the machine")
	}
	h.Fake("ssh", "echo 'Host key verification failed.' >&2; exit 255")
	if r := h.Run(text, key); r.Code == 0 || !strings.Contains(r.Stderr, "cannot be read over SSH") || !strings.Contains(r.Stderr, "Host key verification failed") {
		t.Errorf("got %+v", r)
	}
}

func TestPreflightRefuses(t *testing.T) {
	args := testPreflight()
	args.User, args.ClusterCIDR = "", "10.55.0.0"
	args.Artifacts = []Artifact{{Name: "a b", URL: "ftp://x", SHA256: "ABC"}}
	args.MinDiskGiB = -1
	args.Git = Git{URL: "https://user:pass@git.example/r?x=1", Branch: "-x", Token: pulumi.String("t"), SSHKey: pulumi.String("k")}
	err := args.Validate()
	wantError(t, err, "user: missing", "clusterCIDR", `"a b" "ftp://x"`, "not 64 hexadecimal digits", "negative", "credentials in the URL",
		"query or fragment", "git.branch", "only one can be used", "an SSH key with an http(s) URL")
	if strings.Contains(err.Error(), "pass@") {
		t.Error("the error prints the password in the URL")
	}
	for url, want := range map[string]string{
		"git@git.example:o/r":            "write git@host:path as ssh://git@host/path",
		"git://git.example/r":            "Flux reads https, http and ssh",
		"ssh://git@git.example/r'; id #": "unexpected characters",
		"ssh://git.example/r":            "needs an SSH key and known hosts",
	} {
		args := testPreflight()
		args.Git = Git{URL: url, Branch: "main"}
		wantError(t, args.Validate(), want)
	}
}
