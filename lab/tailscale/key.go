package tailscale

import (
	"context"
	"net/http"
	"regexp"
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

// key is an auth key: what the control server does not keep of it. It is known there by ControlID.
type key struct {
	ID            string       `json:"id"`
	Serial        int          `json:"serial"`
	ControlID     string       `json:"controlId"`
	Description   string       `json:"description"`
	Capabilities  capabilities `json:"capabilities"`
	ExpirySeconds int64        `json:"expirySeconds"`
	Created       time.Time    `json:"created"`
	Expires       time.Time    `json:"expires"`
}

func (k *key) order() int { return k.Serial }

// validKeys tells with which of the control server's keys, by their id there, a node can still join.
func (s *Server) validKeys(ctx context.Context) (map[string]bool, error) {
	keys, err := s.options.Control.Keys(ctx)
	valid := map[string]bool{}
	for _, k := range keys {
		valid[k.ID] = s.options.Now().Before(k.Expires) && (k.Reusable || !k.Used)
	}
	return valid, err
}

func renderKey(k *key, valid bool) map[string]any {
	return map[string]any{
		"id": k.ID, "keyType": "auth", "description": k.Description, "capabilities": k.Capabilities,
		"expirySeconds": k.ExpirySeconds, "created": k.Created, "expires": k.Expires,
		"tags": k.Capabilities.Devices.Create.Tags, "userId": "uLabCNTRL", "invalid": !valid,
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
		return nil, refuse(http.StatusNotImplemented,
			"keys of type %q are not emulated by the lab: add them to the emulator", request.KeyType)
	case request.Capabilities == nil:
		return nil, refuse(http.StatusBadRequest, "capabilities are required")
	case request.ExpirySeconds < 0 || request.ExpirySeconds > int64(maxKeyLife/time.Second):
		return nil, refuse(http.StatusBadRequest, "expirySeconds must be between 1 and %d, not %d",
			int64(maxKeyLife/time.Second), request.ExpirySeconds)
	case !descriptionPattern.MatchString(request.Description):
		return nil, refuse(http.StatusBadRequest,
			"description must have at most 50 letters, digits, hyphens and spaces")
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
	create := request.Capabilities.Devices.Create
	if st.Settings.DevicesApprovalOn && !create.Preauthorized {
		return nil, approvalNotEmulated()
	}
	created := s.options.Now().UTC().Truncate(time.Second)
	made, err := s.options.Control.CreateKey(r.Context(), JoinKey{
		Tags: tags, Reusable: create.Reusable, Ephemeral: create.Ephemeral, Expires: created.Add(life),
	})
	if err != nil {
		return nil, err
	}
	st.Serial++
	k := &key{
		ID: "k" + newID(8) + "CNTRL", Serial: st.Serial, ControlID: made.ID, Description: request.Description,
		Capabilities: *request.Capabilities, ExpirySeconds: int64(life / time.Second), Created: created,
		Expires: created.Add(life),
	}
	st.Keys[k.ID] = k
	answer := renderKey(k, true)
	answer["key"] = made.Secret // only here, never again
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

func (s *Server) listKeys(st *state, _ *http.Request) (any, error) {
	list := []map[string]any{}
	for _, k := range sorted(st.Keys) {
		list = append(list, map[string]any{
			"id": k.ID, "keyType": "auth", "description": k.Description,
			"created": k.Created, "expires": k.Expires,
		})
	}
	return map[string]any{"keys": list}, nil
}

func (s *Server) getKey(st *state, r *http.Request) (any, error) {
	k := st.Keys[r.PathValue("key")]
	if k == nil {
		return nil, refuse(http.StatusNotFound, "key not found")
	}
	valid, err := s.validKeys(r.Context())
	return renderKey(k, valid[k.ControlID]), err
}

// deleteKey revokes a key. The devices that joined with it stay.
func (s *Server) deleteKey(st *state, r *http.Request) (any, error) {
	k := st.Keys[r.PathValue("key")]
	if k == nil {
		return nil, refuse(http.StatusNotFound, "key not found")
	}
	delete(st.Keys, k.ID)
	return nil, s.options.Control.DeleteKey(r.Context(), k.ControlID)
}
