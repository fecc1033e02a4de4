package cloudflare

import (
	"net/http"
	"strings"
)

// action does what one request asks, with the state locked; what it returns is
// rendered before the lock is released. An error leaves the state untouched.
type action func(st *state, r *http.Request) (any, error)

func (s *Server) routes() {
	const (
		tunnels  = "/accounts/{account}/cfd_tunnel"
		tunnel   = tunnels + "/{tunnel}"
		records  = "/zones/{zone}/dns_records"
		record   = records + "/{record}"
		policies = "/accounts/{account}/access/policies"
		policy   = policies + "/{policy}"
		apps     = "/accounts/{account}/access/apps"
		app      = apps + "/{app}"
	)
	for pattern, do := range map[string]action{
		"GET /user/tokens/verify": s.verifyToken,
		"GET /accounts":           s.listAccounts,
		"GET /accounts/{account}": s.getAccount,
		"GET /zones":              s.listZones,
		"GET /zones/{zone}":       s.getZone,

		"POST " + tunnels:                   s.createTunnel,
		"GET " + tunnels:                    s.listTunnels,
		"GET " + tunnel:                     s.getTunnel,
		"GET " + tunnel + "/token":          s.tunnelToken,
		"PATCH " + tunnel:                   s.editTunnel,
		"DELETE " + tunnel:                  s.deleteTunnel,
		"GET " + tunnel + "/configurations": s.getTunnelConfig,
		"PUT " + tunnel + "/configurations": s.putTunnelConfig,
		"GET " + tunnel + "/connections":    s.listConnections,
		"DELETE " + tunnel + "/connections": s.cleanConnections,

		"POST " + records:  s.createRecord,
		"GET " + records:   s.listRecords,
		"GET " + record:    s.getRecord,
		"PUT " + record:    s.putRecord,
		"PATCH " + record:  s.patchRecord,
		"DELETE " + record: s.deleteRecord,

		"POST " + policies: s.createPolicy,
		"GET " + policies:  s.listPolicies,
		"GET " + policy:    s.getPolicy,
		"PUT " + policy:    s.putPolicy,
		"DELETE " + policy: s.deletePolicy,

		"POST " + apps:  s.createApp,
		"GET " + apps:   s.listApps,
		"GET " + app:    s.getApp,
		"PUT " + app:    s.putApp,
		"DELETE " + app: s.deleteApp,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		s.Handle(method+" "+Prefix+path, s.serve(do))
	}
}

func (s *Server) serve(do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.authorize(r); err != nil {
			writeError(w, err)
			return
		}
		if err := s.locate(r); err != nil {
			writeError(w, err)
			return
		}
		access := s.store.Update
		if r.Method == http.MethodGet {
			access = s.store.View
		}
		var result any
		err := access(func(st *state) error {
			answer, err := do(st, r)
			if err != nil {
				return err
			}
			if list, ok := answer.(page); ok {
				list.items = clone(list.items)
				result = list
			} else {
				result = clone(answer)
			}
			return nil
		})
		if err != nil {
			writeError(w, err)
			return
		}
		if r.Method != http.MethodGet {
			s.announce()
		}
		writeResult(w, result)
	}
}

func (s *Server) verifyToken(*state, *http.Request) (any, error) {
	return map[string]string{"id": "70000000000000000000000000000001", "status": "active"}, nil
}

func (s *Server) account() map[string]any {
	return map[string]any{"id": s.options.AccountID, "name": "lab", "type": "standard"}
}

func (s *Server) listAccounts(_ *state, r *http.Request) (any, error) {
	return paginate(r, []map[string]any{s.account()})
}

func (s *Server) getAccount(*state, *http.Request) (any, error) { return s.account(), nil }

func (s *Server) zone() map[string]any {
	return map[string]any{
		"id": s.options.ZoneID, "name": s.options.Zone, "status": "active", "paused": false,
		"type": "full", "account": s.account(), "name_servers": []string{"ns1." + s.options.Zone, "ns2." + s.options.Zone},
	}
}

func (s *Server) listZones(_ *state, r *http.Request) (any, error) {
	if err := filters(r, "name", "account.id", "status", "match"); err != nil {
		return nil, err
	}
	zones := []map[string]any{}
	if keep(r, "name", s.options.Zone) && keep(r, "account.id", s.options.AccountID) && keep(r, "status", "active") {
		zones = append(zones, s.zone())
	}
	return paginate(r, zones)
}

func (s *Server) getZone(*state, *http.Request) (any, error) { return s.zone(), nil }
