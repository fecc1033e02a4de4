// Command tinyrack provisions one environment of the site: run it through
// `pulumi up`.
package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/stacks"
)

func main() {
	pulumi.Run(stacks.Run)
}
