// Package sshtest is an SSH server for tests. It runs the commands it is given
// with a real shell on this machine.
package sshtest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Server is a running SSH server that admits one key.
type Server struct {
	Host string
	Port int
	// HostKey is the server's public key line.
	HostKey string
	// PrivateKey is the key that may log in, in PEM.
	PrivateKey string
	// AcceptEnv are the environment variables that clients may set.
	AcceptEnv []string

	mu   sync.Mutex
	runs []string
	open int
}

// Start starts a server that ends with the test.
func Start(t *testing.T) *Server {
	t.Helper()
	hostSigner, hostKey := key(t)
	_, userKey, userPEM := keyPEM(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	host, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Host: host, Port: number, HostKey: string(ssh.MarshalAuthorizedKey(hostKey)), PrivateKey: userPEM}
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
			if string(offered.Marshal()) != string(userKey.Marshal()) {
				return nil, ssh.ErrNoAuth
			}
			return nil, nil
		},
	}
	config.AddHostKey(hostSigner)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn, config)
		}
	}()
	return s
}

// Runs returns the commands that were run, in order.
func (s *Server) Runs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.runs)
}

// Open is the number of connections that are open.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// OtherKey returns a public key line that is not the server's.
func OtherKey(t *testing.T) string {
	t.Helper()
	_, other := key(t)
	return string(ssh.MarshalAuthorizedKey(other))
}

func (s *Server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open += n
}

func (s *Server) serve(raw net.Conn, config *ssh.ServerConfig) {
	conn, channels, requests, err := ssh.NewServerConn(raw, config)
	if err != nil {
		_ = raw.Close()
		return
	}
	s.count(1)
	defer s.count(-1)
	defer func() { _ = conn.Close() }()
	go ssh.DiscardRequests(requests)
	// A command ends with its connection, like with a real sshd that is told to.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		go s.session(ctx, channel, requests)
	}
}

func (s *Server) session(ctx context.Context, channel ssh.Channel, requests <-chan *ssh.Request) {
	var env []string
	for req := range requests {
		switch req.Type {
		case "env":
			var v struct{ Name, Value string }
			ok := ssh.Unmarshal(req.Payload, &v) == nil && slices.Contains(s.AcceptEnv, v.Name)
			if ok {
				env = append(env, v.Name+"="+v.Value)
			}
			_ = req.Reply(ok, nil)
		case "exec":
			var v struct{ Command string }
			if err := ssh.Unmarshal(req.Payload, &v); err != nil {
				_ = req.Reply(false, nil)
				continue
			}
			_ = req.Reply(true, nil)
			s.mu.Lock()
			s.runs = append(s.runs, v.Command)
			s.mu.Unlock()
			go run(ctx, channel, v.Command, env)
		default:
			_ = req.Reply(false, nil)
		}
	}
}

func run(ctx context.Context, channel ssh.Channel, command string, env []string) {
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Env = append(cmd.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = channel, channel, channel.Stderr()
	status := struct{ Code uint32 }{}
	if err := cmd.Run(); err != nil {
		status.Code = uint32(max(cmd.ProcessState.ExitCode(), 1))
	}
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(status))
	_ = channel.Close()
}

func key(t *testing.T) (ssh.Signer, ssh.PublicKey) {
	t.Helper()
	signer, public, _ := keyPEM(t)
	return signer, public
}

func keyPEM(t *testing.T) (ssh.Signer, ssh.PublicKey, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	return signer, signer.PublicKey(), string(pem.EncodeToMemory(block))
}
