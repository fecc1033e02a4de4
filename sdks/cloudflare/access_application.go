package cloudflare

import (
	"reflect"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// AccessApplication puts a hostname behind a login (ZeroTrustAccessApplication
// in the SDK). Who meets none of its policies is refused.
type AccessApplication struct {
	pulumi.CustomResourceState
}

// AccessApplicationArgs describes an AccessApplication.
type AccessApplicationArgs struct {
	AccountID pulumi.StringPtrInput
	// AppLauncherVisible lists the application in the App Launcher.
	AppLauncherVisible pulumi.BoolPtrInput
	// Domain is the protected hostname. A wildcard stands for one level only.
	Domain pulumi.StringPtrInput
	// HTTPOnlyCookieAttribute hides the login's cookie from scripts.
	HTTPOnlyCookieAttribute pulumi.BoolPtrInput
	Name                    pulumi.StringPtrInput
	Policies                []AccessApplicationPolicyArgs
	// SessionDuration is a Go duration, such as 24h.
	SessionDuration pulumi.StringPtrInput
	// Type is self_hosted for a hostname of one's own.
	Type pulumi.StringPtrInput
}

type accessApplicationArgs struct {
	AccountID               *string                   `pulumi:"accountId"`
	AppLauncherVisible      *bool                     `pulumi:"appLauncherVisible"`
	Domain                  *string                   `pulumi:"domain"`
	HTTPOnlyCookieAttribute *bool                     `pulumi:"httpOnlyCookieAttribute"`
	Name                    *string                   `pulumi:"name"`
	Policies                []accessApplicationPolicy `pulumi:"policies"`
	SessionDuration         *string                   `pulumi:"sessionDuration"`
	Type                    *string                   `pulumi:"type"`
}

// ElementType makes AccessApplicationArgs an input.
func (AccessApplicationArgs) ElementType() reflect.Type {
	return reflect.TypeFor[accessApplicationArgs]()
}

// AccessApplicationPolicyArgs links an AccessPolicy to an application.
type AccessApplicationPolicyArgs struct {
	ID pulumi.StringPtrInput
	// Precedence orders the policies of one application, lowest first, from 1.
	Precedence pulumi.IntPtrInput
}

type accessApplicationPolicy struct {
	ID         *string `pulumi:"id"`
	Precedence *int    `pulumi:"precedence"`
}

// ElementType makes AccessApplicationPolicyArgs an input.
func (AccessApplicationPolicyArgs) ElementType() reflect.Type {
	return reflect.TypeFor[accessApplicationPolicy]()
}

// NewAccessApplication registers an Access application.
func NewAccessApplication(
	ctx *pulumi.Context, name string, args *AccessApplicationArgs, opts ...pulumi.ResourceOption,
) (*AccessApplication, error) {
	application := &AccessApplication{}
	token := "cloudflare:index/zeroTrustAccessApplication:ZeroTrustAccessApplication"
	if err := register(ctx, token, name, args, application, opts); err != nil {
		return nil, err
	}
	return application, nil
}
