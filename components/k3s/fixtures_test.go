package k3s

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

//go:embed testdata
var testdata embed.FS

const (
	testHostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBh1JDqWCz9LDTr6HMcAcH7iw+n9A8EUHBVQCzcwz1Yd"
	// canary is planted wherever a secret goes.
	canary      = "c4n4ry-t0ken-of-the-cluster"
	testVersion = "v1.33.1+k3s1"
)

func sum(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

func testSpec() Spec {
	return Spec{
		Version: testVersion,
		Binaries: map[string]Artifact{
			"amd64": {URL: "https://host/k3s?" + testVersion, SHA256: sum(fakeBinary(testVersion))},
			"arm64": {URL: "https://host/k3s-arm64", SHA256: sum("arm64")},
		},
		InstallScript: Artifact{URL: "https://host/install.sh", SHA256: sum(fakeInstall)},
		ClusterCIDR:   "10.55.0.0/16", ServiceCIDR: "10.56.0.0/16",
		TLSSANs:     []string{"api.example.com"},
		KubeletArgs: []string{"image-gc-high-threshold=100"},
		Requires:    []string{"tinyrack-firewall.service"},
		Renewal:     "2026-Q4",
		Snapshots: &Snapshots{
			Schedule: "0 */6 * * *", Retention: 28, Endpoint: "10.77.0.1:9000", Region: "us-east-1", Bucket: "etcd",
			Folder: "lab",
		},
	}
}

// one is a cluster of one server, many one of three servers and two agents.
func one() *ClusterArgs {
	return &ClusterArgs{Spec: testSpec(), Nodes: []Member{{Name: "one", Address: "192.0.2.1"}}}
}

func many() *ClusterArgs {
	return &ClusterArgs{Spec: testSpec(), Nodes: []Member{
		{Name: "one", Address: "10.77.0.1"},
		{Name: "two", Address: "10.77.0.2"},
		{Name: "three", Address: "10.77.0.3"},
		{Name: "four", Address: "10.77.0.4", Agent: true},
		{Name: "five", Address: "10.77.0.5", Agent: true},
	}}
}

func host(name string) *remote.Host {
	return &remote.Host{
		Name: name, Domain: "example.ts.net", Owner: "tinyrack/test of example.com", Address: "192.0.2.1", Port: 22,
		User: "root", HostKey: testHostKey, PrivateKey: pulumi.String("canary-key"),
	}
}

func wantError(t *testing.T, err error, messages ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range messages {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
}
