package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/crypto/ssh"
)

// state is where the running lab keeps what it made. There is one lab on a host at a time: its bridge, its namespace and
// its addresses have one name.
type state struct {
	dir      string
	checkout string
}

func newState(checkout string) *state {
	dir := os.Getenv("TINYRACK_LAB_STATE")
	if dir == "" {
		dir = "/var/lib/tinyrack-lab"
	}
	return &state{dir: dir, checkout: checkout}
}

func (s *state) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// cacheDir is where finished artifacts are kept, outside any checkout.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place for the lab's cache: %w: set HOME or XDG_CACHE_HOME", err)
	}
	return filepath.Join(base, "tinyrack-lab"), nil
}

// hostDir is where a lab marks this host as taken. It is not below the state, which a person may move: the names of the
// bridge and the namespace are the host's.
const hostDir = "/run/tinyrack-lab"

// lock takes the lab for this command. It refuses the lab of another checkout while anything of it runs, takes over what is left of a
// dead one, and waits for another command of this checkout.
func (s *state) lock(say func(format string, args ...any)) (unlock func(), err error) {
	if err := errors.Join(os.MkdirAll(s.dir, 0o755), os.MkdirAll(hostDir, 0o755)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(hostDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	take := func() error {
		other := s.otherOwner()
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		busy := errors.Is(err, syscall.EWOULDBLOCK)
		switch {
		case other != nil && (busy || other.running()):
			return other.refusal()
		case other != nil:
			say("nothing of the lab that %s started runs any more: this checkout takes it over", other.Checkout)
		case busy:
			say("another command works on this lab: waiting for it to end (see %s)", s.path("logs"))
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
				return err
			}
			// It may have been the first one of another checkout.
			return s.refuseOther()
		}
		return err
	}
	if err := take(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	text, err := json.Marshal(owner{s.checkout, s.dir})
	if err == nil {
		err = os.WriteFile(filepath.Join(hostDir, "owner"), text, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// otherOwner returns the checkout that took this host, when it is not this one.
func (s *state) otherOwner() *owner {
	return readOwner(filepath.Join(hostDir, "owner")).not(s.checkout)
}

// refuseOther refuses when the lab of another checkout runs.
func (s *state) refuseOther() error {
	if other := s.otherOwner(); other != nil && other.running() {
		return other.refusal()
	}
	return nil
}

// owner is the checkout that started the lab on this host, and where that lab keeps its state.
type owner struct{ Checkout, State string }

// readOwner returns the zero owner where nobody took the host yet.
func readOwner(file string) *owner {
	var o owner
	if text, err := os.ReadFile(file); err == nil { //nolint:gosec // a fixed path, or a test's
		_ = json.Unmarshal(text, &o)
	}
	return &o
}

// not returns the owner when it is another checkout than the given one, and nil when it is that one, nobody, or one that is gone.
func (o *owner) not(checkout string) *owner {
	if o.Checkout == "" || o.Checkout == checkout {
		return nil
	}
	if _, err := os.Stat(filepath.Join(o.Checkout, "Makefile")); err != nil {
		return nil
	}
	return o
}

// running tells whether any of that lab's programs runs. After a reboot, say, none does.
func (o *owner) running() bool {
	runner := (&state{dir: o.State}).runner()
	return slices.ContainsFunc(programs, runner.Running)
}

func (o *owner) refusal() error {
	return fmt.Errorf("another lab is already running on this host, started from %s: it would be broken by a second one, "+
		"for they share addresses: use it there, or end it with `make -C %s down`", o.Checkout, o.Checkout)
}

// secrets are made once for each lab and are known to it alone.
type secrets struct {
	CloudflareToken       string
	TailscaleClientID     string
	TailscaleClientSecret string
	S3AccessKey           string
	S3SecretKey           string
	Passphrase            string
	GitToken              string // from the git server

	MachineKey string // private SSH key that logs in
	HostKey    string // private SSH host key of the machine
}

// secrets reads the lab's secrets, or makes them.
func (s *state) secrets() (*secrets, error) {
	var sec secrets
	text, err := os.ReadFile(s.path("secrets.json"))
	if err == nil {
		if err := json.Unmarshal(text, &sec); err != nil {
			return nil, fmt.Errorf("%s: %w: run `make down`", s.path("secrets.json"), err)
		}
		return &sec, nil
	}
	sec = secrets{
		// As long as Cloudflare's own; the official client refuses other lengths.
		CloudflareToken: token(20), TailscaleClientID: "lab" + token(8), TailscaleClientSecret: "tskey-client-" + token(16),
		S3AccessKey: token(10), S3SecretKey: token(20), Passphrase: token(20),
	}
	for _, key := range []*string{&sec.MachineKey, &sec.HostKey} {
		if *key, err = sshKey(); err != nil {
			return nil, err
		}
	}
	return &sec, s.saveSecrets(&sec)
}

func (s *state) saveSecrets(sec *secrets) error {
	text, err := json.MarshalIndent(sec, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.path("secrets.json"), text, 0o600)
}

// writeFile writes a file whole or not at all.
func writeFile(path string, text []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func token(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

func sshKey() (string, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(key, "lab")
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(block)), nil
}

// publicKey is the authorized_keys line of a private key.
func publicKey(private string) (string, error) {
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), nil
}
