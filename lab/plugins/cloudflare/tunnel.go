package cloudflare

import (
	"context"
	"encoding/base64"
	"errors"

	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

func (c *client) tunnel() schema.Resource {
	at := func(account string, id ...string) string {
		return path(append([]string{"accounts", account, "cfd_tunnel"}, id...)...)
	}
	properties := func(o object) schema.Values {
		out := o.fields("accountTag", "account_tag", "configSrc", "config_src", "createdAt", "created_at",
			"deletedAt", "deleted_at", "connsActiveAt", "conns_active_at", "connsInactiveAt", "conns_inactive_at",
			"name", "name", "remoteConfig", "remote_config", "status", "status", "tunType", "tun_type")
		if o["metadata"] != nil {
			out["metadata"] = text(o["metadata"])
		}
		out["connections"] = connections(o["connections"])
		return out
	}
	return schema.Resource{
		Inputs: schema.Properties{
			"accountId":    {Type: schema.String, Required: true, Replace: true},
			"configSrc":    {Type: schema.Enum("local", "cloudflare"), Replace: true},
			"name":         {Type: schema.String, Required: true},
			"tunnelSecret": {Type: schema.String, Secret: true},
		},
		Outputs: outputs("accountTag", "configSrc", "connections", "connsActiveAt", "connsInactiveAt", "createdAt",
			"deletedAt", "metadata", "remoteConfig", "status", "tunType"),
		Validate: func(in schema.Values) error {
			if !in.Has("tunnelSecret") {
				return nil
			}
			if secret, err := base64.StdEncoding.DecodeString(in.String("tunnelSecret")); err != nil || len(secret) < 32 {
				return errors.New("tunnelSecret must be the base64 of at least 32 bytes")
			}
			return nil
		},
		Create: func(ctx context.Context, call schema.Call) (string, schema.Values, error) {
			made, err := c.create(ctx, at(call.Inputs.String("accountId")),
				body(call.Inputs, "name", "name", "configSrc", "config_src", "tunnelSecret", "tunnel_secret"))
			if err != nil {
				return "", nil, err
			}
			return made.id(), properties(made), nil
		},
		Read: func(ctx context.Context, call schema.Call) (schema.Values, error) {
			found, err := c.get(ctx, at(call.State.String("accountId"), call.ID))
			if err != nil {
				return nil, err
			}
			if found["deleted_at"] != nil {
				return nil, schema.ErrGone // the API still shows deleted tunnels
			}
			return properties(found), nil
		},
		Update: func(ctx context.Context, call schema.Call) (schema.Values, error) {
			made, err := c.put(ctx, "PATCH", at(call.Inputs.String("accountId"), call.ID),
				body(call.Inputs, "name", "name", "tunnelSecret", "tunnel_secret"))
			if err != nil {
				return nil, err
			}
			return properties(made), nil
		},
		Delete: func(ctx context.Context, call schema.Call) error {
			return c.remove(ctx, at(call.State.String("accountId"), call.ID))
		},
	}
}

// connections are a tunnel's connections with the property names' spelling.
func connections(v any) []any {
	items, _ := v.([]any)
	out := []any{}
	for _, item := range items {
		o, ok := item.(map[string]any)
		if !ok {
			continue
		}
		out = append(out, map[string]any(object(o).fields("clientId", "client_id", "clientVersion", "client_version",
			"coloName", "colo_name", "id", "id", "isPendingReconnect", "is_pending_reconnect", "openedAt", "opened_at",
			"originIp", "origin_ip", "uuid", "uuid")))
	}
	return out
}

func (c *client) tunnelConfig() schema.Resource {
	at := func(v schema.Values) string {
		return path("accounts", v.String("accountId"), "cfd_tunnel", v.String("tunnelId"), "configurations")
	}
	properties := func(o object) schema.Values {
		out := o.fields("createdAt", "created_at", "source", "source", "version", "version")
		config, _ := o["config"].(map[string]any)
		rules, _ := config["ingress"].([]any)
		ingresses := []any{}
		for _, rule := range rules {
			if o, ok := rule.(map[string]any); ok {
				ingresses = append(ingresses, map[string]any(object(o).fields("hostname", "hostname", "path", "path", "service",
					"service")))
			}
		}
		out["config"] = map[string]any{"ingresses": ingresses}
		return out
	}
	set := func(ctx context.Context, in schema.Values) (schema.Values, error) {
		rules := []object{}
		list, _ := in.Object("config")["ingresses"].([]any)
		for _, rule := range list {
			if v, ok := rule.(map[string]any); ok {
				rules = append(rules, body(v, "hostname", "hostname", "path", "path", "service", "service"))
			}
		}
		made, err := c.put(ctx, "PUT", at(in), object{"config": object{"ingress": rules}})
		if err != nil {
			return nil, err
		}
		out := properties(made)
		delete(out, "config") // an answer that rewrites what was asked must not look like success
		return out, nil
	}
	return schema.Resource{
		Inputs: schema.Properties{
			"accountId": {Type: schema.String, Required: true, Replace: true},
			"tunnelId":  {Type: schema.String, Required: true, Replace: true},
			"source":    {Type: schema.Enum("local", "cloudflare"), Replace: true},
			"config": {Type: schema.Object(schema.Properties{
				"ingresses": {Type: schema.List(schema.Object(schema.Properties{
					"hostname": {Type: schema.String},
					"path":     {Type: schema.String},
					"service":  {Type: schema.String, Required: true},
				}))},
			})},
		},
		Outputs: volatile("version", "createdAt", "source"),
		Create: func(ctx context.Context, call schema.Call) (string, schema.Values, error) {
			out, err := set(ctx, call.Inputs)
			return call.Inputs.String("tunnelId"), out, err
		},
		Read: func(ctx context.Context, call schema.Call) (schema.Values, error) {
			found, err := c.get(ctx, at(call.State))
			if err != nil {
				return nil, err
			}
			return properties(found), nil
		},
		Update: func(ctx context.Context, call schema.Call) (schema.Values, error) { return set(ctx, call.Inputs) },
		// No Delete: the API has none, the configuration goes with its tunnel.
	}
}

// outputs are outputs that an update leaves alone.
func outputs(names ...string) map[string]schema.Output {
	out := map[string]schema.Output{}
	for _, name := range names {
		out[name] = schema.Output{}
	}
	return out
}

// volatile are outputs that every update changes.
func volatile(names ...string) map[string]schema.Output {
	out := map[string]schema.Output{}
	for _, name := range names {
		out[name] = schema.Output{Volatile: true}
	}
	return out
}
