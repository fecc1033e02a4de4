package cloudflare

import (
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// sessionDuration is the API's default.
const sessionDuration = "24h"

// selector is one kind of Access rule: the property, the API's field, and the
// field inside, empty when there is none.
type selector struct{ property, field, inner string }

var selectors = []selector{
	{"email", "email", "email"},
	{"emailDomain", "email_domain", "domain"},
	{"everyone", "everyone", ""},
}

// ruleType is the type of one Access rule.
func ruleType() schema.Type {
	fields := schema.Properties{}
	for _, s := range selectors {
		inner := schema.Properties{}
		if s.inner != "" {
			inner[s.inner] = schema.Property{Type: schema.String, Required: true}
		}
		fields[s.property] = schema.Property{Type: schema.Object(inner)}
	}
	return schema.Object(fields)
}

// toRules and fromRules turn Access rules from properties into the API's and
// back.
func toRules(v any) []object {
	return convert(v, func(s selector) (string, string) { return s.property, s.field })
}

func fromRules(v any) []object {
	return convert(v, func(s selector) (string, string) { return s.field, s.property })
}

func convert(v any, names func(selector) (from, to string)) []object {
	items, _ := v.([]any)
	out := []object{}
	for _, item := range items {
		rule, _ := item.(map[string]any)
		converted := object{}
		for _, s := range selectors {
			from, to := names(s)
			if inner, ok := rule[from].(map[string]any); ok {
				converted[to] = inner
			}
		}
		out = append(out, converted)
	}
	return out
}

// plainRules are rules as property values.
func plainRules(v any) []any {
	out := []any{}
	for _, rule := range fromRules(v) {
		out = append(out, map[string]any(rule))
	}
	return out
}

func (c *client) policy() schema.Resource {
	at := func(in schema.Values, id ...string) string {
		return path(append([]string{"accounts", in.String("accountId"), "access", "policies"}, id...)...)
	}
	lists := []struct{ property, field string }{{"includes", "include"}, {"excludes", "exclude"}, {"requires", "require"}}
	request := func(in schema.Values) object {
		out := body(in, "name", "name", "decision", "decision", "sessionDuration", "session_duration")
		if !in.Has("sessionDuration") {
			out["session_duration"] = sessionDuration
		}
		for _, l := range lists {
			if in.Has(l.property) {
				out[l.field] = toRules(in[l.property])
			}
		}
		return out
	}
	properties := func(o object) schema.Values {
		out := o.fields("name", "name", "decision", "decision", "sessionDuration", "session_duration")
		for _, l := range lists {
			if rules, ok := o[l.field].([]any); ok && len(rules) > 0 {
				out[l.property] = plainRules(rules)
			}
		}
		return out
	}
	return c.collection(at, request, properties, schema.Resource{
		Inputs: schema.Properties{
			"accountId":       {Type: schema.String, Required: true, Replace: true},
			"name":            {Type: schema.String, Required: true},
			"decision":        {Type: schema.Enum("allow", "deny", "non_identity", "bypass"), Required: true},
			"includes":        {Type: schema.List(ruleType())},
			"excludes":        {Type: schema.List(ruleType())},
			"requires":        {Type: schema.List(ruleType())},
			"sessionDuration": {Type: schema.String},
		},
		Outputs: outputs("sessionDuration"),
	})
}

func (c *client) application() schema.Resource {
	at := func(in schema.Values, id ...string) string {
		return path(append([]string{"accounts", in.String("accountId"), "access", "apps"}, id...)...)
	}
	wanted := []string{
		"name", "name", "domain", "domain", "type", "type", "sessionDuration", "session_duration",
		"appLauncherVisible", "app_launcher_visible", "httpOnlyCookieAttribute", "http_only_cookie_attribute",
		"autoRedirectToIdentity", "auto_redirect_to_identity", "allowedIdps", "allowed_idps",
	}
	request := func(in schema.Values) object {
		out := object{"session_duration": sessionDuration, "app_launcher_visible": true, "http_only_cookie_attribute": true}
		for field, value := range body(in, wanted...) {
			out[field] = value
		}
		policies := []object{}
		list, _ := in["policies"].([]any)
		for _, p := range list {
			if v, ok := p.(map[string]any); ok {
				policies = append(policies, body(v, "id", "id", "precedence", "precedence"))
			}
		}
		out["policies"] = policies
		return out
	}
	properties := func(o object) schema.Values {
		out := o.fields(append([]string{"aud", "aud"}, wanted...)...)
		if list, ok := o["policies"].([]any); ok && len(list) > 0 {
			policies := []any{}
			for _, p := range list {
				if v, ok := p.(map[string]any); ok {
					policies = append(policies, map[string]any(object(v).fields("id", "id", "precedence", "precedence")))
				}
			}
			out["policies"] = policies
		}
		return out
	}
	return c.collection(at, request, properties, schema.Resource{
		Inputs: schema.Properties{
			"accountId":               {Type: schema.String, Required: true, Replace: true},
			"name":                    {Type: schema.String},
			"domain":                  {Type: schema.String},
			"type":                    {Type: schema.Enum("self_hosted"), Required: true},
			"sessionDuration":         {Type: schema.String},
			"appLauncherVisible":      {Type: schema.Boolean},
			"httpOnlyCookieAttribute": {Type: schema.Boolean},
			"autoRedirectToIdentity":  {Type: schema.Boolean},
			"allowedIdps":             {Type: schema.List(schema.String)},
			"policies": {Type: schema.List(schema.Object(schema.Properties{
				"id":         {Type: schema.String, Required: true},
				"precedence": {Type: schema.Integer},
			}))},
		},
		Outputs: outputs("aud", "sessionDuration", "appLauncherVisible", "httpOnlyCookieAttribute"),
	})
}
