package changes

import (
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	stacks := []string{"production", "lab"}
	for files, want := range map[string]string{
		"":                                       "",
		"README.md docs/lab.md":                  "",
		"LICENSE Makefile .gitignore .ci/run":    "",
		"lab/up.go gitops/build.go ci/main.go":   "",
		"stacks/config_test.go":                  "",
		"stacks/testdata/valid/minimal.yaml":     "",
		"components/k3s/README.md":               "",
		".github/workflows/preview.yaml":         "",
		"Pulumi.lab.yaml":                        "lab tree",
		"Pulumi.gone.yaml":                       "tree",
		"Pulumi.yaml":                            "lab production",
		"go.sum":                                 "lab production",
		"components/k3s/install.sh docs/lab.md":  "lab production",
		"policy.hujson":                          "lab production",
		"documents":                              "lab production",
		"apps/base/memos/deployment.yaml":        "tree",
		"apps":                                   "lab production",
		"clusters/lab/apps.yaml":                 "tree",
		"clusters/lab/sealing.crt":               "lab tree",
		"clusters/gone/sealing.crt":              "tree",
		"apps/lab/a.yaml Pulumi.production.yaml": "production tree",
	} {
		touched := Of(strings.Fields(files), stacks)
		got := touched.Stacks
		if touched.Tree {
			got = append(got, "tree")
		}
		if strings.Join(got, " ") != want || touched.None() != (want == "") {
			t.Errorf("%s touches %v, want %s", files, got, want)
		}
	}
}
