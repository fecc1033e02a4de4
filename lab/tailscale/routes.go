package tailscale

import (
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
)

// action does what one request asks, with the state locked. An error leaves the
// state untouched.
type action func(st *state, r *http.Request) (any, error)

// tokenLife is how long an access token is valid, as at the service.
const tokenLife = time.Hour

func (s *Server) routes() {
	for pattern, do := range map[string]action{
		"PATCH /tailnet/{tailnet}/settings":       s.patchSettings,
		"GET /tailnet/{tailnet}/settings":         s.getSettings,
		"GET /tailnet/{tailnet}/dns/preferences":  s.getPreferences,
		"POST /tailnet/{tailnet}/dns/preferences": s.postPreferences,
		"GET /tailnet/{tailnet}/dns/nameservers":  s.getNameservers,
		"POST /tailnet/{tailnet}/dns/nameservers": s.postNameservers,
		"GET /tailnet/{tailnet}/dns/searchpaths":  s.getSearchPaths,
		"POST /tailnet/{tailnet}/dns/searchpaths": s.postSearchPaths,
		"POST /tailnet/{tailnet}/keys":            s.createKey,
		"GET /tailnet/{tailnet}/keys":             s.listKeys,
		"GET /tailnet/{tailnet}/keys/{key}":       s.getKey,
		"DELETE /tailnet/{tailnet}/keys/{key}":    s.deleteKey,
		"GET /tailnet/{tailnet}/devices":          s.listDevices,
		"GET /device/{device}":                    s.getDevice,
		"DELETE /device/{device}":                 s.deleteDevice,
		"POST /device/{device}/authorized":        s.authorizeDevice,
		"POST /device/{device}/name":              s.renameDevice,
		"POST /device/{device}/expire":            s.expireDevice,
		"POST /device/{device}/tags":              s.tagDevice,
		"POST /device/{device}/key":               s.setDeviceKey,
		"POST /tailnet/{tailnet}/acl/validate":    s.validatePolicy,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		s.Handle(method+" /api/v2"+path, s.authenticated(s.serve(do)))
	}
	// The policy is text, with its version in a header.
	s.Handle("GET /api/v2/tailnet/{tailnet}/acl", s.authenticated(s.getPolicy))
	s.Handle("POST /api/v2/tailnet/{tailnet}/acl", s.authenticated(s.postPolicy))
	s.Handle("POST /api/v2/oauth/token", s.issueToken)
}

// authenticated checks the access token and the tailnet.
func (s *Server) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if user, _, basic := r.BasicAuth(); basic {
			token, found = user, true // the API takes a token as the user name too
		}
		valid := false
		_ = s.store.View(func(st *state) error {
			expiry, known := st.Tokens[hash(token)]
			valid = found && known && s.options.Now().Before(expiry)
			return nil
		})
		if !valid {
			writeError(w, refuse(http.StatusUnauthorized, "API token invalid"))
			return
		}
		if name := r.PathValue("tailnet"); name != "" && name != "-" && name != s.options.Tailnet {
			writeError(w, refuse(http.StatusNotFound, "tailnet %q not found", name))
			return
		}
		next(w, r)
	}
}

func (s *Server) serve(do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		access := s.store.Update
		if r.Method == http.MethodGet {
			access = s.store.View
		}
		var result any
		err := access(func(st *state) error {
			answer, err := do(st, r)
			if answer == nil {
				answer = struct{}{} // done, nothing to tell
			}
			result = clone(answer)
			return err
		})
		if err != nil {
			writeError(w, err)
			return
		}
		emulator.WriteJSON(w, http.StatusOK, result)
	}
}

// issueToken implements the OAuth 2.0 client credentials grant.
func (s *Server) issueToken(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	wanted := hash(s.options.ClientID) + hash(s.options.ClientSecret)
	if subtle.ConstantTimeCompare([]byte(hash(id)+hash(secret)), []byte(wanted)) != 1 {
		writeError(w, refuse(http.StatusUnauthorized, "API token invalid"))
		return
	}
	if grant := r.PostFormValue("grant_type"); grant != "" && grant != "client_credentials" {
		writeError(w, refuse(http.StatusBadRequest, "unsupported grant_type %q", grant))
		return
	}
	token := "tskey-api-" + newID(6) + "-" + newID(16)
	err := s.store.Update(func(st *state) error {
		for known, expiry := range st.Tokens {
			if !s.options.Now().Before(expiry) {
				delete(st.Tokens, known)
			}
		}
		st.Tokens[hash(token)] = s.options.Now().Add(tokenLife).UTC()
		return nil
	})
	if err != nil {
		writeError(w, err)
		return
	}
	emulator.WriteJSON(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int(tokenLife.Seconds()), "scope": "all",
	})
}
