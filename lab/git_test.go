//go:build e2e && growth

package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// TestPlainGit moves the site from Gitea to a bare repository behind SSH, and back, by the settings alone. A commit
// there is applied; a host that has another key, or does not know Flux's, is said to be so, and the site stays as it
// was.
func TestPlainGit(t *testing.T) {
	succeed(t, "up")
	l := running(t)
	bare := filepath.Join(t.TempDir(), layout.GitRepo+".git")
	runGit(t, l, "clone", "--quiet", "--bare", layout.GitURL, bare)
	key, err := secret.SSHKey()
	if err != nil {
		t.Fatal(err)
	}
	server := serveGit(t, bare, key)
	before := siteObjects(t, l)

	restore := change(t, l, func(config map[string]map[string]any) {
		flux := config["tinyrack:flux"]
		flux["url"] = "ssh://git@" + server.addr + "/" + layout.GitRepo + ".git"
		flux["knownHosts"] = server.knownHosts
		delete(flux, "ca")
		delete(config, "tinyrack:gitToken")
	})
	if err := l.stack.SetSecret(t.Context(), "gitSshKey", key); err != nil {
		t.Fatal(err)
	}
	upOrFail(t, l)
	if got := sourceURL(t, l); !strings.HasPrefix(got, "ssh://") {
		t.Errorf("Flux reads %s", got)
	}
	if after := siteObjects(t, l); after != before {
		t.Errorf("the site was\n%s\nand is\n%s", before, after)
	}
	nothingToDo(t, l)
	const push = "e2e.tinyrack.net/push"
	m := marked[0]
	commitTo(t, l, bare, map[string]func(string) string{m.file: func(text string) string {
		return strings.Replace(text, "  name: "+m.name+"\n", "  name: "+m.name+"\n  labels:\n    "+push+": plain\n", 1)
	}})
	reconcile(t, l, "gitrepository", "flux-system")
	kube(t, l, "-n", m.namespace, "wait", m.kind+"/"+m.name,
		`--for=jsonpath={.metadata.labels.e2e\.tinyrack\.net/push}=plain`, "--timeout=60s")
	if server.refused() > 0 {
		t.Errorf("%d sessions asked for something else than to read the repository", server.refused())
	}

	stranger, err := secret.SSHKey()
	if err != nil {
		t.Fatal(err)
	}
	server.admit(t, stranger)
	unread(t, l, "unable to authenticate")
	server.admit(t, key)
	server.become(t, stranger)
	unread(t, l, "knownhosts: key mismatch")
	if after := siteObjects(t, l); after != before {
		t.Errorf("while git could not be read, the site was\n%s\nand is\n%s", before, after)
	}

	restore()
	upOrFail(t, l)
	if got := sourceURL(t, l); got != layout.GitURL {
		t.Errorf("back on Gitea, Flux reads %s", got)
	}
	upChangesNothing(t)
}

// unread waits until Flux says that it cannot read the repository, and why.
func unread(t *testing.T, l *lab, why string) {
	t.Helper()
	reconcile(t, l, "gitrepository", "flux-system")
	eventually(t, 2*time.Minute, "Flux cannot read: "+why, func() error {
		got := kube(t, l, "-n", "flux-system", "get", "gitrepository", "flux-system", "-o",
			`jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}`)
		if !strings.HasPrefix(got, "False") || !strings.Contains(got, why) {
			return errors.New(got)
		}
		return nil
	})
}

func sourceURL(t *testing.T, l *lab) string {
	t.Helper()
	return kube(t, l, "-n", "flux-system", "get", "gitrepository", "flux-system", "-o", "jsonpath={.spec.url}")
}

// siteObjects are what must be the same objects after the move.
func siteObjects(t *testing.T, l *lab) string {
	t.Helper()
	return kube(t, l, "get", "-A",
		"namespaces,deployments.apps,persistentvolumeclaims,clusters.postgresql.cnpg.io,mariadbs",
		"--sort-by=.metadata.uid", "-o", `jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{"\n"}{end}`)
}

// gitOverSSH is a bare repository behind SSH: git itself, and in the place of OpenSSH, which would have to be installed
// as a service of this computer, the same protocol of golang.org/x/crypto.
type gitOverSSH struct {
	addr, repository string
	knownHosts       string

	mu       sync.Mutex
	host     gossh.Signer
	admitted gossh.PublicKey
	others   int
}

// uploadPack is the one command that a deploy key that only reads is good for.
var uploadPack = regexp.MustCompile(`^git-upload-pack '/` + layout.GitRepo + `\.git'$`)

// serveGit serves the repository to who has the private key, until the test ends.
func serveGit(t *testing.T, repository, key string) *gitOverSSH {
	t.Helper()
	s := &gitOverSSH{repository: repository}
	own, err := secret.SSHKey()
	if err != nil {
		t.Fatal(err)
	}
	s.admit(t, key)
	s.become(t, own)
	listener, err := net.Listen("tcp", net.JoinHostPort(layout.HostIP, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s.addr = listener.Addr().String()
	s.knownHosts = knownhosts.Line([]string{s.addr}, s.host.PublicKey())
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(connection)
		}
	}()
	return s
}

// admit has the private key's owner admitted from now on, and nobody else.
func (s *gitOverSSH) admit(t *testing.T, key string) {
	t.Helper()
	signer := signerOf(t, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admitted = signer.PublicKey()
}

// become gives the host another key.
func (s *gitOverSSH) become(t *testing.T, key string) {
	t.Helper()
	signer := signerOf(t, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = signer
}

func signerOf(t *testing.T, key string) gossh.Signer {
	t.Helper()
	signer, err := gossh.ParsePrivateKey([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// refused counts the sessions that asked for something else.
func (s *gitOverSSH) refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.others
}

func (s *gitOverSSH) serve(connection net.Conn) {
	defer connection.Close()
	s.mu.Lock()
	host, admitted := s.host, s.admitted
	s.mu.Unlock()
	admit := func(c gossh.ConnMetadata, key gossh.PublicKey) (*gossh.Permissions, error) {
		if c.User() != "git" || !bytes.Equal(key.Marshal(), admitted.Marshal()) {
			return nil, errors.New("not admitted")
		}
		return &gossh.Permissions{}, nil
	}
	config := &gossh.ServerConfig{PublicKeyCallback: admit}
	config.AddHostKey(host)
	_, channels, requests, err := gossh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go gossh.DiscardRequests(requests)
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(gossh.UnknownChannelType, "sessions alone")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		go s.session(channel, requests)
	}
}

func (s *gitOverSSH) session(channel gossh.Channel, requests <-chan *gossh.Request) {
	defer channel.Close()
	for request := range requests {
		var asked struct{ Command string }
		if request.Type == "exec" {
			_ = gossh.Unmarshal(request.Payload, &asked)
		}
		if !uploadPack.MatchString(asked.Command) {
			if request.Type != "env" { // git says which version of its protocol it knows
				s.mu.Lock()
				s.others++
				s.mu.Unlock()
			}
			_ = request.Reply(false, nil)
			continue
		}
		_ = request.Reply(true, nil)
		cmd := exec.Command("git-upload-pack", s.repository)
		cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
		in, err := cmd.StdinPipe()
		if err != nil || cmd.Start() != nil {
			return
		}
		go func() {
			_, _ = io.Copy(in, channel)
			in.Close()
		}()
		status := struct{ Status uint32 }{}
		if err := cmd.Wait(); err != nil {
			status.Status = 1
		}
		_, _ = channel.SendRequest("exit-status", false, gossh.Marshal(status))
		return
	}
}
