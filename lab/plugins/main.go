// Command plugins is one multi-call binary with the lab's doubles of the official Pulumi plugins and of the Go language
// host.
//
// The path by which it is called decides what it is: …/resource-random-v4.21.0/pulumi-resource-random is the double of
// that plugin in that version, …/pulumi-language-go the language host. The engine starts plugins by such paths, so an
// installation is a set of symbolic links to this binary, and a version stands in the program's go.mod alone.
//
// A double speaks the plugin protocol with the tokens, property names and secrets of the official plugin, for the
// resources this project uses, and does their real work. Everything else it refuses.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blang/semver"

	"github.com/tinyrack-net/infrastructure/lab/plugins/cloudflare"
	"github.com/tinyrack-net/infrastructure/lab/plugins/command"
	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/kubernetes"
	"github.com/tinyrack-net/infrastructure/lab/plugins/language"
	"github.com/tinyrack-net/infrastructure/lab/plugins/random"
	"github.com/tinyrack-net/infrastructure/lab/plugins/tailscale"
)

const (
	languageHost   = "pulumi-language-go"
	resourcePrefix = "pulumi-resource-"
)

// doubles are the services behind the plugins' names.
var doubles = map[string]func(client *engine.Client, version string) engine.Service{
	"cloudflare": cloudflare.New,
	"command":    command.New,
	"kubernetes": kubernetes.New,
	"random":     random.New,
	"tailscale":  tailscale.New,
}

func main() {
	service, err := find(os.Args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err := engine.Serve(os.Args[1:], os.Stdout, service); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
		os.Exit(1)
	}
}

// find returns the service of this binary when it is called by the path.
func find(path string) (func(*engine.Client) engine.Service, error) {
	base := filepath.Base(path)
	if base == languageHost {
		return language.New, nil
	}
	name, isResource := strings.CutPrefix(base, resourcePrefix)
	double, known := doubles[name]
	if !isResource || !known {
		return nil, fmt.Errorf("%s: this binary holds the lab's plugin doubles and does nothing under this name; "+
			"link it as %s or as %sNAME with one of: %s", base, languageHost, resourcePrefix,
			strings.Join(slices.Sorted(maps.Keys(doubles)), ", "))
	}
	folder := filepath.Base(filepath.Dir(path))
	version, versioned := strings.CutPrefix(folder, "resource-"+name+"-v")
	if _, err := semver.Parse(version); !versioned || err != nil {
		return nil, fmt.Errorf("%s: it is in the folder %q, which names no version that it could stand for: "+
			"put it into resource-%s-vVERSION", base, folder, name)
	}
	return func(client *engine.Client) engine.Service { return double(client, version) }, nil
}
