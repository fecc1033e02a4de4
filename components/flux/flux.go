// Package flux hands a cluster over to Flux: the Flux Operator, the FluxInstance
// that says which Flux runs and what it syncs, the credentials for the git host
// and the variables the manifests may use. It ends when Flux is Ready on the
// wanted revision, not when the objects are stored.
package flux

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes"
	"github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/apiextensions"
	corev1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/core/v1"
	metav1 "github.com/pulumi/pulumi-kubernetes/sdk/v4/go/kubernetes/meta/v1"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

// Args describes what Flux runs and from where.
type Args struct {
	// Host is a server of the cluster, for the final wait.
	Host *remote.Host
	// Version is the Flux release, for example "2.9.2".
	Version string
	// Sync is what Flux keeps the cluster equal to.
	Sync Sync
	// Git are the credentials for Sync.
	Git Credentials
	// Variables become the ConfigMap cluster-vars, which Kustomizations substitute
	// from. Not secret.
	Variables map[string]pulumi.StringInput
	// Revision is the commit to wait for. Optional: the newest of the branch.
	Revision string
	// Layers are changed on their way to the cluster, by their names: git stays as it is. What one of them gets it gets at
	// once, while Variables may arrive before or after.
	Layers map[string]Layer
	// Protect keeps the namespace from being deleted or replaced by Pulumi: with it go the Kustomizations, and with them,
	// as far as Flux still runs, all that they applied, volumes included.
	Protect bool
	// DependsOn must exist before anything of Flux.
	DependsOn []pulumi.Resource
}

// Layer is what is changed of a Kustomization that Flux reads from git.
type Layer struct {
	// Suspended has Flux leave it alone, as it is.
	Suspended bool
	// Variables are substituted in this layer alone, before those of all. Not secret.
	Variables map[string]string
	// Patches change objects of the layer.
	Patches []Patch
}

// Patch changes all objects of a kind.
type Patch struct {
	Group, Kind string
	// Text is a JSON patch, as YAML.
	Text string
}

// Sync names a directory of a git repository.
type Sync struct {
	// URL starts with https:// or ssh://.
	URL string
	// Branch is a branch name, for example "main".
	Branch string
	// Path is relative to the repository, for example "./clusters/production".
	Path string
	// Interval is how often Flux looks for new commits. Default 1m.
	Interval string
}

// Flux is a cluster that syncs itself from git. Its children, named after the
// component NAME:
//
//	NAME-<kind>-<name>  every object of operator.yaml, the namespace among them
//	NAME-credentials    Secret flux-system/flux-system
//	NAME-variables      ConfigMap flux-system/cluster-vars
//	NAME-webhook-token  a random text
//	NAME-webhook        Secret flux-system/flux-webhook
//	NAME-commit-status  Secret flux-system/flux-commit-status, with a StatusToken
//	NAME-instance       FluxInstance flux-system/flux
//	NAME-ready          the command that waits until Flux is Ready
type Flux struct {
	pulumi.ResourceState

	// Revision is what Flux was Ready on when this component last changed, for
	// example "main@sha1:<commit>". Flux goes on from there by itself. Secret.
	Revision pulumi.StringOutput
	// WebhookPath is where ReceiverService takes the git host's webhook, and WebhookToken what that signs with. The token
	// is secret; it tells the path, and not the other way round.
	WebhookPath, WebhookToken pulumi.StringOutput
}

// Bounds of the waits, in seconds. A first start pulls every image.
const (
	instanceLimit = "900"
	syncLimit     = "900"
)

var (
	versionPattern  = regexp.MustCompile(`^2\.\d+\.\d+$`)
	pathPattern     = regexp.MustCompile(`^\./[A-Za-z0-9._/-]+$`)
	branchPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
	intervalPattern = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// A commit, as people write it, or as Flux does: refs/heads/main@sha1:<commit>.
	revisionPattern = regexp.MustCompile(`^([A-Za-z0-9._/-]+@sha(1|256):)?[0-9a-f]{7,64}$`)
)

// Validate returns every problem with a.
func (a *Args) Validate() error {
	if a == nil {
		return errors.New("no arguments: there is nothing to sync: pass Args")
	}
	var problems []error
	refuse := func(format string, v ...any) { problems = append(problems, fmt.Errorf(format, v...)) }
	if !versionPattern.MatchString(a.Version) {
		refuse("version: %q is not an exact Flux 2 release: an upgrade could happen unseen: write it like 2.9.2", a.Version)
	}
	if !branchPattern.MatchString(a.Sync.Branch) || strings.HasPrefix(a.Sync.Branch, "refs/") {
		refuse("branch: %q is not a branch name: Flux would find nothing to fetch: write it like main", a.Sync.Branch)
	}
	if !pathPattern.MatchString(a.Sync.Path) || strings.Contains(a.Sync.Path, "..") {
		refuse("path: %q is not a path within the repository: Flux would apply nothing: "+
			"write it like ./clusters/production", a.Sync.Path)
	}
	if a.Sync.Interval != "" && !intervalPattern.MatchString(a.Sync.Interval) {
		refuse("interval: %q is not a duration: the FluxInstance would be refused: write it like 1m", a.Sync.Interval)
	}
	if a.Revision != "" && !revisionPattern.MatchString(a.Revision) {
		refuse("revision: %q is not a commit: the wait for it would never end: write a commit hash, or leave it "+
			"out", a.Revision)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Variables)) {
		if !variablePattern.MatchString(name) {
			refuse("variables: %q is not a variable name: Flux would not substitute it: use letters, digits and "+
				"underscores", name)
		}
	}
	if err := a.Git.validate(a.Sync.URL); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// New registers the component. The caller passes the kubernetes provider with
// pulumi.Providers.
//
// On destroy the FluxInstance goes first, while the operator that finishes its
// uninstall still runs and the credentials are still there.
func New(ctx *pulumi.Context, name string, args *Args, opts ...pulumi.ResourceOption) (*Flux, error) {
	if err := args.Validate(); err != nil {
		return nil, fmt.Errorf("flux %q: nothing was registered: %w", name, err)
	}
	sync := args.Sync
	if sync.Interval == "" {
		sync.Interval = "1m"
	}
	f := &Flux{}
	if err := ctx.RegisterComponentResource("tinyrack:flux:Flux", name, f, opts...); err != nil {
		return nil, fmt.Errorf("flux %q: %w", name, err)
	}
	operator, err := registerOperator(ctx, name, f, args)
	if err != nil {
		return nil, fmt.Errorf("flux %q: %w", name, err)
	}
	inNamespace := []pulumi.ResourceOption{pulumi.Parent(f), pulumi.DependsOn([]pulumi.Resource{operator.namespace})}

	credentials, err := corev1.NewSecret(ctx, name+"-credentials", &corev1.SecretArgs{
		Metadata:   metadata(pullSecret, nil),
		Type:       pulumi.String("Opaque"),
		StringData: args.Git.secretData(),
	}, inNamespace...)
	if err != nil {
		return nil, fmt.Errorf("flux %q: git credentials: %w", name, err)
	}
	if err := f.registerWebhook(ctx, name, inNamespace); err != nil {
		return nil, fmt.Errorf("flux %q: webhook: %w", name, err)
	}
	if args.Git.StatusToken != nil {
		data, err := args.Git.statusData(args.Sync.URL)
		if err != nil {
			return nil, fmt.Errorf("flux %q: commit status: %w", name, err)
		}
		if _, err := corev1.NewSecret(ctx, name+"-commit-status", &corev1.SecretArgs{
			Metadata:   metadata(statusName, nil),
			Type:       pulumi.String("Opaque"),
			StringData: data,
		}, inNamespace...); err != nil {
			return nil, fmt.Errorf("flux %q: commit status: %w", name, err)
		}
	}
	watched := metadata(variablesName, nil)
	// Flux applies what substitutes from it as soon as it changes, not at the next interval.
	watched.Labels = pulumi.StringMap{"reconcile.fluxcd.io/watch": pulumi.String("Enabled")}
	variables, err := corev1.NewConfigMap(ctx, name+"-variables", &corev1.ConfigMapArgs{
		Metadata: watched,
		Data:     pulumi.StringMap(args.Variables),
	}, inNamespace...)
	if err != nil {
		return nil, fmt.Errorf("flux %q: cluster variables: %w", name, err)
	}

	spec := instanceSpec(args, sync)
	instance, err := apiextensions.NewCustomResource(ctx, name+"-instance", &apiextensions.CustomResourceArgs{
		ApiVersion: pulumi.String("fluxcd.controlplane.io/v1"),
		Kind:       pulumi.String("FluxInstance"),
		Metadata: metadata(instanceName, pulumi.StringMap{
			"pulumi.com/waitFor":        pulumi.String("condition=Ready"),
			"pulumi.com/timeoutSeconds": pulumi.String(instanceLimit),
		}),
		OtherFields: kubernetes.UntypedArgs{"spec": spec},
	}, pulumi.Parent(f), pulumi.DependsOn(slices.Concat(operator.rest, []pulumi.Resource{credentials, variables})))
	if err != nil {
		return nil, fmt.Errorf("flux %q: FluxInstance: %w", name, err)
	}

	ready, err := args.Host.Run(ctx, name+"-ready", &remote.Command{
		Create:   waitScript(args.Revision),
		Secret:   fingerprint(spec, args.Variables, args.Git.secretData()),
		ReadOnly: true,
	}, pulumi.Parent(f), pulumi.DependsOn([]pulumi.Resource{instance}))
	if err != nil {
		return nil, fmt.Errorf("flux %q: wait for Flux: %w", name, err)
	}
	// Secret, as what comes of the wait's secret standard input is in the state: in clear it would be found there, and
	// nothing published.
	f.Revision = pulumi.ToSecret(ready.Stdout.ApplyT(strings.TrimSpace)).(pulumi.StringOutput)
	if err := ctx.RegisterResourceOutputs(f, pulumi.Map{"revision": f.Revision}); err != nil {
		return nil, fmt.Errorf("flux %q: outputs: %w", name, err)
	}
	return f, nil
}

func metadata(name string, annotations pulumi.StringMapInput) metav1.ObjectMetaArgs {
	return metav1.ObjectMetaArgs{
		Name:        pulumi.String(name),
		Namespace:   pulumi.String(namespaceName),
		Annotations: annotations,
	}
}
