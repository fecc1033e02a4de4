// Package k3s makes hosts the nodes of one k3s cluster: pinned and verified, hardened, configured by file, with
// embedded etcd from the first day. A Cluster holds what its nodes share, a Node is k3s on one host.
package k3s

import (
	"fmt"
	"strings"
)

// Artifact is a file that a machine downloads and verifies.
type Artifact struct {
	URL string
	// SHA256 is the checksum in hexadecimal.
	SHA256 string
}

// Spec is what every node of a cluster is configured from. Nothing in it is secret.
type Spec struct {
	// Version is the k3s release that Binaries are, like v1.36.4+k3s1. A machine refuses a binary of another version, a
	// downgrade, and an upgrade over more than one minor release.
	Version string
	// AcceptVersion is a version below the floor that is accepted all the same. It has to be Version word for word, so
	// that it is not forgotten at the next upgrade.
	AcceptVersion string
	// Binaries are the release's executables by architecture, amd64 or arm64; the machine takes its own.
	Binaries map[string]Artifact
	// InstallScript is the release's install.sh.
	InstallScript Artifact
	// ClusterCIDR and ServiceCIDR can never change in a running cluster; the script refuses.
	ClusterCIDR string
	ServiceCIDR string
	// TLSSANs are more names and addresses of the API's certificate than the nodes' own.
	TLSSANs []string
	// Disable are the packaged components left out. Nil means traefik and servicelb.
	Disable []string
	// KubeletArgs and APIServerArgs are flags in the form name=value. They replace flags of the same name.
	KubeletArgs   []string
	APIServerArgs []string
	// FlannelBackend carries traffic between pods of different nodes: vxlan, in clear, or wireguard-native. Empty means
	// vxlan, which several nodes may use on private addresses only.
	FlannelBackend string
	// PrivilegedNamespaces are exempt from the pod security standard "baseline", as kube-system is.
	PrivilegedNamespaces []string
	// LooseKernelDefaults lets the kubelet change the kernel's settings instead of refusing to start on other ones: for
	// a machine that cannot set them, such as a container.
	LooseKernelDefaults bool
	// Requires are the units without which k3s must not run, such as the firewall's.
	Requires []string
	// Snapshots is nil for snapshots on the machine only.
	Snapshots *Snapshots
	// Renewal is any text. Changing it lets every node renew the certificates that end within 90 days and fetches the
	// kubeconfig again. k3s makes certificates for a year and renews them only when it starts.
	//
	// It is a value and not the clock, since a preview must not change with the calendar: the program warns when the
	// kubeconfig has less than 60 days left, and says to change it.
	Renewal string
}

// Member is a node as the others see it.
type Member struct {
	// Name is the host's.
	Name string
	// Address is the IP address under which the other nodes reach it. A cluster of one node may leave it to k3s.
	Address string
	Agent   bool
}

// servers returns the servers, the first of which initialises the cluster.
func servers(nodes []Member) []Member {
	var found []Member
	for _, n := range nodes {
		if !n.Agent {
			found = append(found, n)
		}
	}
	return found
}

// url is where another node's k3s finds the server.
func (m Member) url() string { return fmt.Sprintf("https://%s:6443", bracket(m.Address)) }

// bracket returns host as it stands in a URL.
func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// architectures by the name that uname gives them.
var architectures = []string{"amd64", "arm64"}
