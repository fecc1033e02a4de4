package flux

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

const lookToken = "c4n4ry-t0ken"

// siteRepository is the path of a repository with clusters/acme in its branch main, and nothing in other.
func siteRepository(t *testing.T) (path string) {
	t.Helper()
	root := t.TempDir()
	folder := filepath.Join(root, "site/clusters/acme")
	if err := errors.Join(
		os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "apps.yaml"), []byte("{}\n"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"init", "--quiet", "--initial-branch=main", "site"},
		{"-C", "site", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "empty"},
		{"-C", "site", "branch", "other"},
		{"-C", "site", "add", "."},
		{"-C", "site", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--all", "-m", "site"},
		{"-C", "site", "config", "uploadpack.allowFilter", "true"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	return filepath.Join(root, "site")
}

// gitServer serves the repository over HTTPS, to who has the token.
func gitServer(t *testing.T) (url, authority string) {
	t.Helper()
	root := filepath.Dir(siteRepository(t))
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

// ssh asks an agent, which alone has the key, and trusts the given host alone.
func TestLookOverSSH(t *testing.T) {
	private, public := newSSHKey(t)
	bin, seen := t.TempDir(), t.TempDir()
	script := "#!/bin/sh\nprintf '%s\\n' \"$*\" >" + seen + "/args\n" +
		"while [ $# -gt 0 ]; do case $1 in UserKnownHostsFile=*) known=${1#*=} ;; esac; shift; done\n" +
		"cp \"$known\" " + seen + "/known\nssh-add -L >" + seen + "/keys\n" +
		"grep -rlF 'PRIVATE KEY' \"$(dirname \"$known\")\" >" + seen + "/files\nexit 255\n"
	if err := os.WriteFile(filepath.Join(bin, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	sync := Sync{URL: "ssh://git@git.example:2222/o/r.git", Branch: "main", Path: "./x"}
	login := Login{SSHKey: private, KnownHosts: "git.example ssh-ed25519 AAAA"}
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
	if key := strings.TrimSpace(public); strings.TrimSpace(read("keys")) != key ||
		read("known") != login.KnownHosts+"\n" || read("files") != "" {
		t.Errorf("keys %q, want %q; hosts %q; files with the key: %s", read("keys"), key, read("known"), read("files"))
	}
	args := read("args")
	for _, want := range []string{
		"StrictHostKeyChecking=yes", "-F none", "IdentityFile=none", "-p 2222", "git@git.example",
	} {
		if !strings.Contains(args, want) {
			t.Errorf("ssh was called with %s", args)
		}
	}
	if err := sync.Look(t.Context(), Login{SSHKey: "no key"}); err != nil {
		t.Errorf("with a key that is none: %v", err)
	}
}

// sshServer serves the repository in root over SSH to who has the key, and tells its own.
func sshServer(t *testing.T, root, admitted string) (address, host string) {
	t.Helper()
	private, host := newSSHKey(t)
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if string(ssh.MarshalAuthorizedKey(key)) != admitted {
				return nil, errors.New("another key")
			}
			return &ssh.Permissions{}, nil
		},
	}
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go serveUploadPack(connection, config, root)
		}
	}()
	return listener.Addr().String(), host
}

func serveUploadPack(connection net.Conn, config *ssh.ServerConfig, root string) {
	defer connection.Close()
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offered := range channels {
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		for request := range requests {
			if request.Type != "exec" {
				_ = request.Reply(false, nil)
				continue
			}
			_ = request.Reply(true, nil)
			pack := exec.Command("git", "upload-pack", root)
			pack.Stdin, pack.Stdout = channel, channel
			status := make([]byte, 4)
			if pack.Run() != nil {
				status[3] = 1
			}
			_, _ = channel.SendRequest("exit-status", false, status)
			channel.Close()
		}
	}
}

// The real ssh: with the key, with another, and at a host that is not the one that is trusted.
func TestLookOverRealSSH(t *testing.T) {
	root := siteRepository(t)
	key, public := newSSHKey(t)
	another, stranger := newSSHKey(t)
	address, host := sshServer(t, root, public)
	name, port, _ := net.SplitHostPort(address)
	known := func(key string) string { return "[" + name + "]:" + port + " " + key }
	for what, tt := range map[string]struct {
		path  string
		login Login
		found bool
	}{
		"there":        {"./clusters/acme", Login{SSHKey: key, KnownHosts: known(host)}, false},
		"not there":    {"./clusters/none", Login{SSHKey: key, KnownHosts: known(host)}, true},
		"another key":  {"./clusters/none", Login{SSHKey: another, KnownHosts: known(host)}, false},
		"another host": {"./clusters/none", Login{SSHKey: key, KnownHosts: known(stranger)}, false},
	} {
		t.Run(what, func(t *testing.T) {
			err := Sync{URL: "ssh://git@" + address + "/site", Branch: "main", Path: tt.path}.Look(t.Context(), tt.login)
			if tt.found != (err != nil) {
				t.Errorf("got %v", err)
			}
		})
	}
}
