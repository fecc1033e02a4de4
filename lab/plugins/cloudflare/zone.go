package cloudflare

import (
	"errors"
	"maps"

	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

func (c *client) record() schema.Resource {
	at := func(in schema.Values, id ...string) string {
		return path(append([]string{"zones", in.String("zoneId"), "dns_records"}, id...)...)
	}
	wanted := []string{
		"name", "name", "type", "type", "content", "content", "ttl", "ttl", "proxied", "proxied",
		"comment", "comment", "priority", "priority", "tags", "tags",
	}
	request := func(in schema.Values) object { return body(in, wanted...) }
	properties := func(o object) schema.Values {
		out := o.fields(append([]string{
			"createdOn", "created_on", "modifiedOn", "modified_on", "proxiable", "proxiable",
			"commentModifiedOn", "comment_modified_on", "tagsModifiedOn", "tags_modified_on",
		}, wanted...)...)
		if o["meta"] != nil {
			out["meta"] = text(o["meta"])
		}
		return out
	}
	all := outputs("createdOn", "proxiable", "proxied", "meta", "tags")
	maps.Copy(all, volatile("modifiedOn", "commentModifiedOn", "tagsModifiedOn"))
	return c.collection(at, request, properties, schema.Resource{
		Inputs: schema.Properties{
			"zoneId":   {Type: schema.String, Required: true, Replace: true},
			"name":     {Type: schema.String, Required: true},
			"type":     {Type: schema.String, Required: true},
			"ttl":      {Type: schema.Number, Required: true},
			"content":  {Type: schema.String},
			"proxied":  {Type: schema.Boolean},
			"comment":  {Type: schema.String},
			"priority": {Type: schema.Number},
			"tags":     {Type: schema.List(schema.String)},
		},
		Outputs: all,
		Validate: func(in schema.Values) error {
			if ttl := in.Int("ttl"); in.Has("ttl") && ttl != 1 && (ttl < 30 || ttl > 86400) {
				return errors.New("ttl must be 1 (automatic) or between 30 and 86400 seconds")
			}
			return nil
		},
	})
}
