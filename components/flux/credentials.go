package flux

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
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
	// StatusToken is an access token that may set the status of commits, and nothing else. Secret. Optional: without it
	// nobody tells the git host what became of a commit.
	StatusToken pulumi.StringInput
}

// What a repository's URL is made of. ssh takes host and user as arguments, and a shell at the other end the path: what
// looks like an option or a quote there means something else.
var (
	gitUser = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.-]*$`)
	gitHost = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.:-]*$`)
	gitPath = regexp.MustCompile(`^/[A-Za-z0-9._~/-]+$`)
)

// pageOf are the names that git hosts put between a repository and a page of it.
var pageOf = regexp.MustCompile(`^/[^/]+/[^/]+/(-|src|tree|blob|commits?|raw|pulls?|issues)(/|$)`)

// isPage tells a page of a git host from a repository: one of a user or a group, or one below a repository.
func isPage(u *url.URL) bool {
	path := strings.Trim(u.Path, "/")
	return !strings.Contains(path, "/") && !strings.HasSuffix(path, ".git") || pageOf.MatchString(u.Path)
}

func isRepository(u *url.URL) bool {
	return gitHost.MatchString(u.Hostname()) && gitPath.MatchString(u.Path) && u.RawQuery == "" && u.Fragment == "" &&
		(u.Scheme != "ssh" || u.User == nil || gitUser.MatchString(u.User.Username()))
}

// validate returns every problem with using c for the repository at text.
func (c Credentials) validate(text string) error {
	var problems []error
	refuse := func(format string, a ...any) { problems = append(problems, fmt.Errorf(format, a...)) }
	u, err := url.Parse(text)
	if err != nil || !isRepository(u) {
		// Not shown: a URL nobody can read may hold a token.
		return errors.New("url: not the URL of a repository: Flux would have nothing to fetch: write it like " +
			"https://git.example.com/owner/repository.git or ssh://git@git.example.com/owner/repository.git")
	}
	if isPage(u) {
		return fmt.Errorf("url: %q is a page of the git host: Flux would have nothing to fetch: write it like "+
			"https://git.example.com/owner/repository.git, as the page offers it for cloning", text)
	}
	_, password := u.User.Password()
	if password || u.User != nil && u.Scheme != "ssh" {
		return errors.New("url: credentials in the URL: they would be stored and printed in clear: " +
			"take them out and use the setting username and the secret gitToken")
	}
	switch u.Scheme {
	case "https":
		if c.Token == nil || c.SSHKey != nil {
			refuse("token: an https:// URL needs a token and no SSH key: Flux could not log in: set the token alone")
		}
		if c.Username == "" {
			refuse("username: missing: hosts refuse a token without one: write git, or the token's owner")
		}
	case "ssh":
		if c.SSHKey == nil || c.Token != nil {
			refuse("sshKey: an ssh:// URL needs an SSH key and no token: Flux could not log in: set the key alone")
		}
		if err := checkKnownHosts(c.KnownHosts, u); err != nil {
			problems = append(problems, err)
		}
	default:
		refuse("url: %q is neither https:// nor ssh://: the token and all manifests could be read and changed on the way: "+
			"use https:// with a token or ssh:// with a key", text)
	}
	if c.CA != "" && !isCertificates(c.CA) {
		refuse("ca: not PEM certificates: Flux would trust no answer of the git host: " +
			"paste the whole file, from BEGIN CERTIFICATE to END CERTIFICATE")
	}
	return errors.Join(problems...)
}

// checkKnownHosts refuses known_hosts text that cannot vouch for u's host.
func checkKnownHosts(text string, u *url.URL) error {
	name, scan := u.Hostname(), "ssh-keyscan "+u.Hostname()
	if port := u.Port(); port != "" && port != "22" {
		name, scan = "["+name+"]:"+port, "ssh-keyscan -p "+port+" "+u.Hostname()
	}
	refusal := func(problem string) error {
		return fmt.Errorf("knownHosts: %s: Flux refuses an SSH host it does not know: add the output of %s after comparing "+
			"it with the host's published keys", problem, scan)
	}
	known := false
	for rest := []byte(text); ; {
		_, hosts, _, _, left, err := ssh.ParseKnownHosts(rest)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return refusal("not known_hosts lines")
		}
		for _, host := range hosts {
			known = known || host == name || strings.HasPrefix(host, "|1|") // hashed: cannot be told
		}
		rest = left
	}
	if !known {
		return refusal("no key of " + name)
	}
	return nil
}

func isCertificates(text string) bool {
	rest := []byte(text)
	for found := false; ; found = true {
		block, left := pem.Decode(rest)
		if block == nil {
			return found && len(bytes.TrimSpace(left)) == 0
		}
		if block.Type != "CERTIFICATE" {
			return false
		}
		rest = left
	}
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

// statusData returns what notification-controller reads to tell the git host about commits of the repository at text:
// https://fluxcd.io/flux/components/notification/providers/#git-commit-status-updates
func (c Credentials) statusData(text string) (pulumi.StringMap, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	// What is cloned over SSH has its API at the same name over HTTPS.
	address := url.URL{Scheme: "https", Host: u.Host, Path: strings.TrimSuffix(u.Path, ".git")}
	if u.Scheme == "ssh" {
		address.Host = u.Hostname()
	}
	data := pulumi.StringMap{
		"address": pulumi.String(address.String()),
		"token":   pulumi.ToSecret(c.StatusToken).(pulumi.StringOutput),
	}
	if c.CA != "" {
		data["ca.crt"] = pulumi.String(c.CA)
	}
	return data, nil
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
