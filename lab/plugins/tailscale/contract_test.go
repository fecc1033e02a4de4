package tailscale

import (
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

func TestContract(t *testing.T) {
	sdk := plugintest.OfficialSDK(t, "github.com/pulumi/pulumi-tailscale/sdk", "go/tailscale/*.go")
	a := &api{}
	sdk.Check("Acl", a.acl())
	sdk.Check("DnsPreferences", a.dnsPreferences())
	sdk.Check("TailnetKey", a.tailnetKey())
	sdk.Config(configuration)
}
