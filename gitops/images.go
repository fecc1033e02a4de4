package gitops

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// builtHere is the zone of the environments that the lab runs, under whatever name. It builds their images itself:
// their digests are its own, and in no registry. No domain ends in .test (RFC 6761), so no site with visitors has it.
const builtHere = "lab.test"

// unpinnedList is the document that lists the images for which nobody has looked their digest up yet.
const unpinnedList = "docs/images.md"

// checkImages looks at every image of an object, wherever it is: "image" and "imageName" fields, maps with a
// repository, as chart values have, and those that a Kustomization puts in, by name or by a patch.
func (e *environment) checkImages(o object) {
	walk(o.Object, func(node map[string]any) {
		for _, field := range []string{"image", "imageName"} {
			if image, ok := node[field].(string); ok {
				e.checkImage(o, image)
			}
		}
		if name, ok := node["newName"].(string); ok && o.GetKind() == "Kustomization" {
			tag, _ := node["newTag"].(string)
			e.checkImage(o, name+":"+tag+digestOf(node))
		}
		if patch, ok := node["patch"].(string); ok && o.GetKind() == "Kustomization" {
			for _, match := range patchedImage.FindAllStringSubmatch(patch, -1) {
				e.checkImage(o, match[1])
			}
		}
		if repository, ok := node["repository"].(string); ok && o.GetKind() == "HelmRelease" {
			registry, _ := node["registry"].(string)
			tag, _ := node["tag"].(string)
			e.checkImage(o, strings.TrimPrefix(registry+"/"+repository, "/")+":"+tag+digestOf(node))
		}
	})
}

// digestOf is the end of an image's name that its digest makes, where a map with its parts has one.
func digestOf(node map[string]any) string {
	if digest, _ := node["digest"].(string); digest != "" {
		return "@" + digest
	}
	return ""
}

// patchedImage is a value in a patch that is an image.
var patchedImage = regexp.MustCompile(`(?m)^ *value: ([a-z0-9.-]+\.[a-z]+/[a-z0-9./_-]+(?::[A-Za-z0-9._-]+)?(?:@\S+)?)$`)

func (e *environment) checkImage(o object, image string) {
	if problem := imageProblem(image); problem != "" {
		e.problem(o.layer, "%s: image %q %s", o.id(), image, problem)
		return
	}
	if e.zone == builtHere || strings.Contains(image, "@") {
		return
	}
	e.tree.unpinned = append(e.tree.unpinned, image)
	if !slices.Contains(e.tree.listed, image) {
		e.problem(o.layer, "%s: image %q has no digest: its registry could serve something else under the same tag: pin it, "+
			"or list it in %s", o.id(), image, unpinnedList)
	}
}

// imageProblem says what is wrong with an image reference, or nothing.
func imageProblem(image string) string {
	name, digest, hasDigest := strings.Cut(image, "@")
	registry, path, _ := strings.Cut(name, "/")
	_, tag, _ := strings.Cut(path, ":")
	switch {
	case path == "" || !strings.ContainsAny(registry, ".:"):
		return "names no registry: each node would choose one: write it in full, as in docker.io/library/…"
	case hasDigest && !strings.HasPrefix(digest, "sha256:"):
		return "has a malformed digest: no node could pull it"
	case tag == "" && !hasDigest:
		return "has no tag: it would be latest, something else on every pull: pin a version"
	case tag == "latest":
		return "is not pinned: latest is something else on every pull: pin a version"
	}
	return ""
}

var listedImage = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// loadListed reads the list of images without a digest. A tree without one lists none.
func (t *tree) loadListed() {
	text, err := os.ReadFile(filepath.Join(t.root, unpinnedList))
	if err != nil {
		return
	}
	for _, match := range listedImage.FindAllStringSubmatch(string(text), -1) {
		t.listed = append(t.listed, match[1])
	}
}

// checkListed finds what is on the list and needs to be there no more.
func (t *tree) checkListed() {
	for _, image := range t.listed {
		if !slices.Contains(t.unpinned, image) && !t.partial {
			t.problem("%s: lists %s, which nothing in the tree takes without a digest: remove the line", unpinnedList, image)
		}
	}
}
