package script

import (
	"errors"
	"fmt"

	"github.com/pulumi/pulumi-command/sdk/go/command/remote"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"golang.org/x/crypto/ssh"
)

// Text is a script and the header it runs with. The zero value stands for no
// script.
type Text struct {
	Vars []Var
	Body string
}

// CommandArgs describes a remote command made from scripts.
type CommandArgs struct {
	// Connection reaches the host. Its host key is mandatory: without one the
	// provider silently skips verification.
	Connection remote.ConnectionArgs
	// User is the login of Connection; anyone but root runs through sudo.
	User string
	// Create runs on creation and again, in place, whenever it or Stdin changes.
	Create Text
	// Delete runs on destroy. Optional.
	Delete Text
	// Stdin carries secrets. Optional.
	Stdin pulumi.StringPtrInput
	// SecretOutput keeps stdout and stderr out of the logs and encrypts them in
	// the state.
	SecretOutput bool
}

// NewCommand registers one remote command. There are no triggers: in the Go SDK
// they mean replacement, and a replaced command runs its delete script after the
// new create script, which would uninstall what was just installed.
func NewCommand(ctx *pulumi.Context, name string, args *CommandArgs, opts ...pulumi.ResourceOption) (*remote.Command, error) {
	create, err := Render(args.User, args.Create.Vars, args.Create.Body)
	if err != nil {
		return nil, fmt.Errorf("command %q: %w", name, err)
	}
	in := &remote.CommandArgs{
		Connection: args.Connection,
		Create:     pulumi.String(create),
		Stdin:      args.Stdin,
		// sshd without AcceptEnv would answer with a warning on every update.
		AddPreviousOutputInEnv: pulumi.Bool(false),
	}
	if args.Delete.Body != "" {
		text, err := Render(args.User, args.Delete.Vars, args.Delete.Body)
		if err != nil {
			return nil, fmt.Errorf("command %q: delete: %w", name, err)
		}
		in.Delete = pulumi.String(text)
	}
	// A changed connection runs the script again, which changes nothing on the host. Ignoring the change instead would keep
	// an old address or key in the state for good, and every later run and the destroy would dial it.
	if args.Stdin != nil {
		in.Stdin = pulumi.ToSecret(args.Stdin).(pulumi.StringPtrInput)
	}
	if args.SecretOutput {
		in.Logging = remote.LoggingNone
		opts = append(opts, pulumi.AdditionalSecretOutputs([]string{"stdout", "stderr"}))
	}
	return remote.NewCommand(ctx, name, in, opts...)
}

// ValidateConnection returns what is missing in a connection, all of it. Values
// that are outputs can be checked only for being there.
func ValidateConnection(c remote.ConnectionArgs) error {
	var problems []error
	if c.Host == nil || c.Host == pulumi.String("") {
		problems = append(problems, errors.New("connection.host: missing: there is no machine to work on: set the machine's address"))
	}
	if c.PrivateKey == nil || c.PrivateKey == pulumi.String("") {
		problems = append(problems, errors.New("connection.privateKey: missing: the machine would refuse the login: set the SSH private key"))
	}
	switch key := c.HostKey.(type) {
	case nil:
		problems = append(problems, errNoHostKey)
	case pulumi.String:
		if key == "" {
			problems = append(problems, errNoHostKey)
		} else if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key)); err != nil {
			problems = append(problems, errors.New("connection.hostKey: not a public key: the machine could not be told from an impostor: use the form \"ssh-ed25519 AAAA…\""))
		}
	}
	return errors.Join(problems...)
}

var errNoHostKey = errors.New("connection.hostKey: missing: any machine answering at the address would be trusted with the secrets: set the line of /etc/ssh/ssh_host_ed25519_key.pub")
