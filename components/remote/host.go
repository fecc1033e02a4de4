// Package remote is the one way to a machine: a Host knows how it is reached and runs scripts there, one after the
// other.
//
// A script is a plain .sh file beside the component that owns it, without any template in it. What varies is put in
// front of it as a header of validated, quoted KEY='value' lines, followed by the functions every script shares
// (lib.sh). The whole text is uploaded on standard input and a short command receives it, so that a failure shows the
// script's own message, not the script. Secrets never belong in the header: they follow the text on standard input.
package remote

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	command "github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"golang.org/x/crypto/ssh"
)

// Host is one machine and the way to it. Its methods that register resources are called in the order in which the
// machine is to be worked on, by one goroutine.
type Host struct {
	// Name is the node name, the tailnet name and the suffix of the host's resources. It is immutable: a DNS label.
	Name string
	// Domain is the tailnet's MagicDNS suffix; Name.Domain reaches the host once it has joined.
	Domain string
	// Owner says whose machine it is: a text that is the same for every run of one stack and for no other stack.
	Owner string
	// Address is where the host is reached until it has joined: an IP address or a name.
	Address string
	// Port is that of SSH, on the address and in the tailnet.
	Port int
	// User is root or a user with passwordless sudo.
	User string
	// HostKey is the host's public key, "ssh-ed25519 AAAA…". Mandatory: without one the provider silently skips the
	// verification (pulumi/pulumi-command#755).
	HostKey string
	// PrivateKey logs in. Secret.
	PrivateKey pulumi.StringInput
	// Closed says that the address admits nobody any more: every connection takes the tailnet.
	Closed bool

	joined bool
	last   []pulumi.Resource
}

// Command is what runs on a host.
type Command struct {
	// Create runs on creation and again, in place, whenever it, Delete or Secret changes.
	Create Text
	// Delete runs when the resource is deleted, and acts only after the host was released. Optional.
	Delete Text
	// OwnGuard leaves it to Delete to ask released_or_nothing: it acts on a host that is held, too, on another's behalf.
	OwnGuard bool
	// Secret is the script's standard input. Optional.
	Secret pulumi.StringInput
	// SecretOutput keeps stdout and stderr out of the logs and encrypts them in the state.
	SecretOutput bool
	// ReadOnly marks a script that only looks: it neither takes nor checks the ownership of the machine.
	ReadOnly bool
	// Dial bounds the attempts to connect. The zero value is the provider's: 10 tries, about 11 seconds.
	Dial Dial
}

// Dial bounds the attempts to connect.
type Dial struct {
	// Tries is how many attempts fail before the command does.
	Tries int
	// Timeout is that of one attempt, in seconds.
	Timeout int
}

// FQDN is the host's name in the tailnet.
func (h *Host) FQDN() string { return h.Name + "." + h.Domain }

// Joined says that the host is in the tailnet by now: from here on commands dial its name there.
func (h *Host) Joined() { h.joined = true }

// Done is what later steps depend on: the last command of the host.
func (h *Host) Done() []pulumi.Resource { return slices.Clone(h.last) }

// Run registers one command. It runs after the host's last one: sshd admits only so many new connections at a time
// (MaxStartups), and the scripts would wait for each other anyway.
//
// There are no triggers: in the Go SDK they mean replacement. A changed connection runs the script again, which changes
// nothing on the host. Ignoring the change instead would keep an old address or key in the state for good, and every
// later run and the destroy would dial it.
func (h *Host) Run(
	ctx *pulumi.Context, name string, c *Command, opts ...pulumi.ResourceOption,
) (*command.Command, error) {
	upload, err := h.upload(c)
	if err != nil {
		return nil, fmt.Errorf("command %q: %w", name, err)
	}
	in := &command.CommandArgs{
		Connection: h.connection(c.Dial),
		Create:     pulumi.String(upload.command(create)),
		Stdin:      upload.stdin(c.Secret),
		// sshd without AcceptEnv would answer with a warning on every update.
		AddPreviousOutputInEnv: pulumi.Bool(false),
	}
	if c.Delete.Body != "" {
		in.Delete = pulumi.String(upload.command(remove))
	}
	if c.SecretOutput {
		in.Logging = command.LoggingNone
		opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"stdout", "stderr"}))
	}
	registered, err := command.NewCommand(ctx, name, in, append(opts, pulumi.DependsOn(h.last))...)
	if err != nil {
		return nil, fmt.Errorf("command %q: %w", name, err)
	}
	h.last = []pulumi.Resource{registered}
	return registered, nil
}

// Hold registers hold-<name>, the last resource of the host and so the first that is deleted. While it is there no
// delete script undoes anything; deleting it releases the machine.
//
// Its replacement deletes first, so that the machine is held again afterwards: the other way round it would stay
// released, and what is replaced in the same run would be undone. Under another name the new one comes first, and the
// machine knows both.
func (h *Host) Hold(ctx *pulumi.Context, opts ...pulumi.ResourceOption) error {
	name := "hold-" + h.Name
	vars := []Var{{"HOLD", name}}
	_, err := h.Run(ctx, name, &Command{Create: Text{vars, holdScript}, Delete: Text{vars, releaseScript}},
		append(opts, pulumi.DeleteBeforeReplace(true))...)
	return err
}

func (h *Host) connection(dial Dial) command.ConnectionArgs {
	address := h.Address
	if h.joined || h.Closed {
		address = h.FQDN()
	}
	c := command.ConnectionArgs{
		Host:       pulumi.String(address),
		Port:       pulumi.Float64(float64(h.Port)),
		User:       pulumi.String(h.User),
		HostKey:    pulumi.String(h.HostKey),
		PrivateKey: pulumi.ToSecret(h.PrivateKey).(pulumi.StringOutput),
	}
	if dial != (Dial{}) {
		c.DialErrorLimit, c.PerDialTimeout = pulumi.Int(dial.Tries), pulumi.Int(dial.Timeout)
	}
	return c
}

var (
	labelForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	nameForm  = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	userForm  = regexp.MustCompile(`^[a-z_][a-z0-9_.-]{0,31}$`)
)

// IsName reports whether text is a host name: DNS labels in lower case, separated by dots.
func IsName(text string) bool { return len(text) <= 253 && nameForm.MatchString(text) }

// Validate returns every problem with the host, joined. Each line reads "key: value: consequence: fix".
func (h *Host) Validate() error {
	var problems []error
	refuse := func(format string, values ...any) { problems = append(problems, fmt.Errorf(format, values...)) }
	if !labelForm.MatchString(h.Name) {
		refuse("name: %q is not a host name: neither the tailnet nor Kubernetes would take it: use lower-case letters, "+
			"digits and hyphens", h.Name)
	}
	if _, err := netip.ParseAddr(h.Address); err != nil && h.Address != "" && !IsName(h.Address) {
		refuse("address: %q is neither an address nor a host name: SSH could not connect: write the address alone; the "+
			"port goes into port", h.Address)
	}
	if h.Address == "" {
		refuse("address: missing: there is no machine to work on: write the machine's public address")
	}
	if h.Port < 1 || h.Port > 65535 {
		refuse("port: %d is not a port: SSH could not connect: write a number from 1 to 65535", h.Port)
	}
	if !userForm.MatchString(h.User) {
		refuse("user: %q is not a login name: SSH could not log in: write root, or a user with passwordless sudo", h.User)
	}
	if err := checkHostKey(h.HostKey); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// checkHostKey never shows the text: it may be the private key.
func checkHostKey(text string) error {
	if text == "" {
		return errors.New("hostKey: missing: any machine answering at the address would be trusted with the secrets: " +
			"write the first two words of its /etc/ssh/ssh_host_ed25519_key.pub")
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(options) > 0 || len(rest) > 0 {
		return errors.New("hostKey: not a public key: the machine could not be told from an impostor: " +
			"copy the first two words of its /etc/ssh/ssh_host_ed25519_key.pub")
	}
	if key.Type() == ssh.KeyAlgoRSA {
		// The command plugin asks for ssh-rsa (SHA-1) then, which OpenSSH refuses since 8.8.
		return errors.New("hostKey: an RSA key: today's sshd would refuse the connection: copy the first two words of " +
			"its /etc/ssh/ssh_host_ed25519_key.pub")
	}
	return nil
}

// quoteCommand returns a command line for a shell at the other end of an SSH connection.
func quoteCommand(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = Quote(word)
	}
	return strings.Join(quoted, " ")
}
