// Package cloudflare emulates the part of the Cloudflare v4 API that the program
// uses: tunnels and their remote configuration, DNS records and Access of one account
// with one zone.
//
// It refuses what the cloud refuses, with the cloud's codes where they are known
// from public reports (https://developers.cloudflare.com/api and the issue
// trackers of its clients). It is stricter than the cloud where that finds a bug:
// a record's name must lie in the zone (the cloud appends the zone instead), and a
// tunnel with DNS records cannot be deleted (the cloud leaves them dangling).
package cloudflare

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
)

// Prefix is the path under which the API is served; a client's base URL ends with it.
const Prefix = "/client/v4"

// Defaults of Options.
const (
	DefaultAccountID = "ac000000000000000000000000000001"
	DefaultZoneID    = "20000000000000000000000000000001"
	DefaultZone      = "lab.test"
)

// Options describe the emulated account. The zero value is ready to use.
type Options struct {
	// Token is the only API token that is accepted, 40 characters. Empty: one is
	// made at the first start and kept in the state.
	Token string
	// AccountID and ZoneID are 32 hexadecimal digits.
	AccountID, ZoneID string
	// Zone is the zone's domain name.
	Zone string
	// Log takes faults and unknown requests; slog.Default() when nil.
	Log *slog.Logger
}

// Server is the emulated API, an http.Handler.
type Server struct {
	*emulator.Server
	options Options
	store   *emulator.Store[state]
	links   *links

	mu   sync.Mutex
	next chan struct{} // closed at the next change
}

// state is all that the emulated account holds.
type state struct {
	// Token is a credential made by the emulator; Options.Token is never stored.
	Token    string                   `json:"token,omitempty"`
	Tunnels  map[string]*tunnel       `json:"tunnels"`
	Records  map[string]*record       `json:"records"`
	Policies map[string]*accessObject `json:"accessPolicies"`
	Apps     map[string]*accessObject `json:"accessApplications"`
}

var (
	tokenPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{40}$`)
	idPattern    = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// New opens the emulated account kept in dir/cloudflare.json.
func New(dir string, options Options) (*Server, error) {
	options.AccountID = cmp.Or(options.AccountID, DefaultAccountID)
	options.ZoneID = cmp.Or(options.ZoneID, DefaultZoneID)
	options.Zone = cmp.Or(options.Zone, DefaultZone)
	if !idPattern.MatchString(options.AccountID) || !idPattern.MatchString(options.ZoneID) {
		return nil, fmt.Errorf("cloudflare emulator: account %q or zone %q is not 32 hexadecimal digits: no official "+
			"client would accept it", options.AccountID, options.ZoneID)
	}
	if options.Token != "" && !tokenPattern.MatchString(options.Token) {
		return nil, fmt.Errorf("cloudflare emulator: the API token has %d characters: the official provider accepts only "+
			"40 letters, digits, - and _", len(options.Token))
	}
	store, err := emulator.OpenStore(filepath.Join(dir, "cloudflare.json"), &state{
		Tunnels: map[string]*tunnel{}, Records: map[string]*record{},
		Policies: map[string]*accessObject{}, Apps: map[string]*accessObject{},
	})
	if err != nil {
		return nil, err
	}
	s := &Server{
		options: options, store: store, next: make(chan struct{}),
		links: &links{turns: map[string]int{}, seen: map[string]bool{}},
	}
	if err := s.ensureToken(); err != nil {
		return nil, err
	}
	s.Server = emulator.NewServer("Cloudflare API", options.Log, s.inspect, func(w http.ResponseWriter, status int,
		message string,
	) {
		writeError(w, refuse(status, 10000, "%s", message))
	})
	s.routes()
	return s, nil
}

// Token returns the API token that is accepted: a secret.
func (s *Server) Token() string { return s.options.Token }

func (s *Server) ensureToken() error {
	if s.options.Token != "" {
		return nil
	}
	return s.store.Update(func(st *state) error {
		if st.Token == "" {
			st.Token = newID()[:8] + newID()
		}
		s.options.Token = st.Token
		return nil
	})
}

// inspect lists every object for people and tests, without secrets.
func (s *Server) inspect() (any, error) {
	var answer any
	err := s.store.View(func(st *state) error {
		configs := 0
		tunnels := []map[string]any{}
		for _, t := range live(st.Tunnels) {
			rendered := s.renderTunnel(t)
			rendered["config"] = t.Config
			tunnels = append(tunnels, rendered)
			if t.Config != nil {
				configs++
			}
		}
		records := []map[string]any{}
		for _, rec := range sorted(st.Records, func(*record) bool { return true }) {
			records = append(records, rec.render())
		}
		policies, apps := sortedAccess(st.Policies), sortedAccess(st.Apps)
		answer = clone(map[string]any{
			"account": s.options.AccountID, "zone": s.options.ZoneID, "zoneName": s.options.Zone,
			"objects": map[string]any{
				"tunnels": tunnels, "dnsRecords": records, "accessPolicies": policies,
				"accessApplications": apps,
			},
			"counts": map[string]int{
				"tunnels": len(tunnels), "tunnelConfigs": configs, "dnsRecords": len(records),
				"accessPolicies": len(policies), "accessApplications": len(apps),
			},
			// A tunnel's configuration goes with it.
			"total": len(tunnels) + len(records) + len(policies) + len(apps),
		})
		return nil
	})
	return answer, err
}

func (s *Server) log() *slog.Logger { return cmp.Or(s.options.Log, slog.Default()) }

// changed is closed at the next change of what the account holds.
func (s *Server) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

func (s *Server) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.next)
	s.next = make(chan struct{})
}

// authorize checks the bearer token as the cloud does.
func (s *Server) authorize(r *http.Request) error {
	header := r.Header.Get("Authorization")
	if header == "" {
		return refuse(http.StatusUnauthorized, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
	}
	token, found := strings.CutPrefix(header, "Bearer ")
	if !found || !tokenPattern.MatchString(token) {
		return refuse(http.StatusBadRequest, 6003, "Invalid request headers")
	}
	given, wanted := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.options.Token))
	if subtle.ConstantTimeCompare(given[:], wanted[:]) != 1 {
		return refuse(http.StatusForbidden, 9109, "Invalid access token")
	}
	return nil
}

// locate refuses an account or zone that is not the emulated one.
func (s *Server) locate(r *http.Request) error {
	account, zone := r.PathValue("account"), r.PathValue("zone")
	if account != "" && account != s.options.AccountID || zone != "" && zone != s.options.ZoneID {
		return refuse(http.StatusNotFound, 7003, "Could not route to %s, perhaps your object identifier is "+
			"invalid?", strings.TrimPrefix(r.URL.Path, Prefix))
	}
	return nil
}

func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

func newUUID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// now has the precision of the cloud's answers.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
