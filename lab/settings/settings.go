// Package settings is what a stack's committed configuration leaves out: for the lab's stack what this lab generated,
// for a preview throw-away values of the right form.
package settings

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/file"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/pulumi"
	"github.com/tinyrack-net/infrastructure/lab/secret"
)

// generated are the facts that a lab finds or makes.
type generated struct {
	hostKeys       map[string]string // public SSH host key lines by host
	k3s, k3sScript string            // sha256
	sealing        string            // path of the sealing certificate
	authority      string            // of the certificates of the lab's servers, PEM
	postgresql     string            // its version
	mariadb        string            // its version
	redis          string            // its version
}

// facts are the generated ones at their paths in Pulumi.lab.yaml.
func (g generated) facts() map[string]any {
	facts := map[string]any{
		"cluster.binaries.amd64.sha256": g.k3s,
		"cluster.installScript.sha256":  g.k3sScript,
		"sealedSecrets.certificate":     g.sealing,
		"flux.ca":                       g.authority,
		"flux.variables.edge_ca":        base64.StdEncoding.EncodeToString([]byte(g.authority)),
		"flux.variables.postgresql":     g.postgresql,
		"flux.variables.mariadb":        g.mariadb,
		"flux.variables.redis":          g.redis,
	}
	for name, key := range g.hostKeys {
		facts["hosts."+name+".hostKey"] = key
	}
	return facts
}

// empty are throw-away facts for the paths that a committed configuration may leave empty: the n-th where there are
// several. What it does not leave empty stays.
func empty(hostKey string) map[string]func(n int) any {
	same := func(value any) func(int) any { return func(int) any { return value } }
	return map[string]func(int) any{
		"cloudflare.accountId":         same(secret.Token(16)),
		"cloudflare.zoneId":            same(secret.Token(16)),
		"tailnet.domain":               same("name-name.ts.net"),
		"tailnet.admins":               same([]string{"admin@example.com"}),
		"hosts.*.address":              func(n int) any { return fmt.Sprintf("192.0.2.%d", 10+n) },
		"hosts.*.bootstrapSources":     same([]string{"192.0.2.7/32"}),
		"hosts.*.hostKey":              same(hostKey),
		"cluster.binaries.*.sha256":    same(secret.Token(32)),
		"cluster.installScript.sha256": same(secret.Token(32)),
		"cluster.snapshots.endpoint":   same("backup.example.com:9000"),
		"backups.endpoint":             same("backup.example.com:9000"),
	}
}

// secrets are those of every stack.
func secrets(s *secret.Secrets, sealingKey string) map[string]string {
	return map[string]string{
		"cloudflareApiToken":         s.CloudflareToken,
		"tailscaleOauthClientId":     s.TailscaleClientID,
		"tailscaleOauthClientSecret": s.TailscaleClientSecret,
		"machinePrivateKey":          s.MachineKey,
		"sealingKey":                 sealingKey,
		"gitToken":                   s.GitToken,
		// The lab's git server has one token.
		"gitStatusToken": s.GitToken,
		"s3AccessKey":    s.S3AccessKey,
		"s3SecretKey":    s.S3SecretKey,
		// The lab's object storage has one account.
		"backupsAccessKey": s.S3AccessKey,
		"backupsSecretKey": s.S3SecretKey,
	}
}

// Lab are the settings of the lab's stack. sealing is the path of the public half of its sealing key.
func Lab(
	l layout.Layout, stack *pulumi.Stack, s *secret.Secrets, set *artifacts.Set, sealing string,
) (pulumi.Settings, error) {
	var none pulumi.Settings
	g := generated{
		sealing: sealing, hostKeys: map[string]string{}, postgresql: set.PostgreSQL, mariadb: set.MariaDB,
		redis: set.Redis,
	}
	var err error
	for _, m := range l.Machines {
		key, err := s.HostKey(m.Name)
		if err != nil {
			return none, err
		}
		if g.hostKeys[m.Name], err = secret.PublicKey(key); err != nil {
			return none, err
		}
	}
	if g.k3s, err = artifacts.SHA256(set.K3s); err != nil {
		return none, err
	}
	if g.k3sScript, err = artifacts.SHA256(set.InstallScript); err != nil {
		return none, err
	}
	ca, err := os.ReadFile(l.CA())
	if err != nil {
		return none, err
	}
	g.authority = string(ca)
	key, err := os.ReadFile(l.SealingKey())
	if err != nil {
		return none, err
	}
	facts := g.facts()
	// Who names another k3s than the lab's own names its checksum, too.
	const checksum = "cluster.binaries.amd64.sha256"
	if open, err := stack.Empty(checksum); err != nil {
		return none, err
	} else if len(open) == 0 {
		delete(facts, checksum)
	}
	return pulumi.Settings{Facts: facts, Secrets: secrets(s, string(key))}, nil
}

// ThrowAway are settings for a preview of the stack: well formed, they open nothing. A file that they name is written
// to dir.
func ThrowAway(stack *pulumi.Stack, dir string) (pulumi.Settings, error) {
	var none pulumi.Settings
	made, err := secret.Open(filepath.Join(dir, "secrets.json"))
	if err != nil {
		return none, err
	}
	made.GitToken = secret.Token(20)
	private, err := secret.SSHKey()
	if err != nil {
		return none, err
	}
	hostKey, err := secret.PublicKey(private)
	if err != nil {
		return none, err
	}
	key, certificate, err := secret.SealingPair()
	if err != nil {
		return none, err
	}
	sealing := filepath.Join(dir, "sealing.crt")
	if err := file.Write(sealing, certificate, 0o600); err != nil {
		return none, err
	}
	// The committed certificate is of another key, whose private half nobody has who previews.
	facts := map[string]any{"sealedSecrets.certificate": sealing}
	for path, value := range empty(hostKey) {
		places, err := stack.Empty(path)
		if err != nil {
			return none, err
		}
		for n, place := range places {
			facts[place] = value(n)
		}
	}
	filled := pulumi.Settings{Facts: facts, Secrets: secrets(made, string(key))}
	git, err := stack.Text("flux.url")
	if err != nil {
		return none, err
	}
	host, overSSH := sshHost(git)
	if !overSSH {
		return filled, nil
	}
	// A git host logs in by a key, and is known by one.
	delete(filled.Secrets, "gitToken")
	filled.Secrets["gitSshKey"] = private
	open, err := stack.Empty("flux.knownHosts")
	if err != nil {
		return none, err
	}
	for _, place := range open {
		facts[place] = host + " " + hostKey
	}
	return filled, nil
}

// sshHost is the host of a git repository that is read over SSH, as known_hosts has it.
func sshHost(repository string) (string, bool) {
	at, err := url.Parse(repository)
	if err != nil || at.Scheme != "ssh" {
		return "", false
	}
	if port := at.Port(); port != "" && port != "22" {
		return "[" + at.Hostname() + "]:" + port, true
	}
	return at.Hostname(), true
}
