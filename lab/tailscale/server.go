// Package tailscale emulates the part of the Tailscale v2 API that the program uses: OAuth clients, the policy file,
// tailnet settings, DNS, auth keys and devices of one tailnet. What the API says holds: a control server (see Control)
// lets in whom its keys admit, and enforces its policy between real nodes.
//
// It refuses what the service refuses (https://tailscale.com/api); parts of the policy language that neither it nor the
// control server can evaluate are answered with 501 instead of being accepted unseen.
package tailscale

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
)

// Defaults of Options.
const (
	DefaultTailnet = "lab.test"
	DefaultDomain  = "tail.lab.test"
)

// Options describe the emulated tailnet.
type Options struct {
	// Control is the tailnet's control server.
	Control Control
	// Tailnet is the name that the API takes, Domain the suffix of the devices' DNS names.
	Tailnet, Domain string
	// ClientID and ClientSecret are the only OAuth client. Empty: they are made
	// at the first start and kept in the state.
	ClientID, ClientSecret string
	// Log takes faults and unknown requests; slog.Default() when nil.
	Log *slog.Logger
	// Now is the clock, for tests of expiry; time.Now when nil.
	Now func() time.Time
}

// Server is the emulated API, an http.Handler.
type Server struct {
	*emulator.Server
	options Options
	store   *emulator.Store[state]
}

// state is what the emulated tailnet holds beside what the control server does. Secrets are stored as hashes, but
// for the OAuth client that the emulator itself has made.
type state struct {
	ClientID     string `json:"clientId,omitempty"`
	ClientSecret string `json:"clientSecret,omitempty"`
	// Tokens maps the hash of an access token to its expiry.
	Tokens map[string]time.Time `json:"tokens"`
	// Policy is the policy file as it was written, empty for the default one.
	Policy      string          `json:"policy,omitempty"`
	Settings    settings        `json:"settings"`
	MagicDNS    bool            `json:"magicDns"`
	Nameservers []string        `json:"nameservers"`
	SearchPaths []string        `json:"searchPaths"`
	Keys        map[string]*key `json:"keys"`
	Serial      int             `json:"serial"`
}

var tailnetPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// New opens the emulated tailnet kept in dir/tailscale.json, and hands its policy to the control server, which must
// answer.
func New(dir string, options Options) (*Server, error) {
	options.Tailnet = cmp.Or(options.Tailnet, DefaultTailnet)
	options.Domain = cmp.Or(options.Domain, DefaultDomain)
	if options.Now == nil {
		options.Now = time.Now
	}
	var problems []error
	for what, name := range map[string]string{"tailnet": options.Tailnet, "domain": options.Domain} {
		if !tailnetPattern.MatchString(name) {
			problems = append(problems, fmt.Errorf("tailscale emulator: %s %q is not a domain name", what, name))
		}
	}
	if options.Control == nil {
		problems = append(problems, errors.New("tailscale emulator: no control server: nothing would let devices in"))
	}
	if (options.ClientID == "") != (options.ClientSecret == "") {
		problems = append(problems, errors.New("tailscale emulator: an OAuth client needs both "+
			"id and secret, or neither to have them made"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	store, err := emulator.OpenStore(filepath.Join(dir, "tailscale.json"), &state{
		Tokens: map[string]time.Time{}, Settings: defaultSettings,
		Nameservers: []string{}, SearchPaths: []string{},
		Keys: map[string]*key{},
	})
	if err != nil {
		return nil, err
	}
	s := &Server{options: options, store: store}
	if err := s.ensureClient(); err != nil {
		return nil, err
	}
	s.Server = emulator.NewServer("Tailscale API", options.Log, s.inspect,
		func(w http.ResponseWriter, status int, message string) {
			writeError(w, refuse(status, "%s", message))
		})
	s.routes()
	// What was answered before a crash is what is enforced after it.
	err = s.store.View(func(st *state) error { return s.enforce(context.Background(), st) })
	return s, err
}

// Client returns the OAuth client id and its secret.
func (s *Server) Client() (id, secret string) { return s.options.ClientID, s.options.ClientSecret }

func (s *Server) ensureClient() error {
	if s.options.ClientID != "" {
		return nil
	}
	return s.store.Update(func(st *state) error {
		if st.ClientID == "" {
			st.ClientID = "k" + newID(8) + "CNTRL"
			st.ClientSecret = "tskey-client-" + st.ClientID + "-" + newID(16)
		}
		s.options.ClientID, s.options.ClientSecret = st.ClientID, st.ClientSecret
		return nil
	})
}

// inspect lists every object for people and tests, without secrets.
func (s *Server) inspect() (any, error) {
	valid, keysErr := s.validKeys(context.Background())
	devices, devicesErr := s.devices(context.Background())
	if err := errors.Join(keysErr, devicesErr); err != nil {
		return nil, err
	}
	var answer any
	err := s.store.View(func(st *state) error {
		keys := []map[string]any{}
		usable := 0
		for _, k := range sorted(st.Keys) {
			keys = append(keys, renderKey(k, valid[k.ControlID]))
			if valid[k.ControlID] {
				usable++
			}
		}
		policies := 0
		if st.Policy != "" {
			policies = 1
		}
		answer = clone(map[string]any{
			"tailnet": s.options.Tailnet, "domain": s.options.Domain,
			"objects": map[string]any{
				"policy":  map[string]any{"default": st.Policy == "", "text": st.policyText(), "etag": st.etag()},
				"keys":    keys,
				"devices": devices,
				"dns": map[string]any{
					"magicDNS": st.MagicDNS, "nameservers": st.Nameservers,
					"searchPaths": st.SearchPaths,
				},
				"settings": st.Settings,
			},
			"counts": map[string]int{
				"policies": policies, "keys": len(keys), "validKeys": usable,
				"devices": len(devices),
			},
			"total": policies + len(keys) + len(devices),
		})
		return nil
	})
	return answer, err
}

// newID returns n random bytes in hexadecimal.
func newID(n int) string {
	id := make([]byte, n)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
