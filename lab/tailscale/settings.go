package tailscale

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
)

// settings are the tailnet's settings in the shape of the API.
type settings struct {
	ACLsExternallyManagedOn bool   `json:"aclsExternallyManagedOn"`
	ACLsExternalLink        string `json:"aclsExternalLink"`
	DevicesApprovalOn       bool   `json:"devicesApprovalOn"`
	DevicesAutoUpdatesOn    bool   `json:"devicesAutoUpdatesOn"`
	DevicesKeyDurationDays  int    `json:"devicesKeyDurationDays"`
	UsersApprovalOn         bool   `json:"usersApprovalOn"`
	ExternalTailnetsRole    string `json:"usersRoleAllowedToJoinExternalTailnets"`
	NetworkFlowLoggingOn    bool   `json:"networkFlowLoggingOn"`
	RegionalRoutingOn       bool   `json:"regionalRoutingOn"`
	PostureCollectionOn     bool   `json:"postureIdentityCollectionOn"`
	HTTPSEnabled            bool   `json:"httpsEnabled"`
}

var defaultSettings = settings{DevicesKeyDurationDays: 180, ExternalTailnetsRole: "admin"}

func (s *Server) getSettings(st *state, _ *http.Request) (any, error) { return st.Settings, nil }

// patchSettings sets the fields that are given and not null.
func (s *Server) patchSettings(st *state, r *http.Request) (any, error) {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&st.Settings); err != nil { // null leaves a field as it is
		return nil, refuse(http.StatusBadRequest, "invalid settings: %v", err)
	}
	if days := st.Settings.DevicesKeyDurationDays; days < 1 || days > 180 {
		return nil, refuse(http.StatusBadRequest, "devicesKeyDurationDays must be between 1 and 180, not %d", days)
	}
	if role := st.Settings.ExternalTailnetsRole; !slices.Contains([]string{"none", "admin", "member"}, role) {
		return nil, refuse(http.StatusBadRequest,
			"usersRoleAllowedToJoinExternalTailnets must be none, admin or member, not %q", role)
	}
	return st.Settings, nil
}

type preferences struct {
	MagicDNS bool `json:"magicDNS"`
}

func (s *Server) getPreferences(st *state, _ *http.Request) (any, error) {
	return preferences{MagicDNS: st.MagicDNS}, nil
}

func (s *Server) postPreferences(st *state, r *http.Request) (any, error) {
	var request preferences
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	st.MagicDNS = request.MagicDNS
	return request, nil
}

func (s *Server) getNameservers(st *state, _ *http.Request) (any, error) {
	return map[string]any{"dns": st.Nameservers}, nil
}

func (s *Server) postNameservers(st *state, r *http.Request) (any, error) {
	var request struct {
		DNS []string `json:"dns"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	for _, server := range request.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			return nil, refuse(http.StatusBadRequest, "nameserver %q is not an IP address", server)
		}
	}
	st.Nameservers = append([]string{}, request.DNS...)
	return map[string]any{"dns": st.Nameservers, "magicDNS": st.MagicDNS}, nil
}

func (s *Server) getSearchPaths(st *state, _ *http.Request) (any, error) {
	return map[string]any{"searchPaths": st.SearchPaths}, nil
}

func (s *Server) postSearchPaths(st *state, r *http.Request) (any, error) {
	var request struct {
		SearchPaths []string `json:"searchPaths"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	st.SearchPaths = append([]string{}, request.SearchPaths...)
	return s.getSearchPaths(st, r)
}
