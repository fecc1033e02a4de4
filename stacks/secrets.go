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
	CloudflareAPIToken         Secret `json:"cloudflareApiToken"`
	TailscaleOAuthClientID     Secret `json:"tailscaleOauthClientId"`
	TailscaleOAuthClientSecret Secret `json:"tailscaleOauthClientSecret"`
	// MachinePrivateKey opens SSH on the machine.
	MachinePrivateKey Secret `json:"machinePrivateKey"`
	// K3sToken is the token of a cluster that is there already. Optional: one is generated.
	K3sToken Secret `json:"k3sToken"`
	// SealingKey is the private half of the sealing certificate.
	SealingKey Secret `json:"sealingKey"`
	// GitToken goes with an https:// URL, GitSSHKey with an ssh:// one.
	GitToken  Secret `json:"gitToken"`
	GitSSHKey Secret `json:"gitSshKey"`
	// GitStatusToken sets the status of commits. Optional.
	GitStatusToken Secret `json:"gitStatusToken"`
	// S3AccessKey and S3SecretKey write etcd snapshots.
	S3AccessKey Secret `json:"s3AccessKey"`
	S3SecretKey Secret `json:"s3SecretKey"`
	// BackupsAccessKey and BackupsSecretKey read and write the databases' copies.
	BackupsAccessKey Secret `json:"backupsAccessKey"`
	BackupsSecretKey Secret `json:"backupsSecretKey"`
}
