package tailscale

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// device is a joined machine; of its node key only the hash is kept.
type device struct {
	ID                string    `json:"id"`
	NodeID            string    `json:"nodeId"`
	Serial            int       `json:"serial"`
	Hostname          string    `json:"hostname"`
	Address           string    `json:"address"`
	Tags              []string  `json:"tags"`
	NodeKeyHash       string    `json:"nodeKeyHash"`
	KeyID             string    `json:"keyId"`
	Authorized        bool      `json:"authorized"`
	Ephemeral         bool      `json:"ephemeral"`
	KeyExpiryDisabled bool      `json:"keyExpiryDisabled"`
	Created           time.Time `json:"created"`
	LastSeen          time.Time `json:"lastSeen"`
}

func (d *device) order() int { return d.Serial }

func (s *Server) dnsName(d *device) string { return d.Hostname + "." + s.options.Tailnet }

func (s *Server) renderDevice(d *device) map[string]any {
	return map[string]any{
		"addresses": []string{d.Address}, "id": d.ID, "nodeId": d.NodeID, "name": s.dnsName(d), "hostname": d.Hostname,
		"authorized": d.Authorized, "tags": d.Tags, "user": "tagged-devices", "isEphemeral": d.Ephemeral,
		"keyExpiryDisabled": d.KeyExpiryDisabled, "created": d.Created, "lastSeen": d.LastSeen,
		"expires": d.Created.Add(180 * 24 * time.Hour), "os": "linux", "clientVersion": "lab stand-in",
		"connectedToControl": true, "isExternal": false, "blocksIncomingConnections": false, "updateAvailable": false,
		"machineKey": "", "nodeKey": "", "tailnetLockKey": "", "tailnetLockError": "",
		"advertisedRoutes": []string{}, "enabledRoutes": []string{},
	}
}

func (s *Server) listDevices(st *state, r *http.Request) (any, error) {
	for name := range r.URL.Query() {
		if name != "fields" {
			return nil, refuse(http.StatusNotImplemented, "the device filter %q is not emulated by the lab: add it to the emulator", name)
		}
	}
	list := []map[string]any{}
	for _, d := range sorted(st.Devices) {
		list = append(list, s.renderDevice(d))
	}
	return map[string]any{"devices": list}, nil
}

// findDevice takes the node id or the legacy id.
func findDevice(st *state, r *http.Request) (*device, error) {
	wanted := r.PathValue("device")
	for _, d := range st.Devices {
		if d.NodeID == wanted || d.ID == wanted {
			return d, nil
		}
	}
	return nil, refuse(http.StatusNotFound, "device not found")
}

func (s *Server) getDevice(st *state, r *http.Request) (any, error) {
	d, err := findDevice(st, r)
	if err != nil {
		return nil, err
	}
	return s.renderDevice(d), nil
}

func (s *Server) deleteDevice(st *state, r *http.Request) (any, error) {
	d, err := findDevice(st, r)
	if err != nil {
		return nil, err
	}
	delete(st.Devices, d.NodeID)
	return nil, nil
}

func (s *Server) authorizeDevice(st *state, r *http.Request) (any, error) {
	d, err := findDevice(st, r)
	if err != nil {
		return nil, err
	}
	var request struct {
		Authorized bool `json:"authorized"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	d.Authorized = request.Authorized
	return nil, nil
}

func (s *Server) tagDevice(st *state, r *http.Request) (any, error) {
	d, err := findDevice(st, r)
	if err != nil {
		return nil, err
	}
	var request struct {
		Tags []string `json:"tags"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	if err := st.checkTags(request.Tags); err != nil {
		return nil, err
	}
	d.Tags = slices.Clone(request.Tags)
	return nil, nil
}

func (s *Server) setDeviceKey(st *state, r *http.Request) (any, error) {
	d, err := findDevice(st, r)
	if err != nil {
		return nil, err
	}
	var request struct {
		KeyExpiryDisabled bool `json:"keyExpiryDisabled"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	d.KeyExpiryDisabled = request.KeyExpiryDisabled
	return nil, nil
}

// newDevice makes the identity of a device that joins.
func (s *Server) newDevice(st *state, hostname string) *device {
	st.Serial++
	id := strconv.Itoa(1_000_000 + st.Serial)
	return &device{
		ID: id, NodeID: "n" + id + "CNTRL", Serial: st.Serial, Hostname: hostname,
		Created: s.options.Now().UTC().Truncate(time.Second),
	}
}
