package tailscale

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

func nodeID(n Node) string { return "n" + n.ID + "CNTRL" }

func (s *Server) dnsName(n Node) string { return n.Name + "." + s.options.Domain }

func (s *Server) renderDevice(n Node) map[string]any {
	user := "tagged-devices"
	if len(n.Tags) == 0 {
		user = n.User
	}
	answer := map[string]any{
		"addresses": n.Addresses, "id": n.ID, "nodeId": nodeID(n), "name": s.dnsName(n), "hostname": n.Hostname,
		"authorized": true, "tags": n.Tags, "user": user, "isEphemeral": n.Ephemeral,
		"keyExpiryDisabled": n.Expires.IsZero(), "created": n.Created, "expires": n.Expires, "os": "linux",
		"connectedToControl": n.Connected, "isExternal": false, "blocksIncomingConnections": false,
		"updateAvailable": false,
		"machineKey":      n.MachineKey, "nodeKey": n.NodeKey, "tailnetLockKey": "", "tailnetLockError": "",
		"advertisedRoutes": []string{}, "enabledRoutes": []string{},
	}
	if len(n.Tags) == 0 {
		delete(answer, "tags") // as the service does
	}
	if !n.Connected {
		answer["lastSeen"] = n.LastSeen
	}
	return answer
}

func (s *Server) listDevices(_ *state, r *http.Request) (any, error) {
	for name := range r.URL.Query() {
		if name != "fields" {
			return nil, refuse(http.StatusNotImplemented,
				"the device filter %q is not emulated by the lab: add it to the emulator", name)
		}
	}
	list, err := s.devices(r.Context())
	return map[string]any{"devices": list}, err
}

func (s *Server) devices(ctx context.Context) ([]map[string]any, error) {
	nodes, err := s.options.Control.Nodes(ctx)
	list := []map[string]any{}
	for _, n := range nodes {
		list = append(list, s.renderDevice(n))
	}
	return list, err
}

// findDevice takes the node id or the legacy id.
func (s *Server) findDevice(r *http.Request) (Node, error) {
	wanted := r.PathValue("device")
	nodes, err := s.options.Control.Nodes(r.Context())
	if err != nil {
		return Node{}, err
	}
	for _, n := range nodes {
		if nodeID(n) == wanted || n.ID == wanted {
			return n, nil
		}
	}
	return Node{}, refuse(http.StatusNotFound, "device not found")
}

func (s *Server) getDevice(_ *state, r *http.Request) (any, error) {
	n, err := s.findDevice(r)
	if err != nil {
		return nil, err
	}
	return s.renderDevice(n), nil
}

// onDevice finds the device of the request, reads the request's body into request unless that is nil, and does what is
// asked.
func (s *Server) onDevice(r *http.Request, request any, do func(n Node) error) (any, error) {
	n, err := s.findDevice(r)
	if err != nil {
		return nil, err
	}
	if request != nil {
		if err := decode(r, request); err != nil {
			return nil, err
		}
	}
	err = do(n)
	if refused := (*Refused)(nil); errors.As(err, &refused) {
		return nil, refuse(http.StatusBadRequest, "%s", refused.Message)
	}
	return nil, err
}

func (s *Server) deleteDevice(_ *state, r *http.Request) (any, error) {
	return s.onDevice(r, nil, func(n Node) error { return s.options.Control.DeleteNode(r.Context(), n.ID) })
}

// renameDevice gives the device another label: a name without or with the tailnet's domain. An empty one is the host's
// own name again.
func (s *Server) renameDevice(_ *state, r *http.Request) (any, error) {
	var request struct {
		Name string `json:"name"`
	}
	return s.onDevice(r, &request, func(n Node) error {
		label := strings.TrimSuffix(request.Name, "."+s.options.Domain)
		if label == "" {
			label = n.Hostname
		}
		if !labelPattern.MatchString(label) {
			return refuse(http.StatusBadRequest, "name %q is not a DNS label", request.Name)
		}
		return s.options.Control.RenameNode(r.Context(), n.ID, label)
	})
}

func (s *Server) authorizeDevice(_ *state, r *http.Request) (any, error) {
	var request struct {
		Authorized bool `json:"authorized"`
	}
	return s.onDevice(r, &request, func(Node) error {
		if !request.Authorized {
			return approvalNotEmulated()
		}
		return nil // every device is
	})
}

// approvalNotEmulated refuses what would need it: headscale lets every device in that has a key.
func approvalNotEmulated() error {
	return refuse(http.StatusNotImplemented,
		"a device that waits for approval is not emulated by the lab: use a pre-authorized key")
}

func (s *Server) tagDevice(st *state, r *http.Request) (any, error) {
	var request struct {
		Tags []string `json:"tags"`
	}
	return s.onDevice(r, &request, func(n Node) error {
		if err := st.checkTags(request.Tags); err != nil {
			return err
		}
		if len(request.Tags) == 0 {
			return refuse(http.StatusNotImplemented,
				"a device without tags again is not emulated by the lab: join it anew")
		}
		return s.options.Control.TagNode(r.Context(), n.ID, slices.Clone(request.Tags))
	})
}

func (s *Server) setDeviceKey(st *state, r *http.Request) (any, error) {
	var request struct {
		KeyExpiryDisabled bool `json:"keyExpiryDisabled"`
	}
	return s.onDevice(r, &request, func(n Node) error {
		var at time.Time
		if !request.KeyExpiryDisabled {
			at = n.Created.AddDate(0, 0, st.Settings.DevicesKeyDurationDays)
		}
		return s.options.Control.ExpireNode(r.Context(), n.ID, at)
	})
}

// expireDevice logs the device out: it stays listed and cannot be reached.
func (s *Server) expireDevice(_ *state, r *http.Request) (any, error) {
	return s.onDevice(r, nil, func(n Node) error {
		return s.options.Control.ExpireNode(r.Context(), n.ID,
			s.options.Now())
	})
}
