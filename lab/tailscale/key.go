package tailscale

import (
	"net/http"
	"regexp"
	"slices"
	"time"
)

// maxKeyLife is the longest and default life of an auth key: 90 days.
const maxKeyLife = 90 * 24 * time.Hour

type capabilities struct {
	Devices struct {
		Create struct {
			Reusable      bool     `json:"reusable"`
			Ephemeral     bool     `json:"ephemeral"`
			Preauthorized bool     `json:"preauthorized"`
			Tags          []string `json:"tags"`
		} `json:"create"`
	} `json:"devices"`
}

// key is an auth key; of the secret only the hash is kept.
type key struct {
	ID            string       `json:"id"`
	Serial        int          `json:"serial"`
	SecretHash    string       `json:"secretHash"`
	Description   string       `json:"description"`
	Capabilities  capabilities `json:"capabilities"`
	ExpirySeconds int64        `json:"expirySeconds"`
	Created       time.Time    `json:"created"`
	Expires       time.Time    `json:"expires"`
	Used          bool         `json:"used"`
}

func (k *key) order() int { return k.Serial }

// keyProblem says why a device cannot join with the key, or nothing.
func (s *Server) keyProblem(k *key) string {
	switch {
	case !s.options.Now().Before(k.Expires):
		return "expired"
	case k.Used && !k.Capabilities.Devices.Create.Reusable:
		return "already used"
	}
	return ""
}

func (s *Server) renderKey(k *key) map[string]any {
	return map[string]any{
		"id": k.ID, "keyType": "auth", "description": k.Description, "capabilities": k.Capabilities,
		"expirySeconds": k.ExpirySeconds, "created": k.Created, "expires": k.Expires,
		"tags": k.Capabilities.Devices.Create.Tags, "userId": "uLabCNTRL", "invalid": s.keyProblem(k) != "",
	}
}

var descriptionPattern = regexp.MustCompile(`^[A-Za-z0-9 -]{0,50}$`)

func (s *Server) createKey(st *state, r *http.Request) (any, error) {
	var request struct {
		KeyType       string        `json:"keyType"`
		Capabilities  *capabilities `json:"capabilities"`
		ExpirySeconds int64         `json:"expirySeconds"`
		Description   string        `json:"description"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	life := time.Duration(request.ExpirySeconds) * time.Second
	switch {
	case request.KeyType != "" && request.KeyType != "auth":
		return nil, refuse(http.StatusNotImplemented, "keys of type %q are not emulated by the lab: add them to the emulator", request.KeyType)
	case request.Capabilities == nil:
		return nil, refuse(http.StatusBadRequest, "capabilities are required")
	case request.ExpirySeconds < 0 || request.ExpirySeconds > int64(maxKeyLife/time.Second):
		return nil, refuse(http.StatusBadRequest, "expirySeconds must be between 1 and %d, not %d", int64(maxKeyLife/time.Second), request.ExpirySeconds)
	case !descriptionPattern.MatchString(request.Description):
		return nil, refuse(http.StatusBadRequest, "description must have at most 50 letters, digits, hyphens and spaces")
	}
	if life == 0 {
		life = maxKeyLife
	}
	tags := request.Capabilities.Devices.Create.Tags
	if len(tags) == 0 { // an OAuth client has no user to own the devices
		return nil, refuse(http.StatusBadRequest, "tailnet-owned auth key must have tags set")
	}
	if err := st.checkTags(tags); err != nil {
		return nil, err
	}
	st.Serial++
	id := "k" + newID(8) + "CNTRL"
	secret := "tskey-auth-" + id + "-" + newID(16)
	created := s.options.Now().UTC().Truncate(time.Second)
	k := &key{
		ID: id, Serial: st.Serial, SecretHash: hash(secret), Description: request.Description,
		Capabilities: *request.Capabilities, ExpirySeconds: int64(life / time.Second),
		Created: created, Expires: created.Add(life),
	}
	st.Keys[id] = k
	answer := s.renderKey(k)
	answer["key"] = secret // only here, never again
	return answer, nil
}

// checkTags refuses tags that the policy does not define.
func (st *state) checkTags(tags []string) error {
	defined, err := parsePolicy(st.policyText())
	if err != nil {
		return err
	}
	var wrong []string
	for _, tag := range tags {
		if _, ok := defined.TagOwners[tag]; !ok {
			wrong = append(wrong, tag)
		}
	}
	if len(wrong) > 0 {
		return refuse(http.StatusBadRequest, "requested tags %v are invalid or not permitted", wrong)
	}
	return nil
}

// findKey returns the key with this secret.
func (st *state) findKey(secret string) *key {
	wanted := hash(secret)
	for _, k := range st.Keys {
		if k.SecretHash == wanted {
			return k
		}
	}
	return nil
}

func (s *Server) listKeys(st *state, _ *http.Request) (any, error) {
	list := []map[string]any{}
	for _, k := range sorted(st.Keys) {
		list = append(list, map[string]any{"id": k.ID, "keyType": "auth", "description": k.Description, "created": k.Created, "expires": k.Expires})
	}
	return map[string]any{"keys": list}, nil
}

func (s *Server) getKey(st *state, r *http.Request) (any, error) {
	if k := st.Keys[r.PathValue("key")]; k != nil {
		return s.renderKey(k), nil
	}
	return nil, refuse(http.StatusNotFound, "key not found")
}

func (s *Server) deleteKey(st *state, r *http.Request) (any, error) {
	id := r.PathValue("key")
	if st.Keys[id] == nil {
		return nil, refuse(http.StatusNotFound, "key not found")
	}
	delete(st.Keys, id)
	return nil, nil
}

// allOf is true when every wanted tag is among the granted ones.
func allOf(wanted, granted []string) bool {
	return !slices.ContainsFunc(wanted, func(tag string) bool { return !slices.Contains(granted, tag) })
}
