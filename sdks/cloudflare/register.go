package cloudflare

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Version is the version of the Cloudflare provider plugin that serves these
// resources. It equals the version of the SDK in go.mod.
const Version = "6.17.0" // renovate: datasource=go depName=github.com/pulumi/pulumi-cloudflare/sdk/v6

// register asks the engine for one resource, after checking that every required
// argument is there: left to the plugin, a missing one is reported one at a time
// and only while deploying.
func register[A pulumi.Input](
	ctx *pulumi.Context, token, name string, args *A, res pulumi.CustomResource, opts []pulumi.ResourceOption,
) error {
	if args == nil {
		args = new(A)
	}
	if missing := missingArgs(*args); len(missing) > 0 {
		return fmt.Errorf("%s %q: required arguments missing: %s", token, name, strings.Join(missing, ", "))
	}
	opts = append(opts, pulumi.Version(Version))
	return ctx.RegisterResource(token, name, *args, res, opts...)
}

// missingArgs returns the required properties that args leaves out. A property
// is optional when its plain type can be absent: a pointer, a slice or a map.
func missingArgs(args pulumi.Input) []string {
	values, plain := reflect.ValueOf(args), args.ElementType()
	var missing []string
	for i := range plain.NumField() {
		field := plain.Field(i)
		if optional(field.Type) || !values.FieldByName(field.Name).IsNil() {
			continue
		}
		missing = append(missing, field.Tag.Get("pulumi"))
	}
	return missing
}

func optional(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map
}

// secret marks a value as secret and leaves an absent one absent.
func secret(value pulumi.StringPtrInput) pulumi.StringPtrInput {
	if value == nil {
		return nil
	}
	return pulumi.ToSecret(value).(pulumi.StringPtrInput)
}
