package site

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/layout"
)

func TestGitIsTheLabsOwn(t *testing.T) {
	s := &Site{Layout: layout.Layout{Stack: "lab", State: "/state", Checkout: "/checkout"}, Token: "secret"}
	cmd := s.git(t.Context(), "push", "--quiet", layout.GitURL, "main:main")
	want := []string{
		"git", "-c", "user.name=tinyrack lab", "-c", "user.email=lab@lab.test", "-c", "core.hooksPath=/dev/null", "-c",
		"gc.auto=0",
		"-c", "safe.directory=*", "-c", "credential.helper=", "-c", "credential.helper=store --file=/state/git-credentials",
		"--git-dir=/state/site/.git", "--work-tree=/state/site",
		"push", "--quiet", "https://10.77.0.1:3000/tinyrack/infrastructure.git", "main:main",
	}
	if !slices.Equal(cmd.Args, want) {
		t.Errorf("got  %q\nwant %q", cmd.Args, want)
	}
	for _, want := range []string{
		"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_SSL_CAINFO=/state/tls/ca.crt",
	} {
		if !slices.Contains(cmd.Env, want) {
			t.Errorf("%s is not set", want)
		}
	}
	if cmd.Dir != "/state/site" || strings.Contains(strings.Join(cmd.Args, " ")+strings.Join(cmd.Env, " "), "secret") {
		t.Errorf("it runs in %s, or shows the token", cmd.Dir)
	}
	if got := credentials("secret"); got != "https://tinyrack:secret@10.77.0.1:3000\n" {
		t.Errorf("the credentials are %q", got)
	}
}

func TestSealingKeyScript(t *testing.T) {
	s := &Site{Layout: layout.Layout{Stack: "lab", State: "/state", Checkout: "/checkout"}, Kubeseal: "/kubeseal"}
	for there, want := range map[bool]string{
		false: "/checkout/scripts/sealing-key.sh lab --root /state/site --out /state/sealing.pem",
		true:  "/checkout/scripts/sealing-key.sh lab --root /state/site --key /state/sealing.pem",
	} {
		cmd := s.sealingKey(t.Context(), there)
		if got := strings.Join(cmd.Args, " "); got != want || !slices.Contains(cmd.Env, "KUBESEAL=/kubeseal") {
			t.Errorf("with a key: %v:\n got %s\nwant %s", there, got, want)
		}
	}
	if got := s.Certificate(); got != "/state/site/clusters/lab/sealing.crt" {
		t.Errorf("the certificate is %s", got)
	}
}

// newSite is a checkout with a script that seals like the operator's, and a git server that is a bare repository: git
// is told so by its own settings, so that the site's commands stay as they are.
func newSite(t *testing.T) (s *Site, server string) {
	t.Helper()
	s = &Site{Layout: layout.Layout{Stack: "lab", State: t.TempDir(), Checkout: t.TempDir()}, Token: "secret"}
	server = filepath.Join(t.TempDir(), "server.git")
	git(t, "init", "--quiet", "--bare", "--initial-branch=main", server)
	t.Setenv("GIT_CONFIG_COUNT", "2")
	t.Setenv("GIT_CONFIG_KEY_0", "url."+server+".insteadOf")
	t.Setenv("GIT_CONFIG_VALUE_0", layout.GitURL)
	t.Setenv("GIT_CONFIG_KEY_1", "safe.directory")
	t.Setenv("GIT_CONFIG_VALUE_1", "*")
	s.write(t, "clusters/lab/sealing.crt", "the checkout's own")
	s.write(t, "infrastructure/configs/lab/canary.yaml", "the checkout's own")
	s.write(t, "apps/lab/kustomization.yaml", "one")
	s.write(t, "scripts/sealing-key.sh", `#!/bin/sh
set -eu
[ "$4" = --out ] && echo key > "$5"
[ -s "$5" ]
grep -q lab "$3/clusters/lab/sealing.crt" && exit 0
echo "sealed for lab" | tee "$3/clusters/lab/sealing.crt" > "$3/infrastructure/configs/lab/canary.yaml"
`)
	if err := os.Chmod(filepath.Join(s.Checkout, "scripts/sealing-key.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	return s, server
}

func (s *Site) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.Checkout, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func git(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"-c", "user.name=other", "-c", "user.email=other@lab.test"}, args...)
	out, err := exec.Command("git", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestSeed(t *testing.T) {
	s, server := newSite(t)
	seed := func() (head string) {
		t.Helper()
		if err := s.Seed(t.Context()); err != nil {
			t.Fatal(err)
		}
		return git(t, "--git-dir="+server, "rev-parse", "main")
	}
	show := func(name string) string { return git(t, "--git-dir="+server, "show", "main:"+name) }

	first := seed()
	if show("apps/lab/kustomization.yaml") != "one" || show("clusters/lab/sealing.crt") != "sealed for lab" {
		t.Error("the git server does not hold the checkout, sealed for the lab")
	}
	if info, err := os.Stat(s.GitCredentials()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the credentials have mode %v, %v", info.Mode(), err)
	}
	if again := seed(); again != first {
		t.Error("a second run pushed something")
	}

	// A commit that somebody pushed stays below what the checkout changes next.
	clone := filepath.Join(t.TempDir(), "clone")
	git(t, "clone", "--quiet", server, clone)
	git(t, "-C", clone, "commit", "--quiet", "--allow-empty", "--message", "by hand")
	git(t, "-C", clone, "push", "--quiet", server, "HEAD:main")
	byHand := git(t, "-C", clone, "rev-parse", "HEAD")
	if now := seed(); now != byHand {
		t.Error("an unchanged checkout took back what was pushed")
	}
	s.write(t, "apps/lab/kustomization.yaml", "two")
	seed()
	git(t, "--git-dir="+server, "merge-base", "--is-ancestor", byHand, "main")
	if show("apps/lab/kustomization.yaml") != "two" || show("infrastructure/configs/lab/canary.yaml") != "sealed for lab" {
		t.Error("the change of the checkout did not arrive, or the lab's seals were lost")
	}
}

// The settings are committed as the site's own, once; the checkout that comes later does not lose them for long.
func TestFill(t *testing.T) {
	s, server := newSite(t)
	if err := s.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "Pulumi.lab.yaml")
	fill := func(text string) (head string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Fill(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		return git(t, "--git-dir="+server, "rev-parse", "main")
	}
	first := fill("certificate: " + s.Certificate() + "\n")
	if got := git(t, "--git-dir="+server, "show", "main:Pulumi.lab.yaml"); got != "certificate: clusters/lab/sealing.crt" {
		t.Errorf("the git server holds %q", got)
	}
	if again := fill("certificate: " + s.Certificate() + "\n"); again != first {
		t.Error("a second run pushed something")
	}
	if changed := fill("other: 1\n"); changed == first {
		t.Error("other settings are not pushed")
	}
	s.write(t, "apps/lab/kustomization.yaml", "two")
	if err := s.Seed(t.Context()); err != nil {
		t.Fatal(err)
	}
	fill("other: 1\n")
	if got := git(t, "--git-dir="+server, "show", "main:Pulumi.lab.yaml"); got != "other: 1" {
		t.Errorf("after another checkout it holds %q", got)
	}
}

func TestAScriptThatFailsIsShown(t *testing.T) {
	s, server := newSite(t)
	s.write(t, "scripts/sealing-key.sh", "#!/bin/sh\necho the reason >&2; exit 1\n")
	if err := s.Seed(t.Context()); err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("got %v", err)
	}
	if out, err := exec.Command("git", "--git-dir="+server, "rev-parse", "--verify", "main").CombinedOutput(); err == nil {
		t.Errorf("a site without its seals was pushed: %s", out)
	}
}
