package random

import (
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

func TestContract(t *testing.T) {
	sdk := plugintest.OfficialSDK(t, "github.com/pulumi/pulumi-random/sdk/v4", "go/random/random*.go")
	sdk.Check("RandomBytes", randomBytes())
	sdk.Check("RandomPassword", randomPassword())
}
