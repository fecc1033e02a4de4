package flux

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"go.yaml.in/yaml/v3"
)

// operatorManifest is the Flux Operator's install manifest; its own header says
// where it comes from and how to upgrade it.
//
//go:embed operator.yaml
var operatorManifest []byte

// operatorSHA256 pins operatorManifest: it runs with cluster-admin rights, so a
// change of it must show in a review as more than a diff in generated text.
const operatorSHA256 = "cd69b77301b2ca2e1e2abab006597976f858b4b6583459369507d70123573c91"

// object is one Kubernetes object of a manifest.
type object struct {
	apiVersion, kind, name string
	fields                 map[string]any
}

// token returns the object's Pulumi type token.
func (o object) token() string {
	version := o.apiVersion
	if !strings.Contains(version, "/") {
		version = "core/" + version
	}
	return "kubernetes:" + version + ":" + o.kind
}

// resourceName returns the object's stable name within the component.
func (o object) resourceName(component string) string {
	return component + "-" + strings.ToLower(o.kind) + "-" + o.name
}

// register adds the object as a plain resource: the typed bindings would only
// copy field by field what the manifest already says, and the provider's own
// YAML resources cannot be previewed without a cluster.
func (o object) register(
	ctx *pulumi.Context, component string, opts ...pulumi.ResourceOption,
) (pulumi.Resource, error) {
	var res pulumi.CustomResourceState
	name := o.resourceName(component)
	if err := ctx.RegisterResource(o.token(), name, kubernetes.UntypedArgs(o.fields), &res, opts...); err != nil {
		return nil, fmt.Errorf("%s %q: not registered, the Flux Operator would be incomplete: %w", o.kind, o.name, err)
	}
	return &res, nil
}

// parseManifest returns the objects of a YAML stream in their order. sum is the
// stream's expected SHA-256 in hex.
func parseManifest(data []byte, sum string) ([]object, error) {
	if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
		return nil, fmt.Errorf("manifest: sha256 %x, wanted %s: it is not the text that was reviewed and is not applied: "+
			"restore the file, or review it and pin its new sha256", got, sum)
	}
	var objects []object
	for dec := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var fields map[string]any
		err := dec.Decode(&fields)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("manifest: object %d: %w", len(objects)+1, err)
		}
		if len(fields) == 0 {
			continue // an empty document, such as a leading separator
		}
		o := object{fields: fields}
		o.apiVersion, _ = fields["apiVersion"].(string)
		o.kind, _ = fields["kind"].(string)
		if metadata, ok := fields["metadata"].(map[string]any); ok {
			o.name, _ = metadata["name"].(string)
		}
		if o.apiVersion == "" || o.kind == "" || o.name == "" {
			return nil, fmt.Errorf("manifest: object %d: no apiVersion, kind or name: not a Kubernetes object", len(objects)+1)
		}
		objects = append(objects, o)
	}
}

// operator holds the registered objects of the Flux Operator.
type operator struct {
	namespace pulumi.Resource
	// rest is everything else: whatever needs a running operator depends on it.
	rest []pulumi.Resource
}

// registerOperator registers the objects in the order they need each other: the
// namespace, then definitions and rights, then what runs.
func registerOperator(
	ctx *pulumi.Context, component string, parent pulumi.Resource, args *Args,
) (*operator, error) {
	objects, err := parseManifest(operatorManifest, operatorSHA256)
	if err != nil {
		return nil, err
	}
	out := &operator{}
	for _, o := range objects {
		after := args.DependsOn
		opts := []pulumi.ResourceOption{pulumi.Parent(parent)}
		switch o.kind {
		case "Namespace":
			opts = append(opts, pulumi.Protect(args.Protect))
		case "Deployment", "Service":
			continue
		default:
			after = []pulumi.Resource{out.namespace}
		}
		res, err := o.register(ctx, component, append(opts, pulumi.DependsOn(after))...)
		if err != nil {
			return nil, err
		}
		if o.kind == "Namespace" {
			out.namespace = res
		} else {
			out.rest = append(out.rest, res)
		}
	}
	prepared := out.rest
	for _, o := range objects {
		if o.kind != "Deployment" && o.kind != "Service" {
			continue
		}
		res, err := o.register(ctx, component, pulumi.Parent(parent), pulumi.DependsOn(prepared))
		if err != nil {
			return nil, err
		}
		out.rest = append(out.rest, res)
	}
	return out, nil
}
