package preview

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/pulumi"
)

func TestBuild(t *testing.T) {
	cmd := build(t.Context(), "/checkout")
	if got := strings.Join(cmd.Args, " "); got != "go build -o /checkout/.bin/tinyrack ." || cmd.Dir != "/checkout" {
		t.Errorf("in %s: %s", cmd.Dir, got)
	}
}

func TestJudge(t *testing.T) {
	secrets := map[string]string{"gitToken": "canary"}
	for printed, want := range map[string]string{
		"stack lab is this site:\n    + 51 to create\n":       "",
		"stack other is this site:\n    + 51 to create\n":     "the preview of lab does not say what site it is",
		"Resources: 3 unchanged\n":                            "the preview of lab plans nothing",
		"stack lab is this site: canary\n    + 1 to create\n": "the preview of lab prints a secret",
	} {
		err := judge("lab", printed, secrets)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", printed, err, want)
		}
	}
}

// The stack runs isolated, with what it leaves empty filled, and a failure shows what was printed. A program stands for
// Pulumi, and for unshare, which not everyone may call.
func TestStack(t *testing.T) {
	checkout, bin := t.TempDir(), t.TempDir()
	config := "config:\n  tinyrack:cloudflare: {accountId: '', zone: example.com}\n"
	for path, text := range map[string]string{
		filepath.Join(checkout, "Pulumi.acme.yaml"): config,
		filepath.Join(bin, "unshare"): `#!/bin/sh
while [ "${1##*/}" != pulumi ]; do shift; done
ISOLATED=yes exec "$@"
`,
		filepath.Join(bin, "pulumi"): `#!/bin/sh
[ "$ISOLATED" = yes ] || exit 9
[ "$1" = preview ] || exit 0
while [ "$1" != --config-file ]; do shift; done
grep -Eq 'accountId: "?[0-9a-f]{32}' "$2" || { echo "not filled"; exit 1; }
grep -q "zone: example.com" "$2" || { echo "changed"; exit 1; }
grep -q "tinyrack:gitToken" "$2" || { echo "no secrets"; exit 1; }
` + "echo 'stack acme is this site:'; echo '" + "    + 3 to create'\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	plugins := pulumi.Plugins{Versions: map[string]string{"random": "v1.0.0"}, Doubles: "/doubles"}
	if err := Stack(t.Context(), checkout, "acme", filepath.Join(bin, "pulumi"), plugins); err != nil {
		t.Error(err)
	}
	failing := filepath.Join(bin, "failing")
	script := "#!/bin/sh\n[ \"$1\" = preview ] || exit 0\necho the reason; exit 1\n"
	if err := os.WriteFile(failing, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Stack(t.Context(), checkout, "acme", failing, plugins); err == nil ||
		!strings.Contains(err.Error(), "the reason") {
		t.Errorf("a preview that fails: %v", err)
	}
}
