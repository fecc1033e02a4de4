package k3s

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// SnapshotSecretName is the Secret in kube-system k3s reads its S3 settings from.
const SnapshotSecretName = "k3s-etcd-s3-secret" //nolint:gosec // the name of a Secret, not one

// tokenFile is where the cluster's token lies on the machine, for root only.
const tokenFile = "/etc/rancher/k3s/token" //nolint:gosec // a path

// config is the k3s server's configuration file; the keys are its flags
// (https://docs.k3s.io/cli/server).
type config struct {
	// etcd from the first day, so that servers can be added.
	ClusterInit         bool     `yaml:"cluster-init"`
	NodeName            string   `yaml:"node-name"`
	ClusterCIDR         string   `yaml:"cluster-cidr"`
	ServiceCIDR         string   `yaml:"service-cidr"`
	TokenFile           string   `yaml:"token-file"`
	TLSSAN              []string `yaml:"tls-san"`
	Disable             []string `yaml:"disable,omitempty"`
	WriteKubeconfigMode string   `yaml:"write-kubeconfig-mode"`
	SecretsEncryption   bool     `yaml:"secrets-encryption"`
	KubeletArg          []string `yaml:"kubelet-arg,omitempty"`

	SnapshotSchedule  string `yaml:"etcd-snapshot-schedule-cron,omitempty"`
	SnapshotRetention int    `yaml:"etcd-snapshot-retention,omitempty"`
	S3                bool   `yaml:"etcd-s3,omitempty"`
	// The Secret gives endpoint, bucket and keys; k3s ignores it as soon as any
	// other etcd-s3 flag is set.
	S3ConfigSecret string `yaml:"etcd-s3-config-secret,omitempty"`
}

// Config returns the text of the server's configuration file. It holds no secret.
func (a *Args) Config() (string, error) {
	c := config{
		ClusterInit:         true,
		NodeName:            a.NodeName,
		ClusterCIDR:         a.ClusterCIDR,
		ServiceCIDR:         a.ServiceCIDR,
		TokenFile:           tokenFile,
		TLSSAN:              slices.Clone(a.TLSSANs),
		Disable:             a.disabled(),
		WriteKubeconfigMode: "0600",
		SecretsEncryption:   true,
		KubeletArg:          a.KubeletArgs,
	}
	if !slices.Contains(c.TLSSAN, a.APIServer) {
		c.TLSSAN = append(c.TLSSAN, a.APIServer)
	}
	if s := a.Snapshots; s != nil {
		c.SnapshotSchedule, c.SnapshotRetention = s.Schedule, s.Retention
		c.S3, c.S3ConfigSecret = true, SnapshotSecretName
	}
	var text bytes.Buffer
	text.WriteString("# Managed by the tinyrack stack; changes by hand are lost.\n")
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(c); err != nil { //nolint:gosec // the name of a Secret, not one
		return "", fmt.Errorf("k3s configuration: %w", err)
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

// localServer is the address k3s writes into its own kubeconfig.
const localServer = "https://127.0.0.1:6443"

// Kubeconfig returns the kubeconfig k3s wrote with its server pointed at host,
// the machine's management address.
func Kubeconfig(written, host string) (string, error) {
	if n := strings.Count(written, localServer); n != 1 {
		return "", fmt.Errorf("kubeconfig of k3s: %d times %s instead of once: it cannot be pointed at %s: is the API's port changed by another file in /etc/rancher/k3s?", n, localServer, host)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return strings.Replace(written, localServer, "https://"+host+":6443", 1), nil
}
