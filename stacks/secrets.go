package stacks

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

// Secret is a text that must not be seen. Printing one shows that it is there
// and no more.
type Secret string

// String keeps the text out of anything printed.
func (s Secret) String() string {
	if s == "" {
		return "[no secret]"
	}
	return "[secret]"
}

// GoString does the same for %#v.
func (s Secret) GoString() string { return s.String() }

// MarshalJSON does the same for JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// Output returns the text as an output that stays secret.
func (s Secret) Output() pulumi.StringOutput {
	return pulumi.ToSecret(pulumi.String(s)).(pulumi.StringOutput)
}

// Optional is Output, or nil for no text at all.
func (s Secret) Optional() pulumi.StringInput {
	if s == "" {
		return nil
	}
	return s.Output()
}

// Secrets are the flat keys of a stack that are encrypted in its file.
type Secrets struct {
	// CloudflareAPIToken may edit, of the account, Cloudflare Tunnel and Access: Apps and Policies; of the zone, DNS.
	CloudflareAPIToken Secret `json:"cloudflareApiToken"`
	// TailscaleOAuthClientID is the OAuth client.
	TailscaleOAuthClientID Secret `json:"tailscaleOauthClientId"`
	// TailscaleOAuthClientSecret goes with it: the client writes the policy file, DNS, auth keys and devices (core), and
	// holds `tailnet.managerTag`.
	TailscaleOAuthClientSecret Secret `json:"tailscaleOauthClientSecret"`
	// MachinePrivateKey is the SSH key of every host, without a passphrase.
	MachinePrivateKey Secret `json:"machinePrivateKey"`
	// K3sToken is the token of a cluster that is there already, when the state was lost
	// (docs/runbooks/interrupted-run.md#the-state-is-lost).
	K3sToken Secret `json:"k3sToken" unset:"generated"`
	// SealingKey is the private half of the sealing certificate.
	SealingKey Secret `json:"sealingKey"`
	// GitToken reads this repository, for Flux.
	GitToken Secret `json:"gitToken" unset:"required with https://"`
	// GitSSHKey does the same, a deploy key without a passphrase.
	GitSSHKey Secret `json:"gitSshKey" unset:"required with ssh://"`
	// GitStatusToken sets the status of this repository's commits, for Flux
	// (docs/runbooks/day-2.md#see-at-the-git-host-what-became-of-a-commit).
	GitStatusToken Secret `json:"gitStatusToken"`
	// S3AccessKey writes the snapshots.
	S3AccessKey Secret `json:"s3AccessKey" unset:"required with cluster.snapshots"`
	// S3SecretKey writes the snapshots.
	S3SecretKey Secret `json:"s3SecretKey" unset:"required with cluster.snapshots"`
	// BackupsAccessKey reads and writes the copies of databases and volumes, and nothing else.
	BackupsAccessKey Secret `json:"backupsAccessKey" unset:"required with backups"`
	// BackupsSecretKey reads and writes the copies of databases and volumes, and nothing else.
	BackupsSecretKey Secret `json:"backupsSecretKey" unset:"required with backups"`
}
