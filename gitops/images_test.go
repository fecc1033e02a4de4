package gitops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDigests looks at an environment that takes its images from registries.
func TestDigests(t *testing.T) {
	const (
		list    = "docs/images.md"
		listing = "| image | pin it with |\n|---|---|\n| `docker.io/neosmemo/memos:0.25.0` | `x` |\n"
		chart   = "| `docker.io/bitnami/sealed-secrets-controller:0.40.0` | `x` |\n"
		digest  = "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	)
	unpinned := func(where, image string) string {
		return `live: ` + where + `: image "` + image + `" has no digest: its registry could serve something else under ` +
			`the same tag: pin it, or list it in docs/images.md`
	}
	chartUnpinned := unpinned("infrastructure-controllers: HelmRelease sealed-secrets/sealed-secrets",
		"docker.io/bitnami/sealed-secrets-controller:0.40.0")
	for name, test := range map[string]struct {
		edits []edit
		want  []string
	}{
		"neither pinned nor listed": {want: []string{
			chartUnpinned, unpinned("apps: Deployment memos-system/memos", "docker.io/neosmemo/memos:0.25.0"),
		}},
		"listed": {edits: []edit{{list, "", listing + chart}}},
		"pinned": {edits: []edit{
			{deployment, "memos:0.25.0", "memos:0.25.0@" + digest},
			{release, "tag: 0.40.0", "tag: 0.40.0\n      digest: " + digest},
		}},
		"pinned, and listed still": {
			edits: []edit{{list, "", listing + chart}, {deployment, "memos:0.25.0", "memos:0.25.0@" + digest}},
			want: []string{"docs/images.md: lists docker.io/neosmemo/memos:0.25.0, which nothing in the tree takes without a " +
				"digest: remove the line"},
		},
		"listed with another tag": {
			edits: []edit{{list, "", strings.Replace(listing, "0.25.0", "0.24.0", 1) + chart}},
			want: []string{
				unpinned("apps: Deployment memos-system/memos", "docker.io/neosmemo/memos:0.25.0"),
				"docs/images.md: lists docker.io/neosmemo/memos:0.24.0, which nothing in the tree takes without a digest: " +
					"remove the line",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := copyTree(t)
			renameLab(t, root)
			for _, e := range test.edits {
				e.apply(t, root)
			}
			says(t, root, test.want)
		})
	}
}

// renameLab makes another environment of the lab, with a zone of its own.
func renameLab(t *testing.T, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text := strings.NewReplacer("/lab\n", "/live\n", builtHere, "live.example").Replace(readFile(t, path))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"clusters/lab", "infrastructure/controllers/lab", "infrastructure/configs/lab", "infrastructure/connectors/lab",
		"apps/lab", "databases/lab", "Pulumi.lab.yaml",
	} {
		renamed := filepath.Join(filepath.Dir(path), strings.Replace(filepath.Base(path), "lab", "live", 1))
		if err := os.Rename(filepath.Join(root, path), filepath.Join(root, renamed)); err != nil {
			t.Fatal(err)
		}
	}
}
