package gitserver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func server() *Server { return New(layout.Layout{State: "/state"}) }

func TestArguments(t *testing.T) {
	s := server()
	const admin = "/state/bin/gitea --config /state/gitea/app.ini admin user "
	for name, test := range map[string]struct {
		got  []string
		want string
	}{
		"serve": {s.spec(nil).Args, "/state/bin/gitea web --config /state/gitea/app.ini"},
		"user": {s.createUser(t.Context()).Args, admin +
			"create --admin --username tinyrack --email tinyrack@lab.test --random-password --must-change-password=false"},
		"token": {s.createToken(t.Context(), "lab-1").Args, admin +
			"generate-access-token --username tinyrack --raw --scopes all --token-name lab-1"},
	} {
		if got := strings.Join(test.got, " "); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}

func TestItRunsAsNobodyWithoutTheCallersEnvironment(t *testing.T) {
	t.Setenv("PATH", "/usr/bin")
	t.Setenv("CANARY", "secret")
	own := []string{
		"HOME=/state/gitea", "USER=git", "GITEA_WORK_DIR=/state/gitea", "SSL_CERT_FILE=/state/gitea/ca.crt",
	}
	spec := server().spec(nil)
	if spec.UID != uid || spec.Dir != "/state/gitea" || !slices.Equal(spec.Env, own) || spec.Name != layout.GitProcess {
		t.Errorf("the server runs as %d in %s with %q under the name %s", spec.UID, spec.Dir, spec.Env, spec.Name)
	}
	cmd := server().createUser(t.Context())
	if !slices.Equal(cmd.Env, append([]string{"PATH=/usr/bin"}, own...)) || cmd.Dir != "/state/gitea" {
		t.Errorf("a command runs in %s with %q", cmd.Dir, cmd.Env)
	}
	if c := cmd.SysProcAttr.Credential; c == nil || c.Uid != uid || c.Gid != uid {
		t.Errorf("a command runs as %+v", c)
	}
}

func TestConfig(t *testing.T) {
	text := config("/home/git", "/static", "key-one", "key-two")
	for _, want := range []string{
		"WORK_PATH = /home/git\n", "STATIC_ROOT_PATH = /static\n", "HTTP_ADDR = 10.77.0.1\n",
		"ROOT_URL = https://10.77.0.1:3000/\n",
		"CERT_FILE = /home/git/server.crt\n", "KEY_FILE = /home/git/server.key\n", "SECRET_KEY = key-one\n",
		"INTERNAL_TOKEN = key-two\n",
		"DISABLE_REGISTRATION = true\n", "REQUIRE_SIGNIN_VIEW = true\n", "receive.keepAlive = 0\n",
		"ALLOWED_HOST_LIST = *.lab.test\nPROXY_URL = http://10.77.0.1:7705\nPROXY_HOSTS = *.lab.test\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "%!") {
		t.Errorf("a value is missing:\n%s", text)
	}
	if !strings.HasPrefix(layout.GitURL, "https://10.77.0.1:3000/") {
		t.Errorf("the site is read from %s", layout.GitURL)
	}
}

// run shows a failing command's complaint, and of one that succeeds its output alone.
func TestRun(t *testing.T) {
	for script, want := range map[string]string{
		"echo token; echo warning >&2":                "token\n",
		"echo token; echo already exists >&2; exit 1": "already exists\ntoken\n",
	} {
		program := filepath.Join(t.TempDir(), "gitea")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		s := &Server{Home: t.TempDir(), Program: program}
		cmd := s.createUser(t.Context())
		cmd.SysProcAttr = nil // the test may not be root
		out, err := run(cmd)
		if out != want || (err != nil) != strings.Contains(script, "exit 1") {
			t.Errorf("%s: %q, %v", script, out, err)
		}
	}
}
