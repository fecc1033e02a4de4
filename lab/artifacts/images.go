package artifacts

import "strings"

// Busybox is the image that the local-path provisioner runs to make and remove a volume's folder. It is the only one
// with a shell.
const Busybox = "docker.io/rancher/mirrored-library-busybox:1.36.1"

// images are the container images of the lab under the names that the manifests ask for. built maps a program's name to
// its path.
func images(built map[string]string, pause, busybox, fluxManifests string) []Image {
	list := []Image{
		{
			Ref: "docker.io/rancher/mirrored-pause:3.6", Files: map[string]string{"pause": pause}, Entrypoint: []string{"/pause"}, User: "65534:65534",
		},
		corednsImage("1.12.0", built["coredns"]),
		localPathImage(localPathModule.Version, built["local-path-provisioner"]),
		busyboxImage(busybox),
		{
			Ref: fluxOperator.image(),
			Files: map[string]string{
				"flux-operator": built["flux-operator"],
				"data":          fluxManifests,
			}, Entrypoint: []string{"/flux-operator"}, User: "65532:65532",
			// Upstream builds with a FIPS module; without it the operator refuses to start.
			Env: []string{"GODEBUG=fips140=on"},
		},
		{
			Ref:   sealedSecrets.image(),
			Files: map[string]string{"usr/local/bin/controller": built["sealed-secrets"]}, Entrypoint: []string{"controller"}, User: "1001",
		},
		{
			Ref:   "docker.io/neosmemo/memos:" + strings.TrimPrefix(MemosVersion, "v"),
			Files: map[string]string{"usr/local/memos/memos": built["memos"]}, Entrypoint: []string{"/usr/local/memos/memos"}, WorkDir: "/usr/local/memos",
			Env: []string{"MEMOS_PORT=5230"},
		},
	}
	list = append(list,
		Image{
			Ref: cnpg.image(),
			// An instance's pod copies it from there.
			Files: map[string]string{"operator/manager_" + arch: built[cnpg.Name]}, User: "65532:65532",
			Links: map[string]string{"manager": "operator/manager_" + arch}, Entrypoint: []string{"/manager"},
		},
		Image{
			Ref:   barmanPlugin.image(),
			Files: map[string]string{"manager": built[barmanPlugin.Name]}, Entrypoint: []string{"/manager"}, User: "65532:65532",
		},
	)
	list = append(list, Image{
		Ref:   mariadb.image(),
		Files: map[string]string{"bin/mariadb-operator": built[mariadb.Name]}, Entrypoint: []string{"/bin/mariadb-operator"},
		User: "65532:65532",
	})
	list = append(list, Image{
		Ref:   "docker.io/cloudflare/cloudflared:" + CloudflaredVersion,
		Files: map[string]string{"usr/local/bin/cloudflared": built["cloudflared"]}, User: "65532:65532",
		Entrypoint: []string{"cloudflared", "--no-autoupdate"},
	})
	for _, b := range []Binary{metallbController, metallbSpeaker} {
		list = append(list, Image{
			Ref:   b.image(),
			Files: map[string]string{b.Release.Member: built[b.Name]}, Entrypoint: []string{"/" + b.Release.Member},
		})
	}
	for _, b := range fluxControllers {
		list = append(list, Image{
			Ref:   b.image(),
			Files: map[string]string{"usr/local/bin/" + b.Name: built[b.Name]}, Entrypoint: []string{b.Name}, User: "65532:65532",
		})
	}
	return list
}

// The tags are those that k3s' own manifests ask for.
func corednsImage(tag, program string) Image {
	return Image{
		Ref:   "docker.io/rancher/mirrored-coredns-coredns:" + tag,
		Files: map[string]string{"coredns": program}, Entrypoint: []string{"/coredns"},
	}
}

func localPathImage(tag, program string) Image {
	return Image{
		Ref:   localPathRepository + ":" + tag,
		Files: map[string]string{"usr/bin/local-path-provisioner": program},
	}
}

func busyboxImage(busybox string) Image {
	links := map[string]string{}
	for _, tool := range []string{"sh", "mkdir", "rm", "chmod", "ls", "cat", "sleep", "sync"} {
		links["bin/"+tool] = "busybox"
	}
	return Image{
		Ref:   Busybox,
		Files: map[string]string{"bin/busybox": busybox}, Links: links, Entrypoint: []string{"/bin/sh"},
	}
}
