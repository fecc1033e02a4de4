package k3s

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

// packaged are the components k3s ships and can leave out: https://docs.k3s.io/installation/packaged-components
var packaged = []string{"coredns", "local-storage", "metrics-server", "runtimes", "servicelb", "traefik"}

// floor is the oldest version that is accepted: before it k3s serves every pod's spec without credentials on port 10255
// (CVE-2025-46599), or is not supported any more.
const floor = "v1.32.4+k3s1"

var (
	labelForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	versionForm = regexp.MustCompile(`^v([0-9]+)\.([0-9]+)\.([0-9]+)\+k3s([0-9]+)$`)
	sha256Form  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	flagForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*=\S+$`)
	unitForm    = regexp.MustCompile(`^[A-Za-z0-9@._-]+\.(service|target|socket|mount)$`)
)

// fixedKubelet and fixedAPIServer are the flags that would open what this package shuts, or break k3s.
var (
	fixedKubelet = []string{
		"address", "anonymous-auth", "authorization-mode", "client-ca-file", "config", "config-dir", "kubeconfig",
		"protect-kernel-defaults", "read-only-port",
	}
	fixedAPIServer = []string{
		"admission-control-config-file", "anonymous-auth", "audit-log-path", "audit-policy-file", "authorization-mode",
		"bind-address", "client-ca-file", "enable-admission-plugins", "encryption-provider-config", "etcd-servers",
		"secure-port", "service-cluster-ip-range",
	}
)

func (s *Spec) disabled() []string {
	if s.Disable == nil {
		return []string{"traefik", "servicelb"}
	}
	return s.Disable
}

const vxlan, wireguard = "vxlan", "wireguard-native"

func (s *Spec) flannel() string {
	if s.FlannelBackend == "" {
		return vxlan
	}
	return s.FlannelBackend
}

type problems []error

func (p *problems) refuse(format string, values ...any) {
	*p = append(*p, fmt.Errorf(format, values...))
}

// Validate returns every problem with the specification, each as "key: value: consequence: fix" under the key of the
// cluster's settings.
func (s *Spec) Validate() error {
	var p problems
	s.checkVersion(&p)
	s.checkBinaries(&p)
	s.InstallScript.check(&p, "installScript")
	s.checkNetworks(&p)
	for i, san := range s.TLSSANs {
		if _, err := netip.ParseAddr(san); err != nil && !remote.IsName(san) {
			p.refuse("tlsSans[%d]: %q is neither an address nor a host name: the API's certificate could not carry it: leave "+
				"out scheme and port", i, san)
		}
	}
	for i, name := range s.Disable {
		if !slices.Contains(packaged, name) {
			p.refuse("disable[%d]: %q is not a component of k3s: it would have no effect: use any of %s", i, name,
				strings.Join(packaged, ", "))
		}
	}
	checkFlags(&p, "kubeletArgs", "the kubelet", s.KubeletArgs, fixedKubelet)
	checkFlags(&p, "apiServerArgs", "the API server", s.APIServerArgs, fixedAPIServer)
	if f := s.flannel(); f != vxlan && f != wireguard {
		p.refuse("flannelBackend: %q is not a backend: pods would get no network: write %s or %s", f, vxlan, wireguard)
	}
	for i, name := range s.PrivilegedNamespaces {
		if !labelForm.MatchString(name) {
			p.refuse("privilegedNamespaces[%d]: %q is not a namespace: the API server would not start: write its name alone",
				i, name)
		}
	}
	for i, name := range s.Requires {
		if !unitForm.MatchString(name) {
			p.refuse("requires[%d]: %q is not a unit of systemd: k3s would start without it: write it like "+
				"tinyrack-firewall.service", i, name)
		}
	}
	if strings.ContainsFunc(s.Renewal, func(r rune) bool { return r < ' ' }) {
		p.refuse("renewal: has line breaks: it names a period: write one like 2026-Q4")
	}
	if s.Snapshots != nil {
		p = append(p, s.Snapshots.validate())
	}
	return errors.Join(p...)
}

func (s *Spec) checkVersion(p *problems) {
	switch {
	case !versionForm.MatchString(s.Version):
		p.refuse("version: %q is not a k3s release: nothing could be installed: write it like v1.36.4+k3s1", s.Version)
	case !slices.IsSortedFunc([]string{floor, s.Version}, compareVersions) && s.AcceptVersion != s.Version:
		why := "it gets no repairs any more"
		if strings.HasPrefix(s.Version, "v1.32.") {
			why = "its kubelet serves every pod's specification to anybody on port 10255 (CVE-2025-46599)"
		}
		p.refuse("version: %s is older than %s: %s: write a newer one, or take the risk by acceptVersion: %s",
			s.Version, floor, why, s.Version)
	case s.AcceptVersion != "" && s.AcceptVersion != s.Version:
		p.refuse("acceptVersion: %q is not version %s: it would accept an old release later, unseen: remove it",
			s.AcceptVersion, s.Version)
	}
}

// compareVersions orders two releases; each has the form of one.
func compareVersions(a, b string) int {
	numbers := func(version string) []int {
		var all []int
		for _, text := range versionForm.FindStringSubmatch(version)[1:] {
			n, _ := strconv.Atoi(text) // digits, by the form
			all = append(all, n)
		}
		return all
	}
	return slices.Compare(numbers(a), numbers(b))
}

func (s *Spec) checkBinaries(p *problems) {
	if len(s.Binaries) == 0 {
		p.refuse("binaries: missing: there would be nothing to install: write url and sha256 under binaries.amd64 or " +
			"binaries.arm64")
	}
	for _, arch := range slices.Sorted(maps.Keys(s.Binaries)) {
		if !slices.Contains(architectures, arch) {
			p.refuse("binaries.%s: not an architecture: no machine would take it: use %s", arch,
				strings.Join(architectures, " or "))
			continue
		}
		s.Binaries[arch].check(p, "binaries."+arch)
	}
}

func (f Artifact) check(p *problems, key string) {
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
		strings.ContainsAny(f.URL, " \t\n") {
		// Not shown: what cannot be read may hold a password.
		p.refuse("%s.url: not an http(s) URL without credentials: nothing could be downloaded: write the file's full "+
			"URL", key)
	}
	if !sha256Form.MatchString(f.SHA256) {
		p.refuse("%s.sha256: %q is not a sha256: the download could not be verified and would be refused: write the 64 "+
			"lower-case hexadecimal digits of the release's sha256sum file", key, f.SHA256)
	}
}

const (
	nodeBits    = 24
	serviceBits = 28
)

// sharedRange is a provider's, and Tailscale's: what overlaps that the stack refuses.
var sharedRange = netip.MustParsePrefix("100.64.0.0/10")

func (s *Spec) checkNetworks(p *problems) {
	const fix = "write it like 10.55.0.0/16, with zeros after the prefix"
	parse := func(key, text string) netip.Prefix {
		network, err := netip.ParsePrefix(text)
		if err != nil || network != network.Masked() || network.IsSingleIP() {
			p.refuse("%s: %q is not a network: pods and Services would get no addresses: %s", key, text, fix)
			return netip.Prefix{}
		}
		if !network.Addr().IsPrivate() && !sharedRange.Contains(network.Addr()) {
			p.refuse("%s: %s is not private: who has its addresses on the Internet could not be reached from the cluster: "+
				"choose a network in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fd00::/8", key, network)
		}
		return network
	}
	pods, services := parse("clusterCidr", s.ClusterCIDR), parse("serviceCidr", s.ServiceCIDR)
	// Each node takes a 256th of a /16, and the DNS is the tenth of the Services: k3s' own sizes, for IPv4.
	if pods.IsValid() && pods.Addr().Is4() && pods.Bits() > nodeBits {
		p.refuse("clusterCidr: %s is smaller than what one node takes, a /%d: no node would get addresses for its pods: "+
			"choose a /16", pods, nodeBits)
	}
	if services.IsValid() && services.Addr().Is4() && services.Bits() > serviceBits {
		p.refuse("serviceCidr: %s has no tenth address, which the cluster's DNS gets: k3s would not start: choose a /16",
			services)
	}
	if pods.IsValid() && services.IsValid() {
		switch {
		case pods.Addr().Is4() != services.Addr().Is4():
			p.refuse("serviceCidr: %s is of another IP version than clusterCidr %s: pods could not reach Services: choose "+
				"both of one", services, pods)
		case pods.Overlaps(services):
			p.refuse("serviceCidr: %s overlaps clusterCidr %s: pods and Services would share addresses: choose a network of "+
				"its own", services, pods)
		}
	}
}

func checkFlags(p *problems, key, who string, flags, fixed []string) {
	for i, flag := range flags {
		name, _, _ := strings.Cut(flag, "=")
		switch {
		case !flagForm.MatchString(flag):
			p.refuse("%s[%d]: %q is not an argument: %s would not start: write it like max-pods=200, without hyphens in front",
				key, i, flag, who)
		case slices.Contains(fixed, name):
			p.refuse("%s[%d]: %s is set by the program: another value would open %s or break it: remove it", key, i, name, who)
		}
	}
}

// ValidateNodes returns every problem with the nodes, joined. The keys are those of the hosts' settings.
func (a *ClusterArgs) ValidateNodes() error {
	s, nodes := &a.Spec, a.Nodes
	var p problems
	if n := len(servers(nodes)); n == 0 {
		p.refuse("*.roles: none is server: there would be no cluster: give one host the role server")
	} else if n%2 == 0 {
		p.refuse("*.roles: %d servers, an even number: they survive no more losses than %d do: use %d or %d", n, n-1,
			n-1, n+1)
	}
	seen := map[string]bool{}
	for _, n := range nodes {
		s.checkAddress(&p, n, len(nodes))
		if seen[n.Name] {
			p.refuse("%s: named twice: one node would replace the other in the cluster: rename one", n.Name)
		}
		seen[n.Name] = true
	}
	return errors.Join(p...)
}

func (s *Spec) checkAddress(p *problems, n Member, count int) {
	if n.Address == "" && count == 1 {
		return
	}
	address, err := netip.ParseAddr(n.Address)
	if err != nil || address.Zone() != "" {
		p.refuse("%s.address: %q is not an IP address: the other nodes could not reach it: write the address, not a name",
			n.Name, n.Address)
		return
	}
	if count > 1 && s.flannel() == vxlan && !address.IsPrivate() {
		p.refuse("%s.address: %s is public: with flannelBackend %s everybody on the way could read what pods say to each "+
			"other: set flannelBackend: %s", n.Name, address, vxlan, wireguard)
	}
	for key, text := range map[string]string{"clusterCidr": s.ClusterCIDR, "serviceCidr": s.ServiceCIDR} {
		network, err := netip.ParsePrefix(text)
		switch {
		case err != nil: // said already
		case network.Contains(address):
			p.refuse("%s.address: %s lies in %s %s: packets for the node would go to pods: choose another network", n.Name,
				address, key, network)
		case key == "clusterCidr" && network.Addr().Is4() != address.Is4():
			p.refuse("%s.address: %s is of another IP version than clusterCidr %s: k3s would not start: choose both of one",
				n.Name, address, network)
		}
	}
}
