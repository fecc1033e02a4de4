// Package cloudflare binds the few Cloudflare resources this program uses.
//
// Importing the generated SDK costs minutes and 16 GB of memory on a cold build
// (pulumi/pulumi-cloudflare#1652). These bindings register the same resources
// with the same tokens and property names, so the official plugin serves them
// unchanged. Only what a component sets is here; all that is read back is the
// resource's ID.
//
// go.mod still requires the SDK. The contract test parses its source and fails
// when a token, a property, a type, a required field or a secret differs here.
package cloudflare
