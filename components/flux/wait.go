package flux

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

//go:embed wait.sh
var waitText string

// waitScript returns the script that ends when Flux is Ready on revision.
func waitScript(revision string) remote.Text {
	return remote.Text{
		Vars: []remote.Var{
			{Name: "NAMESPACE", Value: namespaceName},
			{Name: "INSTANCE", Value: instanceName},
			{Name: "SYNC", Value: syncName},
			{Name: "REVISION", Value: revision},
			{Name: "LIMIT", Value: syncLimit},
		},
		Body: waitText,
	}
}

// fingerprint changes whenever Flux is told something else, so that the wait
// runs again and `up` ends only when the change has arrived. It is a one-way
// digest; that of the credentials is secret all the same.
func fingerprint(
	spec map[string]any, variables map[string]pulumi.StringInput, credentials pulumi.StringMap,
) pulumi.StringOutput {
	return pulumi.All(pulumi.StringMap(variables), credentials).ApplyT(func(v []any) (string, error) {
		text, err := json.Marshal([]any{spec, v})
		if err != nil {
			return "", fmt.Errorf("fingerprint of Flux's settings: %w", err)
		}
		sum := sha256.Sum256(text)
		return hex.EncodeToString(sum[:]), nil
	}).(pulumi.StringOutput)
}
