package kubernetes

import (
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/plugins/plugintest"
)

// TestContract is of the configuration alone: the objects are Kubernetes' own, and the real API server looks at them.
func TestContract(t *testing.T) {
	plugintest.OfficialSDK(t, "github.com/pulumi/pulumi-kubernetes/sdk/v4", "go/kubernetes/provider.go").
		Config(newProvider(nil, "1.2.3").Config)
}
