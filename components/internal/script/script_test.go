package script_test

import (
	"crypto/sha256"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/script"
	"github.com/tinyrack-net/infrastructure/components/internal/script/scripttest"
)

func render(t *testing.T, user, body string, vars ...script.Var) string {
	t.Helper()
	text, err := script.Render(user, vars, body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRenderKeepsValuesLiteral(t *testing.T) {
	for _, value := range []string{"", "plain", "it's", "$(touch /tmp/x) `id` $HOME \\", "two\nlines\tand tab", "'; exit 9; '", "한국어"} {
		text := render(t, "root", "printf '%s' \"$VALUE\"", script.Var{Name: "VALUE", Value: value})
		out, err := exec.Command("sh", "-c", text).Output()
		if err != nil || string(out) != value {
			t.Errorf("value %q came back as %q, %v", value, out, err)
		}
	}
}

func TestRenderRunsOtherUsersThroughOneSudo(t *testing.T) {
	h := scripttest.New(t)
	h.Fake("sudo", `[ "$1" = -n ] || exit 1; shift; exec "$@"`)
	text := render(t, "debian", "printf '%s/%s' \"$VALUE\" \"$(cat)\"", script.Var{Name: "VALUE", Value: "it's"})
	r := h.Run(text, "from stdin")
	if r.Code != 0 || r.Stdout != "it's/from stdin" {
		t.Errorf("got %d %q %q", r.Code, r.Stdout, r.Stderr)
	}
	if !r.Called("sudo -n true") || strings.Count(strings.Join(r.Calls, "\n"), "sudo -n env SSH_CONNECTION") != 1 {
		t.Errorf("calls: %q", r.Calls)
	}
	h.Fake("sudo", "echo 'sudo: a password is required' >&2; exit 1")
	if r := h.Run(text, ""); r.Code != 1 || !strings.Contains(r.Stderr, "user debian has no passwordless sudo") {
		t.Errorf("without sudo: %+v", r)
	}
}

func TestRenderRefuses(t *testing.T) {
	long := strings.Repeat("x", 130<<10)
	tests := map[string]struct {
		user string
		vars []script.Var
		body string
		want []string
	}{
		"user":          {"Ro ot", nil, "true", []string{`user "Ro ot"`}},
		"lower case":    {"root", []script.Var{{Name: "a", Value: "b"}}, "true", []string{`variable "a"`}},
		"reserved":      {"root", []script.Var{{Name: "PATH", Value: "b"}, {Name: "K3S_SOURCE_ONLY", Value: "1"}}, "true", []string{"PATH: reserved", "K3S_SOURCE_ONLY: reserved"}},
		"twice":         {"root", []script.Var{{Name: "A", Value: "1"}, {Name: "A", Value: "2"}}, "true", []string{"A: given twice"}},
		"control":       {"root", []script.Var{{Name: "A", Value: "a\x00b"}}, "true", []string{"A: value has control characters"}},
		"not UTF-8":     {"root", []script.Var{{Name: "A", Value: "\xff"}}, "true", []string{"A: value has control characters"}},
		"empty":         {"root", nil, " \n", []string{"script body: empty"}},
		"too long":      {"root", []script.Var{{Name: "A", Value: long}}, "true", []string{"a remote shell takes at most"}},
		"all of it":     {"", []script.Var{{Name: "x", Value: ""}}, "", []string{`user ""`, `variable "x"`, "body: empty"}},
		"carriage back": {"root", []script.Var{{Name: "A", Value: "a\rb"}}, "true", []string{"control characters"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text, err := script.Render(tt.user, tt.vars, tt.body)
			if err == nil {
				t.Fatalf("accepted: %q", text)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestWriteFileOnlyOnChange(t *testing.T) {
	h := scripttest.New(t)
	text := render(t, "root", `write_file /etc/a/file 600 "$CONTENT"; echo "$CHANGED"`, script.Var{Name: "CONTENT", Value: "one\ntwo"})
	if r := h.Run(text, ""); r.Stdout != "yes\n" {
		t.Fatalf("first run: %q %q", r.Stdout, r.Stderr)
	}
	if got := h.Read("/etc/a/file"); got != "one\ntwo\n" || h.Mode("/etc/a/file") != 0o600 {
		t.Errorf("got %q %v", got, h.Mode("/etc/a/file"))
	}
	before := h.Files()
	if r := h.Run(text, ""); r.Stdout != "no\n" || h.Files() != before {
		t.Errorf("second run wrote again: %q", r.Stdout)
	}
	h.Write("/etc/a/file", "one\ntwo\n\n") // a trailing newline is a difference too
	if r := h.Run(text, ""); r.Stdout != "yes\n" || h.Read("/etc/a/file") != "one\ntwo\n" {
		t.Errorf("a changed file was not restored: %q", r.Stdout)
	}
}

func TestArtifactIsVerified(t *testing.T) {
	const content = "binary"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	h := scripttest.New(t)
	h.Fake("curl", `while [ "$1" != -o ]; do shift; done; printf binary >"$2"`)
	body := `artifact k3s http://host/k3s "$SUM" || exit 7; cat "$ARTIFACT"`
	good := render(t, "root", body, script.Var{Name: "SUM", Value: sum})
	if r := h.Run(good, ""); r.Code != 0 || r.Stdout != content {
		t.Fatalf("got %+v", r)
	}
	if r := h.Run(good, ""); r.Called("curl") {
		t.Error("a cached artifact was downloaded again")
	}
	h.Write("/var/lib/tinyrack/artifacts/"+sum, "tampered")
	if r := h.Run(good, ""); r.Code != 0 || r.Stdout != content {
		t.Errorf("a tampered cache was not replaced: %+v", r)
	}

	wrong := strings.Repeat("0", 64)
	r := h.Run(render(t, "root", body, script.Var{Name: "SUM", Value: wrong}), "")
	if r.Code != 7 || !strings.Contains(r.Stderr, "has sha256 "+sum+", wanted "+wrong) {
		t.Errorf("wrong checksum: %+v", r)
	}
	if strings.Contains(h.Files(), wrong) {
		t.Error("the refused file was kept")
	}
	h.Fake("curl", "exit 22")
	if r := h.Run(render(t, "root", body, script.Var{Name: "SUM", Value: wrong}), ""); r.Code != 7 || !strings.Contains(r.Stderr, "cannot be downloaded") {
		t.Errorf("failed download: %+v", r)
	}
}

func TestWaitFor(t *testing.T) {
	h := scripttest.New(t)
	h.Fake("date", `n=$(cat "$ROOT/n" 2>/dev/null || echo 0); echo $((n + 6)) >"$ROOT/n"; echo "$n"`)
	r := h.Run(render(t, "root", `wait_for 30 "the end" false || exit 3`), "")
	if r.Code != 3 || !strings.Contains(r.Stderr, "waiting for the end") || !strings.Contains(r.Stderr, "gave up waiting for the end") {
		t.Errorf("got %+v", r)
	}
	if r := h.Run(render(t, "root", `wait_for 30 "the end" true`), ""); r.Code != 0 || r.Stderr != "" {
		t.Errorf("got %+v", r)
	}
}

func TestClusterNetworksAreKept(t *testing.T) {
	text := render(t, "root", script.Cluster+"check_cluster_networks 10.55.0.0/16 10.56.0.0/16 || exit 4")
	const dropIn = "/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml"
	tests := map[string]struct {
		files map[string]string
		want  string // "" means accepted
	}{
		"same":         {map[string]string{dropIn: "cluster-cidr: 10.55.0.0/16\nservice-cidr: \"10.56.0.0/16\"\n"}, ""},
		"same as list": {map[string]string{dropIn: "cluster-cidr:\n  - 10.55.0.0/16\nservice-cidr: [\"10.56.0.0/16\"]\n"}, ""},
		"in arguments": {map[string]string{"/etc/systemd/system/k3s.service": "ExecStart=/usr/local/bin/k3s \\\n    server \\\n\t'--cluster-cidr=10.55.0.0/16' \\\n\t'--service-cidr' \\\n\t'10.56.0.0/16' \\\n"}, ""},
		"later wins":   {map[string]string{"/etc/rancher/k3s/config.yaml": "cluster-cidr: 10.1.0.0/16\n", dropIn: "cluster-cidr: 10.55.0.0/16\nservice-cidr: 10.56.0.0/16\n"}, ""},
		"other pods":   {map[string]string{dropIn: "cluster-cidr: 10.1.0.0/16\nservice-cidr: 10.56.0.0/16\n"}, "runs with cluster-cidr 10.1.0.0/16, the configuration wants 10.55.0.0/16"},
		"defaults":     {map[string]string{}, "runs with cluster-cidr 10.42.0.0/16"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := scripttest.New(t)
			for path, content := range tt.files {
				h.Write(path, content)
			}
			if r := h.Run(text, ""); r.Code != 0 {
				t.Fatalf("refused although there is no cluster yet: %+v", r)
			}
			h.Write("/var/lib/rancher/k3s/server/db/etcd/config", "x")
			r := h.Run(text, "")
			if refused := r.Code == 4; refused != (tt.want != "") || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestLibraryIsClean(t *testing.T) {
	scripttest.ShellCheck(t, render(t, "root", script.Cluster+"main() { :; }\nmain\n"))
}

func TestValidateConnection(t *testing.T) {
	good := remote.ConnectionArgs{
		Host: pulumi.String("192.0.2.1"), PrivateKey: pulumi.String("key"),
		HostKey: pulumi.String("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7y1cZ8bGJXn0Yf3tqFh9mPpqzK5o1c2s3u4v5w6x7y"),
	}
	if err := script.ValidateConnection(good); err != nil {
		t.Errorf("valid connection: %v", err)
	}
	err := script.ValidateConnection(remote.ConnectionArgs{})
	for _, want := range []string{"host: missing", "privateKey: missing", "hostKey: missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	bad := good
	bad.HostKey = pulumi.String("SHA256:abc")
	if err := script.ValidateConnection(bad); err == nil || !strings.Contains(err.Error(), "not a public key") {
		t.Errorf("got %v", err)
	}
}
