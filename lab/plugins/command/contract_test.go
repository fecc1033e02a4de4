package command

import (
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

func TestContract(t *testing.T) {
	const module = "github.com/pulumi/pulumi-command/sdk"
	plugintest.OfficialSDK(t, module, "go/command/remote/command.go").Check("Command", remoteCommand(nil))
	plugintest.OfficialSDK(t, module, "go/command/local/command.go").Check("Command", localCommand(nil))
}
