package flux

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Login is what Credentials are, in clear, for a look into the repository from the computer that pulumi runs on.
type Login struct {
	Username string
	// Token and SSHKey are secret.
	Token, SSHKey  string
	KnownHosts, CA string
}

// lookLimit bounds a look into the repository.
const lookLimit = time.Minute

// Look returns an error when the branch has no such path. What cannot be seen from here is no error: whether the
// machine reads the repository is told by the machine.
func (s Sync) Look(ctx context.Context, login Login) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	dir, err := os.MkdirTemp("", "tinyrack-look")
	if err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	env, err := login.environment(s.URL, dir)
	if err != nil {
		return nil
	}
	if login.SSHKey != "" {
		agent, err := serveKey(ctx, login.SSHKey, filepath.Join(dir, "agent"))
		if err != nil {
			return nil
		}
		defer agent.Close()
	}
	git := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // no option: Validate has seen URL, branch and path
		cmd.Dir, cmd.Env = dir, env
		return cmd.Run()
	}
	if git("init", "--quiet", "--bare", ".") != nil || git("fetch", "--quiet", "--depth=1", "--filter=blob:none",
		"--no-tags", s.URL, "refs/heads/"+s.Branch) != nil {
		return nil
	}
	if git("cat-file", "-e", "FETCH_HEAD:"+path.Clean(s.Path)) == nil || ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("flux.path: branch %s of %s has no %s: Flux would wait for it: push it, or correct the path",
		s.Branch, s.URL, s.Path)
}

// serveKey has an agent hold the key, at a socket: a file with it would outlive a run that is killed.
func serveKey(ctx context.Context, key, socket string) (net.Listener, error) {
	private, err := ssh.ParseRawPrivateKey([]byte(strings.TrimSpace(key) + "\n"))
	if err != nil {
		return nil, err
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				_ = agent.ServeAgent(keys, connection)
			}()
		}
	}()
	return listener, nil
}

// environment is that of git, with dir for what is not secret: nothing that is becomes an argument or a file.
func (l Login) environment(url, dir string) ([]string, error) {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "GIT_") {
			env = append(env, variable)
		}
	}
	var errs []error
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		errs = append(errs, os.WriteFile(file, []byte(strings.TrimSpace(text)+"\n"), 0o600))
		return file
	}
	settings := [][2]string{
		{"credential.helper", ""},
		{"protocol.allow", "never"},
		{"protocol.https.allow", "always"},
		{"protocol.ssh.allow", "always"},
	}
	if l.Token != "" {
		basic := base64.StdEncoding.EncodeToString([]byte(l.Username + ":" + l.Token))
		settings = append(settings, [2]string{"http." + url + ".extraHeader", "Authorization: Basic " + basic})
	}
	if l.CA != "" {
		settings = append(settings, [2]string{"http.sslCAInfo", write("ca.crt", l.CA)})
	}
	for i, setting := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, setting[0]))
		env = append(env, fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, setting[1]))
	}
	if l.SSHKey != "" {
		env = append(env, "SSH_AUTH_SOCK="+filepath.Join(dir, "agent"),
			"GIT_SSH_COMMAND=ssh -F none -o IdentityFile=none -o BatchMode=yes -o StrictHostKeyChecking=yes "+
				"-o ConnectTimeout=15 -o UserKnownHostsFile="+write("known_hosts", l.KnownHosts))
	}
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(settings)), "GIT_CONFIG_GLOBAL="+os.DevNull)
	return append(env, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"), errors.Join(errs...)
}
