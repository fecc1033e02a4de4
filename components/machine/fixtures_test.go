package machine

import (
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/script"
)

const (
	testHostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7y1cZ8bGJXn0Yf3tqFh9mPpqzK5o1c2s3u4v5w6x7y"
	// canary is planted wherever a secret goes.
	canary = `c4n4ry"\key=&%`
)

func testConnection() remote.ConnectionArgs {
	return remote.ConnectionArgs{
		Host: pulumi.String("192.0.2.1"), User: pulumi.String("root"),
		PrivateKey: pulumi.ToSecret(pulumi.String(canary)).(pulumi.StringOutput),
		HostKey:    pulumi.String(testHostKey),
	}
}

func testFirewall() Firewall {
	return Firewall{
		BootstrapSources: []string{"203.0.113.7/32", "198.51.100.0/24", "198.51.100.9", "2001:db8::/64"},
		PodCIDR:          "10.55.0.0/16", ServiceCIDR: "10.56.0.0/16",
	}
}

func testArgs() *Args {
	return &Args{
		Connection: testConnection(), User: "root",
		Packages: []string{"open-iscsi", "nfs-common", "nftables"},
		Sysctl:   map[string]string{"vm.overcommit_memory": "1", "net.ipv4.ip_forward": "1"},
		Firewall: testFirewall(),
		Tailnet:  Join{Hostname: "tinyrack-1", Key: pulumi.ToSecret(pulumi.String(canary)).(pulumi.StringOutput)},
	}
}

// render makes a script ready to run. vars alternate names and values.
func render(t *testing.T, body string, vars ...string) string {
	t.Helper()
	var header []script.Var
	for pair := range slices.Chunk(vars, 2) {
		header = append(header, script.Var{Name: pair[0], Value: pair[1]})
	}
	text, err := script.Render("root", header, body)
	if err != nil {
		t.Fatal(err)
	}
	return text
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
