// Package tailscale is the lab's double of the tailscale plugin: the policy,
// DNS preferences and join keys, through the official API client.
package tailscale

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/tailscale/hujson"
	"tailscale.com/client/tailscale/v2"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// defaultPolicyTag stands in If-Match for the policy of a tailnet that nobody
// has written yet; the API answers 412 when there is another one.
const defaultPolicyTag = "ts-default"

// requestTimeout bounds one API request.
const requestTimeout = time.Minute

// api is the client; the configuration fills it in.
type api struct{ *tailscale.Client }

var configuration = schema.Properties{
	"apiKey":            {Type: schema.String, Secret: true},
	"baseUrl":           {Type: schema.String},
	"oauthClientId":     {Type: schema.String},
	"oauthClientSecret": {Type: schema.String, Secret: true},
	"scopes":            {Type: schema.Any},
	"tailnet":           {Type: schema.String},
	"userAgent":         {Type: schema.String},
}

// New returns the service of pulumi-resource-tailscale. version is that of the official plugin
// that the double stands for.
func New(client *engine.Client, version string) engine.Service {
	a := &api{}
	return engine.Provider(&schema.Provider{
		Name:    "tailscale",
		Version: version,
		Engine:  client,
		Config:  configuration,
		Connect: a.connect,
		Resources: map[string]schema.Resource{
			"tailscale:index/acl:Acl":                       a.acl(),
			"tailscale:index/dnsPreferences:DnsPreferences": a.dnsPreferences(),
			"tailscale:index/tailnetKey:TailnetKey":         a.tailnetKey(),
		},
	})
}

func (a *api) connect(config schema.Values) error {
	client := &tailscale.Client{
		UserAgent: config.String("userAgent"),
		Tailnet:   config.String("tailnet"),
		HTTP:      &http.Client{Timeout: requestTimeout},
	}
	if base := config.String("baseUrl"); base != "" {
		u, err := url.Parse(base)
		if err != nil || u.Host == "" {
			return fmt.Errorf("baseUrl %q is not a URL", base)
		}
		client.BaseURL = u
	}
	scopes, err := listOf(config["scopes"])
	if err != nil {
		return fmt.Errorf("scopes: %w", err)
	}
	id, secret, key := config.String("oauthClientId"), config.String("oauthClientSecret"), config.String("apiKey")
	switch {
	case key != "" && (id != "" || secret != ""):
		return errors.New("apiKey and oauthClientId/oauthClientSecret exclude each other: give one of them")
	case key != "":
		client.APIKey = key
	case id != "" && secret != "":
		client.Auth = &tailscale.OAuth{ClientID: id, ClientSecret: secret, Scopes: scopes}
	default:
		return errors.New("credentials are missing: give oauthClientId and oauthClientSecret, or apiKey")
	}
	a.Client = client
	return nil
}

// listOf reads a list of strings that may have come as the text of a JSON list.
func listOf(v any) ([]string, error) {
	if text, ok := v.(string); ok {
		var list []string
		err := json.Unmarshal([]byte(text), &list)
		return list, err
	}
	return schema.Values{"list": v}.Strings("list"), nil
}

func (a *api) acl() schema.Resource {
	return schema.Resource{
		Inputs: schema.Properties{
			"acl":                      {Type: schema.String, Required: true},
			"overwriteExistingContent": {Type: schema.Boolean},
			"resetAclOnDestroy":        {Type: schema.Boolean},
		},
		Validate: func(in schema.Values) error {
			if _, err := canonical(in.String("acl")); in.Has("acl") && err != nil {
				return fmt.Errorf("acl is neither JSON nor HuJSON: %w", err)
			}
			return nil
		},
		Create: func(ctx context.Context, call schema.Call) (string, schema.Values, error) {
			tag := defaultPolicyTag
			if call.Inputs.Bool("overwriteExistingContent") {
				tag = ""
			}
			err := a.PolicyFile().Set(ctx, call.Inputs.String("acl"), tag)
			var refused tailscale.APIError
			if errors.As(err, &refused) && refused.Status == http.StatusPreconditionFailed {
				return "", nil, fmt.Errorf("you seem to be trying to overwrite a non-default policy with this Acl: "+
					"the tailnet keeps its policy; import it first, or set overwriteExistingContent: %w", err)
			}
			return newID(), nil, describe(err)
		},
		Read: func(ctx context.Context, call schema.Call) (schema.Values, error) {
			raw, err := a.PolicyFile().Raw(ctx)
			if err != nil {
				return nil, describe(err)
			}
			// The same policy in another notation is no change.
			if sameJSON(raw.HuJSON, call.Inputs.String("acl")) {
				return schema.Values{"acl": call.Inputs.String("acl")}, nil
			}
			return schema.Values{"acl": raw.HuJSON}, nil
		},
		Update: func(ctx context.Context, call schema.Call) (schema.Values, error) {
			if sameJSON(call.State.String("acl"), call.Inputs.String("acl")) {
				return nil, nil // only this resource's own options have changed
			}
			return nil, describe(a.PolicyFile().Set(ctx, call.Inputs.String("acl"), ""))
		},
		Delete: func(ctx context.Context, call schema.Call) error {
			if !call.State.Bool("resetAclOnDestroy") {
				return nil
			}
			// An empty policy resets the tailnet to the default one.
			return describe(a.PolicyFile().Set(ctx, "", ""))
		},
	}
}

func (a *api) dnsPreferences() schema.Resource {
	set := func(ctx context.Context, on bool) error {
		return describe(a.DNS().SetPreferences(ctx, tailscale.DNSPreferences{MagicDNS: on}))
	}
	return schema.Resource{
		Inputs: schema.Properties{"magicDns": {Type: schema.Boolean, Required: true}},
		Create: func(ctx context.Context, call schema.Call) (string, schema.Values, error) {
			return newID(), nil, set(ctx, call.Inputs.Bool("magicDns"))
		},
		Read: func(ctx context.Context, _ schema.Call) (schema.Values, error) {
			preferences, err := a.DNS().Preferences(ctx)
			if err != nil {
				return nil, describe(err)
			}
			return schema.Values{"magicDns": preferences.MagicDNS}, nil
		},
		Update: func(ctx context.Context, call schema.Call) (schema.Values, error) {
			return nil, set(ctx, call.Inputs.Bool("magicDns"))
		},
		Delete: func(ctx context.Context, _ schema.Call) error { return set(ctx, false) },
	}
}

func (a *api) tailnetKey() schema.Resource {
	return schema.Resource{
		Inputs: schema.Properties{
			"description":       {Type: schema.String, Replace: true},
			"ephemeral":         {Type: schema.Boolean, Replace: true},
			"expiry":            {Type: schema.Integer, Replace: true},
			"preauthorized":     {Type: schema.Boolean, Replace: true},
			"recreateIfInvalid": {Type: schema.Enum("always", "never")},
			"reusable":          {Type: schema.Boolean, Replace: true},
			"tags":              {Type: schema.List(schema.String), Replace: true},
		},
		Outputs: map[string]schema.Output{
			"key": {Secret: true}, "createdAt": {}, "expiresAt": {}, "invalid": {}, "userId": {},
			"description": {}, "ephemeral": {}, "expiry": {}, "preauthorized": {}, "reusable": {},
		},
		Create: func(ctx context.Context, call schema.Call) (string, schema.Values, error) {
			in := call.Inputs
			request := tailscale.CreateKeyRequest{
				Description:   in.String("description"),
				ExpirySeconds: int64(in.Int("expiry")),
			}
			request.Capabilities.Devices.Create.Reusable = in.Bool("reusable")
			request.Capabilities.Devices.Create.Ephemeral = in.Bool("ephemeral")
			request.Capabilities.Devices.Create.Preauthorized = in.Bool("preauthorized")
			request.Capabilities.Devices.Create.Tags = in.Strings("tags")
			key, err := a.Keys().CreateAuthKey(ctx, request)
			if err != nil {
				return "", nil, describe(err)
			}
			if key.ID == "" || key.Key == "" {
				return "", nil, errors.New("the API answered without the key or its id")
			}
			out := properties(key)
			out["key"] = key.Key
			return key.ID, out, nil
		},
		Read: func(ctx context.Context, call schema.Call) (schema.Values, error) {
			recreate := recreates(call.Inputs)
			key, err := a.Keys().Get(ctx, call.ID)
			switch {
			case tailscale.IsNotFound(err) && recreate:
				return nil, schema.ErrGone
			case tailscale.IsNotFound(err):
				// A key that was used up is not listed any more; it has done its
				// work and its resource stays.
				return schema.Values{"invalid": true}, nil
			case err != nil:
				return nil, describe(err)
			case key.Invalid && recreate:
				return nil, schema.ErrGone
			}
			return properties(key), nil
		},
		// Only recreateIfInvalid changes in place, and the API knows nothing of it.
		Update: func(context.Context, schema.Call) (schema.Values, error) { return nil, nil },
		Delete: func(ctx context.Context, call schema.Call) error {
			if err := a.Keys().Delete(ctx, call.ID); err != nil && !tailscale.IsNotFound(err) {
				return describe(err)
			}
			return nil
		},
	}
}

// recreates says whether a key that has become invalid is to be made anew: by
// default reusable ones are.
func recreates(in schema.Values) bool {
	switch in.String("recreateIfInvalid") {
	case "always":
		return true
	case "never":
		return false
	}
	return in.Bool("reusable")
}

// properties are a key's properties as the API tells them; never its secret.
func properties(key *tailscale.Key) schema.Values {
	device := key.Capabilities.Devices.Create
	out := schema.Values{
		"createdAt":     key.Created.Format(time.RFC3339),
		"expiresAt":     key.Expires.Format(time.RFC3339),
		"invalid":       key.Invalid,
		"userId":        key.UserID,
		"description":   key.Description,
		"ephemeral":     device.Ephemeral,
		"preauthorized": device.Preauthorized,
		"reusable":      device.Reusable,
	}
	if key.ExpirySeconds != nil {
		// The client's type is a duration, the API's number is in seconds.
		out["expiry"] = int(*key.ExpirySeconds)
	}
	if len(device.Tags) > 0 {
		tags := make([]any, len(device.Tags))
		for i, tag := range device.Tags {
			tags[i] = tag
		}
		out["tags"] = tags
	}
	return out
}

// describe adds what the API says about single parts of a refused request:
// failed policy tests, for instance.
func describe(err error) error {
	var refused tailscale.APIError
	if !errors.As(err, &refused) {
		return err
	}
	for _, data := range refused.Data {
		for _, text := range data.Errors {
			err = fmt.Errorf("%w; %s: %s", err, data.User, text)
		}
	}
	return fmt.Errorf("the Tailscale API answered %d: %w", refused.Status, err)
}

// canonical is a policy as standard JSON with sorted keys.
func canonical(text string) ([]byte, error) {
	standard, err := hujson.Standardize([]byte(text))
	if err != nil {
		return nil, err
	}
	var v any
	if err := json.Unmarshal(standard, &v); err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func sameJSON(a, b string) bool {
	x, errX := canonical(a)
	y, errY := canonical(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// newID makes an ID for what the API has no ID of.
func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	return hex.EncodeToString(id)
}
