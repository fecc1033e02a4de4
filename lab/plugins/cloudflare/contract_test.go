package cloudflare

import (
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

func TestContract(t *testing.T) {
	const folder = "go/cloudflare/"
	sdk := plugintest.OfficialSDK(t, "github.com/pulumi/pulumi-cloudflare/sdk/v6", folder+"provider.go",
		folder+"zeroTrustTunnelCloudflared.go", folder+"zeroTrustTunnelCloudflaredConfig.go", folder+"dnsRecord.go",
		folder+"zeroTrustAccessPolicy.go", folder+"zeroTrustAccessApplication.go")
	c := &client{}
	sdk.Check("ZeroTrustTunnelCloudflared", c.tunnel())
	sdk.Check("ZeroTrustTunnelCloudflaredConfig", c.tunnelConfig())
	sdk.Check("DnsRecord", c.record())
	sdk.Check("ZeroTrustAccessPolicy", c.policy())
	sdk.Check("ZeroTrustAccessApplication", c.application())
	sdk.Config(configuration)
}
