package gitops

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
)

// connectors is the namespace from which visitors' requests come.
const connectors = "cloudflared"

// route is an item of a stack's cloudflare.ingress.
type route struct {
	Hostname string `json:"hostname"`
	Path     string `json:"path"`
	Service  string `json:"service"`
}

// notBuilt are Services that have a hostname in the lab and are not in its tree, for nothing there could be built from:
// visitors get 502, and docs/site.md says so.
var notBuilt = []string{"discourse-system/discourse"}

// clusterService reads the address of a Service: its name, its namespace, and its port where there is one.
var clusterService = regexp.MustCompile(`^(https?)://([^./]+)\.([^./]+)\.svc(?:\.cluster\.local)?(?::([0-9]+))?/?$`)

// checkRoutes compares the stack's list of hostnames with what the tree has for them: a Service behind each, a way to
// it for the connectors, a hostname for each that the connectors may reach, and for each address in a manifest.
func (e *environment) checkRoutes(objects []object) {
	if e.incomplete {
		return
	}
	led := map[string]bool{} // the Services that a hostname leads to
	for _, r := range e.routes {
		match := clusterService.FindStringSubmatch(r.Service)
		if match == nil {
			continue // outside the cluster: the program has looked at it
		}
		id := match[3] + "/" + match[2]
		led[id] = true
		lacked := e.zone == builtHere && slices.Contains(notBuilt, id)
		if problem := routeProblem(objects, match); problem != "" && !lacked {
			e.problem("cloudflare.ingress", "%s leads to Service %s, %s", r.Hostname+r.Path, id, problem)
		}
	}
	for _, s := range servicesOf(objects) {
		if !led[s.Namespace+"/"+s.Name] && admitsConnectors(objects, s, true) {
			e.problem("Service "+s.Namespace+"/"+s.Name, "a NetworkPolicy lets visitors in, and no hostname leads there: add "+
				"it to cloudflare.ingress in Pulumi.%s.yaml, or take the policy away", e.name)
		}
	}
	e.checkAddresses(objects)
}

// routeProblem says why a visitor would get no answer from the Service that clusterService found.
func routeProblem(objects []object, match []string) string {
	port := map[string]int{"http": 80, "https": 443}[match[1]]
	if match[4] != "" {
		port, _ = strconv.Atoi(match[4])
	}
	services := servicesOf(objects)
	at := slices.IndexFunc(services, func(s core.Service) bool { return s.Namespace == match[3] && s.Name == match[2] })
	switch {
	case at < 0:
		return "which is not in the tree: visitors would get 502: add it, or take the hostname away"
	case !slices.ContainsFunc(services[at].Spec.Ports, func(p core.ServicePort) bool { return int(p.Port) == port }):
		return fmt.Sprintf("which has no port %d: visitors would get 502: correct one of them", port)
	case !admitsConnectors(objects, services[at], false):
		return fmt.Sprintf("and no NetworkPolicy lets namespace %s reach its pods: visitors would get 502: add one",
			connectors)
	}
	return ""
}

// webhookReceiver is the Service that Flux brings for the git host's webhook.
var webhookReceiver = core.Service{
	ObjectMeta: meta.ObjectMeta{Namespace: "flux-system", Name: "webhook-receiver"},
	Spec: core.ServiceSpec{
		Selector: map[string]string{"app": "notification-controller"}, Ports: []core.ServicePort{{Port: 80}},
	},
}

// servicesOf are the Services that visitors may be led to: those of the tree, and Flux's own.
func servicesOf(objects []object) []core.Service {
	found := []core.Service{webhookReceiver}
	for _, o := range objects {
		var s core.Service
		if o.GetKind() == "Service" && apiruntime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &s) == nil {
			found = append(found, s)
		}
	}
	return found
}

// admitsConnectors tells whether a NetworkPolicy lets the connectors' namespace reach the Service's pods: by name, or
// in any way.
func admitsConnectors(objects []object, s core.Service, byName bool) bool {
	namespace := labels.Set{core.LabelMetadataName: connectors}
	for _, o := range objects {
		var policy networking.NetworkPolicy
		if o.GetKind() != "NetworkPolicy" || o.GetNamespace() != s.Namespace ||
			apiruntime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &policy) != nil {
			continue
		}
		pods, err := meta.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil || !pods.Matches(labels.Set(s.Spec.Selector)) {
			continue
		}
		for _, rule := range policy.Spec.Ingress {
			if len(rule.From) == 0 && !byName {
				return true
			}
			for _, from := range rule.From {
				selector, err := meta.LabelSelectorAsSelector(from.NamespaceSelector)
				if err == nil && selector.Matches(namespace) && (!byName || !selector.Empty()) {
					return true
				}
			}
		}
	}
	return false
}

var address = regexp.MustCompile(`https?://([a-z0-9*.-]+)`)

// checkAddresses wants a hostname for every address in the stack's zone that a manifest names: an application that
// calls itself by another sends its visitors nowhere.
func (e *environment) checkAddresses(objects []object) {
	zone := e.variables["zone"]
	for _, o := range objects {
		texts(o.Object, func(text string) {
			for _, found := range address.FindAllStringSubmatch(text, -1) {
				host := found[1]
				if zone != "" && (host == zone || strings.HasSuffix(host, "."+zone)) && !e.covered(host) {
					e.problem(o.layer, "%s: names %s, which is no hostname of the stack: visitors sent there would get nothing: add "+
						"it to cloudflare.ingress in Pulumi.%s.yaml, or correct it", o.id(), host, e.name)
				}
			}
		})
	}
}

// covered tells whether a hostname of the list is the host, or a wildcard just above it.
func (e *environment) covered(host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(e.routes, func(r route) bool { return r.Hostname == host || r.Hostname == "*."+parent })
}

// texts visits every text in a value, keys in a fixed order.
func texts(value any, visit func(string)) {
	walk(value, func(node map[string]any) {
		keys := make([]string, 0, len(node))
		for key := range node {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			switch value := node[key].(type) {
			case string:
				visit(value)
			case []any:
				for _, item := range value {
					if text, ok := item.(string); ok {
						visit(text)
					}
				}
			}
		}
	})
}
