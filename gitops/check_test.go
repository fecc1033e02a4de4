package gitops

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// checkTools are the programs that check.sh calls. Each says how it was called and fails where FAIL stands in its call;
// go "installs" a linter like that.
const checkTools = `#!/bin/sh
line="$(basename "$0") $* in $(basename "$PWD")"
printf '%s\n' "$line" >>"$CALLS"
case $line in *"${FAIL:-nothing fails}"*) exit 1 ;; esac
case $line in
"go env GOVERSION"*) echo go1.99 ;;
"go install "*) cp "$0" "$GOBIN/golangci-lint" ;;
esac
`

// TestCheckReportsEveryProblem shows that a problem of any tool, in any module and any script, fails make check, after
// the other tools had their turn.
func TestCheckReportsEveryProblem(t *testing.T) {
	clean := []string{
		"shellcheck --external-sources --shell=bash ./.ci/run",
		"shellcheck --external-sources --shell=sh ./scripts/check.sh",
		"shellcheck --external-sources --shell=sh ./scripts/pin",
		"shellcheck --external-sources --shell=sh ./scripts/tools.sh",
		"yamllint --strict .",
		"golangci-lint run ./... in checkout",
		"golangci-lint run ./... in lab",
		"golangci-lint run ./... in gitops",
		"golangci-lint run ./... in ci",
	}
	for _, broken := range append([]string{""}, clean...) {
		t.Run(broken, func(t *testing.T) {
			calls, said, ok := runCheck(t, broken)
			for _, want := range clean {
				if !slices.ContainsFunc(calls, func(call string) bool { return strings.HasPrefix(call, want) }) {
					t.Errorf("%s: not run", want)
				}
			}
			if ok != (broken == "") || strings.Contains(said, "all clean") != ok {
				t.Errorf("ok=%v, said:\n%s", ok, said)
			}
		})
	}
}

// runCheck runs check.sh in a checkout of its own and returns the calls of the tools, the linter by its own name.
func runCheck(t *testing.T, fail string) (calls []string, said string, ok bool) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "checkout")
	bin, cache, log := filepath.Join(root, "../bin"), filepath.Join(root, "../cache"), filepath.Join(root, "../calls")
	for _, folder := range []string{"scripts", "lab", "gitops", "ci", ".ci", "../bin"} {
		if err := os.MkdirAll(filepath.Join(root, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"scripts/check.sh", "scripts/pin", "scripts/tools.sh", ".ci/run"} {
		put(t, filepath.Join(root, name), readFile(t, filepath.Join("..", name)))
	}
	for _, name := range []string{"go", "shellcheck", "yamllint"} {
		put(t, filepath.Join(bin, name), strings.ReplaceAll(checkTools, `$(basename "$0")`,
			`$(basename "$0" | sed 's/^\(golangci-lint\).*/\1/')`))
	}
	command := exec.Command("sh", filepath.Join(root, "scripts/check.sh"))
	command.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "XDG_CACHE_HOME="+cache, "CALLS="+log)
	if fail != "" {
		command.Env = append(command.Env, "FAIL="+fail)
	}
	output, err := command.CombinedOutput()
	return strings.Split(readFile(t, log), "\n"), string(output), err == nil
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}
