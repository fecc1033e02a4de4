package k3s

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Paths on the machine; the files are closed to others than root.
const (
	tokenFile      = "/etc/rancher/k3s/token"       //nolint:gosec // a path
	agentTokenFile = "/etc/rancher/k3s/agent-token" //nolint:gosec // a path
	auditFile      = "/etc/rancher/k3s/audit.yaml"
	admissionFile  = "/etc/rancher/k3s/admission.yaml"
)

const managed = "# Managed by the tinyrack stack; changes by hand are lost.\n"

//go:embed audit.yaml
var auditPolicy string

//go:embed sysctl.conf
var kernelDefaults string

// config is the configuration file of k3s; the keys are its flags (https://docs.k3s.io/cli/server, …/cli/agent).
type config struct {
	NodeName string `yaml:"node-name"`
	// Server is where a node joins. The first server's line is the script's: it initialises a cluster, or joins the
	// other servers when it is the one that was rebuilt.
	Server         string `yaml:"server,omitempty"`
	TokenFile      string `yaml:"token-file"`
	AgentTokenFile string `yaml:"agent-token-file,omitempty"`
	// NodeIP is also where etcd listens (2379, 2380), beside the loopback address.
	NodeIP string `yaml:"node-ip,omitempty"`
	// BindAddress narrows an agent's kubelet (10250) to the node's address. Not a server's: its API (6443) would no
	// longer be served in the tailnet. Nor can a server's kubelet be narrowed alone ("address"): k3s dials the kubelet
	// beside it on the bind address, and logs and exec would fail (dialBackend in pkg/daemons/control/tunnel.go). There
	// the firewall is the door.
	BindAddress       string   `yaml:"bind-address,omitempty"`
	ClusterCIDR       string   `yaml:"cluster-cidr,omitempty"`
	ServiceCIDR       string   `yaml:"service-cidr,omitempty"`
	FlannelBackend    string   `yaml:"flannel-backend,omitempty"`
	TLSSAN            []string `yaml:"tls-san,omitempty"`
	Disable           []string `yaml:"disable,omitempty"`
	KubeconfigMode    string   `yaml:"write-kubeconfig-mode,omitempty"`
	SecretsEncryption bool     `yaml:"secrets-encryption,omitempty"`
	ProtectKernel     bool     `yaml:"protect-kernel-defaults,omitempty"`
	APIServerArg      []string `yaml:"kube-apiserver-arg,omitempty"`
	ControllerArg     []string `yaml:"kube-controller-manager-arg,omitempty"`
	KubeletArg        []string `yaml:"kubelet-arg"`

	SnapshotSchedule  string `yaml:"etcd-snapshot-schedule-cron,omitempty"`
	SnapshotRetention int    `yaml:"etcd-snapshot-retention,omitempty"`
	S3                bool   `yaml:"etcd-s3,omitempty"`
	// The Secret gives endpoint, bucket and keys; k3s ignores it as soon as any other etcd-s3 flag is set.
	S3ConfigSecret string `yaml:"etcd-s3-config-secret,omitempty"`
}

// ciphers are those of TLS 1.2 with forward secrecy and authenticated encryption.
const ciphers = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256," +
	"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384," +
	"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"

// What k3s' hardening guide asks for (https://docs.k3s.io/security/hardening-guide).
var (
	kubeletArgs = []string{
		// Written whatever the version: k3s 1.32.0 to 1.32.3 serve every pod's spec to anybody (CVE-2025-46599).
		"read-only-port=0",
		"streaming-connection-idle-timeout=5m",
		"make-iptables-util-chains=true",
		"event-qps=50",
		"pod-max-pids=4096",
		"tls-cipher-suites=" + ciphers,
	}
	apiServerArgs = []string{
		"enable-admission-plugins=NodeRestriction,EventRateLimit",
		"admission-control-config-file=" + admissionFile,
		"audit-policy-file=" + auditFile,
		"audit-log-path=/var/lib/rancher/k3s/server/logs/audit.log",
		"audit-log-maxage=30",
		"audit-log-maxbackup=10",
		"audit-log-maxsize=100",
		"service-account-extend-token-expiration=false",
	}
	controllerArgs = []string{"terminated-pod-gc-threshold=10"}
)

// merge returns ours with the flags of theirs in place of those of the same name.
func merge(ours, theirs []string) []string {
	named := func(arg string) string { name, _, _ := strings.Cut(arg, "="); return name }
	merged := slices.DeleteFunc(slices.Clone(ours), func(arg string) bool {
		return slices.ContainsFunc(theirs, func(other string) bool { return named(other) == named(arg) })
	})
	return append(merged, theirs...)
}

// Config returns the text of a node's configuration file. It holds no secret. fqdn is the node's name in the tailnet.
func (s *Spec) Config(nodes []Member, node Member, fqdn string) (string, error) {
	first := servers(nodes)[0]
	c := config{
		NodeName: node.Name, NodeIP: node.Address, TokenFile: tokenFile, ProtectKernel: !s.LooseKernelDefaults,
		KubeletArg: merge(kubeletArgs, s.KubeletArgs),
	}
	if node != first {
		c.Server = first.url()
	}
	if node.Agent {
		c.BindAddress = node.Address
		return encode(c)
	}
	c.AgentTokenFile = agentTokenFile
	c.ClusterCIDR, c.ServiceCIDR, c.FlannelBackend = s.ClusterCIDR, s.ServiceCIDR, s.flannel()
	c.TLSSAN = []string{fqdn}
	for _, san := range s.TLSSANs {
		if !slices.Contains(c.TLSSAN, san) {
			c.TLSSAN = append(c.TLSSAN, san)
		}
	}
	c.Disable = s.disabled()
	c.KubeconfigMode, c.SecretsEncryption = "0600", true
	c.APIServerArg, c.ControllerArg = merge(apiServerArgs, s.APIServerArgs), controllerArgs
	if s.Snapshots != nil {
		c.SnapshotSchedule, c.SnapshotRetention = s.Snapshots.Schedule, s.Snapshots.Retention
		c.S3, c.S3ConfigSecret = true, SnapshotSecretName
	}
	return encode(c)
}

func encode(values any) (string, error) {
	var text bytes.Buffer
	text.WriteString(managed)
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(values); err != nil {
		return "", fmt.Errorf("k3s configuration: %w", err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

type object = map[string]any

// Admission returns the API server's admission configuration: how many events it takes, so that nobody fills the
// datastore with them, and what pods may ask for where a namespace says nothing of its own. "restricted" is only warned
// about: many a published chart does not meet it, and what the site runs itself says so by labels.
func (s *Spec) Admission() (string, error) {
	exempt := append([]string{"kube-system"}, s.PrivilegedNamespaces...)
	return encode(object{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
		"plugins": []object{{
			"name": "EventRateLimit",
			"configuration": object{
				"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration",
				"limits": []object{
					{"type": "Server", "qps": 500, "burst": 5000},
					{"type": "Namespace", "qps": 50, "burst": 500, "cacheSize": 2000},
				},
			},
		}, {
			"name": "PodSecurity",
			"configuration": object{
				"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
				"defaults": object{
					"enforce": "baseline", "enforce-version": "latest", "audit": "restricted", "audit-version": "latest",
					"warn": "restricted", "warn-version": "latest",
				},
				"exemptions": object{"usernames": []string{}, "runtimeClasses": []string{}, "namespaces": exempt},
			},
		}},
	})
}

// unit is the drop-in of the k3s unit: without the units it requires k3s neither starts nor goes on.
func (s *Spec) unit() string {
	if len(s.Requires) == 0 {
		return ""
	}
	units := strings.Join(s.Requires, " ")
	return managed + "[Unit]\nRequires=" + units + "\nAfter=" + units
}

// localServer is the address k3s writes into its own kubeconfig.
const localServer = "https://127.0.0.1:6443"

// Kubeconfig returns the kubeconfig that k3s wrote with its server pointed at host.
func Kubeconfig(written, host string) (string, error) {
	if n := strings.Count(written, localServer); n != 1 {
		return "", fmt.Errorf("kubeconfig of k3s: %d times %s instead of once: it cannot be pointed at %s: see whether "+
			"another file in /etc/rancher/k3s changes the API's port", n, localServer, host)
	}
	return strings.Replace(written, localServer, "https://"+bracket(host)+":6443", 1), nil
}
