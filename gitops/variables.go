package gitops

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// ProgramVariables are the keys of the cluster-vars ConfigMap that the Pulumi program
// sets itself in every environment, and those of restoredLayers. The tree may use these, those of hostnames and the
// stack's own flux.variables, nothing else.
var ProgramVariables = []string{
	"environment", "zone", "cluster_cidr", "service_cidr", "tunnel_fingerprint",
	"git_host", "webhook_type", "commit_status_suspended",
	"backups_endpoint", "backups_host", "backups_port", "backups_tls", "backups_bucket", "backups_region",
	"incarnation", "restore_from",
}

// restoredLayers alone get the variables of a restore: each with the rest of what a restore changes, at once.
var (
	restoredLayers   = []string{"databases", "apps"}
	restoreVariables = []string{"incarnation", "restore_from"}
)

// knows tells whether a variable that the environment has is one of the layer's.
func knows(layer, variable string) bool {
	return !slices.Contains(restoreVariables, variable) || slices.Contains(restoredLayers, layer)
}

// stack is what the checks read of a stack's settings.
type stack struct {
	Config struct {
		Cloudflare struct {
			Zone    string  `json:"zone"`
			Ingress []route `json:"ingress"`
		} `json:"tinyrack:cloudflare"`
		Cluster struct {
			ClusterCIDR string `json:"clusterCidr"`
			ServiceCIDR string `json:"serviceCidr"`
		} `json:"tinyrack:cluster"`
		Backups struct {
			Bucket     string   `json:"bucket"`
			Region     string   `json:"region"`
			Namespaces []string `json:"namespaces"`
			Volumes    bool     `json:"volumes"`
		} `json:"tinyrack:backups"`
		Flux struct {
			Variables map[string]string `json:"variables"`
		} `json:"tinyrack:flux"`
	} `json:"config"`
}

// loadStack reads the settings of an environment from where the program reads them: Pulumi.<environment>.yaml in the
// checkout at root.
func loadStack(root, environment string) (*stack, error) {
	name := "Pulumi." + environment + ".yaml"
	text, err := os.ReadFile(filepath.Join(root, name)) //nolint:gosec // the checkout's own file
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: the variables that Flux substitutes are unknown: add the stack or "+
			"remove clusters/%s", name, environment)
	}
	s := &stack{}
	if err := yaml.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w: the variables that Flux substitutes are unknown", name, err)
	}
	return s, nil
}

// variables are what Flux substitutes in an environment.
func (s *stack) variables(environment string) map[string]string {
	variables := map[string]string{}
	for key, value := range s.Config.Flux.Variables {
		variables[key] = value
	}
	facts := map[string]string{
		"environment":  environment,
		"zone":         s.Config.Cloudflare.Zone,
		"cluster_cidr": s.Config.Cluster.ClusterCIDR,
		"service_cidr": s.Config.Cluster.ServiceCIDR,
		// Known once there is a tunnel. Of such texts this is the one that YAML takes for a number.
		"tunnel_fingerprint": "1234567890123456",
		// Of the values that there are, one each.
		"git_host": "gitea", "webhook_type": "github", "commit_status_suspended": "false",
	}
	if backups := s.Config.Backups; len(backups.Namespaces) > 0 {
		// Where the copies go may not be known yet: the program asks for it. This name is in no zone.
		maps.Copy(facts, map[string]string{
			"backups_bucket": backups.Bucket, "backups_region": backups.Region,
			"backups_endpoint": "https://backups.invalid", "backups_port": "443",
			"backups_host": "backups.invalid", "backups_tls": "true",
			"incarnation": "1", "restore_from": "none",
		})
	}
	maps.Copy(facts, hostnames(s.Config.Cloudflare.Ingress))
	// As in the program, its own facts win over the stack's variables.
	for key, value := range facts {
		// An empty one stays undefined, so that its use is reported.
		if value != "" {
			variables[key] = value
		}
	}
	return variables
}

// ofHostnames begins the names of the variables by which applications know their own address; a Service's name follows.
const ofHostnames = "hostname_"

// hostnames are those variables, as the program makes them: of the routes that lead to a Service, the first that is a
// whole hostname. Two Services of one name have none.
func hostnames(routes []route) map[string]string {
	known, namespaces := map[string]string{}, map[string]string{}
	for _, r := range routes {
		service := clusterService.FindStringSubmatch(r.Service)
		if service == nil || r.Path != "" || strings.HasPrefix(r.Hostname, "*.") {
			continue
		}
		name := ofHostnames + strings.ReplaceAll(service[2], "-", "_")
		switch namespace, before := namespaces[name]; {
		case !before:
			known[name], namespaces[name] = r.Hostname, service[3]
		case namespace != service[3]:
			delete(known, name)
		}
	}
	return known
}
