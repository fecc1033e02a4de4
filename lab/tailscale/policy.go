package tailscale

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/tailscale/hujson"

	"github.com/tinyrack-net/infrastructure/lab/emulator"
)

// defaultPolicy is what a new tailnet has: everybody reaches everything.
const defaultPolicy = `// The policy of a new tailnet.
{
	"grants": [
		{"src": ["*"], "dst": ["*"], "ip": ["*"]},
	],
	"ssh": [
		{"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:self"], "users": ["autogroup:nonroot", "root"]},
	],
}
`

// defaultETag in If-Match stands for the default policy, whatever its text.
const defaultETag = "ts-default"

// policy is a parsed policy file. Fields that are only kept, and fields that are
// refused because they are not emulated, are raw.
type policy struct {
	ACLs      []aclRule           `json:"acls"`
	Grants    []grantRule         `json:"grants"`
	Groups    map[string][]string `json:"groups"`
	Hosts     map[string]string   `json:"hosts"`
	TagOwners map[string][]string `json:"tagOwners"`
	SSH       []sshRule           `json:"ssh"`
	Tests     []aclTest           `json:"tests"`
	SSHTests  []sshTest           `json:"sshTests"`

	AutoApprovers struct {
		Routes   map[string][]string `json:"routes"`
		ExitNode []string            `json:"exitNode"`
		Services map[string][]string `json:"services"`
	} `json:"autoApprovers"`

	NodeAttrs           json.RawMessage `json:"nodeAttrs"`
	DERPMap             json.RawMessage `json:"derpMap"`
	AttrConfig          json.RawMessage `json:"attrConfig"`
	DisableIPv4         bool            `json:"disableIPv4"`
	OneCGNATRoute       string          `json:"oneCGNATRoute"`
	RandomizeClientPort bool            `json:"randomizeClientPort"`

	Postures          json.RawMessage `json:"postures"`
	DefaultSrcPosture json.RawMessage `json:"defaultSrcPosture"`
	IPSets            json.RawMessage `json:"ipsets"`
}

type aclRule struct {
	Action     string          `json:"action"`
	Src        []string        `json:"src"`
	Dst        []string        `json:"dst"`
	Proto      string          `json:"proto"`
	SrcPosture json.RawMessage `json:"srcPosture"`
}

type grantRule struct {
	Src        []string                     `json:"src"`
	Dst        []string                     `json:"dst"`
	IP         []string                     `json:"ip"`
	App        map[string][]json.RawMessage `json:"app"`
	SrcPosture json.RawMessage              `json:"srcPosture"`
	Via        json.RawMessage              `json:"via"`
}

type sshRule struct {
	Action          string          `json:"action"`
	Src             []string        `json:"src"`
	Dst             []string        `json:"dst"`
	Users           []string        `json:"users"`
	CheckPeriod     string          `json:"checkPeriod"`
	AcceptEnv       []string        `json:"acceptEnv"`
	Recorder        json.RawMessage `json:"recorder"`
	EnforceRecorder bool            `json:"enforceRecorder"`
	SrcPosture      json.RawMessage `json:"srcPosture"`
}

type aclTest struct {
	Src             string          `json:"src"`
	Proto           string          `json:"proto"`
	Accept          []string        `json:"accept"`
	Deny            []string        `json:"deny"`
	SrcPostureAttrs json.RawMessage `json:"srcPostureAttrs"`
}

type sshTest struct {
	Src    string   `json:"src"`
	Dst    []string `json:"dst"`
	Accept []string `json:"accept"`
	Check  []string `json:"check"`
	Deny   []string `json:"deny"`
}

// parsePolicy reads HuJSON and refuses fields that the policy language lacks.
func parsePolicy(text string) (*policy, error) {
	standard, err := hujson.Standardize([]byte(text))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(standard))
	decoder.DisallowUnknownFields()
	parsed := &policy{}
	if err := decoder.Decode(parsed); err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	return parsed, nil
}

func (st *state) policyText() string {
	if st.Policy == "" {
		return defaultPolicy
	}
	return st.Policy
}

func (st *state) etag() string {
	sum := sha256.Sum256([]byte(st.policyText()))
	return hex.EncodeToString(sum[:])
}

// matches compares an If-Match header with the current policy.
func (st *state) matches(header string) bool {
	wanted := strings.Trim(strings.TrimPrefix(header, "W/"), `"`)
	return wanted == "" || wanted == st.etag() || wanted == defaultETag && st.Policy == ""
}

func (s *Server) getPolicy(w http.ResponseWriter, r *http.Request) {
	if r.URL.RawQuery != "" {
		writeError(w, refuse(http.StatusNotImplemented,
			"the query %q of the policy is not emulated by the lab: add it to the emulator", r.URL.RawQuery))
		return
	}
	var text, etag string
	_ = s.store.View(func(st *state) error {
		text, etag = st.policyText(), st.etag()
		return nil
	})
	writePolicy(w, r, text, etag)
}

// writePolicy answers with the text as it was written, or with plain JSON for a
// client that asks for it.
func writePolicy(w http.ResponseWriter, r *http.Request, text, etag string) {
	w.Header().Set("ETag", `"`+etag+`"`)
	accept := r.Header.Get("Accept")
	if strings.Contains(accept, "application/json") {
		standard, err := hujson.Standardize([]byte(text))
		if err != nil {
			writeError(w, err)
			return
		}
		emulator.WriteJSON(w, http.StatusOK, json.RawMessage(standard))
		return
	}
	w.Header().Set("Content-Type", "application/hujson")
	_, _ = io.WriteString(w, text) // the client has gone: nothing to tell it
}

// postPolicy replaces the policy. An empty body brings the default one back.
func (s *Server) postPolicy(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		writeError(w, refuse(http.StatusRequestEntityTooLarge, "policy: %v", err))
		return
	}
	var text, etag string
	err = s.store.Update(func(st *state) error {
		if !st.matches(r.Header.Get("If-Match")) {
			return refuse(http.StatusPreconditionFailed, "precondition failed, invalid old hash")
		}
		next := string(body)
		if strings.TrimSpace(next) == "" || sameJSON(next, defaultPolicy) {
			next = ""
		}
		st.Policy = next
		if err := s.checkPolicy(r.Context(), st.policyText()); err != nil {
			return err
		}
		if err := s.enforce(r.Context(), st); err != nil {
			return err
		}
		text, etag = st.policyText(), st.etag()
		return nil
	})
	if err != nil {
		writeError(w, err)
		return
	}
	writePolicy(w, r, text, etag)
}

// enforce hands the policy to the control server.
func (s *Server) enforce(ctx context.Context, st *state) error {
	parsed, err := parsePolicy(st.policyText())
	if err != nil {
		return err
	}
	known, err := parsed.forControl()
	if err != nil {
		return err
	}
	err = s.options.Control.SetPolicy(ctx, known)
	if refused := (*Refused)(nil); errors.As(err, &refused) {
		return notEmulated("what the control server refuses (" + refused.Message + ")")
	}
	return err
}

// checkPolicy refuses a policy that is wrong or whose own tests fail.
func (s *Server) checkPolicy(ctx context.Context, text string) error {
	parsed, err := parsePolicy(text)
	if err != nil {
		return err
	}
	if err := parsed.validate(); err != nil {
		return err
	}
	nodes, err := s.options.Control.Nodes(ctx)
	if err != nil {
		return err
	}
	rules, err := parsed.compile(nodes)
	if err != nil {
		return err
	}
	return rules.test(parsed.Tests, parsed.SSHTests)
}

// validatePolicy checks a policy without saving it; the answer is 200 in any case
// and tells the problem in its body. A list instead of a policy is a list of tests
// for the current policy.
func (s *Server) validatePolicy(st *state, r *http.Request) (any, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, refuse(http.StatusRequestEntityTooLarge, "policy: %v", err)
	}
	text := string(body)
	if standard, err := hujson.Standardize(body); err == nil && bytes.HasPrefix(bytes.TrimSpace(standard),
		[]byte("[")) {
		current := map[string]json.RawMessage{}
		present, _ := hujson.Standardize([]byte(st.policyText())) // it was accepted before
		if err := json.Unmarshal(present, &current); err != nil {
			return nil, err
		}
		current["tests"] = standard
		merged, err := json.Marshal(current)
		if err != nil {
			return nil, err
		}
		text = string(merged)
	}
	err = s.checkPolicy(r.Context(), text)
	var refusal *apiError
	switch {
	case err == nil:
		return nil, nil
	case errors.As(err, &refusal) && refusal.status == http.StatusBadRequest:
		return map[string]any{"message": refusal.message, "data": refusal.data}, nil
	}
	return nil, err
}

// sameJSON compares two HuJSON texts by their values.
func sameJSON(a, b string) bool {
	values := [2]any{}
	for i, text := range []string{a, b} {
		standard, err := hujson.Standardize([]byte(text))
		if err != nil || json.Unmarshal(standard, &values[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}
