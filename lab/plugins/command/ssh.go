package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"golang.org/x/crypto/ssh"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// Pauses between dials, the official plugin's: they grow to a ceiling.
const (
	firstPause  = 100 * time.Millisecond
	pauseGrowth = 1.5
	lastPause   = 5 * time.Second
)

// keepAlive is how often an idle connection is tried, so that a host that
// dies in the middle of a command ends the command.
const keepAlive = 15 * time.Second

// run runs text on the host of in["connection"] and returns its output.
// previous is the last state, whose output the command may get to see.
func run(
	ctx context.Context, client *engine.Client, urn resource.URN, in, previous schema.Values, text string,
) (schema.Values, error) {
	conn, err := dial(ctx, client, urn, in.Object("connection"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	// A cancelled run closes the connection, which ends the command.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	watched, unwatch := context.WithCancel(ctx)
	defer unwatch()
	go watch(watched, conn)

	session, err := conn.NewSession()
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	defer func() { _ = session.Close() }()

	for key, value := range in.Object("environment") {
		if err := session.Setenv(key, fmt.Sprint(value)); err != nil {
			return nil, fmt.Errorf("could not set environment variable %q (sshd must accept it through AcceptEnv): %w", key, err)
		}
	}
	if in.Bool("addPreviousOutputInEnv") {
		for key, value := range map[string]string{
			"PULUMI_COMMAND_STDOUT": previous.String("stdout"),
			"PULUMI_COMMAND_STDERR": previous.String("stderr"),
		} {
			if value == "" {
				continue
			}
			if err := session.Setenv(key, value); err != nil {
				client.Warn(ctx, urn, "Unable to set %q: this only works if the SSH server is configured to accept it via "+
					"AcceptEnv; "+
					"set addPreviousOutputInEnv to false", key)
			}
		}
	}
	if stdin := in.String("stdin"); stdin != "" {
		session.Stdin = strings.NewReader(stdin)
	}

	output := newOutput(ctx, client, urn, in)
	session.Stdout, session.Stderr = output.out, output.errs
	return output.end(ctx, session.Run(text), text)
}

// dial connects, trying again like the official plugin: also when the host
// key is wrong or the login is refused.
func dial(ctx context.Context, client *engine.Client, urn resource.URN, connection schema.Values) (*ssh.Client, error) {
	config, err := clientConfig(connection)
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(connection.String("host"), strconv.Itoa(connection.Int("port")))
	limit := connection.Int("dialErrorLimit")
	pause := firstPause
	for try := 1; ; try++ {
		conn, err := connect(ctx, address, config)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("cancelled while dialling %s: %w", address, err)
		}
		if limit >= 0 && try > limit {
			return nil, fmt.Errorf("dial %s as %s: after %d failed attempts: %w", address, config.User, try, err)
		}
		client.Status(ctx, urn, "Dial %d/%s failed: retrying (%v)", try, limitText(limit), err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("cancelled while dialling %s: %w", address, err)
		case <-time.After(pause):
		}
		pause = min(time.Duration(float64(pause)*pauseGrowth), lastPause)
	}
}

func limitText(limit int) string {
	if limit < 0 {
		return "inf"
	}
	return strconv.Itoa(limit)
}

func connect(ctx context.Context, address string, config *ssh.ClientConfig) (*ssh.Client, error) {
	raw, err := (&net.Dialer{Timeout: config.Timeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	// The handshake, too, must not hang on a host that accepts and is silent.
	if config.Timeout > 0 {
		_ = raw.SetDeadline(time.Now().Add(config.Timeout))
	}
	conn, channels, requests, err := ssh.NewClientConn(raw, address, config)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	_ = raw.SetDeadline(time.Time{})
	return ssh.NewClient(conn, channels, requests), nil
}

func clientConfig(connection schema.Values) (*ssh.ClientConfig, error) {
	hostKey, err := parseHostKey(connection.String("hostKey"))
	if err != nil {
		return nil, err
	}
	key := connection.String("privateKey")
	if key == "" {
		return nil, errors.New("connection.privateKey is missing: the double knows no other way to log in")
	}
	var signer ssh.Signer
	if password := connection.String("privateKeyPassword"); password != "" {
		signer, err = ssh.ParsePrivateKeyWithPassphrase([]byte(key), []byte(password))
	} else {
		signer, err = ssh.ParsePrivateKey([]byte(key))
	}
	if err != nil {
		return nil, fmt.Errorf("connection.privateKey: %w", err)
	}
	return &ssh.ClientConfig{
		User:    connection.String("user"),
		Auth:    []ssh.AuthMethod{ssh.PublicKeys(signer)},
		Timeout: time.Duration(connection.Int("perDialTimeout")) * time.Second,
		// Only this key's algorithm is offered: a host with several keys would
		// else show another one and be refused.
		HostKeyAlgorithms: algorithms(hostKey),
		HostKeyCallback:   ssh.FixedHostKey(hostKey),
	}, nil
}

// algorithms are the signature algorithms that a host with this key may use.
func algorithms(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{key.Type()}
}

// parseHostKey reads an authorized_keys style line: type, base64, comment.
func parseHostKey(line string) (ssh.PublicKey, error) {
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, fmt.Errorf("connection.hostKey is not a public key line (such as \"ssh-ed25519 AAAA…\"): %w", err)
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("connection.hostKey holds more than one key; give exactly one")
	}
	return key, nil
}

// watch closes the connection when the host stops answering.
func watch(ctx context.Context, conn *ssh.Client) {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		answered := make(chan error, 1)
		go func() {
			_, _, err := conn.SendRequest("keepalive@openssh.com", true, nil)
			answered <- err
		}()
		select {
		case <-ctx.Done():
			return
		case err := <-answered:
			if err == nil {
				continue
			}
		case <-time.After(keepAlive):
		}
		_ = conn.Close()
		return
	}
}
