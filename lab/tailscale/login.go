package tailscale

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// cgnat is the range that tailnet addresses come from.
var cgnat = netip.MustParsePrefix("100.64.0.0/10")

// LoginRequest is what the stand-in client sends to POST /lab/login.
type LoginRequest struct {
	// AuthKey is a secret; it is not needed by a device that is registered.
	AuthKey string `json:"authKey,omitempty"`
	// Hostname is the device's name, a DNS label.
	Hostname string `json:"hostname"`
	// NodeKey is the secret by which a device proves itself later on. The client
	// makes it before it joins, so that an answer that got lost can be asked for
	// again. If it is empty, the server makes one.
	NodeKey string `json:"nodeKey,omitempty"`
	// Tags must be among those of the auth key; none stands for all of them.
	Tags []string `json:"tags,omitempty"`
}

// LoginResponse is the answer to a LoginRequest.
type LoginResponse struct {
	NodeID     string   `json:"nodeId"`
	NodeKey    string   `json:"nodeKey"`
	Address    string   `json:"address"`
	DNSName    string   `json:"dnsName"`
	Tags       []string `json:"tags"`
	Authorized bool     `json:"authorized"`
}

// LogoutRequest is what the stand-in client sends to POST /lab/logout.
type LogoutRequest struct {
	NodeKey string `json:"nodeKey"`
}

var labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// login lets a device in by its node key, or registers it by an auth key. A device
// that was there under the same name is replaced (the real service would call the
// new one name-1); the name keeps its address.
func (s *Server) login(st *state, r *http.Request) (any, error) {
	var request LoginRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	request.Hostname = strings.ToLower(request.Hostname)
	if !labelPattern.MatchString(request.Hostname) {
		return nil, refuse(http.StatusBadRequest, "hostname %q is not a DNS label", request.Hostname)
	}
	if request.NodeKey == "" {
		request.NodeKey = "nodekey:" + newID(32)
	}
	d := st.deviceByNodeKey(request.NodeKey)
	if d != nil && d.Hostname != request.Hostname {
		return nil, refuse(http.StatusBadRequest, "this node is registered as %q: renaming it to %q is not emulated by the lab", d.Hostname, request.Hostname)
	}
	if d == nil {
		var err error
		if d, err = s.register(st, request); err != nil {
			return nil, err
		}
	}
	if !allOf(request.Tags, d.Tags) {
		return nil, refuse(http.StatusBadRequest, "requested tags %v are invalid or not permitted", request.Tags)
	}
	d.LastSeen = s.options.Now().UTC().Truncate(time.Second)
	return LoginResponse{
		NodeID: d.NodeID, NodeKey: request.NodeKey, Address: d.Address, DNSName: s.dnsName(d),
		Tags: d.Tags, Authorized: d.Authorized,
	}, nil
}

func (s *Server) register(st *state, request LoginRequest) (*device, error) {
	if request.AuthKey == "" {
		return nil, refuse(http.StatusUnauthorized, "this node is not registered: an auth key is needed")
	}
	k := st.findKey(request.AuthKey)
	if k == nil {
		return nil, refuse(http.StatusUnauthorized, "invalid key: API key does not exist") // never existed, or was revoked
	}
	if problem := s.keyProblem(k); problem != "" {
		return nil, refuse(http.StatusUnauthorized, "invalid key: auth key %s is %s", k.ID, problem)
	}
	create := k.Capabilities.Devices.Create
	if !allOf(request.Tags, create.Tags) {
		return nil, refuse(http.StatusBadRequest, "requested tags %v are invalid or not permitted", request.Tags)
	}
	address, err := s.allocate(st, request.Hostname)
	if err != nil {
		return nil, err
	}
	for id, old := range st.Devices {
		if old.Hostname == request.Hostname {
			delete(st.Devices, id)
		}
	}
	d := s.newDevice(st, request.Hostname)
	d.Address, d.NodeKeyHash, d.KeyID = address, hash(request.NodeKey), k.ID
	d.Tags = slices.Clone(create.Tags)
	d.Ephemeral = create.Ephemeral
	d.Authorized = create.Preauthorized || !st.Settings.DevicesApprovalOn
	d.KeyExpiryDisabled = true // the node keys of tagged devices do not expire
	k.Used = true
	st.Devices[d.NodeID] = d
	return d, nil
}

func (st *state) deviceByNodeKey(nodeKey string) *device {
	wanted := hash(nodeKey)
	for _, d := range st.Devices {
		if d.NodeKeyHash == wanted {
			return d
		}
	}
	return nil
}

// allocate returns the address of a host name, the next free one for a new name.
func (s *Server) allocate(st *state, hostname string) (string, error) {
	if address, known := st.Addresses[hostname]; known {
		return address, nil
	}
	taken := map[string]bool{}
	for _, address := range st.Addresses {
		taken[address] = true
	}
	for next := netip.MustParseAddr(s.options.FirstAddress); cgnat.Contains(next); next = next.Next() {
		if !taken[next.String()] {
			st.Addresses[hostname] = next.String()
			return next.String(), nil
		}
	}
	return "", fmt.Errorf("tailscale emulator: no address left in %s", cgnat)
}

// logout removes the device with this node key. One that is gone already is no error.
func (s *Server) logout(st *state, r *http.Request) (any, error) {
	var request LogoutRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	if d := st.deviceByNodeKey(request.NodeKey); d != nil {
		delete(st.Devices, d.NodeID)
	}
	return map[string]any{}, nil
}
