package settings

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// names are the secrets of every stack.
var names = []string{
	"backupsAccessKey", "backupsSecretKey", "cloudflareApiToken", "gitStatusToken", "gitToken",
	"machinePrivateKey", "s3AccessKey", "s3SecretKey", "sealingKey",
	"tailscaleOauthClientId",
	"tailscaleOauthClientSecret",
}

func TestLab(t *testing.T) {
	l := layout.Layout{State: t.TempDir(), Machines: []layout.Machine{{Name: "one"}, {Name: "two"}}}
	secrets, err := secret.Open(l.Secrets())
	if err != nil {
		t.Fatal(err)
	}
	secrets.GitToken = "git"
	set := &artifacts.Set{
		K3s: l.Path("k3s"), InstallScript: l.Path("install.sh"), PostgreSQL: "15.20", MariaDB: "10.11.14",
		Redis: "7.0.15",
	}
	committed := l.Path("Pulumi.acme.yaml")
	stack := &pulumi.Stack{Project: "tinyrack", Name: "acme", Settings: committed}
	write := func(sha256 string) {
		text := `config: {"tinyrack:cluster": {binaries: {amd64: {sha256: "` + sha256 + `"}}}}`
		if err := file.Write(committed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	if _, err := Lab(l, stack, secrets, set, "/sealing.crt"); err == nil {
		t.Error("a lab without its artifacts has settings")
	}
	for path, text := range map[string]string{
		set.K3s: "k3s", set.InstallScript: "script", l.CA(): "authority", l.SealingKey(): "sealing",
	} {
		if err := file.Write(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Lab(l, stack, secrets, set, "/sealing.crt")
	if err != nil {
		t.Fatal(err)
	}
	want := generated{
		hostKeys: map[string]string{}, sealing: "/sealing.crt", authority: "authority", postgresql: "15.20",
		mariadb: "10.11.14", redis: "7.0.15",
	}
	for _, m := range l.Machines {
		if want.hostKeys[m.Name], err = secret.PublicKey(secrets.HostKeys[m.Name]); err != nil {
			t.Fatal(err)
		}
	}
	if want.k3s, err = artifacts.SHA256(set.K3s); err != nil {
		t.Fatal(err)
	}
	if want.k3sScript, err = artifacts.SHA256(set.InstallScript); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got.Facts, want.facts()) || want.k3s == want.k3sScript ||
		got.Facts["hosts.one.hostKey"] == got.Facts["hosts.two.hostKey"] {
		t.Errorf("facts %v, want %v", got.Facts, want.facts())
	}
	write("0123")
	other, err := Lab(l, stack, secrets, set, "/sealing.crt")
	_, filled := other.Facts["cluster.binaries.amd64.sha256"]
	if err != nil || filled || len(other.Facts) != len(got.Facts)-1 {
		t.Errorf("the checksum that the settings name is not left to them: %v, %v", other.Facts, err)
	}
	if found := slices.Sorted(maps.Keys(got.Secrets)); !slices.Equal(found, names) {
		t.Errorf("secrets %v, want %v", found, names)
	}
	for name, want := range map[string]string{
		"machinePrivateKey": secrets.MachineKey, "sealingKey": "sealing", "gitToken": "git", "gitStatusToken": "git",
		"s3AccessKey": secrets.S3AccessKey,
		"s3SecretKey": secrets.S3SecretKey, "cloudflareApiToken": secrets.CloudflareToken,
		"tailscaleOauthClientId": secrets.TailscaleClientID, "tailscaleOauthClientSecret": secrets.TailscaleClientSecret,
	} {
		if got.Secrets[name] != want {
			t.Errorf("%s is another secret", name)
		}
	}
}

// A repository that is read over SSH is logged in to by a key: the other secret beside it would be refused.
func TestThrowAwayOverSSH(t *testing.T) {
	for url, host := range map[string]string{
		"ssh://git@git.example.com/me/site.git":      "git.example.com",
		"ssh://git@git.example.com:22/me/site.git":   "git.example.com",
		"ssh://git@git.example.com:2222/me/site.git": "[git.example.com]:2222",
	} {
		checkout := t.TempDir()
		stack := &pulumi.Stack{Project: "tinyrack", Name: "acme", Dir: t.TempDir(), Checkout: checkout}
		text := "config:\n  tinyrack:flux: {url: '" + url + "', knownHosts: ''}\n"
		if err := os.WriteFile(filepath.Join(checkout, "Pulumi.acme.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ThrowAway(stack, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		known, _ := got.Facts["flux.knownHosts"].(string)
		if !strings.HasPrefix(known, host+" ssh-ed25519 ") ||
			got.Secrets["gitToken"] != "" || got.Secrets["gitSshKey"] == "" {
			t.Errorf("%s: known by %q, a key: %t", url, known, got.Secrets["gitSshKey"] != "")
		}
	}
}

// Of every committed stack each fact that it leaves empty is filled, and nothing that it says is changed.
func TestThrowAwayFillsWhatIsEmpty(t *testing.T) {
	checkout := t.TempDir()
	stack := &pulumi.Stack{Project: "tinyrack", Name: "acme", Dir: t.TempDir(), Checkout: checkout}
	text := `config:
  tinyrack:cloudflare: {accountId: "", zoneId: "20000000000000000000000000000001"}
  tinyrack:hosts:
    one: {address: "", hostKey: "", bootstrapSources: []}
    two: {address: "", hostKey: ssh-ed25519 A, bootstrapSources: [192.0.2.1/32]}
  tinyrack:cluster: {binaries: {arm64: {sha256: ""}}}
  tinyrack:backups: {endpoint: ""}
  tinyrack:sealedSecrets: {certificate: clusters/acme/sealing.crt}
`
	if err := os.WriteFile(filepath.Join(checkout, "Pulumi.acme.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	got, err := ThrowAway(stack, dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"backups.endpoint", "cloudflare.accountId",
		"cluster.binaries.arm64.sha256", "hosts.one.address", "hosts.one.bootstrapSources",
		"hosts.one.hostKey", "hosts.two.address", "sealedSecrets.certificate",
	}
	if found := slices.Sorted(maps.Keys(got.Facts)); !slices.Equal(found, want) {
		t.Errorf("filled %v, want %v", found, want)
	}
	if got.Facts["hosts.one.address"] == got.Facts["hosts.two.address"] {
		t.Error("two hosts have one address")
	}
	if crt, ok := got.Facts["sealedSecrets.certificate"].(string); !ok || !strings.HasPrefix(crt, dir) {
		t.Errorf("the certificate is %v", got.Facts["sealedSecrets.certificate"])
	}
	if found := slices.Sorted(maps.Keys(got.Secrets)); !slices.Equal(found, names) {
		t.Errorf("secrets %v, want %v", found, names)
	}
	for name, value := range got.Secrets {
		if len(value) < 16 {
			t.Errorf("%s is %q", name, value)
		}
	}
	again, err := ThrowAway(stack, t.TempDir())
	if err != nil || again.Secrets["gitToken"] == got.Secrets["gitToken"] {
		t.Errorf("throw-away secrets are the same twice: %v", err)
	}
}
