package k3s

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

const (
	testHostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7y1cZ8bGJXn0Yf3tqFh9mPpqzK5o1c2s3u4v5w6x7y"
	// canary is planted wherever a secret goes.
	canary = "c4n4ry-t0ken"
)

func sum(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

func testArgs() *Args {
	return &Args{
		Connection: remote.ConnectionArgs{
			Host: pulumi.String("192.0.2.1"), User: pulumi.String("root"),
			PrivateKey: pulumi.ToSecret(pulumi.String("key")).(pulumi.StringOutput), HostKey: pulumi.String(testHostKey),
		},
		User: "root", Version: "v1.32.0+k3s1",
		Binary:        Artifact{URL: "https://host/k3s", SHA256: sum(fakeBinary)},
		InstallScript: Artifact{URL: "https://host/install.sh", SHA256: sum(fakeInstall)},
		NodeName:      "tinyrack-1", APIServer: "100.64.0.10",
		ClusterCIDR: "10.55.0.0/16", ServiceCIDR: "10.56.0.0/16",
		TLSSANs:     []string{"tinyrack-1.time-inconnu.ts.net"},
		KubeletArgs: []string{"image-gc-high-threshold=100"},
		Snapshots:   &Snapshots{Schedule: "0 */6 * * *", Retention: 28},
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
