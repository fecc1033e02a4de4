//go:build generated_sdk

package cloudflare

// No build sets the tag but the benchmark that measures what the import costs (16
// GB of memory); it makes go.mod require the SDK, which pins the plugin's version and gives the contract test
// the source to compare these bindings with.
import _ "github.com/pulumi/pulumi-cloudflare/sdk/v6/go/cloudflare"
