package flux

import (
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const lookToken = "c4n4ry-t0ken"

// gitServer serves a repository with clusters/acme in its branch main over HTTPS, to who has the token.
func gitServer(t *testing.T) (url, authority string) {
	t.Helper()
	root := t.TempDir()
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main", "site"},
		{"-C", "site", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "empty"},
		{"-C", "site", "branch", "other"},
		{"-C", "site", "add", "."},
		{"-C", "site", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--all", "-m", "site"},
		{"-C", "site", "config", "uploadpack.allowFilter", "true"},
	} {
		if args[2] == "add" {
			if err := os.MkdirAll(filepath.Join(root, "site/clusters/acme"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "site/clusters/acme/apps.yaml"), []byte("{}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"},
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "flux" || password != lookToken {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	authority = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	return server.URL + "/site/.git", authority
}

func TestLook(t *testing.T) {
	url, authority := gitServer(t)
	good := Login{Username: "flux", Token: lookToken, CA: authority}
	for name, tt := range map[string]struct {
		branch, path string
		login        Login
		want         string
	}{
		"there":           {"main", "./clusters/acme", good, ""},
		"not there":       {"main", "./clusters/production", good, "has no ./clusters/production: Flux would wait for it"},
		"a part of it":    {"main", "./clusters/ac", good, "has no ./clusters/ac"},
		"another branch":  {"other", "./clusters/acme", good, "branch other of " + url + " has no ./clusters/acme"},
		"no branch":       {"nowhere", "./clusters/production", good, ""},
		"wrong token":     {"main", "./clusters/production", Login{Username: "flux", Token: "x", CA: authority}, ""},
		"no token":        {"main", "./clusters/production", Login{CA: authority}, ""},
		"not to be seen":  {"main", "./clusters/production", Login{Username: "flux", Token: lookToken}, ""},
		"a broken folder": {"main", "./clusters/./acme/", good, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			t.Setenv("GIT_DIR", "/nowhere") // as in a hook of git's
			err := Sync{URL: url, Branch: tt.branch, Path: tt.path}.Look(t.Context(), tt.login)
			if tt.want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
	local := t.TempDir()
	header := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("flux:"+lookToken))
	clone := exec.Command("git", "clone", "--quiet", "--bare", "--config=http.sslVerify=false",
		"--config=http.extraHeader="+header, url, local)
	if out, err := clone.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := (Sync{URL: "file://" + local, Branch: "main", Path: "./x"}).Look(t.Context(), Login{}); err != nil {
		t.Errorf("a folder was looked into: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := (Sync{URL: url, Branch: "main", Path: "./x"}).Look(t.Context(), good); err != nil {
		t.Errorf("without git: %v", err)
	}
}

// ssh gets the key in a file that nobody else may read, and trusts the given host alone.
func TestLookOverSSH(t *testing.T) {
	bin, seen := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\nprintf '%s\\n' \"$*\" >" + seen + "/args\n" +
		"while [ $# -gt 0 ]; do case $1 in -i) cp -p \"$2\" " + seen + "/key ;; " +
		"UserKnownHostsFile=*) cp \"${1#*=}\" " + seen + "/known ;; esac; shift; done\nexit 255\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	sync := Sync{URL: "ssh://git@git.example:2222/o/r.git", Branch: "main", Path: "./x"}
	login := Login{SSHKey: "-----BEGIN KEY-----\nc4n4ry\n-----END KEY-----", KnownHosts: "git.example ssh-ed25519 AAAA"}
	if err := sync.Look(t.Context(), login); err != nil {
		t.Errorf("got %v", err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(seen, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	info, err := os.Stat(filepath.Join(seen, "key"))
	if err != nil || info.Mode().Perm() != 0o600 || read("key") != login.SSHKey+"\n" ||
		read("known") != login.KnownHosts+"\n" {
		t.Errorf("%v: key %q, hosts %q", err, read("key"), read("known"))
	}
	args := read("args")
	for _, want := range []string{"StrictHostKeyChecking=yes", "-F none", "-p 2222", "git@git.example"} {
		if !strings.Contains(args, want) || strings.Contains(args, "c4n4ry") {
			t.Errorf("ssh was called with %s", args)
		}
	}
}
