package gitops

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// site is a checkout, a key of its operator, and a kubeseal for the scripts.
type site struct {
	root     string // the checkout
	safe     string // the operator's own folder
	kubeseal string // what the scripts are told to use
	bin      string // programs of the test, if any, that they find before others
}

func newSite(t *testing.T) site {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return site{root: copyTree(t), safe: t.TempDir(), kubeseal: self}
}

// run executes the committed text of a script and returns what it printed.
func (s site) run(t *testing.T, stdin, script string, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	args = append([]string{filepath.Join("../scripts", script), "--root", s.root}, args...)
	command := exec.Command("sh", args...)
	command.Env = append(os.Environ(), "KUBESEAL="+s.kubeseal, kubesealSwitch+"=1")
	if s.bin != "" {
		command.Env = append(command.Env, "PATH="+s.bin+":"+os.Getenv("PATH"))
	}
	command.Stdin = strings.NewReader(stdin)
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	err := command.Run()
	return out.String(), problems.String(), err == nil
}

func (s site) mustRun(t *testing.T, stdin, script string, args ...string) string {
	t.Helper()
	stdout, stderr, ok := s.run(t, stdin, script, args...)
	if !ok {
		t.Fatalf("%s %v failed:\n%s", script, args, stderr)
	}
	return stdout
}

// keep writes a file into the operator's folder and returns its path.
func (s site) keep(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(s.safe, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func rsaPEM(t *testing.T, bits int) (*rsa.PrivateKey, string) {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0") // the refusal of a short key needs a short key
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func ecPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func readRSA(t *testing.T, path string) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(readFile(t, path)))
	if block == nil {
		t.Fatalf("%s is not PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// opened decrypts every value of a SealedSecret manifest, which must be for the scope.
func opened(t *testing.T, key *rsa.PrivateKey, scope, manifest string) map[string]string {
	t.Helper()
	type metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Annotations map[string]string `json:"annotations"`
	}
	var sealed struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Metadata   metadata `json:"metadata"`
		Spec       struct {
			EncryptedData map[string]string `json:"encryptedData"`
			Template      struct {
				Metadata metadata `json:"metadata"`
				Type     string   `json:"type"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err := yaml.UnmarshalStrict([]byte(manifest), &sealed); err != nil {
		t.Fatal(err)
	}
	for _, m := range []metadata{sealed.Metadata, sealed.Spec.Template.Metadata} {
		if m.Namespace+"/"+m.Name != scope {
			t.Errorf("the manifest is for %s/%s, want %s", m.Namespace, m.Name, scope)
		}
	}
	values := map[string]string{}
	for name, value := range sealed.Spec.EncryptedData {
		plain, err := unseal(key, scope, value)
		if err != nil {
			t.Fatalf("%s does not open as %s: %v", name, scope, err)
		}
		values[name] = string(plain)
	}
	return values
}

func (s site) certificate() string { return filepath.Join(s.root, "clusters/lab/sealing.crt") }
func (s site) canary() string      { return filepath.Join(s.root, canary) }

func TestSealingKeyNew(t *testing.T) {
	s := newSite(t)
	out := filepath.Join(s.safe, "private.pem")
	printed := s.mustRun(t, "", "sealing-key.sh", "lab", "--out", out)

	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the private key has mode %o, want 600", info.Mode().Perm())
	}
	key := readRSA(t, out)
	if key.N.BitLen() != 4096 {
		t.Errorf("the key has %d bits, want 4096", key.N.BitLen())
	}
	for _, line := range strings.Split(strings.TrimSpace(readFile(t, out)), "\n")[1:] {
		if strings.Contains(printed, line) {
			t.Fatal("the private key was printed")
		}
	}
	if err := Check(s.root); err != nil {
		t.Errorf("the tree has problems afterwards:\n%v", err)
	}
	if got := opened(t, key, "sealed-secrets/canary", readFile(t, s.canary()))["message"]; got != "sealed for lab" {
		t.Errorf("the canary says %q", got)
	}
	left, _ := filepath.Glob(filepath.Join(s.safe, ".sealing-key.*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	for _, file := range []string{s.certificate(), s.canary()} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s is not readable like its neighbours: %v, %v", file, info.Mode(), err)
		}
	}

	certificate, before := readFile(t, s.certificate()), readFile(t, s.canary())
	s.mustRun(t, "", "sealing-key.sh", "lab", "--key", out)
	if readFile(t, s.certificate()) != certificate || readFile(t, s.canary()) != before {
		t.Error("a second run with the same key changed the tree")
	}
}

// TestSealingKeyRenewsTheCertificate gives the script a certificate of its key that ends in ten days.
func TestSealingKeyRenewsTheCertificate(t *testing.T) {
	s := newSite(t)
	key, text := rsaPEM(t, 2048)
	end := time.Now().Add(10 * 24 * time.Hour)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	short := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if err := os.WriteFile(s.certificate(), []byte(short), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mustRun(t, "", "sealing-key.sh", "lab", "--key", s.keep(t, "key.pem", text))
	block, _ := pem.Decode([]byte(readFile(t, s.certificate())))
	renewed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if !renewed.NotAfter.After(time.Now().Add(9 * 365 * 24 * time.Hour)) {
		t.Errorf("the certificate ends on %v", renewed.NotAfter)
	}
}

func TestSealingKeyFromBackup(t *testing.T) {
	s := newSite(t)
	key, text := rsaPEM(t, 2048)
	backup := s.keep(t, "main.key.yaml", manifest(text))
	out := filepath.Join(s.safe, "private.pem")
	s.mustRun(t, "", "sealing-key.sh", "lab", "--key", backup, "--out", out)
	if !readRSA(t, out).Equal(key) {
		t.Error("the key written is not the key of the backup")
	}
	if got := opened(t, key, "sealed-secrets/canary", readFile(t, s.canary()))["message"]; got != "sealed for lab" {
		t.Errorf("the canary says %q", got)
	}
}

func TestSealingKeyNamesStaleSecrets(t *testing.T) {
	s := newSite(t)
	stale := []string{"clusters/lab", "infrastructure/configs/lab", "databases/lab", "apps/lab"}
	for i, dir := range stale {
		stale[i] = filepath.Join(s.root, dir, "token.yaml")
		text := s.mustRun(t, "value", "seal.sh", "lab", "memos-system", "memos-token", "token")
		if err := errors.Join(os.MkdirAll(filepath.Dir(stale[i]), 0o755),
			os.WriteFile(stale[i], []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	_, text := rsaPEM(t, 2048)
	printed := s.mustRun(t, "", "sealing-key.sh", "lab", "--key", s.keep(t, "other.pem", text))
	if !strings.Contains(printed, "sealed with another key, seal them again with scripts/seal.sh:\n") {
		t.Errorf("printed:\n%s", printed)
	}
	for _, file := range stale {
		if !strings.Contains(printed, "\n  "+resolve(t, file)+"\n") {
			t.Errorf("printed:\n%s\nwithout %s", printed, file)
		}
	}
}

func resolve(t *testing.T, path string) string {
	t.Helper()
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		t.Fatal(err)
	}
	return resolved
}

// manifest is what kubectl get secret -o yaml shows of sealing keys.
func manifest(keys ...string) string {
	text := "apiVersion: v1\nitems:\n"
	for _, key := range keys {
		text += "- apiVersion: v1\n  data:\n    tls.crt: QQ==\n    " +
			"tls.key: " + base64.StdEncoding.EncodeToString([]byte(key)) + "\n  kind: Secret\n"
	}
	return text + "kind: List\n"
}

func TestSealingKeyRefusals(t *testing.T) {
	_, good := rsaPEM(t, 2048)
	_, short := rsaPEM(t, 1024)
	tests := map[string]struct {
		key  string // content of the file given as --key
		args []string
		want string
	}{
		"nothing to do": {args: []string{"lab"}, want: "usage: "},
		"key exists": {key: good, args: []string{"lab", "--out", "KEY"}, want: "sealing-key: KEY exists: nothing was " +
			"changed: a private key is never overwritten; choose another file, or take this one with --key\n"},
		"out in the checkout": {
			args: []string{"lab", "--out", "ROOT/private.pem"},
			want: "sealing-key: ROOT/private.pem is inside the checkout, one git add away from being published: nothing was " +
				"changed: choose a place outside\n",
		},
		"no such environment": {
			args: []string{"moon", "--out", "SAFE/new.pem"},
			want: "sealing-key: ROOT/clusters/moon: no such directory: nothing was changed: is 'moon' an environment of this " +
				"checkout?\n",
		},
		"no such key": {args: []string{"lab", "--key", "SAFE/none"}, want: "sealing-key: SAFE/none: cannot be read: " +
			"nothing was changed\n"},
		"not a key": {
			key: "-----BEGIN nothing-----\n", args: []string{"lab", "--key", "KEY"},
			want: "sealing-key: KEY: not an unencrypted private key: nothing was changed: give a PEM file or a backup of the " +
				"controller's key Secret\n",
		},
		"not RSA": {key: ecPEM(t), args: []string{"lab", "--key", "KEY"}, want: "sealing-key: KEY: not an RSA key, the " +
			"only kind the sealed-secrets controller can use: nothing was changed\n"},
		"too short": {key: short, args: []string{"lab", "--key", "KEY"}, want: "sealing-key: KEY: an RSA key of less than " +
			"2048 bits: nothing was changed: make a new one without --key\n"},
		"several keys in the backup": {
			key: manifest(good, short), args: []string{"lab", "--key", "KEY", "--out", "SAFE/new.pem"},
			want: "sealing-key: KEY: holds several keys, and which one seals is not written in it: nothing was changed: keep " +
				"the newest Secret in the file\n",
		},
		"backup without out": {
			key: manifest(good), args: []string{"lab", "--key", "KEY"},
			want: "sealing-key: KEY: not a PEM file, which is what Pulumi takes: nothing was changed: name a file for it with " +
				"--out\n",
		},
		"backup without a key": {
			key: "kind: Secret\n", args: []string{"lab", "--key", "KEY", "--out", "SAFE/new.pem"},
			want: "sealing-key: KEY: not an unencrypted private key: nothing was changed: give a PEM file or a backup of the " +
				"controller's key Secret\n",
		},
		"unknown option": {args: []string{"lab", "--force"}, want: "sealing-key: unknown option --force: nothing was " +
			"changed: see --help\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			names := strings.NewReplacer("ROOT", resolve(t, s.root), "SAFE", s.safe, "KEY", s.keep(t, "key", test.key))
			for i, arg := range test.args {
				test.args[i] = names.Replace(arg)
			}
			_, stderr, ok := s.run(t, "", "sealing-key.sh", test.args...)
			if want := names.Replace(test.want); ok || !strings.HasPrefix(stderr, want) {
				t.Errorf("ok=%v, got:\n%s\nwant:\n%s", ok, stderr, want)
			}
			if err := Check(s.root); err != nil {
				t.Errorf("the refusal changed the tree:\n%v", err)
			}
			if files, _ := os.ReadDir(s.safe); len(files) != 1 {
				t.Errorf("the operator's folder has %d entries, want the key alone", len(files))
			}
		})
	}
}

func TestSeal(t *testing.T) {
	s := newSite(t)
	key, text := rsaPEM(t, 2048)
	s.mustRun(t, "", "sealing-key.sh", "lab", "--key", s.keep(t, "key.pem", text))
	binary := string([]byte{0, '\n', '%', '\\', 0xff, 0, '\n'})
	tests := map[string]struct {
		stdin, namespace, name string
		keys                   []string
		want                   map[string]string
	}{
		"one key takes every byte": {
			binary, "memos-system", "memos-token", []string{"token"}, map[string]string{"token": binary},
		},
		"one line each": {
			" a b \n$(c) \\ %s",
			"memos-system",
			"memos-token",
			[]string{"first", "se_cond.x"},
			map[string]string{"first": " a b ", "se_cond.x": `$(c) \ %s`},
		},
		"names that YAML takes for more": {"v", "on", "1e3", []string{"null"}, map[string]string{"null": "v"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			printed := s.mustRun(t, test.stdin, "seal.sh", append([]string{"lab", test.namespace, test.name}, test.keys...)...)
			got := opened(t, key, test.namespace+"/"+test.name, printed)
			if len(got) != len(test.want) {
				t.Errorf("got %d values, want %d", len(got), len(test.want))
			}
			for name, want := range test.want {
				if got[name] != want {
					t.Errorf("%s opens as %q, want %q", name, got[name], want)
				}
			}
		})
	}
}

// TestSealIntoAFile has what is there replaced when all is sealed, and left alone otherwise.
func TestSealIntoAFile(t *testing.T) {
	s := newSite(t)
	key, text := rsaPEM(t, 2048)
	s.mustRun(t, "", "sealing-key.sh", "lab", "--key", s.keep(t, "key.pem", text))
	out := filepath.Join(s.root, "apps/lab/notes/smtp.yaml")
	seal := func(stdin string, out string) (printed, complaint string, ok bool) {
		return s.run(t, stdin, "seal.sh", "--out", out, "lab", "memos-system", "smtp", "password")
	}
	if printed, complaint, ok := seal("first", out); !ok || printed != "" {
		t.Fatalf("%s%s", printed, complaint)
	}
	if _, _, ok := seal("", out); ok {
		t.Error("nothing was sealed, and it is content")
	}
	if got := opened(t, key, "memos-system/smtp", readFile(t, out))["password"]; got != "first" {
		t.Errorf("after a refusal the file says %q", got)
	}
	if _, complaint, ok := seal("second", out); !ok {
		t.Fatal(complaint)
	}
	if got := opened(t, key, "memos-system/smtp", readFile(t, out))["password"]; got != "second" {
		t.Errorf("the file says %q", got)
	}
	_, complaint, ok := seal("third", "/proc/smtp.yaml")
	if want := "seal: /proc/smtp.yaml: cannot be written: nothing was changed"; ok || !strings.HasPrefix(complaint, want) {
		t.Errorf("ok=%v: %s", ok, complaint)
	}
	if left, _ := filepath.Glob(out + "?*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestSealRefusals(t *testing.T) {
	tests := map[string]struct {
		stdin string
		args  []string
		want  string
	}{
		"empty value": {"", []string{"lab", "n", "s", "key"}, "seal: the value of key is empty: nothing was sealed\n"},
		"empty line": {"a\n\n", []string{"lab", "n", "s", "one", "two"}, "seal: the value of two is empty: nothing " +
			"was sealed\n"},
		"line missing": {"a\n", []string{"lab", "n", "s", "one", "two"}, "seal: no value for two: nothing was sealed: " +
			"give one line per KEY\n"},
		"value as KEY": {"", []string{"lab", "n", "s", "key=hunter2"}, "seal: a KEY may hold letters, digits, '-', '_' " +
			"and '.' only: nothing was sealed: values go to standard input, never into arguments\n"},
		"KEY twice": {"a\nb\n", []string{"lab", "n", "s", "key", "key"}, "seal: KEY key is given twice: nothing was " +
			"sealed\n"},
		"bad namespace": {"a", []string{"lab", "N_s", "s", "key"}, "seal: namespace 'N_s' is not a Kubernetes name: " +
			"nothing was sealed\n"},
		"bad name": {"a", []string{"lab", "n", "-s", "key"}, "seal: name '-s' is not a Kubernetes name: nothing was " +
			"sealed\n"},
		"no certificate": {"a", []string{"moon", "n", "s", "key"}, "seal: ROOT/clusters/moon/sealing.crt: no such " +
			"certificate: nothing was sealed: make it with scripts/sealing-key.sh moon\n"},
		"nothing to seal": {"a", []string{"lab", "n", "s"}, "usage: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			stdout, stderr, ok := s.run(t, test.stdin, "seal.sh", test.args...)
			if want := strings.ReplaceAll(test.want, "ROOT", s.root); ok || !strings.HasPrefix(stderr, want) {
				t.Errorf("ok=%v, got:\n%s\nwant:\n%s", ok, stderr, want)
			}
			if stdout != "" || strings.Contains(stderr, "hunter2") {
				t.Errorf("a refusal printed more than its reason:\n%s%s", stdout, stderr)
			}
		})
	}
}

func TestKubesealMissing(t *testing.T) {
	s := newSite(t)
	s.kubeseal = "/nonexistent/kubeseal"
	_, stderr, ok := s.run(t, "a", "seal.sh", "lab", "n", "s", "key")
	if want := "seal: /nonexistent/kubeseal not found: nothing was sealed: install it, or name kubeseal's path in " +
		"KUBESEAL\n"; ok || stderr != want {
		t.Errorf("ok=%v, got %q, want %q", ok, stderr, want)
	}
}
