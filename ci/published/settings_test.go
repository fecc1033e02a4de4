package published

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is encrypted goes, of every stack; the rest stays as it was written.
func TestClean(t *testing.T) {
	const rest = `    p:mode: 022
    p:float: 1e3
    p:octal: 0o17
    p:text: "022"
    p:on: yes
    p:none: ~
    p:hosts: {one: {roles: [server], insecure: true}}
    p:script: |
        secure: no setting
        encryptionsalt: no salt
`
	given := map[string]string{
		"Pulumi.yaml": "name: p\n",
		"Pulumi.lab.yaml": "secretsprovider: passphrase\nencryptionsalt: v1:a\nconfig:\n" + rest +
			"    p:one:\n        secure: v1:canary\n    p:sealedSecrets:\n        certificate: a.crt\n",
		"Pulumi.other.yaml": "encryptedkey: canary\nconfig:\n    p:sealedSecrets:\n        certificate: a.crt\n" +
			"    p:a:\n        b: [x, {secure: v1:canary}]\n        c: {d: {secure: v1:canary}, e: 1}\n" +
			"    p:b: &b {secure: v1:canary}\n    p:c: *b\nx: {secure: canary}\n",
		"Pulumi.empty.yaml": "",
	}
	at := tree(t, given)
	s, err := readSettings(at, "lab")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.clean(at, "lab", "the certificate"); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Pulumi.yaml":     "name: p\n",
		"Pulumi.lab.yaml": "config:\n" + rest + "    p:sealedSecrets:\n        certificate: " + cleanCertificate + "\n",
		"Pulumi.other.yaml": "config:\n    p:sealedSecrets:\n        certificate: a.crt\n    p:a:\n" +
			"        b: [x]\n        c: {e: 1}\n",
		"Pulumi.empty.yaml": "", cleanCertificate: "the certificate",
	}
	for name, want := range want {
		text, err := os.ReadFile(filepath.Join(at, name))
		if string(text) != want || err != nil {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, text, want)
		}
	}
}

// A stack without a certificate of its own gets none.
func TestCleanWithoutACertificate(t *testing.T) {
	at := tree(t, map[string]string{
		"Pulumi.yaml": "name: p\n", "Pulumi.lab.yaml": "config:\n  p:sealedSecrets:\n    certificate: a.crt\n",
	})
	s, err := readSettings(at, "lab")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.clean(at, "lab", ""); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(at, "Pulumi.lab.yaml"))
	if err != nil || !strings.Contains(string(text), "certificate: a.crt") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestReadSettings(t *testing.T) {
	at := filepath.Join(tree(t, map[string]string{
		"b.crt": "outside", "in/Pulumi.yaml": "name: p\n", "in/a.crt": "text",
		"in/Pulumi.out.yaml": "config:\n  p:sealedSecrets:\n    certificate: ../b.crt\n",
		"in/Pulumi.lab.yaml": "config:\n  p:one: {secure: v1:one}\n  p:two: text\n  p:sealedSecrets: {certificate: a.crt}\n",
	}), "in")
	s, err := readSettings(at, "lab")
	if err != nil || s.project != "p" || len(s.secure) != 1 || s.mark("p:one") != mark("v1:one") ||
		s.certificate != mark("text") {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := readSettings(at, "out"); err != nil || s.certificate != "" {
		t.Errorf("a file outside the tree is read: %+v, %v", s, err)
	}
}
