package cloudflare

import (
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// AccessPolicy is a reusable Access policy (ZeroTrustAccessPolicy in the SDK).
type AccessPolicy struct {
	pulumi.CustomResourceState
}

// AccessPolicyArgs describes an AccessPolicy.
type AccessPolicyArgs struct {
	AccountID pulumi.StringPtrInput
	// Decision is one of allow, deny, nonIdentity and bypass.
	Decision pulumi.StringInput
	// Includes are alternatives: who meets one of them meets the policy.
	Includes []AccessIncludeArgs
	Name     pulumi.StringInput
	// SessionDuration is a Go duration, such as 24h.
	SessionDuration pulumi.StringPtrInput
}

type accessPolicyArgs struct {
	AccountID       *string         `pulumi:"accountId"`
	Decision        string          `pulumi:"decision"`
	Includes        []accessInclude `pulumi:"includes"`
	Name            string          `pulumi:"name"`
	SessionDuration *string         `pulumi:"sessionDuration"`
}

// ElementType makes AccessPolicyArgs an input.
func (AccessPolicyArgs) ElementType() reflect.Type { return reflect.TypeFor[accessPolicyArgs]() }

// AccessIncludeArgs is one rule of an AccessPolicy.
type AccessIncludeArgs struct {
	Email *AccessEmailArgs
}

type accessInclude struct {
	Email *accessEmail `pulumi:"email"`
}

// ElementType makes AccessIncludeArgs an input.
func (AccessIncludeArgs) ElementType() reflect.Type { return reflect.TypeFor[accessInclude]() }

// AccessEmailArgs matches the person with this e-mail address.
type AccessEmailArgs struct {
	Email pulumi.StringInput
}

type accessEmail struct {
	Email string `pulumi:"email"`
}

// ElementType makes AccessEmailArgs an input.
func (AccessEmailArgs) ElementType() reflect.Type { return reflect.TypeFor[accessEmail]() }

// NewAccessPolicy registers an Access policy.
func NewAccessPolicy(
	ctx *pulumi.Context, name string, args *AccessPolicyArgs, opts ...pulumi.ResourceOption,
) (*AccessPolicy, error) {
	policy := &AccessPolicy{}
	token := "cloudflare:index/zeroTrustAccessPolicy:ZeroTrustAccessPolicy"
	if err := register(ctx, token, name, args, policy, opts); err != nil {
		return nil, err
	}
	return policy, nil
}
