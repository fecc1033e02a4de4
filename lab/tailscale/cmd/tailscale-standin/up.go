package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

func (c *client) up(ctx context.Context, args []string) error {
	wanted := defaultPrefs
	flags := newFlags("up")
	wanted.register(flags)
	authKey := flags.String("auth-key", "", "auth key, or file:<path> of a file that holds it")
	server := flags.String("login-server", "", "base URL of the lab's emulated Tailscale API")
	reset := flags.Bool("reset", false, "reset settings that are not mentioned to their defaults")
	reauth := flags.Bool("force-reauth", false, "log in anew with the auth key")
	timeout := flags.Duration("timeout", 30*time.Second, "how long to wait for the login server")
	if err := c.parse(flags, args); err != nil {
		return err
	}
	st, err := c.load()
	if err != nil {
		return err
	}
	if st.Prefs != nil && !*reset {
		if err := checkMentioned(st, flags); err != nil {
			return err
		}
	}
	if err := chooseServer(st, *server, *reauth); err != nil {
		return err
	}
	key, err := readKey(*authKey)
	if err != nil {
		return err
	}
	if st.NodeKey == "" || *reauth {
		st.NodeKey = newNodeKey()
		// Saved before it is used: if this process is killed after the server has
		// registered the node, the next run is still the same node.
		if err := c.save(st); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if err := c.login(ctx, st, &wanted, key); err != nil {
		return err
	}
	st.Prefs, st.WantRunning = &wanted, true
	if err := c.save(st); err != nil {
		return err
	}
	return c.configure(st)
}

// chooseServer sets the login server, which cannot change under a registered node.
func chooseServer(st *state, server string, reauth bool) error {
	if server == "" {
		server = st.LoginServer
	}
	if server == "" {
		return errors.New("up: --login-server is required: the lab's stand-in for tailscale cannot reach the real service; give the URL of the lab's emulated Tailscale API")
	}
	parsed, err := url.Parse(server)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
		return fmt.Errorf("up: --login-server %q is not an http or https URL", server)
	}
	if st.Address != "" && st.LoginServer != "" && server != st.LoginServer && !reauth {
		return errors.New("can't change --login-server without --force-reauth")
	}
	st.LoginServer = server
	return nil
}

// readKey resolves the file: form, which keeps the key out of the process list.
func readKey(value string) (string, error) {
	path, isFile := strings.CutPrefix(value, "file:")
	if !isFile {
		return value, nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("up: --auth-key: %w", err)
	}
	key := strings.TrimSpace(string(text))
	if key == "" {
		return "", fmt.Errorf("up: --auth-key: file %s is empty", path)
	}
	return key, nil
}

func newNodeKey() string {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	return "nodekey:" + hex.EncodeToString(key[:])
}

type loginRequest struct {
	AuthKey  string   `json:"authKey,omitempty"`
	Hostname string   `json:"hostname"`
	NodeKey  string   `json:"nodeKey"`
	Tags     []string `json:"tags,omitempty"`
}

type loginResponse struct {
	NodeID     string   `json:"nodeId"`
	Address    string   `json:"address"`
	DNSName    string   `json:"dnsName"`
	Tags       []string `json:"tags"`
	Authorized bool     `json:"authorized"`
}

// login registers the node or confirms that it is registered.
func (c *client) login(ctx context.Context, st *state, wanted *prefs, key string) error {
	request := loginRequest{AuthKey: key, Hostname: wanted.Hostname, NodeKey: st.NodeKey}
	if request.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("up: host name: %w", err)
		}
		request.Hostname, _, _ = strings.Cut(name, ".")
	}
	if wanted.AdvertiseTags != "" {
		request.Tags = strings.Split(wanted.AdvertiseTags, ",")
	}
	var answer loginResponse
	if err := c.post(ctx, st.LoginServer, "/lab/login", request, &answer); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if _, err := netip.ParseAddr(answer.Address); err != nil {
		return fmt.Errorf("up: %s is no login server of the lab: it gave no address", st.LoginServer)
	}
	if !answer.Authorized {
		return fmt.Errorf("up: node %s waits for approval by an administrator of the tailnet (state NeedsMachineAuth): approve it or use a pre-authorized key", answer.NodeID)
	}
	st.NodeID, st.Address, st.DNSName, st.Tags = answer.NodeID, answer.Address, answer.DNSName, answer.Tags
	return nil
}

// post sends a request to the login server; its error texts hold no secret.
func (c *client) post(ctx context.Context, server, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(server, "/")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("login server %s cannot be reached: %w: start the lab's emulators, or check the machine's route to them", server, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("login server %s: %w", server, err)
	}
	if response.StatusCode != http.StatusOK {
		var refusal struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(text, &refusal) // an answer of something else has no message
		return fmt.Errorf("login server %s refused: %s: %s", server, response.Status, refusal.Message)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("login server %s: answer is not JSON: %w", server, err)
	}
	return nil
}

// set changes settings that the stand-in has no use for, but must remember.
func (c *client) set(args []string) error {
	st, err := c.load()
	if err != nil {
		return err
	}
	wanted := defaultPrefs
	if st.Prefs != nil {
		wanted = *st.Prefs
	}
	flags := newFlags("set")
	wanted.register(flags)
	if err := c.parse(flags, args); err != nil {
		return err
	}
	changed := 0
	flags.Visit(func(*flag.Flag) { changed++ })
	if changed == 0 {
		return errors.New("set: no settings were given: see tailscale set --help")
	}
	if st.Prefs != nil && (wanted.Hostname != st.Prefs.Hostname || wanted.AdvertiseTags != st.Prefs.AdvertiseTags) {
		return errors.New("set: the lab's stand-in for tailscale cannot change the host name or tags of a registered node: log out, then up with a new auth key")
	}
	st.Prefs = &wanted
	return c.save(st)
}

func (c *client) down(args []string) error {
	if err := c.parse(newFlags("down"), args); err != nil {
		return err
	}
	st, err := c.load()
	if err != nil {
		return err
	}
	st.WantRunning = false
	return errors.Join(c.save(st), c.deconfigure(st))
}

func (c *client) logout(ctx context.Context, args []string) error {
	if err := c.parse(newFlags("logout"), args); err != nil {
		return err
	}
	st, err := c.load()
	if err != nil {
		return err
	}
	if st.NodeKey == "" {
		return nil // not logged in
	}
	request := map[string]string{"nodeKey": st.NodeKey}
	if err := c.post(ctx, st.LoginServer, "/lab/logout", request, &struct{}{}); err != nil {
		return fmt.Errorf("logout: %w", err)
	}
	st.WantRunning = false // tells the daemon to leave the interface alone
	if err := errors.Join(c.save(st), c.deconfigure(st)); err != nil {
		return fmt.Errorf("logout: %w", err)
	}
	if err := os.Remove(c.statePath); err != nil {
		return fmt.Errorf("logout: node state: %w", err)
	}
	return nil
}
