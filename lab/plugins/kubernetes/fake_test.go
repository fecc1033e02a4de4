package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// kind is a kind that the fake API server serves.
type kind struct {
	group, version, name, plural string
	namespaced                   bool
}

func (k kind) groupVersion() string {
	if k.group == "" {
		return k.version
	}
	return k.group + "/" + k.version
}

func (k kind) root() string {
	if k.group == "" {
		return "/api/" + k.version
	}
	return "/apis/" + k.groupVersion()
}

// server is a fake API server: discovery, and apply, get and delete of
// objects, with conflicts and finalizers. It refuses everything else.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	kinds    []kind
	objects  map[string]map[string]any
	foreign  map[string]bool // objects whose fields another manager owns
	applied  []string        // managers of applies, in order
	patched  map[string]any  // the last applied body
	deleted  []string        // propagation policies of deletes
	writes   int
	gets     int
	onGet    func(n int, obj map[string]any) // changes an object before it is shown
	afterCRD []kind                          // kinds that a CRD brings
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{objects: map[string]map[string]any{}, foreign: map[string]bool{}, kinds: []kind{
		{"", "v1", "Namespace", "namespaces", false},
		{"", "v1", "Secret", "secrets", true},
		{"", "v1", "ConfigMap", "configmaps", true},
		{"", "v1", "Pod", "pods", true},
		{"apps", "v1", "Deployment", "deployments", true},
		{"apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false},
	}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// kubeconfig is one for this server.
func (s *server) kubeconfig() string { return kubeconfigFor(s.URL) }

func kubeconfigFor(url string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: %q}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: t}}]
`, url)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if s.discover(w, r) {
		return
	}
	for _, k := range s.kinds {
		rest, ok := strings.CutPrefix(r.URL.Path, k.root()+"/")
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		if k.namespaced && len(parts) == 4 && parts[0] == "namespaces" && parts[2] == k.plural {
			s.object(w, r, k, parts[1], parts[3])
			return
		}
		if k.namespaced && len(parts) == 3 && parts[2] == k.plural && r.Method == "GET" {
			s.list(w, k, parts[1])
			return
		}
		if !k.namespaced && len(parts) == 2 && parts[0] == k.plural {
			s.object(w, r, k, "", parts[1])
			return
		}
	}
	refuse(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
}

func (s *server) discover(w http.ResponseWriter, r *http.Request) bool {
	answer := func(v any) bool { _ = json.NewEncoder(w).Encode(v); return true }
	switch r.URL.Path {
	case "/api":
		return answer(map[string]any{"kind": "APIVersions", "versions": []string{"v1"}})
	case "/apis":
		groups, seen := []any{}, map[string]bool{}
		for _, k := range s.kinds {
			if k.group == "" || seen[k.group] {
				continue
			}
			seen[k.group] = true
			version := map[string]any{"groupVersion": k.groupVersion(), "version": k.version}
			groups = append(groups, map[string]any{"name": k.group, "versions": []any{version}, "preferredVersion": version})
		}
		return answer(map[string]any{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
	}
	resources, groupVersion := []any{}, ""
	for _, k := range s.kinds {
		if k.root() == r.URL.Path {
			groupVersion = k.groupVersion()
			resources = append(resources, map[string]any{
				"name": k.plural, "kind": k.name, "namespaced": k.namespaced,
				"verbs": []string{"get"},
			})
		}
	}
	if len(resources) == 0 {
		return false
	}
	return answer(map[string]any{"kind": "APIResourceList", "groupVersion": groupVersion, "resources": resources})
}

func (s *server) object(w http.ResponseWriter, r *http.Request, k kind, namespace, name string) {
	key := k.name + "/" + name
	if namespace != "" {
		key = k.name + "/" + namespace + "/" + name
	}
	switch r.Method {
	case "GET":
		s.gets++
		if obj := s.objects[key]; obj != nil && s.onGet != nil {
			s.onGet(s.gets, obj)
		}
		if s.objects[key] == nil {
			refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.plural, name))
			return
		}
		_ = json.NewEncoder(w).Encode(s.objects[key])
	case "PATCH":
		manager := r.URL.Query().Get("fieldManager")
		if r.Header.Get("Content-Type") != "application/apply-patch+yaml" || manager == "" {
			refuse(w, http.StatusNotImplemented, "NotImplemented", "this test only applies")
			return
		}
		if s.foreign[key] && r.URL.Query().Get("force") != "true" {
			refuse(w, http.StatusConflict, "Conflict", `Apply failed with 1 conflict: conflict with "theirs": .data.a`)
			return
		}
		var obj map[string]any
		if err := json.NewDecoder(r.Body).Decode(&obj); err != nil {
			refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
			return
		}
		s.writes++
		s.applied = append(s.applied, manager)
		s.patched = map[string]any{}
		maps.Copy(s.patched, obj)
		s.store(key, k, namespace, name, obj)
		_ = json.NewEncoder(w).Encode(s.objects[key])
	case "DELETE":
		obj := s.objects[key]
		if obj == nil {
			refuse(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", k.plural, name))
			return
		}
		var options struct{ PropagationPolicy string }
		_ = json.NewDecoder(r.Body).Decode(&options)
		s.deleted = append(s.deleted, options.PropagationPolicy)
		metadata := obj["metadata"].(map[string]any)
		if metadata["finalizers"] == nil {
			delete(s.objects, key)
		}
		_ = json.NewEncoder(w).Encode(obj)
	default:
		refuse(w, http.StatusNotImplemented, "NotImplemented", "this test serves no "+r.Method)
	}
}

// store keeps an applied object with what an API server adds to it.
func (s *server) store(key string, k kind, namespace, name string, obj map[string]any) {
	metadata, _ := obj["metadata"].(map[string]any)
	generation := 1.0
	if old := s.objects[key]; old != nil {
		generation = old["metadata"].(map[string]any)["generation"].(float64) + 1
		obj["status"] = old["status"]
		if kept := old["metadata"].(map[string]any)["finalizers"]; kept != nil {
			metadata["finalizers"] = kept
		}
	}
	metadata["name"], metadata["uid"], metadata["generation"] = name, "uid-of-"+key, generation
	metadata["resourceVersion"], metadata["creationTimestamp"] = "7", "2026-11-23T08:00:00Z"
	if namespace != "" {
		metadata["namespace"] = namespace
	}
	obj["apiVersion"], obj["kind"] = k.groupVersion(), k.name
	switch k.name {
	case "Namespace":
		obj["status"] = map[string]any{"phase": "Active"}
	case "CustomResourceDefinition":
		obj["status"] = map[string]any{"conditions": []any{
			map[string]any{"type": "NamesAccepted", "status": "True"}, map[string]any{"type": "Established", "status": "True"},
		}}
		s.kinds = append(s.kinds, s.afterCRD...)
		s.afterCRD = nil
	}
	s.objects[key] = obj
}

func (s *server) list(w http.ResponseWriter, k kind, namespace string) {
	items := []any{}
	for key, obj := range s.objects {
		if strings.HasPrefix(key, k.name+"/"+namespace+"/") {
			items = append(items, obj)
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": k.name + "List", "apiVersion": k.groupVersion(),
		"metadata": map[string]any{}, "items": items,
	})
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code,
	})
}
