// Package tailscale emulates the part of the Tailscale v2 API that the program
// uses: OAuth clients, the policy file, tailnet settings, DNS, auth keys and
// devices of one tailnet. It also is the login server of the stand-in tailscale
// command, which joins the lab's machine without a real tailnet.
//
// It refuses what the service refuses (https://tailscale.com/api); parts of the
// policy language that it cannot evaluate are answered with 501 instead of being
// accepted unseen.
package tailscale

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
)

// Defaults of Options.
const (
	DefaultTailnet      = "lab.test"
	DefaultFirstAddress = "100.64.0.10"
)

// Options describe the emulated tailnet. The zero value is ready to use.
type Options struct {
	// Tailnet is the tailnet's name, the suffix of its devices' DNS names.
	Tailnet string
	// ClientID and ClientSecret are the only OAuth client. Empty: they are made
	// at the first start and kept in the state.
	ClientID, ClientSecret string
	// FirstAddress is the address of the first device; the next ones follow.
	FirstAddress string
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

// state is all that the emulated tailnet holds. Secrets are stored as hashes, but
// for the OAuth client that the emulator itself has made.
type state struct {
	ClientID     string `json:"clientId,omitempty"`
	ClientSecret string `json:"clientSecret,omitempty"`
	// Tokens maps the hash of an access token to its expiry.
	Tokens map[string]time.Time `json:"tokens"`
	// Policy is the policy file as it was written, empty for the default one.
	Policy      string             `json:"policy,omitempty"`
	Settings    settings           `json:"settings"`
	MagicDNS    bool               `json:"magicDns"`
	Nameservers []string           `json:"nameservers"`
	SearchPaths []string           `json:"searchPaths"`
	Keys        map[string]*key    `json:"keys"`
	Devices     map[string]*device `json:"devices"`
	// Addresses keeps the address of a host name after its device is gone.
	Addresses map[string]string `json:"addresses"`
	Serial    int               `json:"serial"`
}

var tailnetPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// New opens the emulated tailnet kept in dir/tailscale.json.
func New(dir string, options Options) (*Server, error) {
	options.Tailnet = cmp.Or(options.Tailnet, DefaultTailnet)
	options.FirstAddress = cmp.Or(options.FirstAddress, DefaultFirstAddress)
	if options.Now == nil {
		options.Now = time.Now
	}
	var problems []error
	if !tailnetPattern.MatchString(options.Tailnet) {
		problems = append(problems, fmt.Errorf("tailscale emulator: tailnet %q is not a domain name", options.Tailnet))
	}
	if address, err := netip.ParseAddr(options.FirstAddress); err != nil || !cgnat.Contains(address) {
		problems = append(problems, fmt.Errorf("tailscale emulator: first address %q is not in %s, where tailnet addresses lie", options.FirstAddress, cgnat))
	}
	if (options.ClientID == "") != (options.ClientSecret == "") {
		problems = append(problems, errors.New("tailscale emulator: an OAuth client needs both id and secret, or neither to have them made"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	store, err := emulator.OpenStore(filepath.Join(dir, "tailscale.json"), &state{
		Tokens: map[string]time.Time{}, Settings: defaultSettings,
		Nameservers: []string{}, SearchPaths: []string{},
		Keys: map[string]*key{}, Devices: map[string]*device{}, Addresses: map[string]string{},
	})
	if err != nil {
		return nil, err
	}
	s := &Server{options: options, store: store}
	if err := s.ensureClient(); err != nil {
		return nil, err
	}
	s.Server = emulator.NewServer("Tailscale API", options.Log, s.inspect, func(w http.ResponseWriter, status int, message string) {
		writeError(w, refuse(status, "%s", message))
	})
	s.routes()
	return s, nil
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
	var answer any
	err := s.store.View(func(st *state) error {
		keys := []map[string]any{}
		valid := 0
		for _, k := range sorted(st.Keys) {
			keys = append(keys, s.renderKey(k))
			if s.keyProblem(k) == "" {
				valid++
			}
		}
		devices := []map[string]any{}
		for _, d := range sorted(st.Devices) {
			devices = append(devices, s.renderDevice(d))
		}
		policies := 0
		if st.Policy != "" {
			policies = 1
		}
		answer = clone(map[string]any{
			"tailnet": s.options.Tailnet,
			"objects": map[string]any{
				"policy":   map[string]any{"default": st.Policy == "", "text": st.policyText(), "etag": st.etag()},
				"keys":     keys,
				"devices":  devices,
				"dns":      map[string]any{"magicDNS": st.MagicDNS, "nameservers": st.Nameservers, "searchPaths": st.SearchPaths},
				"settings": st.Settings,
			},
			"counts": map[string]int{"policies": policies, "keys": len(keys), "validKeys": valid, "devices": len(devices)},
			"total":  policies + len(keys) + len(devices),
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
