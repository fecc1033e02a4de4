package artifacts

import "context"

// FormerK3sVersion is the release from which the upgrade to K3sVersion is tried: the newest of the minor version before
// that can be built.
const FormerK3sVersion = "v1.31.0+k3s1"

var formerK3s = k3sOf("k3s-former", Module{
	"github.com/k3s-io/k3s", "v1.31.1-0.20240829224721-34be6d96d17d",
	"h1:0T2hzwWK74xZCK8ehFv0XxytrHETDyzkjshNk2COAb0=",
}, FormerK3sVersion)

// Former is k3s at FormerK3sVersion, and the images under the tags that it alone asks for. What is in them is of the
// set's versions.
type Former struct {
	K3s    string
	Images []string
}

// Former builds what is missing of it. Nothing but the trial of an upgrade needs it.
func (c *Cache) Former(ctx context.Context) (*Former, error) {
	paths := map[string]string{}
	for _, b := range append(binaries(), formerK3s) {
		switch b.Name {
		case formerK3s.Name, "coredns", "local-path-provisioner":
			path, err := c.Compile(ctx, b)
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
