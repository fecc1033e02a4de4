package remote_test

import (
	"crypto/sha256"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

func render(t *testing.T, body string, vars ...remote.Var) string {
	t.Helper()
	text, err := remote.Render(vars, body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRenderKeepsValuesLiteral(t *testing.T) {
	for _, value := range []string{
		"", "plain", "it's", "$(touch /tmp/x) `id` $HOME \\", "two\nlines\tand tab", "'; exit 9; '", "한국어",
	} {
		text := render(t, "printf '%s' \"$VALUE\"", remote.Var{Name: "VALUE", Value: value})
		out, err := exec.Command("sh", "-c", text).Output()
		if err != nil || string(out) != value {
			t.Errorf("value %q came back as %q, %v", value, out, err)
		}
	}
}

func TestRenderRefuses(t *testing.T) {
	tests := map[string]struct {
		vars []remote.Var
		want []string
	}{
		"lower case": {[]remote.Var{{Name: "a", Value: "b"}}, []string{`variable "a"`}},
		"reserved": {
			[]remote.Var{{Name: "PATH"}, {Name: "K3S_SOURCE_ONLY"}},
			[]string{"PATH: reserved", "K3S_SOURCE_ONLY: reserved"},
		},
		"twice":         {[]remote.Var{{Name: "A"}, {Name: "A"}}, []string{"A: given twice"}},
		"control":       {[]remote.Var{{Name: "A", Value: "a\x00b"}}, []string{"A: value has control characters"}},
		"not UTF-8":     {[]remote.Var{{Name: "A", Value: "\xff"}}, []string{"A: value has control characters"}},
		"carriage back": {[]remote.Var{{Name: "A", Value: "a\rb"}}, []string{"control characters"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := remote.Render(tt.vars, "true")
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v does not say %q", err, want)
				}
			}
		})
	}
}

func TestWriteFileOnlyOnChange(t *testing.T) {
	h := remotetest.New(t)
	content := remote.Var{Name: "CONTENT", Value: "one\ntwo"}
	text := render(t, `write_file /etc/a/file 600 "$CONTENT"; echo "$CHANGED"`, content)
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

func TestScriptEndsAtItsFirstFailure(t *testing.T) {
	if r := remotetest.New(t).Run(render(t, "false\necho on"), ""); r.Code == 0 || r.Stdout != "" {
		t.Errorf("got %+v", r)
	}
}

func TestWriteFileRestoresTheMode(t *testing.T) {
	h := remotetest.New(t)
	h.Write("/etc/file", "secret\n") // with mode 644
	r := h.Run(render(t, `write_file /etc/file 600 secret; echo "$CHANGED"`), "")
	if r.Stdout != "yes\n" || h.Mode("/etc/file") != 0o600 {
		t.Errorf("got %+v, mode %v", r, h.Mode("/etc/file"))
	}
}

// TestWriteFileIsNeverReadableTooEarly looks at the new file's mode before it gets its own.
func TestWriteFileIsNeverReadableTooEarly(t *testing.T) {
	chmod, err := exec.LookPath("chmod")
	if err != nil {
		t.Fatal(err)
	}
	h := remotetest.New(t)
	h.Fake("chmod", `stat -c %a "$2"; exec `+chmod+` "$@"`)
	if r := h.Run(render(t, "write_file /etc/file 644 secret"), ""); r.Code != 0 || r.Stdout != "600\n" {
		t.Errorf("got %+v", r)
	}
}

// TestWriteFileFails lets each step fail where no set -e ends the script: the caller asks for the status.
func TestWriteFileFails(t *testing.T) {
	for _, step := range []string{"chmod", "mv"} {
		h := remotetest.New(t)
		h.Write("/etc/file", "before\n")
		h.Fake(step, "exit 1")
		r := h.Run(render(t, `write_file /etc/file 600 after || exit 9`), "")
		if r.Code != 9 || h.Read("/etc/file") != "before\n" {
			t.Errorf("%s fails: got %+v, the file holds %q", step, r, h.Read("/etc/file"))
		}
	}
}

func TestArtifactIsVerified(t *testing.T) {
	const content = "binary"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	h := remotetest.New(t)
	h.Fake("curl", `while [ "$1" != -o ]; do shift; done; printf binary >"$2"`)
	body := `artifact k3s http://host/k3s "$SUM" || exit 7; cat "$ARTIFACT"`
	good := render(t, body, remote.Var{Name: "SUM", Value: sum})
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
	r := h.Run(render(t, body, remote.Var{Name: "SUM", Value: wrong}), "")
	if r.Code != 7 || !strings.Contains(r.Stderr, "has sha256 "+sum+", wanted "+wrong) {
		t.Errorf("wrong checksum: %+v", r)
	}
	if strings.Contains(h.Files(), wrong) {
		t.Error("the refused file was kept")
	}
	h.Fake("curl", "exit 22")
	if r := h.Run(render(t, body, remote.Var{Name: "SUM", Value: wrong}), ""); r.Code != 7 ||
		!strings.Contains(r.Stderr, "cannot be downloaded") {
		t.Errorf("failed download: %+v", r)
	}
}

func TestWaitFor(t *testing.T) {
	h := remotetest.New(t)
	h.Fake("date", `n=$(cat "$ROOT/n" 2>/dev/null || echo 0); echo $((n + 6)) >"$ROOT/n"; echo "$n"`)
	r := h.Run(render(t, `wait_for 30 "the end" false || exit 3`), "")
	if r.Code != 3 || strings.Count(r.Stderr, "waiting for the end (") != 2 ||
		!strings.Contains(r.Stderr, "gave up waiting for the end") {
		t.Errorf("got %+v", r)
	}
	if r := h.Run(render(t, `wait_for 30 "the end" true`), ""); r.Code != 0 || r.Stderr != "" {
		t.Errorf("got %+v", r)
	}
}

func TestClusterNetworksAreKept(t *testing.T) {
	text := render(t, remote.Cluster+"check_cluster_networks 10.55.0.0/16 10.56.0.0/16 || exit 4")
	const dropIn = "/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml"
	tests := map[string]struct {
		files map[string]string
		want  string // "" means accepted
	}{
		"same": {map[string]string{dropIn: "cluster-cidr: 10.55.0.0/16\nservice-cidr: \"10.56.0.0/16\"\n"}, ""},
		"same as list": {map[string]string{dropIn: "cluster-cidr:\n  - 10.55.0.0/16\nservice-cidr: " +
			"[\"10.56.0.0/16\"]\n"}, ""},
		"in arguments": {map[string]string{"/etc/systemd/system/k3s.service": "ExecStart=/usr/local/bin/k3s \\\n    server " +
			"\\\n\t'--cluster-cidr=10.55.0.0/16' \\\n\t'--service-cidr' \\\n\t'10.56.0.0/16' \\\n"}, ""},
		"later wins": {
			map[string]string{
				"/etc/rancher/k3s/config.yaml": "cluster-cidr: 10.1.0.0/16\n",
				dropIn:                         "cluster-cidr: 10.55.0.0/16\nservice-cidr: 10.56.0.0/16\n",
			},
			"",
		},
		"other pods": {map[string]string{dropIn: "cluster-cidr: 10.1.0.0/16\nservice-cidr: " +
			"10.56.0.0/16\n"}, "runs with cluster-cidr 10.1.0.0/16, the configuration wants 10.55.0.0/16"},
		"defaults": {map[string]string{}, "runs with cluster-cidr 10.42.0.0/16"},
		"other services": {
			map[string]string{dropIn: "cluster-cidr: 10.55.0.0/16\nservice-cidr: 10.1.0.0/16\n"},
			"runs with service-cidr 10.1.0.0/16, the configuration wants 10.56.0.0/16",
		},
		"default services": {
			map[string]string{dropIn: "cluster-cidr: 10.55.0.0/16\n"}, "runs with service-cidr 10.43.0.0/16",
		},
		"a later file says nothing": {
			map[string]string{
				"/etc/rancher/k3s/config.yaml": "cluster-cidr: 10.55.0.0/16\nservice-cidr: 10.56.0.0/16\n",
				dropIn:                         "node-name: one\n",
			},
			"",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := remotetest.New(t)
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
	remotetest.ShellCheck(t, render(t, remote.Cluster+"main() { :; }\nmain\n", remote.Var{Name: "OWNER", Value: "us"}))
}
