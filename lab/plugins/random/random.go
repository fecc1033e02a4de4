// Package random is the lab's double of the random plugin: RandomBytes and
// RandomPassword from the operating system's random source.
package random

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// Characters of a password by class; the official plugin's.
const (
	lower   = "abcdefghijklmnopqrstuvwxyz"
	upper   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	numeric = "0123456789"
	special = "!@#$%&*()-_=+[]{}<>:?"
)

// New returns the service of pulumi-resource-random. version is that of the official plugin
// that the double stands for.
func New(client *engine.Client, version string) engine.Service {
	return engine.Provider(&schema.Provider{
		Name:    "random",
		Version: version,
		Engine:  client,
		Resources: map[string]schema.Resource{
			"random:index/randomBytes:RandomBytes":       randomBytes(),
			"random:index/randomPassword:RandomPassword": randomPassword(),
		},
	})
}

func randomBytes() schema.Resource {
	return schema.Resource{
		Inputs: schema.Properties{
			"length":  {Type: schema.Integer, Required: true},
			"keepers": {Type: schema.Map(schema.String)},
		},
		Outputs: map[string]schema.Output{"base64": {Secret: true}, "hex": {Secret: true}},
		Validate: func(in schema.Values) error {
			if in.Has("length") && in.Int("length") < 1 {
				return errors.New("length must be at least 1")
			}
			return nil
		},
		Create: func(_ context.Context, call schema.Call) (string, schema.Values, error) {
			b := make([]byte, call.Inputs.Int("length"))
			if _, err := rand.Read(b); err != nil {
				return "", nil, err
			}
			encoded := base64.StdEncoding.EncodeToString(b)
			// The official plugin uses the value itself as the ID, in clear. The
			// double does the same, so that a program which must not leak it shows
			// the leak here too.
			return encoded, schema.Values{"base64": encoded, "hex": hex.EncodeToString(b)}, nil
		},
	}
}

// class is one class of characters of a password.
type class struct{ enabled, minimum, characters string }

var classes = []class{
	{"lower", "minLower", lower},
	{"upper", "minUpper", upper},
	{"numeric", "minNumeric", numeric},
	{"special", "minSpecial", special},
}

func randomPassword() schema.Resource {
	inputs := schema.Properties{
		"length":          {Type: schema.Integer, Required: true},
		"keepers":         {Type: schema.Map(schema.String)},
		"overrideSpecial": {Type: schema.String},
	}
	outputs := map[string]schema.Output{"result": {Secret: true}, "bcryptHash": {Secret: true}, "number": {}}
	for _, c := range classes {
		inputs[c.enabled] = schema.Property{Type: schema.Boolean}
		inputs[c.minimum] = schema.Property{Type: schema.Integer}
		outputs[c.enabled], outputs[c.minimum] = schema.Output{}, schema.Output{}
	}
	return schema.Resource{
		Inputs:  inputs,
		Outputs: outputs,
		Validate: func(in schema.Values) error {
			if !in.Has("length") {
				return nil
			}
			least := 0
			for _, c := range classes {
				least += in.Int(c.minimum)
			}
			if in.Int("length") < max(1, least) {
				return fmt.Errorf("length must be at least 1 and at least minLower + minUpper + minNumeric + minSpecial "+
					"(%d)", least)
			}
			return nil
		},
		Create: func(_ context.Context, call schema.Call) (string, schema.Values, error) {
			password, err := generate(call.Inputs)
			if err != nil {
				return "", nil, err
			}
			// bcrypt reads 72 bytes at most; the official plugin cuts there too.
			hash, err := bcrypt.GenerateFromPassword([]byte(password[:min(len(password), 72)]), bcrypt.DefaultCost)
			if err != nil {
				return "", nil, err
			}
			out := schema.Values{"result": password, "bcryptHash": string(hash)}
			for _, c := range classes {
				out[c.enabled] = enabled(call.Inputs, c)
				out[c.minimum] = call.Inputs.Int(c.minimum)
			}
			out["number"] = out["numeric"]
			return "none", out, nil
		},
	}
}

func enabled(in schema.Values, c class) bool { return !in.Has(c.enabled) || in.Bool(c.enabled) }

// generate draws the required number of each class, fills up from all enabled
// classes and shuffles.
func generate(in schema.Values) (string, error) {
	var all strings.Builder
	var password []byte
	for _, c := range classes {
		characters := c.characters
		if c.enabled == "special" && in.String("overrideSpecial") != "" {
			characters = in.String("overrideSpecial")
		}
		if enabled(in, c) {
			all.WriteString(characters)
		}
		drawn, err := draw(characters, in.Int(c.minimum))
		if err != nil {
			return "", err
		}
		password = append(password, drawn...)
	}
	if all.Len() == 0 {
		return "", errors.New("no class of characters is enabled: enable lower, upper, numeric or special")
	}
	rest, err := draw(all.String(), in.Int("length")-len(password))
	if err != nil {
		return "", err
	}
	password = append(password, rest...)
	for i := len(password) - 1; i > 0; i-- {
		j, err := below(i + 1)
		if err != nil {
			return "", err
		}
		password[i], password[j] = password[j], password[i]
	}
	return string(password), nil
}

func draw(characters string, n int) ([]byte, error) {
	drawn := make([]byte, n)
	for i := range drawn {
		j, err := below(len(characters))
		if err != nil {
			return nil, err
		}
		drawn[i] = characters[j]
	}
	return drawn, nil
}

func below(n int) (int, error) {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		return 0, err
	}
	return int(i.Int64()), nil
}
