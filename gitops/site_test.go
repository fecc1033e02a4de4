package gitops

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// newCheckout copies what of this checkout scripts/site.sh and the checks read.
func newCheckout(t *testing.T) site {
	t.Helper()
	s := newSite(t)
	s.root, s.bin = t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(s.bin, "go"), []byte(fakeGo), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"clusters", "infrastructure", "databases", "apps"} {
		if err := os.CopyFS(filepath.Join(s.root, folder), os.DirFS(filepath.Join("..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob("../Pulumi.*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stacks (%v)", err)
	}
	if err := os.Mkdir(filepath.Join(s.root, "docs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../"+unpinnedList) {
		path := filepath.Join(s.root, strings.TrimPrefix(file, "../"))
		if err := os.WriteFile(path, []byte(readFile(t, file)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Sites that somebody has made here would be in the way of the tests'.
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "../Pulumi."), ".yaml")
		if name != "production" && name != "lab" {
			s.mustRun(t, "", "site.sh", "remove", name)
		}
	}
	return s
}

// fakeGo notes what it is called with, and fails where the note says so.
const fakeGo = `#!/bin/sh
echo "$*" >>"$(dirname "$0")/calls"
[ ! -e "$(dirname "$0")/$2.fails" ] || { echo "$2 fails"; exit 1; }
`

// contents are all files below a folder.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found[strings.TrimPrefix(path, root+"/")] = readFile(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// foreign are the facts of this repository's own site, and what is encrypted for it.
var foreign = regexp.MustCompile(`(^|[^a-z.])(tinyrack\.net|time-inconnu|winetree94)|production|secure:|` +
	`encryptionsalt|192\.0\.2\.|AAAAC3|0123456789abcdef|you@|storage\.`)

// TestANewSite makes a site of another name from production's as a person has filled it in, and takes it away again.
func TestANewSite(t *testing.T) {
	s := newCheckout(t)
	fill := strings.NewReplacer(
		`accountId: ""`, "accountId: 0123456789abcdef0123456789abcdef", `zoneId: ""`, `zoneId: "0123456789abcdef"`,
		"admins: []", "admins: [you@example.net]", `address: ""`, "address: 192.0.2.10",
		`hostKey: ""`, "hostKey: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
		"bootstrapSources: []", "bootstrapSources: [192.0.2.7/32]",
		`endpoint: ""`, "endpoint: storage.example.net:9000",
	)
	filled := filepath.Join(s.root, "Pulumi.production.yaml")
	text := "encryptionsalt: v1:salt\n" + fill.Replace(readFile(t, filled)) +
		"  tinyrack:cloudflareApiToken:\n    secure: v1:abc\n"
	sealed := "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: smtp}\n"
	apps := filepath.Join(s.root, "apps/production/kustomization.yaml")
	for path, text := range map[string]string{
		filled: text, filepath.Join(s.root, "apps/production/smtp.yaml"): sealed,
		apps: strings.Replace(readFile(t, apps), "resources:\n", "resources:\n  - smtp.yaml\n", 1),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := contents(t, s.root)
	key := filepath.Join(s.safe, "acme.pem")
	args := []string{
		"new", "acme", "--zone", "example.com", "--git", "https://git.example.com/me/site.git", "--key", key, "--host", "box",
	}
	printed := s.mustRun(t, "", "site.sh", args...)
	if want := "left out, for it is sealed for production: apps/acme/smtp.yaml\n"; !strings.Contains(printed, want) {
		t.Errorf("not told what is left out:\n%s", printed)
	}
	for name, text := range contents(t, s.root) {
		if _, old := before[name]; old {
			continue
		}
		for line := range strings.Lines(text) {
			// Annotations of the checks are called after the project, wherever it runs.
			if found := foreign.FindString(line); found != "" && !strings.HasPrefix(strings.TrimSpace(line), "#") {
				t.Errorf("%s: another site's: %s", name, line)
			}
		}
	}
	// Production's own secret was made up for this test: what Check says of it is not asked here.
	var problems []string
	if err := Check(s.root); err != nil {
		for line := range strings.Lines(err.Error()) {
			if strings.HasPrefix(line, "acme") || strings.Contains(line, "/acme") {
				problems = append(problems, line)
			}
		}
	}
	if len(problems) > 0 {
		t.Errorf("the new site has problems:\n%s", strings.Join(problems, ""))
	}
	if _, complaint, ok := s.run(t, "", "site.sh", args...); ok || !strings.Contains(complaint, "is there already") {
		t.Errorf("made over itself: %s", complaint)
	}
	s.mustRun(t, "", "site.sh", "remove", "acme")
	after := contents(t, s.root)
	for name, text := range after {
		if before[name] != text {
			t.Errorf("%s is left, or was changed", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, %d before", len(after), len(before))
	}
	// With the key that is there.
	s.mustRun(t, "", "site.sh", args...)
}

// foreignToAcme is what another site of the lab is called.
var foreignToAcme = regexp.MustCompile(`[a-z]/lab\b|--stack lab|tinyrack-lab|: tinyrack$|10\.77\.0\.10\b`)

// TestANewSiteOfTheLab makes two sites that the lab can run, the second of the first, and takes them away again.
func TestANewSiteOfTheLab(t *testing.T) {
	s := newCheckout(t)
	before := contents(t, s.root)
	s.kubeseal = "/nowhere" // nothing is sealed for it here
	printed := s.mustRun(t, "", "site.sh", "new", "acme", "--from", "lab", "--host", "box")
	if !strings.Contains(printed, "make up NAME=acme runs it in the lab") || strings.Contains(printed, "pulumi") {
		t.Errorf("the next step is not told:\n%s", printed)
	}
	s.mustRun(t, "", "site.sh", "new", "other", "--from", "acme")
	if err := Check(s.root); err != nil {
		t.Errorf("the new sites have problems:\n%v", err)
	}
	// What a lab fills in is as empty as in the lab's own settings.
	empty := strings.Count(before["Pulumi.lab.yaml"], `: ""`)
	for name, want := range map[string][]string{
		"acme": {
			"\n    box:\n      address: 10.77.0.11\n", "firstServer: box\n", "tunnel: acme\n", "folder: acme\n",
			"path: ./clusters/acme\n", "certificate: clusters/acme/sealing.crt\n", "zone: lab.test\n",
			"url: https://10.77.0.1:3000/tinyrack/infrastructure.git\n", "username: tinyrack\n",
		},
		"other": {"\n    other:\n      address: 10.77.0.12\n", "firstServer: other\n", "tunnel: other\n"},
	} {
		settings := readFile(t, filepath.Join(s.root, "Pulumi."+name+".yaml"))
		for _, text := range want {
			if !strings.Contains(settings, text) {
				t.Errorf("%s: %q: not in\n%s", name, text, settings)
			}
		}
		if got := strings.Count(settings, `: ""`); got != empty {
			t.Errorf("%s: %d are empty, %d in the lab", name, got, empty)
		}
		if _, err := loadStack(s.root, name); err != nil {
			t.Error(err)
		}
	}
	for name, text := range contents(t, s.root) {
		if _, old := before[name]; old {
			continue
		}
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if foreignToAcme.MatchString(line) && line != "username: tinyrack" {
				t.Errorf("%s: another site's: %s", name, line)
			}
		}
	}
	printed = s.mustRun(t, "", "site.sh", "remove", "other")
	if !strings.Contains(printed, "that is make down.") {
		t.Errorf("not told what is left: %s", printed)
	}
	s.mustRun(t, "", "site.sh", "remove", "acme")
	if after := contents(t, s.root); !maps.Equal(after, before) {
		t.Errorf("%d files, %d before, or others", len(after), len(before))
	}
}

func TestASiteOfTheLabIsRefused(t *testing.T) {
	s := newCheckout(t)
	two := readFile(t, filepath.Join(s.root, "Pulumi.lab.yaml"))
	two = strings.Replace(two, "  tinyrack:cluster:", "    agent:\n      address: 10.77.0.11\n  tinyrack:cluster:", 1)
	if err := os.WriteFile(filepath.Join(s.root, "Pulumi.two.yaml"), []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	before := contents(t, s.root)
	const own = "the lab has its own of each"
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"git":          {[]string{"acme", "--from", "lab", "--git", "https://me:canary@example.org/a/b"}, own},
		"zone":         {[]string{"acme", "--from", "lab", "--zone", "example.org"}, own},
		"key":          {[]string{"acme", "--from", "lab", "--key", filepath.Join(s.safe, "key")}, own},
		"no such site": {[]string{"acme", "--from", "nobody"}, "--from 'nobody': no site of this checkout"},
		"no name":      {[]string{"acme", "--from", "../lab"}, "--from '../lab': no site of this checkout"},
		"two hosts":    {[]string{"acme", "--from", "two"}, "--from 'two': has not one host"},
		"itself":       {[]string{"lab", "--from", "lab"}, "Pulumi.lab.yaml: is there already"},
		"host":         {[]string{"acme", "--from", "lab", "--host", "a b"}, "--host 'a b'"},
	} {
		t.Run(name, func(t *testing.T) {
			_, complaint, ok := s.run(t, "", "site.sh", append([]string{"new"}, test.args...)...)
			if ok || !strings.Contains(complaint, test.want) || !strings.Contains(complaint, "nothing was changed") ||
				strings.Contains(complaint, "canary") {
				t.Errorf("%t: %s", ok, complaint)
			}
			if !maps.Equal(contents(t, s.root), before) {
				t.Error("something was changed")
			}
		})
	}
}

func TestANewSiteIsRefused(t *testing.T) {
	s := newCheckout(t)
	before := contents(t, s.root)
	_, complaint, ok := s.run(t, "", "site.sh", "new", "Acme", "--zone", "example", "--git", "git://host/me/site",
		"--host", "a b")
	for _, want := range []string{
		"name 'Acme'", "--zone 'example'", "--git 'git://host/me/site'", "--host 'a b'", "--key: missing",
	} {
		if ok || !strings.Contains(complaint, want) {
			t.Errorf("%s: not in\n%s", want, complaint)
		}
	}
	inside := filepath.Join(s.root, "key.pem")
	_, complaint, ok = s.run(t, "", "site.sh", "new", "acme", "--zone", "example.org",
		"--git", "https://git.example.org/a/b", "--key", inside)
	if ok || !strings.Contains(complaint, "is inside the checkout") ||
		!strings.Contains(complaint, "site: nothing was changed") {
		t.Errorf("the key in the checkout: %s", complaint)
	}
	_, complaint, ok = s.run(t, "", "site.sh", "new", "acme", "--zone", "example.org",
		"--git", "https://me:canary@git.example.org/a/b", "--key", filepath.Join(s.safe, "none/key.pem"))
	if ok || strings.Contains(complaint, "canary") || !strings.Contains(complaint, "a password stands before the host") ||
		!strings.Contains(complaint, "none: no such directory") {
		t.Errorf("a password in the URL: %s", complaint)
	}
	for _, name := range []string{"production", "lab", "nobody"} {
		if _, complaint, ok := s.run(t, "", "site.sh", "remove", name); ok {
			t.Errorf("removed %s: %s", name, complaint)
		}
	}
	for name, text := range contents(t, s.root) {
		if before[name] != text {
			t.Errorf("%s was changed by what was refused", name)
		}
	}
}

// TestANewSiteLooksAtItself: the tree is checked and the site previewed; when that fails the site stays, to be
// repaired.
func TestANewSiteLooksAtItself(t *testing.T) {
	args := []string{"new", "acme", "--zone", "example.com", "--git", "https://git.example.com/me/site.git"}
	for failing, want := range map[string]string{
		"": "", "gitops": "the tree has problems", "lab": "no preview of acme",
	} {
		s := newCheckout(t)
		if err := os.WriteFile(filepath.Join(s.bin, failing+".fails"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		printed, complaint, ok := s.run(t, "", "site.sh", append(args, "--key", filepath.Join(s.safe, "acme.pem"))...)
		if ok != (failing == "") || !strings.Contains(complaint, want) {
			t.Errorf("%q fails: %t, %s", failing, ok, complaint)
		}
		if ok != strings.Contains(printed, "pulumi preview -s acme") {
			t.Errorf("%q fails, and the next step is told: %s", failing, printed)
		}
		calls := readFile(t, filepath.Join(s.bin, "calls"))
		const check, preview = "-C gitops test -count=1 -run ^TestTree$ .\n", "-C lab run . preview acme\n"
		if calls != check+preview && (failing != "gitops" || calls != check) {
			t.Errorf("called %q", calls)
		}
		if _, err := os.Stat(filepath.Join(s.root, "Pulumi.acme.yaml")); err != nil {
			t.Error(err)
		}
	}
}

// typed runs site.sh new on a terminal, on which these lines are typed.
func (s site) typed(t *testing.T, args string, lines ...string) string {
	t.Helper()
	script, err := filepath.Abs("../scripts/site.sh")
	if err != nil {
		t.Fatal(err)
	}
	// script gives it a terminal; what is typed before it is asked for waits there.
	cmd := exec.CommandContext(t.Context(), "script", "-qec", "sh "+script+" --root "+s.root+" new"+args, "/dev/null")
	cmd.Env = append(os.Environ(), "KUBESEAL="+s.kubeseal, kubesealSwitch+"=1", "PATH="+s.bin+":"+os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return string(out)
}

// TestANewSiteOfTheLabAsks for two names alone.
func TestANewSiteOfTheLabAsks(t *testing.T) {
	s := newCheckout(t)
	out := s.typed(t, " --from lab", "lab", "acme", "a b", "box")
	for _, want := range []string{"Pulumi.lab.yaml: is there already", "--host 'a b'", "[acme]", "make up NAME=acme"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s: not in\n%s", want, out)
		}
	}
	if strings.Contains(out, "sealing key") || strings.Contains(out, "as Flux will read it") {
		t.Errorf("asked for what the lab has of its own:\n%s", out)
	}
	if settings := readFile(t, filepath.Join(s.root, "Pulumi.acme.yaml")); !strings.Contains(settings, "\n    box:\n") {
		t.Errorf("no such machine in\n%s", settings)
	}
}

// TestANewSiteAsks answers the questions on a terminal, some of them wrong at first, for a repository over SSH.
func TestANewSiteAsks(t *testing.T) {
	s := newCheckout(t)
	out := s.typed(t, "",
		"Acme", "production", "acme", "example", "example.org", "https://git.example.org", "git@git.example.org:me/site.git",
		"a b", "", filepath.Join(s.root, "key.pem"), filepath.Join(s.safe, "acme.pem"),
	)
	for _, want := range []string{
		"name 'Acme'", "Pulumi.production.yaml: is there already", "--zone 'example'", "--git 'https://git.example.org'",
		"--host 'a b'", "is inside the checkout", "[acme]",
		"tinyrack:gitSshKey --stack acme < " + s.safe + "/acme-deploy-key",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%s: not in\n%s", want, out)
		}
	}
	settings := readFile(t, filepath.Join(s.root, "Pulumi.acme.yaml"))
	for _, want := range []string{
		"    url: ssh://git@git.example.org/me/site.git\n    knownHosts: \"\"", "zone: example.org\n", "\n    acme:\n",
	} {
		if !strings.Contains(settings, want) {
			t.Errorf("%q: not in\n%s", want, settings)
		}
	}
	key, err := os.Stat(filepath.Join(s.safe, "acme-deploy-key"))
	if err != nil || key.Mode().Perm() != 0o600 {
		t.Fatalf("the deploy key: %v, %v", key, err)
	}
	public := readFile(t, filepath.Join(s.safe, "acme-deploy-key.pub"))
	shown := strings.Contains(out, strings.Join(strings.Fields(public)[:2], " "))
	if !shown || strings.Contains(out, "PRIVATE") {
		t.Errorf("the public half is not shown, or the private one is:\n%s", out)
	}
}
