package machine

import (
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

const (
	testHostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBh1JDqWCz9LDTr6HMcAcH7iw+n9A8EUHBVQCzcwz1Yd"
	testStack   = "tinyrack/test of example.com"
	testOwner   = testStack + ", host box"
	testDomain  = "tail-cat.ts.net"
	testTag     = "tag:tinyrack-server"
	// canary is planted wherever a secret goes.
	canary = `c4n4ry"\key=&%`
)

func testHost() *remote.Host {
	return &remote.Host{
		Name: "box", Domain: testDomain, Owner: testStack, Address: "192.0.2.1", Port: 22, User: "root",
		HostKey: testHostKey, PrivateKey: pulumi.String(canary),
	}
}

func testFirewall() Firewall {
	return Firewall{
		BootstrapSources: []string{"203.0.113.7/32", "198.51.100.0/24", "198.51.100.9", "2001:db8::/64"},
		PodCIDR:          "10.55.0.0/16",
		ServiceCIDR:      "10.56.0.0/16",
	}
}

func testArgs() *Args {
	return &Args{
		Host:     testHost(),
		Packages: []string{"open-iscsi", "nfs-common"},
		Sysctl:   map[string]string{"vm.overcommit_memory": "1", "net.ipv4.ip_forward": "1"},
		Firewall: testFirewall(),
		Join:     Join{Tags: []string{testTag}, Key: pulumi.String(canary)},
	}
}

// render makes a script ready to run. vars alternate names and values.
func render(t *testing.T, body string, vars ...string) string {
	t.Helper()
	header := []remote.Var{{Name: "OWNER", Value: testOwner}, {Name: "HOST", Value: "box"}}
	for pair := range slices.Chunk(vars, 2) {
		header = append(header, remote.Var{Name: pair[0], Value: pair[1]})
	}
	return renderText(t, remote.Text{Vars: header, Body: body})
}

func renderText(t *testing.T, text remote.Text) string {
	t.Helper()
	rendered, err := remote.Render(text.Vars, text.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rendered
}

// withHost adds the lines of the header that every command has.
func withHost(text remote.Text) remote.Text {
	text.Vars = append([]remote.Var{{Name: "OWNER", Value: testOwner}, {Name: "HOST", Value: "box"}}, text.Vars...)
	return text
}

// refused reports whether a script failed and said all of messages.
func refused(r remotetest.Result, messages ...string) bool {
	for _, want := range messages {
		if !strings.Contains(r.Stderr, want) {
			return false
		}
	}
	return r.Code != 0
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
