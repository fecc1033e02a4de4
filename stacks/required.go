package stacks

import (
	"regexp"
	"strconv"
	"strings"
)

// labels are names that a folder and a machine can have.
var labels = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// require reports every setting the program cannot do without, with the command
// that sets it. An empty text in a stack's file is a placeholder: the file shows
// the setting, and only the operator knows the value.
func require(report *Report, c Config) {
	environment := c.Stack
	if !labels.MatchString(environment) {
		environment = "production"
	}
	facts := []fact{
		{"cloudflare.accountId", c.Cloudflare.AccountID, "<32 hexadecimal digits>"},
		{"cloudflare.zoneId", c.Cloudflare.ZoneID, "<32 hexadecimal digits>"},
		{"cloudflare.zone", c.Cloudflare.Zone, "<example.com>"},
		{"cloudflare.tunnel", c.Cloudflare.Tunnel, "<name of the tunnel>"},
		{"tailnet.domain", c.Tailnet.Domain, "<name-name.ts.net>"},
		{"tailnet.admins[0]", strings.Join(c.Tailnet.Admins, ","), "<you@example.com>"},
	}
	for _, name := range sortedKeys(c.Hosts) {
		at, h := "hosts."+name, c.Hosts[name]
		facts = append(facts,
			fact{at + ".address", h.Address, "<address or name for SSH>"},
			fact{at + ".hostKey", h.HostKey, "<first two words of /etc/ssh/ssh_host_ed25519_key.pub>"},
			fact{at + ".roles[0]", strings.Join(h.Roles, ","), "server"},
		)
	}
	if len(c.Hosts) == 0 {
		facts = append(facts,
			fact{"hosts." + environment + ".address", "", "<address or name for SSH>"},
			fact{"hosts." + environment + ".hostKey", "", "<first two words of /etc/ssh/ssh_host_ed25519_key.pub>"},
			fact{"hosts." + environment + ".roles[0]", "", "server"},
		)
	}
	facts = append(facts, fact{"cluster.version", c.Cluster.Version, "<v1.36.4+k3s1>"})
	architectures := sortedKeys(c.Cluster.Binaries)
	if len(architectures) == 0 {
		architectures = []string{"amd64"}
	}
	for _, architecture := range architectures {
		at, binary := "cluster.binaries."+architecture, c.Cluster.Binaries[architecture]
		facts = append(facts,
			fact{at + ".url", binary.URL, "<https://…/k3s>"},
			fact{at + ".sha256", binary.SHA256, "<64 hexadecimal digits from the release>"},
		)
	}
	facts = append(facts,
		fact{"cluster.installScript.url", c.Cluster.InstallScript.URL, "<https://…/install.sh>"},
		fact{"cluster.installScript.sha256", c.Cluster.InstallScript.SHA256, "<64 hexadecimal digits>"},
		fact{"cluster.clusterCidr", c.Cluster.ClusterCIDR, "<10.55.0.0/16>"},
		fact{"cluster.serviceCidr", c.Cluster.ServiceCIDR, "<10.56.0.0/16>"},
		fact{"sealedSecrets.certificate", c.SealedSecrets.Certificate, "clusters/" + environment + "/sealing.crt"},
		fact{"flux.version", c.Flux.Version, "<2.9.2>"},
		fact{"flux.url", c.Flux.URL, "<https://git.example.com/owner/repository.git>"},
		fact{"flux.path", c.Flux.Path, "./clusters/" + environment},
	)
	if s := c.Cluster.Snapshots; s != nil {
		facts = append(facts,
			fact{"cluster.snapshots.endpoint", s.Endpoint, "<host:port>"},
			fact{"cluster.snapshots.region", s.Region, "<us-east-1>"},
			fact{"cluster.snapshots.bucket", s.Bucket, "<bucket>"},
			fact{"cluster.snapshots.schedule", s.Schedule, "<0 */4 * * *>"},
			fact{"cluster.snapshots.retention", unlessZero(s.Retention), "42"},
		)
	}
	if b := c.Backups; b != nil {
		facts = append(facts,
			fact{"backups.endpoint", b.Endpoint, "<host:port>"},
			fact{"backups.region", b.Region, "<us-east-1>"},
			fact{"backups.bucket", b.Bucket, "<bucket>"},
			fact{"backups.namespaces[0]", strings.Join(b.Namespaces, ","), "<memos-system>"},
		)
	}
	if r := c.Restore; r != nil {
		facts = append(facts, fact{"restore.phase", r.Phase, "none"})
	}
	if len(c.Hosts) == 0 {
		report.missing = append(report.missing, project+":hosts.*.roles")
	}
	if len(c.Cluster.Binaries) == 0 {
		report.missing = append(report.missing, project+":cluster.binaries")
	}
	for _, f := range facts {
		if f.value == "" {
			report.missingFact(f.path, f.hint)
		}
	}
	requireSecrets(report, c)
}

func unlessZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// fact is a setting that only the operator knows.
type fact struct{ path, value, hint string }

func requireSecrets(report *Report, c Config) {
	s := c.Secrets
	snapshots := c.Cluster.Snapshots != nil
	overSSH := strings.HasPrefix(c.Flux.URL, "ssh://")
	for _, secret := range []struct {
		name   string
		value  Secret
		wanted bool
		file   string
		part   string // where a component would miss it
	}{
		{"cloudflareApiToken", s.CloudflareAPIToken, true, "", ""},
		{"tailscaleOauthClientId", s.TailscaleOAuthClientID, true, "", ""},
		{"tailscaleOauthClientSecret", s.TailscaleOAuthClientSecret, true, "", ""},
		{"machinePrivateKey", s.MachinePrivateKey, true, "~/.ssh/id_ed25519", ""},
		{"sealingKey", s.SealingKey, true, "~/" + c.Stack + "-sealing.pem", ""},
		{"gitToken", s.GitToken, !overSSH, "", project + ":flux.token"},
		{"gitSshKey", s.GitSSHKey, overSSH, "~/" + c.Stack + "-deploy-key", project + ":flux.sshKey"},
		{"s3AccessKey", s.S3AccessKey, snapshots, "", ""},
		{"s3SecretKey", s.S3SecretKey, snapshots, "", ""},
		{"backupsAccessKey", s.BackupsAccessKey, c.Backups != nil, "", ""},
		{"backupsSecretKey", s.BackupsSecretKey, c.Backups != nil, "", ""},
	} {
		if secret.wanted && secret.value == "" {
			report.missingSecret(secret.name, secret.file)
			report.missing = append(report.missing, secret.part)
		}
	}
}
