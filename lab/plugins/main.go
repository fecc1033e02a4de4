// Command plugins is one multi-call binary with the lab's doubles of the
// official Pulumi plugins and of the Go language host.
//
// The name it is called by decides what it is: pulumi-resource-random,
// pulumi-resource-command, pulumi-resource-cloudflare,
// pulumi-resource-tailscale, pulumi-resource-kubernetes or pulumi-language-go.
// The engine starts plugins by those names, so an installation is a set of
// symbolic links to this binary.
//
// A double speaks the plugin protocol with the tokens, property names and
// secrets of the official plugin at the version it reports, for the resources
// this project uses, and does their real work. Everything else it refuses.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/plugins/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/plugins/command"
	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/kubernetes"
	"github.com/tinyrack-net/infrastructure/lab/plugins/language"
	"github.com/tinyrack-net/infrastructure/lab/plugins/random"
	"github.com/tinyrack-net/infrastructure/lab/plugins/tailscale"
)

// services maps each name this binary answers to, to the service behind it.
var services = map[string]func(*engine.Client) engine.Service{
	"pulumi-language-go":         language.New,
	"pulumi-resource-cloudflare": cloudflare.New,
	"pulumi-resource-command":    command.New,
	"pulumi-resource-kubernetes": kubernetes.New,
	"pulumi-resource-random":     random.New,
	"pulumi-resource-tailscale":  tailscale.New,
}

func main() {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	service, ok := services[name]
	if !ok {
		names := make([]string, 0, len(services))
		for known := range services {
			names = append(names, known)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "%s: this binary holds the lab's plugin doubles and does nothing under this name; "+
			"link it as one of:\n  %s\n", name, strings.Join(names, "\n  "))
		os.Exit(2)
	}
	if err := engine.Serve(os.Args[1:], os.Stdout, service); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
