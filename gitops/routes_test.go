package gitops

import (
	"maps"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestAServiceThatOnlyTheLabMayLack leads a hostname to what cannot be built in the lab, there and in an environment
// that takes its images from registries.
func TestAServiceThatOnlyTheLabMayLack(t *testing.T) {
	const want = "cloudflare.ingress: forum.lab.example leads to Service discourse-system/discourse, which is not in " +
		"the tree"
	for name, refused := range map[string]bool{"lab": false, "live": true} {
		t.Run(name, func(t *testing.T) {
			root := copyTree(t)
			if name != "lab" {
				renameLab(t, root)
			}
			edit{
				"Pulumi." + name + ".yaml", "    ingress:\n",
				"    ingress:\n      - hostname: forum.lab.example\n" +
					"        service: http://discourse.discourse-system.svc.cluster.local:80\n",
			}.apply(t, root)
			said := ""
			if err := Check(root); err != nil {
				said = err.Error()
			}
			if strings.Contains(said, name+": "+want) != refused {
				t.Errorf("refused should be %t:\n%s", refused, said)
			}
		})
	}
}

// TestHostnames shows by which address an application knows itself, in the program and in the checks of the tree alike.
func TestHostnames(t *testing.T) {
	var list struct {
		Routes    []route           `json:"routes"`
		Variables map[string]string `json:"variables"`
	}
	if err := yaml.UnmarshalStrict([]byte(readFile(t, "testdata/hostnames.yaml")), &list); err != nil {
		t.Fatal(err)
	}
	if got := hostnames(list.Routes); len(got) == 0 || !maps.Equal(got, list.Variables) {
		t.Errorf("got %v, want %v", got, list.Variables)
	}
}
