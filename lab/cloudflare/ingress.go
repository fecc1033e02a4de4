package cloudflare

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

type ingressRule struct {
	Hostname string `json:"hostname"`
	Path     string `json:"path"`
	Service  string `json:"service"`
}

func (rule ingressRule) catchAll() bool {
	return (rule.Hostname == "" || rule.Hostname == "*") && rule.Path == ""
}

// badConfig is the cloud's refusal of a tunnel configuration; the texts are those
// of cloudflared, which applies the same rules.
func badConfig(format string, args ...any) error {
	return refuse(http.StatusBadRequest, 1056, "Bad Configuration: Validation failed: "+format, args...)
}

func validateIngress(rules []ingressRule) error {
	if len(rules) == 0 {
		return badConfig("The config file doesn't contain any ingress rules")
	}
	for i, rule := range rules {
		last := i == len(rules)-1
		if err := validateHostname(rule.Hostname); err != nil {
			return err
		}
		if rule.Path != "" {
			if _, err := regexp.Compile(rule.Path); err != nil {
				return badConfig("Rule #%d has an invalid regex: %v", i+1, err)
			}
		}
		if last && !rule.catchAll() {
			return badConfig("The last ingress rule must match all URLs (i.e. it should not have a hostname or path filter)")
		}
		if !last && rule.catchAll() {
			return badConfig("Rule #%d is matching the hostname '%s', but this will match every hostname, meaning the rules "+
				"which follow it will never be triggered.", i+1, rule.Hostname)
		}
		if err := validateService(rule.Service); err != nil {
			return err
		}
	}
	return nil
}

func validateHostname(hostname string) error {
	if hostname == "" || hostname == "*" {
		return nil
	}
	if strings.Contains(hostname, ":") {
		return badConfig("Hostname cannot contain a port")
	}
	rest := strings.TrimPrefix(hostname, "*.")
	if strings.Contains(rest, "*") {
		return badConfig("Hostname patterns can have at most one wildcard character (\"*\") and it can only be used for " +
			"subdomains, e.g. \"*.example.com\"")
	}
	if !hostPattern.MatchString(rest) {
		return badConfig("%q is not a valid hostname", hostname)
	}
	return nil
}

var hostPattern = regexp.MustCompile(`^(?i)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$`)

func validateService(service string) error {
	switch {
	case service == "":
		return badConfig("service is empty, please make sure it has a scheme and a hostname")
	case service == "hello_world" || service == "hello-world" || service == "bastion" || service == "socks-proxy":
		return nil
	case strings.HasPrefix(service, "unix:") || strings.HasPrefix(service, "unix+tls:"):
		return nil
	case strings.HasPrefix(service, "http_status:"):
		status, err := strconv.Atoi(strings.TrimPrefix(service, "http_status:"))
		if err != nil || status < 100 || status > 999 {
			return badConfig("invalid HTTP status code in service %q", service)
		}
		return nil
	}
	target, err := url.Parse(service)
	if err != nil || target.Scheme == "" || target.Hostname() == "" {
		return badConfig("%s is an invalid address, please make sure it has a scheme and a hostname", service)
	}
	if target.Path != "" {
		return badConfig("%s is an invalid address, ingress rules don't support proxying to a different path on the origin "+
			"service. The path will be the same as the eyeball request's path", service)
	}
	if schemes := []string{"http", "https", "ws", "wss", "tcp", "ssh", "rdp", "smb"}; !slices.Contains(schemes,
		target.Scheme) {
		return badConfig("%s has an unsupported scheme, expected one of %v", service, schemes)
	}
	return nil
}

func (s *Server) renderConfig(t *tunnel) map[string]any {
	config := t.Config
	if config == nil {
		config = json.RawMessage("null")
	}
	return map[string]any{
		"account_id": s.options.AccountID, "tunnel_id": t.ID, "version": t.ConfigVersion,
		"config": config, "source": t.ConfigSrc, "created_at": t.CreatedAt,
	}
}

func (s *Server) getTunnelConfig(st *state, r *http.Request) (any, error) {
	t, err := findLiveTunnel(st, r)
	if err != nil {
		return nil, err
	}
	return s.renderConfig(t), nil
}

func (s *Server) putTunnelConfig(st *state, r *http.Request) (any, error) {
	t, err := findLiveTunnel(st, r)
	if err != nil {
		return nil, err
	}
	var request struct {
		Config json.RawMessage `json:"config"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	var config struct {
		Ingress []ingressRule `json:"ingress"`
	}
	if err := json.Unmarshal(request.Config, &config); err != nil {
		return nil, badConfig("config is not an object with ingress rules")
	}
	if t.ConfigSrc != "cloudflare" {
		return nil, badConfig("tunnel %q is configured locally (config_src local): no connector would read a remote "+
			"configuration", t.Name)
	}
	if err := validateIngress(config.Ingress); err != nil {
		return nil, err
	}
	t.Config = request.Config
	t.ConfigVersion++
	return s.renderConfig(t), nil
}
