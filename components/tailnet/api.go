package tailnet

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/tailscale/hujson"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	client "tailscale.com/client/tailscale/v2"
)

// API finds what an interrupted deployment left, with the provider's own access.
type API struct {
	// ClientID and ClientSecret are the OAuth client's. Secret.
	ClientID, ClientSecret string
	// Tailnet is its name; "-" is the one the client belongs to.
	Tailnet string
	// BaseURL is the provider's; empty is Tailscale's own.
	BaseURL string
}

// lookupTimeout bounds the look at the policy.
const lookupTimeout = 20 * time.Second

// mayOverwrite tells whether the policy may be replaced at its creation: when that was asked for, or when the tailnet has this very
// policy already, so that nothing is lost. A preview does not look.
func (a *Args) mayOverwrite(ctx *pulumi.Context, policy string) pulumi.BoolInput {
	if a.OverwritePolicy || ctx.DryRun() || a.API.ClientSecret == "" {
		return pulumi.Bool(a.OverwritePolicy)
	}
	// As late as the policy itself, so that little can change in between.
	var before []any
	for _, resource := range a.DependsOn {
		before = append(before, resource.URN())
	}
	return pulumi.All(before...).ApplyT(func([]any) bool {
		return a.API.has(ctx.Context(), policy)
	}).(pulumi.BoolOutput)
}

// has is false also when the policy cannot be read: the provider meets the same obstacle and says what it is.
func (a API) has(ctx context.Context, policy string) bool {
	connected, err := a.connect(ctx)
	if err != nil {
		return false
	}
	found, err := connected.PolicyFile().Raw(ctx)
	return err == nil && samePolicy(found.HuJSON, policy)
}

// revokeLeftover returns the option that makes the join key revoke, before it is created, the one that an interrupted deployment of the
// same stack created and could not note down. It is known by its description.
func (a API) revokeLeftover(ctx *pulumi.Context, name, description string) (pulumi.ResourceOption, error) {
	if a.ClientSecret == "" {
		return pulumi.Composite(), nil
	}
	hook, err := ctx.RegisterResourceHook(name+"-leftover-join-key", func(*pulumi.ResourceHookArgs) error {
		if err := a.revoke(ctx.Context(), description); err != nil {
			return fmt.Errorf("looking for the join key of an interrupted deployment: %w", err)
		}
		return nil
	}, &pulumi.ResourceHookOptions{IgnoreErrors: true}) // such a key is never used, and expires
	if err != nil {
		return nil, err
	}
	return pulumi.ResourceHooks(&pulumi.ResourceHookBinding{BeforeCreate: []*pulumi.ResourceHook{hook}}), nil
}

func (a API) revoke(ctx context.Context, description string) error {
	connected, err := a.connect(ctx)
	if err != nil {
		return err
	}
	keys, err := connected.Keys().List(ctx, false)
	if err != nil {
		return err
	}
	for _, listed := range keys {
		key, err := connected.Keys().Get(ctx, listed.ID) // the list has the IDs alone
		switch {
		case client.IsNotFound(err): // spent or expired in the meantime
			continue
		case err != nil:
			return err
		case key.Description != description, !key.Revoked.IsZero(), key.KeyType != "" && key.KeyType != "auth":
			continue
		}
		if err := connected.Keys().Delete(ctx, key.ID); err != nil {
			return err
		}
	}
	return nil
}

// connect returns a client whose every request, that for its token included, ends in time; the client's own OAuth would wait for the token
// without an end.
func (a API) connect(ctx context.Context) (*client.Client, error) {
	base, err := url.Parse(cmp.Or(a.BaseURL, tailscaleAPI))
	if err != nil {
		return nil, err
	}
	access := clientcredentials.Config{ClientID: a.ClientID, ClientSecret: a.ClientSecret, TokenURL: base.JoinPath("/api/v2/oauth/token").String()}
	authorized := access.Client(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Timeout: lookupTimeout}))
	authorized.Timeout = lookupTimeout
	return &client.Client{Tailnet: a.Tailnet, BaseURL: base, HTTP: authorized}, nil
}

const tailscaleAPI = "https://api.tailscale.com"

var notInDescription = regexp.MustCompile(`[^A-Za-z0-9-]+`)

// keyDescription is what the join key of a stack is known by, in the characters and length that Tailscale takes.
func keyDescription(project, stack string) string {
	text := notInDescription.ReplaceAllString(project+"-"+stack, "-") + " join key"
	return text[max(0, len(text)-maxDescription):]
}

// https://tailscale.com/api#tag/keys
const maxDescription = 50

// samePolicy compares two policy files but for their comments and layout.
func samePolicy(a, b string) bool {
	parse := func(text string) (value any, err error) {
		standard, err := hujson.Standardize([]byte(text))
		if err == nil {
			err = json.Unmarshal(standard, &value)
		}
		return value, err
	}
	left, errLeft := parse(a)
	right, errRight := parse(b)
	return errLeft == nil && errRight == nil && reflect.DeepEqual(left, right)
}
