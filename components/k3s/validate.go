package k3s

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/components/internal/script"
)

// packaged are the components k3s ships and can leave out.
var packaged = []string{"coredns", "local-storage", "metrics-server", "runtimes", "servicelb", "traefik"}

var (
	versionForm = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+\+k3s[0-9]+$`)
	sha256Form  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	nodeForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$`)
	hostForm    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	kubeletForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*=.+$`)
	cronForm    = regexp.MustCompile(`^(@[a-z]+|[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4})$`)
)

func (a *Args) disabled() []string {
	if a.Disable == nil {
		return []string{"traefik", "servicelb"}
	}
	return a.Disable
}

// Validate returns every problem with the arguments.
func (a *Args) Validate() error {
	problems := []error{script.ValidateConnection(a.Connection), a.Binary.validate("binary"), a.InstallScript.validate("installScript"), a.validateNetworks()}
	add := func(format string, values ...any) { problems = append(problems, fmt.Errorf(format, values...)) }

	if a.User == "" {
		add("user: missing: nothing can be run over SSH: set root or a user with passwordless sudo")
	}
	if !versionForm.MatchString(a.Version) {
		add("version: %q: not a k3s release: the binary could not be told from another: use a form like v1.32.0+k3s1", a.Version)
	}
	if !nodeForm.MatchString(a.NodeName) {
		add("nodeName: %q: not a node name: the kubelet would not register: use lower-case letters, digits, hyphens and dots", a.NodeName)
	}
	if !isHost(a.APIServer) {
		add("apiServer: %q: not a host name or address: the kubeconfig would point nowhere: use the machine's tailnet name or address, without a scheme or port", a.APIServer)
	}
	for _, san := range a.TLSSANs {
		if !isHost(san) {
			add("tlsSans: %q: not a host name or address: the API's certificate could not carry it: leave out scheme and port", san)
		}
	}
	for _, d := range a.Disable {
		if !slices.Contains(packaged, d) {
			add("disable: %q: k3s packages no such component: it would be ignored: use any of %s", d, strings.Join(packaged, ", "))
		}
	}
	for _, k := range a.KubeletArgs {
		if !kubeletForm.MatchString(k) {
			add("kubeletArgs: %q: not a flag: the kubelet would not start: use the form name=value, without leading hyphens", k)
		}
	}
	if s := a.Snapshots; s != nil {
		if !cronForm.MatchString(s.Schedule) {
			add("snapshots.schedule: %q: not a cron expression: k3s would not start: use five fields like \"0 */6 * * *\"", s.Schedule)
		}
		if s.Retention < 1 {
			add("snapshots.retention: %d: no snapshot would be kept: use 1 or more", s.Retention)
		}
	}
	return errors.Join(problems...)
}

func (a *Args) validateNetworks() error {
	var problems []error
	pods, podErr := netip.ParsePrefix(a.ClusterCIDR)
	if podErr != nil {
		problems = append(problems, fmt.Errorf("clusterCIDR: %q: not a CIDR: pods would get no addresses: use a form like 10.55.0.0/16", a.ClusterCIDR))
	}
	services, serviceErr := netip.ParsePrefix(a.ServiceCIDR)
	if serviceErr != nil {
		problems = append(problems, fmt.Errorf("serviceCIDR: %q: not a CIDR: Services would get no addresses: use a form like 10.56.0.0/16", a.ServiceCIDR))
	}
	if podErr == nil && serviceErr == nil && pods.Overlaps(services) {
		problems = append(problems, fmt.Errorf("clusterCIDR %s and serviceCIDR %s overlap: pods and Services would share addresses: choose separate networks", pods, services))
	}
	return errors.Join(problems...)
}

func (f Artifact) validate(what string) error {
	var problems []error
	u, err := url.Parse(f.URL)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || strings.ContainsAny(f.URL, " \t\n") {
		problems = append(problems, fmt.Errorf("%s.url: not an http(s) URL without credentials: it could not be downloaded: correct it", what))
	}
	if !sha256Form.MatchString(f.SHA256) {
		problems = append(problems, fmt.Errorf("%s.sha256: %q: not 64 hexadecimal digits: the file could not be verified: use the checksum of the release's sha256sum file", what, f.SHA256))
	}
	return errors.Join(problems...)
}

// isHost reports whether s is a host name or an IP address.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return hostForm.MatchString(s)
}
