// Package cloudflare is the lab's double of the cloudflare plugin: tunnel,
// tunnel configuration, DNS record, Access policy and application, by the same requests as the official plugin's.
package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// tokenForm is what the official plugin demands of an API token.
var tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{40}$`)

var configuration = schema.Properties{
	"apiToken": {Type: schema.String, Secret: true},
	"baseUrl":  {Type: schema.String},
}

// New returns the service of pulumi-resource-cloudflare. version is that of the official plugin
// that the double stands for.
func New(events *engine.Client, version string) engine.Service {
	c := &client{}
	return engine.Provider(&schema.Provider{
		Name:    "cloudflare",
		Version: version,
		Engine:  events,
		Config:  configuration,
		Connect: c.connect,
		Resources: map[string]schema.Resource{
			token("zeroTrustTunnelCloudflared"):       c.tunnel(),
			token("zeroTrustTunnelCloudflaredConfig"): c.tunnelConfig(),
			token("dnsRecord"):                        c.record(),
			token("zeroTrustAccessPolicy"):            c.policy(),
			token("zeroTrustAccessApplication"):       c.application(),
		},
	})
}

// token is the type token of a resource by its module's name.
func token(name string) string {
	return "cloudflare:index/" + name + ":" + strings.ToUpper(name[:1]) + name[1:]
}

func (c *client) connect(config schema.Values) error {
	if !tokenForm.MatchString(config.String("apiToken")) {
		return errors.New("apiToken must be 40 characters long and only contain a-z, A-Z, 0-9, hyphens and underscores")
	}
	base := officialURL
	if given := config.String("baseUrl"); given != "" {
		u, err := url.Parse(given)
		if err != nil || u.Host == "" {
			return fmt.Errorf("baseUrl %q is not a URL", given)
		}
		base = strings.TrimSuffix(given, "/")
	}
	c.base, c.token = base, config.String("apiToken")
	return nil
}

// object is a JSON object of the API.
type object map[string]any

// fields copies the API's fields into properties, by the pairs of property
// name and field name. Absent and null fields are left out.
func (o object) fields(pairs ...string) schema.Values {
	out := schema.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if v, ok := o[pairs[i+1]]; ok && v != nil { //nolint:gosec // pairs come in twos
			out[pairs[i]] = v
		}
	}
	return out
}

func (o object) id() string {
	id, _ := o["id"].(string)
	return id
}

// body builds a request's object out of properties, by the pairs of property
// name and field name. Absent properties are left out.
func body(in schema.Values, pairs ...string) object {
	out := object{}
	for i := 0; i < len(pairs); i += 2 {
		if v, ok := in[pairs[i]]; ok {
			out[pairs[i+1]] = v //nolint:gosec // pairs come in twos
		}
	}
	return out
}

// text is a JSON value as the text that the official plugin shows it as.
func text(v any) any {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return string(b)
}

// get reads an object, ErrGone when there is none.
func (c *client) get(ctx context.Context, at string) (object, error) {
	var found object
	err := c.do(ctx, "GET", at, nil, &found)
	if notFound(err) {
		return nil, schema.ErrGone
	}
	return found, err
}

// put creates or updates an object and returns it.
func (c *client) put(ctx context.Context, method, at string, payload any) (object, error) {
	var made object
	err := c.do(ctx, method, at, payload, &made)
	return made, err
}

// create is put for an object that gets its ID.
func (c *client) create(ctx context.Context, at string, payload any) (object, error) {
	made, err := c.put(ctx, "POST", at, payload)
	if err == nil && made.id() == "" {
		err = fmt.Errorf("POST %s: the API answered without an id", at)
	}
	return made, err
}

// remove deletes an object; it may be gone already.
func (c *client) remove(ctx context.Context, at string) error {
	if err := c.do(ctx, "DELETE", at, nil, nil); err != nil && !notFound(err) {
		return err
	}
	return nil
}
