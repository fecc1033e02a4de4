package cloudflare

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tunnel is stored with its secret, which the cloud returns in the token of a connector alone.
type tunnel struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	ConfigSrc string     `json:"configSrc"`
	Secret    string     `json:"secret,omitempty"` // base64
	CreatedAt time.Time  `json:"createdAt"`
	DeletedAt *time.Time `json:"deletedAt,omitempty"`
	// Config is the remote configuration, nil until one was put.
	Config        json.RawMessage `json:"config,omitempty"`
	ConfigVersion int             `json:"configVersion"`
}

func (s *Server) renderTunnel(t *tunnel) map[string]any {
	connections := []map[string]any{}
	for _, l := range s.links.of(t.ID) {
		connections = append(connections, l.render())
	}
	return map[string]any{
		"id": t.ID, "account_tag": s.options.AccountID, "name": t.Name, "config_src": t.ConfigSrc,
		"remote_config": t.ConfigSrc == "cloudflare", "created_at": t.CreatedAt, "deleted_at": t.DeletedAt,
		"status": s.status(t), "tun_type": "cfd_tunnel", "connections": connections, "metadata": map[string]any{},
		"conns_active_at": nil, "conns_inactive_at": nil,
	}
}

// live returns the tunnels that are not deleted, oldest first.
func live(all map[string]*tunnel) []*tunnel {
	return sorted(all, func(t *tunnel) bool { return t.DeletedAt == nil })
}

func (t *tunnel) order() string { return t.CreatedAt.Format(time.RFC3339Nano) + t.ID }

// sorted returns what pick keeps, in a stable order.
func sorted[T interface{ order() string }](all map[string]T, pick func(T) bool) []T {
	kept := slices.SortedFunc(maps.Values(all), func(a, b T) int { return cmp.Compare(a.order(), b.order()) })
	return slices.DeleteFunc(kept, func(item T) bool { return !pick(item) })
}

func findTunnel(st *state, id string) (*tunnel, error) {
	if t := st.Tunnels[id]; t != nil {
		return t, nil
	}
	return nil, refuse(http.StatusNotFound, 1003, "Tunnel not found")
}

type tunnelRequest struct {
	Name      *string `json:"name"`
	ConfigSrc *string `json:"config_src"`
	Secret    *string `json:"tunnel_secret"`
}

// apply checks the request and writes what it sets.
func (q tunnelRequest) apply(st *state, t *tunnel) error {
	if q.Name != nil {
		if strings.TrimSpace(*q.Name) == "" {
			return refuse(http.StatusBadRequest, 1003, "Tunnel name is required")
		}
		for _, other := range live(st.Tunnels) {
			if other.ID != t.ID && other.Name == *q.Name {
				return refuse(http.StatusConflict, 1013, "You already have a tunnel with this name. Please choose a unique name.")
			}
		}
		t.Name = *q.Name
	}
	if q.ConfigSrc != nil {
		if *q.ConfigSrc != "local" && *q.ConfigSrc != "cloudflare" {
			return refuse(http.StatusBadRequest, 1003, "config_src must be local or cloudflare, not %q", *q.ConfigSrc)
		}
		t.ConfigSrc = *q.ConfigSrc
	}
	if q.Secret != nil {
		secret, err := base64.StdEncoding.DecodeString(*q.Secret)
		if err != nil || len(secret) < 32 {
			return refuse(http.StatusBadRequest, 1002, "tunnel_secret must be at least 32 bytes, encoded as base64")
		}
		t.Secret = *q.Secret
	}
	return nil
}

func (s *Server) createTunnel(st *state, r *http.Request) (any, error) {
	var request tunnelRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	if request.Name == nil {
		request.Name = new(string) // refused by apply
	}
	t := &tunnel{ID: newUUID(), ConfigSrc: "local", CreatedAt: now()}
	if err := request.apply(st, t); err != nil {
		return nil, err
	}
	st.Tunnels[t.ID] = t
	return s.renderTunnel(t), nil
}

// listTunnels includes deleted tunnels unless is_deleted says otherwise, like the cloud.
func (s *Server) listTunnels(st *state, r *http.Request) (any, error) {
	if err := filters(r, "name", "is_deleted", "uuid", "status"); err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, t := range sorted(st.Tunnels, func(*tunnel) bool { return true }) {
		rendered := s.renderTunnel(t)
		if keep(r, "name", t.Name) && keep(r, "uuid", t.ID) && keep(r, "status", rendered["status"].(string)) &&
			keep(r, "is_deleted", strconv.FormatBool(t.DeletedAt != nil)) {
			list = append(list, rendered)
		}
	}
	return paginate(r, list)
}

// getTunnel answers for a deleted tunnel too, with deleted_at set, like the cloud.
func (s *Server) getTunnel(st *state, r *http.Request) (any, error) {
	t, err := findTunnel(st, r.PathValue("tunnel"))
	if err != nil {
		return nil, err
	}
	return s.renderTunnel(t), nil
}

func findLiveTunnel(st *state, r *http.Request) (*tunnel, error) {
	t, err := findTunnel(st, r.PathValue("tunnel"))
	if err == nil && t.DeletedAt != nil {
		err = refuse(http.StatusNotFound, 1003, "Tunnel not found")
	}
	return t, err
}

// tunnelToken is what a connector of the tunnel logs in with.
func (s *Server) tunnelToken(st *state, r *http.Request) (any, error) {
	t, err := findLiveTunnel(st, r)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]string{"a": s.options.AccountID, "t": t.ID, "s": t.Secret})
	return base64.StdEncoding.EncodeToString(text), err
}

func (s *Server) editTunnel(st *state, r *http.Request) (any, error) {
	t, err := findLiveTunnel(st, r)
	if err != nil {
		return nil, err
	}
	var request tunnelRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	if err := request.apply(st, t); err != nil {
		return nil, err
	}
	return s.renderTunnel(t), nil
}

func (s *Server) deleteTunnel(st *state, r *http.Request) (any, error) {
	t, err := findLiveTunnel(st, r)
	if err != nil {
		return nil, err
	}
	if len(s.links.of(t.ID)) > 0 {
		return nil, refuse(http.StatusBadRequest, 1022, "Cannot delete tunnel because it has active connections")
	}
	var names []string
	for _, rec := range sorted(st.Records, func(*record) bool { return true }) {
		if strings.EqualFold(rec.Content, t.ID+".cfargotunnel.com") {
			names = append(names, rec.Name)
		}
	}
	if len(names) > 0 {
		return nil, refuse(http.StatusBadRequest, 1022, "Cannot delete tunnel because DNS records point to "+
			"it: %s", strings.Join(names, ", "))
	}
	deleted := now()
	t.DeletedAt, t.Config = &deleted, nil
	prune(st)
	return s.renderTunnel(t), nil
}

// prune bounds how many deleted tunnels are remembered.
func prune(st *state) {
	const most = 50
	dead := sorted(st.Tunnels, func(t *tunnel) bool { return t.DeletedAt != nil })
	for i := 0; i < len(dead)-most; i++ {
		delete(st.Tunnels, dead[i].ID)
	}
}

// listConnections lists connectors, each with its connections.
func (s *Server) listConnections(st *state, r *http.Request) (any, error) {
	t, err := findLiveTunnel(st, r)
	if err != nil {
		return nil, err
	}
	return s.renderConnectors(t), nil
}

// cleanConnections cuts the connections of one connector, or of all.
func (s *Server) cleanConnections(st *state, r *http.Request) (any, error) {
	if err := filters(r, "client_id"); err != nil {
		return nil, err
	}
	t, err := findLiveTunnel(st, r)
	if err != nil {
		return nil, err
	}
	s.links.drop(t.ID, r.URL.Query().Get("client_id"))
	return nil, nil
}
