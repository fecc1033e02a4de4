package pulumi

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
)

// OfficialPlugins names, in the environment, a folder with official plugins as `pulumi plugin install` leaves them:
// ~/.pulumi/plugins, for one. Those that are in it are used in place of the doubles.
const OfficialPlugins = "TINYRACK_LAB_PLUGINS"

const languageHost = "pulumi-language-go"

// Plugins are the resource plugins that a program needs.
type Plugins struct {
	// Versions by plugin name: "random": "v4.21.0".
	Versions map[string]string
	// Doubles is the program that is all doubles, and the Go language host.
	Doubles string
	// Official is a folder of official plugins that are preferred; empty for none.
	Official string
}

// sdk is the module path of a plugin's Go SDK.
var sdk = regexp.MustCompile(`^github\.com/pulumi/pulumi-([a-z0-9-]+)/sdk(/v[0-9]+)?$`)

// Versions reads from a program's go.mod which plugins it needs: an SDK and its plugin have one version.
func Versions(gomod string) (map[string]string, error) {
	text, err := os.ReadFile(gomod) //nolint:gosec // the checkout's own file
	if err != nil {
		return nil, fmt.Errorf("the versions of the plugins: %w", err)
	}
	parsed, err := modfile.Parse(gomod, text, nil)
	if err != nil {
		return nil, fmt.Errorf("the versions of the plugins: %w", err)
	}
	versions := map[string]string{}
	for _, r := range parsed.Require {
		if match := sdk.FindStringSubmatch(r.Mod.Path); match != nil {
			versions[match[1]] = r.Mod.Version
		}
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("%s requires no SDK of a plugin (github.com/pulumi/pulumi-NAME/sdk): "+
			"no plugin could be installed", gomod)
	}
	return versions, nil
}

// FindPlugins are the plugins of the program in the checkout.
func FindPlugins(checkout, doubles string) (Plugins, error) {
	versions, err := Versions(filepath.Join(checkout, "go.mod"))
	return Plugins{Versions: versions, Doubles: doubles, Official: os.Getenv(OfficialPlugins)}, err
}

// place is where a plugin is found below a folder of plugins. A double knows its version from this path.
func (p Plugins) place(name string) string {
	return filepath.Join("resource-"+name+"-"+p.Versions[name], "pulumi-resource-"+name)
}

// official is the path of an official plugin, or nothing when the double is used.
func (p Plugins) official(name string) string {
	if p.Official == "" {
		return ""
	}
	path := filepath.Join(p.Official, p.place(name))
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

func (p Plugins) find(name string) string { return cmp.Or(p.official(name), p.Doubles) }

// String says of each plugin which kind is used.
func (p Plugins) String() string {
	kinds := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(p.Versions)) {
		kind := "double"
		if p.official(name) != "" {
			kind = "official"
		}
		kinds[kind] = append(kinds[kind], name)
	}
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, kind+" "+strings.Join(kinds[kind], ", "))
	}
	return strings.Join(parts, "; ")
}
