// Package command is the lab's double of the command plugin: remote.Command over SSH, with a host key that must be
// given, and local.Command.
package command

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// Values of the logging property; both streams when it is absent.
const (
	logStdout = "stdout"
	logStderr = "stderr"
	logBoth   = "stdoutAndStderr"
	logNone   = "none"
)

// New returns the service of pulumi-resource-command. version is that of the official plugin
// that the double stands for.
func New(client *engine.Client, version string) engine.Service {
	return engine.Provider(&schema.Provider{
		Name:    "command",
		Version: version,
		Engine:  client,
		Resources: map[string]schema.Resource{
			"command:remote:Command": remoteCommand(client), "command:local:Command": localCommand(client),
		},
	})
}

// runner runs text, with the inputs in and what the last run printed.
type runner func(
	ctx context.Context, client *engine.Client, urn resource.URN, in, previous schema.Values, text string,
) (schema.Values, error)

func remoteCommand(client *engine.Client) schema.Resource {
	r := command(client, run)
	r.Inputs["connection"] = schema.Property{Type: schema.Object(schema.Properties{
		"host":               {Type: schema.String, Required: true},
		"port":               {Type: schema.Number, Default: 22.0},
		"user":               {Type: schema.String, Default: "root"},
		"privateKey":         {Type: schema.String},
		"privateKeyPassword": {Type: schema.String},
		"hostKey":            {Type: schema.String},
		"dialErrorLimit":     {Type: schema.Integer, Default: 10.0},
		"perDialTimeout":     {Type: schema.Integer, Default: 15.0},
	}), Required: true, Secret: true}
	// The connection is always secret but does not flow into the output.
	r.Apart = []string{"connection"}
	r.Validate = validate
	return r
}

func localCommand(client *engine.Client) schema.Resource {
	r := command(client, runHere)
	r.Inputs["dir"] = schema.Property{Type: schema.String}
	r.Inputs["interpreter"] = schema.Property{Type: schema.List(schema.String)}
	return r
}

// command is what both kinds of a command have.
func command(client *engine.Client, run runner) schema.Resource {
	return schema.Resource{
		Inputs: schema.Properties{
			"create":      {Type: schema.String},
			"update":      {Type: schema.String},
			"delete":      {Type: schema.String},
			"stdin":       {Type: schema.String},
			"environment": {Type: schema.Map(schema.String)},
			"triggers":    {Type: schema.List(schema.Any), Replace: true},
			"logging":     {Type: schema.Enum(logStdout, logStderr, logBoth, logNone)},

			"addPreviousOutputInEnv": {Type: schema.Boolean, Default: true},
		},
		Outputs: map[string]schema.Output{
			"stdout": {Volatile: true, Tainted: true},
			"stderr": {Volatile: true, Tainted: true},
		},
		Create: func(ctx context.Context, call schema.Call) (string, schema.Values, error) {
			id, err := newID(call.Name)
			if err != nil {
				return "", nil, err
			}
			out := schema.Values{"stdout": "", "stderr": ""}
			if call.Inputs.Has("create") {
				out, err = run(ctx, client, call.URN, call.Inputs, nil, call.Inputs.String("create"))
			}
			return id, out, err
		},
		Update: func(ctx context.Context, call schema.Call) (schema.Values, error) {
			switch in := call.Inputs; {
			case in.Has("update"):
				return run(ctx, client, call.URN, in, call.State, in.String("update"))
			case in.Has("create"):
				return run(ctx, client, call.URN, in, call.State, in.String("create"))
			}
			return nil, nil
		},
		Delete: func(ctx context.Context, call schema.Call) error {
			// From the state, not the last inputs: they are the same unless an
			// update failed, and then the state is what has really run.
			if !call.State.Has("delete") {
				return nil
			}
			_, err := run(ctx, client, call.URN, call.State, call.State, call.State.String("delete"))
			return err
		},
	}
}

// validate refuses what the official plugin would accept and regret: it skips
// the check of the host's identity when no host key is given.
func validate(in schema.Values) error {
	connection := in.Object("connection")
	if connection == nil {
		return nil // parts of it are not known yet: a preview
	}
	var problems []error
	if connection.Has("hostKey") {
		if _, err := parseHostKey(connection.String("hostKey")); err != nil {
			problems = append(problems, err)
		}
	} else {
		problems = append(problems, errors.New("connection.hostKey is missing: the host's identity would not be checked; "+
			"set it to the host's public key line, as ssh-keyscan prints it without the host name"))
	}
	if n := connection.Int("dialErrorLimit"); n < -1 {
		problems = append(problems, errors.New("connection.dialErrorLimit must be -1 (no limit) or more"))
	}
	return errors.Join(problems...)
}

// newID makes an ID like the official plugin's: the name and 8 random hex digits.
func newID(name string) (string, error) {
	suffix := make([]byte, 4)
	if _, err := rand.Read(suffix); err != nil {
		return "", err
	}
	return name + hex.EncodeToString(suffix), nil
}

func logs(in schema.Values, stream string) bool {
	switch in.String("logging") {
	case "", logBoth:
		return true
	case stream:
		return true
	}
	return false
}
