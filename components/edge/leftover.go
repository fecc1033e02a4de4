package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// API is how the leftovers of an interrupted deployment are looked for.
type API struct {
	// Token is the provider's. Secret: it goes into one request header and nowhere else.
	Token string
	// BaseURL is the provider's; empty is Cloudflare's own.
	BaseURL string
}

const (
	cloudflareAPI = "https://api.cloudflare.com/client/v4"
	// lookupTimeout bounds one request of a look for leftovers.
	lookupTimeout = 20 * time.Second
)

// leftover is what to look for before an object is created: where Cloudflare lists such objects, and whether one of
// them is what an interrupted deployment created, and could not note down, from these very inputs.
//
// Whatever is not proven to be ours stays, and Cloudflare goes on to refuse a second one of its name.
type leftover struct {
	// twins tells that Cloudflare takes a second object of the same name, so that a request that the provider repeated,
	// because the first answer was lost, leaves one too.
	twins bool
	list  func(inputs map[string]any) (path string, query url.Values)
	ours  func(ctx context.Context, api API, found, inputs map[string]any) (bool, error)
}

// leftovers are named like the resources they belong to.
var leftovers = map[string]leftover{
	// A tunnel is ours when connectors log in to it with our secret: only this stack knows it.
	"tunnel": {
		list: func(inputs map[string]any) (string, url.Values) {
			return accountPath(inputs, "cfd_tunnel"), url.Values{"name": {text(inputs, "name")}, "is_deleted": {"false"}}
		},
		ours: func(ctx context.Context, api API, found, inputs map[string]any) (bool, error) {
			var token string
			path := accountPath(inputs, "cfd_tunnel", text(found, "id"), "token")
			if err := api.call(ctx, http.MethodGet, path, nil, &token); err != nil {
				return false, err
			}
			login, err := parseToken(token)
			return login.Secret != "" && login.Secret == text(inputs, "tunnelSecret"), err
		},
	},
	// A record is ours when it is the very record: it leads to our tunnel, whose ID nobody else's record has.
	"record": {
		list: func(inputs map[string]any) (string, url.Values) {
			query := url.Values{"name.exact": {text(inputs, "name")}, "type": {text(inputs, "type")}}
			return "/zones/" + url.PathEscape(text(inputs, "zoneId")) + "/dns_records", query
		},
		ours: func(_ context.Context, _ API, found, inputs map[string]any) (bool, error) {
			return same(found, inputs, "name", "type", "content", "proxied", "comment"), nil
		},
	},
	// A policy is ours when it is the very policy and guards nothing.
	"policy": {
		twins: true,
		list: func(inputs map[string]any) (string, url.Values) {
			return accountPath(inputs, "access", "policies"), url.Values{"per_page": {"1000"}}
		},
		ours: func(_ context.Context, _ API, found, inputs map[string]any) (bool, error) {
			very := same(found, inputs, "name", "decision") && reflect.DeepEqual(found["include"], inputs["includes"])
			return very && found["app_count"] == 0.0, nil
		},
	},
	// An application is ours when our policy guards it, whose ID nobody else's application has.
	"login": {
		list: func(inputs map[string]any) (string, url.Values) {
			return accountPath(inputs, "access", "apps"), url.Values{"domain": {text(inputs, "domain")}}
		},
		ours: func(_ context.Context, _ API, found, inputs map[string]any) (bool, error) {
			policy := firstID(inputs)
			return same(found, inputs, "name", "domain") && policy != "" && firstID(found) == policy, nil
		},
	},
}

// hooks returns the options that make a resource remove its own leftover before it is created. In a preview nothing is
// looked for.
func (a API) hooks(ctx *pulumi.Context, name, kind string) (pulumi.ResourceOption, error) {
	if a.Token == "" {
		return pulumi.Composite(), nil
	}
	hook, err := ctx.RegisterResourceHook(name+"-leftover-"+kind, func(args *pulumi.ResourceHookArgs) error {
		if err := a.removeLeftover(ctx.Context(), leftovers[kind], plain(args.NewInputs), string(args.ID)); err != nil {
			return fmt.Errorf("looking for what an interrupted deployment left of %s: %w", args.Name, err)
		}
		return nil
	}, &pulumi.ResourceHookOptions{IgnoreErrors: true}) // whatever is wrong, the creation meets it too and says so
	if err != nil {
		return nil, err
	}
	binding := &pulumi.ResourceHookBinding{BeforeCreate: []*pulumi.ResourceHook{hook}}
	if leftovers[kind].twins {
		binding.AfterCreate = binding.BeforeCreate
	}
	return pulumi.ResourceHooks(binding), nil
}

// removeLeftover removes what is proven to be left over, but never the object with the ID keep.
func (a API) removeLeftover(ctx context.Context, kind leftover, inputs map[string]any, keep string) error {
	path, query := kind.list(inputs)
	var list []map[string]any
	if err := a.call(ctx, http.MethodGet, path, query, &list); err != nil {
		return err
	}
	for _, found := range list {
		if text(found, "id") == keep {
			continue
		}
		ours, err := kind.ours(ctx, a, found, inputs)
		if err != nil {
			return err
		}
		if !ours {
			continue
		}
		if err := a.call(ctx, http.MethodDelete, path+"/"+url.PathEscape(text(found, "id")), nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// call asks Cloudflare. No error of it holds the token or a body.
func (a API) call(ctx context.Context, method, path string, query url.Values, result any) error {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	address := strings.TrimSuffix(cmp.Or(a.BaseURL, cloudflareAPI), "/") + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+a.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, response.Status)
	}
	if result == nil {
		return nil
	}
	var envelope struct {
		Result json.RawMessage `json:"result"`
	}
	err = json.NewDecoder(response.Body).Decode(&envelope)
	if err != nil || json.Unmarshal(envelope.Result, result) != nil {
		return fmt.Errorf("%s %s: the answer is not as documented", method, path)
	}
	return nil
}

func accountPath(inputs map[string]any, parts ...string) string {
	path := "/accounts/" + url.PathEscape(text(inputs, "accountId"))
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}

func text(object map[string]any, key string) string {
	value, _ := object[key].(string)
	return value
}

// same tells whether what was found has the inputs' values.
func same(found, inputs map[string]any, keys ...string) bool {
	for _, key := range keys {
		if found[key] == nil || found[key] != inputs[key] {
			return false
		}
	}
	return true
}

// firstID is the ID of an application's only policy.
func firstID(application map[string]any) string {
	policies, _ := application["policies"].([]any)
	if len(policies) != 1 {
		return ""
	}
	policy, _ := policies[0].(map[string]any)
	return text(policy, "id")
}

// plain returns the inputs as JSON would decode them, without secret marks.
func plain(inputs resource.PropertyMap) map[string]any {
	var replace func(v resource.PropertyValue) (any, bool)
	replace = func(v resource.PropertyValue) (any, bool) {
		switch {
		case v.IsSecret():
			return v.SecretValue().Element.MapRepl(nil, replace), true
		case v.IsOutput():
			return v.OutputValue().Element.MapRepl(nil, replace), true
		}
		return nil, false
	}
	return inputs.MapRepl(nil, replace)
}
