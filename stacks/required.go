package stacks

import "strings"

// require reports every setting the program cannot do without, with the command
// that sets it. An empty text in a stack's file is a placeholder: the file shows
// the setting, and only the operator knows the value.
func require(report *Report, c Config) {
	for _, fact := range []struct{ path, value, hint string }{
		{"cloudflare.accountId", c.Cloudflare.AccountID, "<32 hexadecimal digits>"},
		{"cloudflare.zoneId", c.Cloudflare.ZoneID, "<32 hexadecimal digits>"},
		{"cloudflare.zone", c.Cloudflare.Zone, "<example.com>"},
		{"cloudflare.tunnel", c.Cloudflare.Tunnel, "<name of the tunnel>"},
		{"tailnet.admins", strings.Join(c.Tailnet.Admins, ","), ""},
		{"machine.address", c.Machine.Address, "<address or name for SSH>"},
		{"machine.hostKey", c.Machine.HostKey, "<first two words of /etc/ssh/ssh_host_ed25519_key.pub>"},
		{"machine.hostname", c.Machine.Hostname, "<node name>"},
		{"k3s.version", c.K3s.Version, "<v1.32.0+k3s1>"},
		{"k3s.binary.url", c.K3s.Binary.URL, "<https://…/k3s>"},
		{"k3s.binary.sha256", c.K3s.Binary.SHA256, "<64 hexadecimal digits from the release>"},
		{"k3s.installScript.url", c.K3s.InstallScript.URL, "<https://…/install.sh>"},
		{"k3s.installScript.sha256", c.K3s.InstallScript.SHA256, "<64 hexadecimal digits>"},
		{"k3s.apiServer", c.K3s.APIServer, "<tailnet name of the machine>"},
		{"k3s.clusterCidr", c.K3s.ClusterCIDR, "<10.55.0.0/16>"},
		{"k3s.serviceCidr", c.K3s.ServiceCIDR, "<10.56.0.0/16>"},
		{"sealedSecrets.certificate", c.SealedSecrets.Certificate, "clusters/<environment>/sealing.crt"},
		{"flux.version", c.Flux.Version, "<2.9.2>"},
		{"flux.url", c.Flux.URL, "<https://git.example.com/owner/repository.git>"},
		{"flux.path", c.Flux.Path, "./clusters/<environment>"},
	} {
		switch {
		case fact.value != "":
		case fact.hint == "":
			report.missingFact(fact.path+"[0]", "<you@example.com>")
		default:
			report.missingFact(fact.path, fact.hint)
		}
	}
	if s := c.K3s.Snapshots; s != nil {
		for _, fact := range []struct{ path, value, hint string }{
			{"k3s.snapshots.endpoint", s.Endpoint, "<host:port>"},
			{"k3s.snapshots.region", s.Region, "<us-east-1>"},
			{"k3s.snapshots.bucket", s.Bucket, "<bucket>"},
			{"k3s.snapshots.schedule", s.Schedule, "<0 */4 * * *>"},
		} {
			if fact.value == "" {
				report.missingFact(fact.path, fact.hint)
			}
		}
	}
	requireSecrets(report, c)
}

func requireSecrets(report *Report, c Config) {
	s := c.Secrets
	snapshots := c.K3s.Snapshots != nil
	overSSH := strings.HasPrefix(c.Flux.URL, "ssh://")
	for _, secret := range []struct {
		name   string
		value  Secret
		wanted bool
		file   string
	}{
		{"cloudflareApiToken", s.CloudflareAPIToken, true, ""},
		{"tailscaleOauthClientId", s.TailscaleOAuthClientID, true, ""},
		{"tailscaleOauthClientSecret", s.TailscaleOAuthClientSecret, true, ""},
		{"machinePrivateKey", s.MachinePrivateKey, true, "~/.ssh/id_ed25519"},
		{"sealingKey", s.SealingKey, true, "~/" + c.Stack + "-sealing.pem"},
		{"gitToken", s.GitToken, !overSSH, ""},
		{"gitSshKey", s.GitSSHKey, overSSH, "deploy-key"},
		{"s3AccessKey", s.S3AccessKey, snapshots, ""},
		{"s3SecretKey", s.S3SecretKey, snapshots, ""},
	} {
		if secret.wanted && secret.value == "" {
			report.missingSecret(secret.name, secret.file)
		}
	}
}
