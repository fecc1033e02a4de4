package flux

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"golang.org/x/crypto/ssh"
)

// Credentials let Flux read the repository, whoever hosts it. Exactly one of
// Token (HTTPS) and SSHKey (SSH) is set; read access to the one repository is
// enough.
type Credentials struct {
	// Username goes with Token. Most hosts accept any name beside a token.
	Username string
	// Token is an access token or password. Secret.
	Token pulumi.StringInput
	// SSHKey is a private key in PEM without a passphrase. Secret.
	SSHKey pulumi.StringInput
	// KnownHosts holds the SSH host's keys as known_hosts lines; mandatory with
	// SSHKey, so that Flux never trusts a host it was not told of.
	KnownHosts string
	// CA is a PEM bundle for an HTTPS host with a certificate of its own. Optional.
	CA string
}

// validate returns every problem with using c for url.
func (c Credentials) validate(url string) error {
	var problems []error
	refuse := func(format string, a ...any) { problems = append(problems, fmt.Errorf(format, a...)) }
	switch {
	case strings.HasPrefix(url, "https://"):
		if c.Token == nil || c.SSHKey != nil {
			refuse("git: %s needs a token and no SSH key: Flux could not log in: set Token alone", url)
		}
		if c.Username == "" {
			refuse("git: username missing: hosts refuse a token without one: set Username, for example to \"git\"")
		}
	case strings.HasPrefix(url, "ssh://"):
		if c.SSHKey == nil || c.Token != nil {
			refuse("git: %s needs an SSH key and no token: Flux could not log in: set SSHKey alone", url)
		}
		if strings.TrimSpace(c.KnownHosts) == "" {
			refuse("git: known hosts missing: Flux refuses a host it does not know: set KnownHosts to the host's known_hosts line")
		}
	default:
		refuse("git: URL %q is neither https:// nor ssh://: credentials and manifests would travel unprotected, or not at all: correct the URL", url)
	}
	return errors.Join(problems...)
}

// secretData returns the entries source-controller reads from a pull secret:
// https://fluxcd.io/flux/components/source/gitrepositories/#secret-reference
func (c Credentials) secretData() pulumi.StringMap {
	if c.SSHKey != nil {
		key := pulumi.ToSecret(c.SSHKey).(pulumi.StringOutput)
		return pulumi.StringMap{
			"identity":     key,
			"identity.pub": key.ApplyT(publicKey).(pulumi.StringOutput),
			"known_hosts":  pulumi.String(c.KnownHosts),
		}
	}
	data := pulumi.StringMap{
		"username": pulumi.String(c.Username),
		"password": pulumi.ToSecret(c.Token).(pulumi.StringOutput),
	}
	if c.CA != "" {
		data["ca.crt"] = pulumi.String(c.CA)
	}
	return data
}

// publicKey returns the authorized_keys line of a private key. Its error says
// nothing of the key.
func publicKey(private string) (string, error) {
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		return "", errors.New("git SSH key: not a PEM private key without passphrase: Flux could not log in: set another key")
	}
	return string(ssh.MarshalAuthorizedKey(signer.PublicKey())), nil
}
