// Package credentials hands credentials to the cluster: one Secret in one namespace, which Flux, k3s or a workload
// expects and git must not hold in clear.
package credentials

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// Args describes a Secret.
type Args struct {
	Namespace string
	Name      string
	// Type is that of the Secret. Empty means Opaque.
	Type string
	// Data are the entries. All of them are secret.
	Data   map[string]pulumi.StringInput
	Labels map[string]string
	// CreateNamespace says that the namespace is made here, for a Secret that has to be there before what fills it. Its
	// pods have to meet the pod security standard "restricted".
	CreateNamespace bool
	// Privileged is why the pods of that namespace may ask for everything instead. The namespace shows it. Optional.
	Privileged string
	// Protect keeps that namespace from being deleted or replaced by Pulumi: what runs in it would be gone, and back only
	// when Flux looks again.
	Protect bool
	// DeletedWith is what takes the namespace and the Secret with it: they are not deleted one by one when it goes. For a
	// namespace whose objects wait for an operator that is gone by then. Optional.
	DeletedWith pulumi.Resource
	// DependsOn are resources that must be there first.
	DependsOn []pulumi.Resource
}

// Credentials is a Secret. Its children are <name>-secret and, if asked for, <name>-namespace. The kubernetes provider
// comes from the caller (pulumi.Providers).
type Credentials struct {
	pulumi.ResourceState

	// Done is what later steps depend on.
	Done []pulumi.Resource
}

// New registers the Secret.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Credentials, error) {
	fail := func(err error) (*Credentials, error) { return nil, fmt.Errorf("credentials %q: %w", name, err) }
	if err := args.Validate(); err != nil {
		return fail(err)
	}
	c := &Credentials{}
	if err := ctx.RegisterComponentResource("tinyrack:credentials:Credentials", name, c, opts...); err != nil {
		return fail(err)
	}
	before := args.DependsOn
	children := []pulumi.ResourceOption{pulumi.Parent(c)}
	if args.DeletedWith != nil {
		children = append(children, pulumi.DeletedWith(args.DeletedWith))
	}
	if args.CreateNamespace {
		namespace, err := corev1.NewNamespace(ctx, name+"-namespace", &corev1.NamespaceArgs{
			Metadata: args.namespace(),
		}, append(slices.Clone(children), pulumi.DependsOn(before), pulumi.Protect(args.Protect))...)
		if err != nil {
			return fail(err)
		}
		before = append(slices.Clone(before), namespace)
	}
	data := pulumi.StringMap{}
	for key, value := range args.Data {
		data[key] = pulumi.ToSecret(value).(pulumi.StringOutput)
	}
	in := &corev1.SecretArgs{
		Metadata:   &metav1.ObjectMetaArgs{Namespace: pulumi.String(args.Namespace), Name: pulumi.String(args.Name)},
		StringData: data,
	}
	if len(args.Labels) > 0 {
		in.Metadata.(*metav1.ObjectMetaArgs).Labels = pulumi.ToStringMap(args.Labels)
	}
	if args.Type != "" {
		in.Type = pulumi.String(args.Type)
	}
	secret, err := corev1.NewSecret(ctx, name+"-secret", in, append(children, pulumi.DependsOn(before))...)
	if err != nil {
		return fail(err)
	}
	c.Done = []pulumi.Resource{secret}
	if err := ctx.RegisterResourceOutputs(c, pulumi.Map{}); err != nil {
		return fail(err)
	}
	return c, nil
}

// namespace is the metadata of the namespace that is made.
func (a *Args) namespace() *metav1.ObjectMetaArgs {
	metadata := &metav1.ObjectMetaArgs{
		Name:   pulumi.String(a.Namespace),
		Labels: pulumi.StringMap{"pod-security.kubernetes.io/enforce": pulumi.String("restricted")},
	}
	if a.Privileged != "" {
		metadata.Labels = pulumi.StringMap{"pod-security.kubernetes.io/enforce": pulumi.String("privileged")}
		metadata.Annotations = pulumi.StringMap{"pod-security.tinyrack.net/reason": pulumi.String(a.Privileged)}
	}
	return metadata
}

var (
	namespaceForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	nameForm      = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
	keyForm       = regexp.MustCompile(`^[A-Za-z0-9._-]{1,253}$`)
)

// IsName reports whether text can be an object's name in Kubernetes.
func IsName(text string) bool { return nameForm.MatchString(text) }

// Validate returns every problem with the arguments. It shows no entry's value.
func (a *Args) Validate() error {
	var problems []error
	refuse := func(format string, values ...any) { problems = append(problems, fmt.Errorf(format, values...)) }
	if !namespaceForm.MatchString(a.Namespace) {
		refuse("namespace: %q is not a namespace: the API would refuse the Secret: use lower-case letters, digits and "+
			"hyphens", a.Namespace)
	}
	if !IsName(a.Name) {
		refuse("name: %q is not the name of a Secret: the API would refuse it: use lower-case letters, digits, dots and "+
			"hyphens", a.Name)
	}
	if len(a.Data) == 0 {
		refuse("data: missing: what reads the Secret would find nothing: give it at least one entry")
	}
	for _, key := range slices.Sorted(maps.Keys(a.Data)) {
		if !keyForm.MatchString(key) {
			refuse("data: %q is not the key of an entry: the API would refuse the Secret: use letters, digits, dots, hyphens "+
				"and underscores", key)
		}
		if a.Data[key] == nil {
			refuse("data.%s: missing: what reads the Secret could not log in: set it", key)
		}
	}
	return errors.Join(problems...)
}
