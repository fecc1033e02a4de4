// Package cloudtest serves the part of the Tailscale API that this component asks, and refuses what the cloud refuses.
package cloudtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// The only credentials the server takes.
const (
	ClientID = "id"
	Secret   = "canary-secret"
)

// Object is one key or device, with the names of the API.
type Object map[string]any

// Server is a tailnet, an empty one at first; set the fields between two requests.
type Server struct {
	URL string
	// Policy is the text of the policy file.
	Policy string
	// Keys and Devices are by ID. A deleted one is gone.
	Keys, Devices map[string]Object
	// Fail is the status that a request, such as "GET /devices" or "DELETE /keys/k1", is answered with instead.
	Fail map[string]int

	mutex    sync.Mutex
	requests []string
}

// New starts a server that ends with the test. It fails the test at a request that it does not know.
func New(t *testing.T) *Server {
	t.Helper()
	s := &Server{Keys: map[string]Object{}, Devices: map[string]Object{}, Fail: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/oauth/token", func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id != ClientID || secret != Secret {
			refuse(w, http.StatusUnauthorized, "API token invalid")
			return
		}
		answer(w, Object{"access_token": "token", "token_type": "Bearer", "expires_in": 3600})
	})
	handle := func(pattern, path string, serve func(w http.ResponseWriter, r *http.Request)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			request := r.Method + " " + path + r.PathValue("id")
			s.requests = append(s.requests, request)
			switch status := s.Fail[request]; {
			case r.Header.Get("Authorization") != "Bearer token":
				refuse(w, http.StatusUnauthorized, "API token invalid")
			case status != 0:
				refuse(w, status, "told to fail")
			default:
				serve(w, r)
			}
		})
	}
	handle("GET /api/v2/tailnet/-/acl", "/acl", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s.Policy) })
	handle("GET /api/v2/tailnet/-/keys", "/keys", func(w http.ResponseWriter, _ *http.Request) {
		list := []Object{}
		for _, id := range slices.Sorted(maps.Keys(s.Keys)) {
			list = append(list, Object{"id": id}) // nothing else, as in the cloud
		}
		answer(w, Object{"keys": list})
	})
	handle("GET /api/v2/tailnet/-/keys/{id}", "/keys/", func(w http.ResponseWriter, r *http.Request) {
		get(w, s.Keys, r.PathValue("id"))
	})
	handle("DELETE /api/v2/tailnet/-/keys/{id}", "/keys/", func(w http.ResponseWriter, r *http.Request) {
		remove(w, s.Keys, r.PathValue("id"))
	})
	handle("GET /api/v2/tailnet/-/devices", "/devices", func(w http.ResponseWriter, _ *http.Request) {
		list := []Object{}
		for _, id := range slices.Sorted(maps.Keys(s.Devices)) {
			device := maps.Clone(s.Devices[id])
			device["nodeId"] = id
			list = append(list, device)
		}
		answer(w, Object{"devices": list})
	})
	handle("DELETE /api/v2/device/{id}", "/device/", func(w http.ResponseWriter, r *http.Request) {
		remove(w, s.Devices, r.PathValue("id"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("%s %s: not known here", r.Method, r.URL)
		refuse(w, http.StatusNotImplemented, "not known here")
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Requests returns what was asked so far, tokens aside.
func (s *Server) Requests() []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return slices.Clone(s.requests)
}

func get(w http.ResponseWriter, from map[string]Object, id string) {
	found, ok := from[id]
	if !ok {
		refuse(w, http.StatusNotFound, "not found")
		return
	}
	object := maps.Clone(found)
	object["id"] = id
	answer(w, object)
}

func remove(w http.ResponseWriter, from map[string]Object, id string) {
	if _, ok := from[id]; !ok {
		refuse(w, http.StatusNotFound, "not found")
		return
	}
	delete(from, id)
}

func answer(w http.ResponseWriter, object Object) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(object) // the client notices
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Object{"message": message}) // the client notices
}
