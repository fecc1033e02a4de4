package artifacts

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
)

// FormerK3sVersion is the release from which the upgrade to K3sVersion is tried: the newest of the minor version before
// that can be built.
const FormerK3sVersion = "v1.31.0+k3s1"

var formerK3s = func() Binary {
	b := k3sOf("k3s-former", Module{
		"github.com/k3s-io/k3s", "v1.31.1-0.20240829224721-34be6d96d17d",
		"h1:0T2hzwWK74xZCK8ehFv0XxytrHETDyzkjshNk2COAb0=",
	}, FormerK3sVersion)
	// The same commit by the name that the module has since got: the registry has no module of its former name.
	const proxy = "github.com/inetaf/tcpproxy v0.0.0-20200125044825-b6bb9b5b8252"
	b.Replace = []string{"inet.af/tcpproxy=" + strings.Replace(proxy, " ", "@", 1)}
	b.NoRelease = "it is the trial of an upgrade, of which both ends are built"
	b.Sums = []string{
		proxy + " h1:jeqlfkFa5h+Ak/I33QpU4p01nFhw0G5IFm/Rsenne2Y=",
		proxy + "/go.mod h1:R6mExYS3O0XXjOZye3GtXfbuGF4hWQnF45CFWoj7O6g=",
	}
	return b
}()

// Former is k3s at FormerK3sVersion, and the images under the tags that it alone asks for. What is in them is of the
// set's versions.
type Former struct {
	K3s    string
	Images []string
	// NotServed is why the release itself cannot be built here. K3s is then K3sVersion's own program under
	// FormerK3sVersion's name: whatever the upgrade does on the machines is done, but no data is migrated.
	NotServed error
}

// Former builds what is missing of it. Nothing but the trial of an upgrade needs it.
func (c *Cache) Former(ctx context.Context) (*Former, error) {
	if !c.Has(formerK3s) {
		if _, err := formerK3s.Module.fetch(ctx); errors.Is(err, errNotServed) {
			program, restampErr := c.restamped(ctx)
			return &Former{K3s: program, NotServed: err}, restampErr
		}
	}
	paths := map[string]string{}
	for _, b := range append(binaries(), formerK3s) {
		switch b.Name {
		case formerK3s.Name, "coredns", "local-path-provisioner":
			path, err := c.Program(ctx, b)
			if err != nil {
				return nil, err
			}
			paths[b.Name] = path
		}
	}
	former := &Former{K3s: paths[formerK3s.Name]}
	for _, image := range []Image{
		corednsImage("1.10.1", paths["coredns"]), localPathImage("v0.0.28", paths["local-path-provisioner"]),
	} {
		path, err := c.Image(image)
		if err != nil {
			return nil, err
		}
		former.Images = append(former.Images, path)
	}
	return former, nil
}

// restamped is k3s with the version in it replaced, as the linker would have written another one there.
func (c *Cache) restamped(ctx context.Context) (string, error) {
	built := k3s
	built.Release = nil // upstream's is packed
	program, err := c.Program(ctx, built)
	if err != nil {
		return "", err
	}
	return c.make("k3s-restamped", []any{program, FormerK3sVersion}, func(scratch string) error {
		text, err := os.ReadFile(program) //nolint:gosec // of the cache
		if err != nil {
			return err
		}
		if len(FormerK3sVersion) != len(K3sVersion) || !bytes.Contains(text, []byte(K3sVersion)) {
			return errors.New("the version cannot be replaced in place")
		}
		text = bytes.ReplaceAll(text, []byte(K3sVersion), []byte(FormerK3sVersion))
		return os.WriteFile(scratch, text, 0o755) //nolint:gosec // a program
	})
}
