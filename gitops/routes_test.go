package gitops

import (
	"maps"
	"strings"
	"testing"
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

// TestHostnames shows by which address an application knows itself.
func TestHostnames(t *testing.T) {
	got := hostnames([]route{
		{Hostname: "a.lab.test", Path: "/admin", Service: "http://blog.blog-system.svc.cluster.local:2368"},
		{Hostname: "*.lab.test", Service: "http://blog.blog-system.svc.cluster.local:2368"},
		{Hostname: "b.lab.test", Service: "http://blog.blog-system.svc.cluster.local:2368"},
		{Hostname: "c.lab.test", Service: "https://blog.blog-system.svc/"},
		{Hostname: "d.lab.test", Service: "http://my-wiki.wiki.svc.cluster.local"},
		{Hostname: "e.lab.test", Service: "http://twice.one.svc.cluster.local"},
		{Hostname: "f.lab.test", Service: "http://twice.two.svc.cluster.local"},
		{Hostname: "g.lab.test", Service: "http://twice.one.svc.cluster.local"},
		{Hostname: "h.lab.test", Service: "http://192.0.2.1:8080"},
	})
	if want := map[string]string{"hostname_blog": "b.lab.test", "hostname_my_wiki": "d.lab.test"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
