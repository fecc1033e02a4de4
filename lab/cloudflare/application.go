package cloudflare

import (
	"net/http"
	"slices"
	"strings"
)

// policies returns the ids of the application's policies; the cloud takes ids and
// objects with an id.
func (o *accessObject) policies() []string {
	var ids []string
	list, _ := o.Fields["policies"].([]any)
	for _, item := range list {
		switch policy := item.(type) {
		case string:
			ids = append(ids, policy)
		case map[string]any:
			id, _ := policy["id"].(string)
			ids = append(ids, id)
		}
	}
	return ids
}

func renderApp(o *accessObject) map[string]any {
	answer := o.render(map[string]any{
		"type": "self_hosted", "session_duration": "24h", "app_launcher_visible": true,
		"http_only_cookie_attribute": true, "auto_redirect_to_identity": false, "enable_binding_cookie": false,
		"options_preflight_bypass": false, "allowed_idps": []any{}, "tags": []any{}, "policies": []any{},
		"self_hosted_domains": []string{o.text("domain")},
		"destinations":        []map[string]string{{"type": "public", "uri": o.text("domain")}},
	})
	answer["aud"] = o.AUD
	return answer
}

func (s *Server) validateApp(st *state, o *accessObject) error {
	if kind := o.text("type"); kind != "self_hosted" {
		return refuse(http.StatusNotImplemented, 10000, "Access applications of type %q are not emulated by the lab: add "+
			"them to the emulator", kind)
	}
	domain := o.text("domain")
	host, _, _ := strings.Cut(domain, "/")
	if host == "" {
		return badAccess("domain is required")
	}
	if _, err := s.qualify(host); err != nil || !strings.Contains(host, ".") {
		return badAccess("domain %q does not belong to zone %s", domain, s.options.Zone)
	}
	for _, other := range st.Apps {
		if other.ID != o.ID && strings.EqualFold(other.text("domain"), domain) {
			return refuse(http.StatusConflict, 11010, "access.api.error.conflict: an application for %s already exists", domain)
		}
	}
	var seen []string
	for _, id := range o.policies() {
		if st.Policies[id] == nil {
			return badAccess("policy %q does not exist", id)
		}
		if slices.Contains(seen, id) {
			return badAccess("policy %q is listed twice", id)
		}
		seen = append(seen, id)
	}
	return nil
}

func (s *Server) writeApp(st *state, r *http.Request, o *accessObject) (any, error) {
	if err := readAccess(r, o); err != nil {
		return nil, err
	}
	if err := s.validateApp(st, o); err != nil {
		return nil, err
	}
	st.Apps[o.ID] = o
	return renderApp(o), nil
}

func (s *Server) createApp(st *state, r *http.Request) (any, error) {
	return s.writeApp(st, r, &accessObject{ID: newUUID(), AUD: newID() + newID(), Created: now()})
}

func (s *Server) listApps(st *state, r *http.Request) (any, error) {
	if err := filters(r, "name", "domain", "aud"); err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, o := range sortedAccess(st.Apps) {
		if keep(r, "name", o.text("name")) && keep(r, "domain", o.text("domain")) && keep(r, "aud", o.AUD) {
			list = append(list, renderApp(o))
		}
	}
	return paginate(r, list)
}

func (s *Server) getApp(st *state, r *http.Request) (any, error) {
	o, err := findAccess(st.Apps, "application", r.PathValue("app"))
	if err != nil {
		return nil, err
	}
	return renderApp(o), nil
}

func (s *Server) putApp(st *state, r *http.Request) (any, error) {
	o, err := findAccess(st.Apps, "application", r.PathValue("app"))
	if err != nil {
		return nil, err
	}
	return s.writeApp(st, r, o)
}

func (s *Server) deleteApp(st *state, r *http.Request) (any, error) {
	o, err := findAccess(st.Apps, "application", r.PathValue("app"))
	if err != nil {
		return nil, err
	}
	delete(st.Apps, o.ID)
	return map[string]string{"id": o.ID}, nil
}
