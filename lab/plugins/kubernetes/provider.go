// Package kubernetes is the lab's double of the kubernetes plugin: plain
// objects of any kind by server-side apply, with the official plugin's waits.
package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	property "github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil/rpcerror"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
	"github.com/tinyrack-net/infrastructure/lab/plugins/schema"
)

// Provider is the double. What is not about objects is schema.Provider's.
type Provider struct {
	schema.Provider

	cluster  cluster
	settings settings

	// unreachable is why nothing answers, once a Read that drops what it does not reach has found out for all.
	unreachable error
	finding     sync.Mutex
}

// settings are the provider's options beside the cluster.
type settings struct {
	deleteUnreachable     bool
	skipUpdateUnreachable bool
	patchForce            bool
	upsert                bool
	mutableSecrets        bool
	mutableConfigMaps     bool
}

// New returns the service of pulumi-resource-kubernetes. version is that of the official plugin
// that the double stands for.
func New(client *engine.Client, version string) engine.Service {
	return engine.Provider(newProvider(client, version))
}

func newProvider(client *engine.Client, version string) *Provider {
	p := &Provider{}
	p.Name, p.Version, p.Engine = "kubernetes", version, client
	p.Config = schema.Properties{
		"kubeconfig":                  {Type: schema.String},
		"context":                     {Type: schema.String},
		"cluster":                     {Type: schema.String},
		"namespace":                   {Type: schema.String},
		"clusterIdentifier":           {Type: schema.String},
		"enableServerSideApply":       {Type: schema.Boolean},
		"enablePatchForce":            {Type: schema.Boolean},
		"enableSecretMutable":         {Type: schema.Boolean},
		"enableConfigMapMutable":      {Type: schema.Boolean},
		"upsertExistingObjects":       {Type: schema.Boolean},
		"deleteUnreachable":           {Type: schema.Boolean},
		"skipUpdateUnreachable":       {Type: schema.Boolean},
		"suppressDeprecationWarnings": {Type: schema.Boolean},
		"suppressHelmHookWarnings":    {Type: schema.Boolean},
	}
	p.Connect = p.configure
	return p
}

func (p *Provider) configure(config schema.Values) error {
	if config.Has("enableServerSideApply") && !config.Bool("enableServerSideApply") {
		return errors.New("the lab's double only applies server-side: leave enableServerSideApply out or set it to true")
	}
	on := func(name, env string) bool {
		if config.Has(name) {
			return config.Bool(name)
		}
		return os.Getenv(env) == "true"
	}
	p.cluster.kubeconfig = config.String("kubeconfig")
	p.cluster.context = config.String("context")
	p.cluster.name = config.String("cluster")
	p.cluster.namespace = config.String("namespace")
	p.settings = settings{
		deleteUnreachable:     on("deleteUnreachable", "PULUMI_K8S_DELETE_UNREACHABLE"),
		skipUpdateUnreachable: on("skipUpdateUnreachable", "PULUMI_K8S_SKIP_UPDATE_UNREACHABLE"),
		patchForce:            on("enablePatchForce", "PULUMI_K8S_ENABLE_PATCH_FORCE"),
		upsert:                on("upsertExistingObjects", "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"),
		mutableSecrets:        on("enableSecretMutable", "PULUMI_K8S_ENABLE_SECRET_MUTABLE"),
		mutableConfigMaps:     on("enableConfigMapMutable", "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE"),
	}
	return nil
}

// DiffConfig implements plugin.Provider: another cluster replaces everything
// in it, another way to the same one nothing. Which it is says
// clusterIdentifier; without it any other kubeconfig counts as another cluster.
func (p *Provider) DiffConfig(_ context.Context, req plugin.DiffConfigRequest) (plugin.DiffConfigResponse, error) {
	diff := schema.Compare(req.OldInputs, req.NewInputs)
	delete(diff, "version")
	identified := req.OldInputs.HasValue("clusterIdentifier") && req.NewInputs.HasValue("clusterIdentifier")
	for path, change := range diff {
		if path == "clusterIdentifier" && identified || !identified && (path == "kubeconfig" || path == "context" ||
			path == "cluster") {
			change.Kind = change.Kind.AsReplace()
			diff[path] = change
		}
	}
	if len(diff) == 0 {
		return plugin.DiffResult{Changes: plugin.DiffNone}, nil
	}
	return plugin.DiffResult{Changes: plugin.DiffSome, DetailedDiff: diff}, nil
}

// Check implements plugin.Provider.
func (p *Provider) Check(_ context.Context, req plugin.CheckRequest) (plugin.CheckResponse, error) {
	kind, err := kindOf(string(req.Type))
	if err != nil {
		return plugin.CheckResponse{}, status.Error(codes.InvalidArgument, err.Error())
	}
	var failures []plugin.CheckFailure
	fail := func(at, format string, args ...any) {
		failures = append(failures, plugin.CheckFailure{
			Property: property.PropertyKey(at),
			Reason:   fmt.Sprintf("%s %q: ", req.Type, req.URN.Name()) + fmt.Sprintf(format, args...),
		})
	}
	if got, known := text(req.News, "kind"); known && got != kind.Kind {
		fail("kind", "kind is %q, the type token says %q", got, kind.Kind)
	}
	if got, known := text(req.News, "apiVersion"); known && got != kind.GroupVersion().String() {
		fail("apiVersion", "apiVersion is %q, the type token says %q", got, kind.GroupVersion())
	}
	if name, known := text(req.News, "metadata", "name"); known && name == "" {
		fail("metadata.name", "metadata.name is missing: the lab's double does not make names up (autonaming, generateName)")
	}
	if expression, known := text(req.News, "metadata", "annotations", waitForAnnotation); known && expression != "" {
		if _, err := parseWaitFor(expression); err != nil {
			fail("metadata.annotations", "%v", err)
		}
	}
	return plugin.CheckResponse{Properties: seal(kind, req.News), Failures: failures}, nil
}

// Diff implements plugin.Provider. It compares inputs with inputs: a refresh
// has put what really exists into the old ones.
func (p *Provider) Diff(_ context.Context, req plugin.DiffRequest) (plugin.DiffResponse, error) {
	kind, err := kindOf(string(req.Type))
	if err != nil {
		return plugin.DiffResponse{}, err
	}
	diff, deleteFirst := p.compare(kind, req.OldInputs, req.NewInputs)
	if len(diff) == 0 {
		return plugin.DiffResult{Changes: plugin.DiffNone}, nil
	}
	return plugin.DiffResult{Changes: plugin.DiffSome, DetailedDiff: diff, DeleteBeforeReplace: deleteFirst}, nil
}

// Create implements plugin.Provider.
func (p *Provider) Create(ctx context.Context, req plugin.CreateRequest) (plugin.CreateResponse, error) {
	manager := managerOf(req.URN, req.Properties, nil)
	if req.Preview {
		return plugin.CreateResponse{Properties: stateOf(req.Properties, manager)}, nil
	}
	ctx, cancel := p.Context(ctx)
	defer cancel()
	obj := objectOf(req.Properties)
	if !p.settings.upsert {
		if err := p.refuseExisting(ctx, obj); err != nil {
			return plugin.CreateResponse{}, p.describe("create", obj, err)
		}
	}
	id, err := p.write(ctx, req.URN, obj, req.Properties, manager, req.Timeout)
	if err != nil {
		return plugin.CreateResponse{}, p.describe("create", obj, err)
	}
	return plugin.CreateResponse{
		ID: property.ID(id), Properties: stateOf(req.Properties, manager),
		Status: property.StatusOK,
	}, nil
}

// refuseExisting fails when the object exists: a program that makes it would
// silently take over, and later delete, somebody else's.
func (p *Provider) refuseExisting(ctx context.Context, obj *unstructured.Unstructured) error {
	_, err := p.cluster.get(ctx, obj, kindTimeout)
	switch {
	case gone(err):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%s %q already exists: import it, or set the provider's upsertExistingObjects to take it over",
		strings.ToLower(obj.GetKind()), identity(obj))
}

// Update implements plugin.Provider.
func (p *Provider) Update(ctx context.Context, req plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	manager := managerOf(req.URN, req.NewInputs, req.OldOutputs)
	if req.Preview {
		return plugin.UpdateResponse{Properties: stateOf(req.NewInputs, manager)}, nil
	}
	ctx, cancel := p.Context(ctx)
	defer cancel()
	obj := objectOf(req.NewInputs)
	_, err := p.write(ctx, req.URN, obj, req.NewInputs, manager, req.Timeout)
	if errors.Is(err, errUnreachable) && p.settings.skipUpdateUnreachable {
		p.Engine.Warn(ctx, req.URN, "%v: the update is left out (skipUpdateUnreachable)", err)
		return plugin.UpdateResponse{Properties: req.OldOutputs}, nil
	}
	if err != nil {
		return plugin.UpdateResponse{}, p.describe("update", obj, err)
	}
	return plugin.UpdateResponse{Properties: stateOf(req.NewInputs, manager), Status: property.StatusOK}, nil
}

// write applies the object and waits until it is ready. An object that exists
// but does not become ready is a partial failure: the engine keeps it in the
// state and the next run goes on with it.
func (p *Provider) write(
	ctx context.Context, urn property.URN, obj *unstructured.Unstructured, inputs property.PropertyMap, manager string,
	custom float64,
) (string, error) {
	timeout, err := timeoutOf(obj, custom)
	if err != nil {
		return "", err
	}
	force := p.settings.patchForce || strings.EqualFold(obj.GetAnnotations()[patchForceAnnotation], "true")
	live, err := p.cluster.apply(ctx, obj, manager, force)
	if err != nil {
		return "", err
	}
	id := identity(live)
	if _, err := p.await(ctx, urn, live, timeout); err != nil {
		return "", initFailed(id, inputs, stateOf(inputs, manager), err)
	}
	return id, nil
}

// Read implements plugin.Provider.
func (p *Provider) Read(ctx context.Context, req plugin.ReadRequest) (plugin.ReadResponse, error) {
	if len(req.Inputs) == 0 {
		return plugin.ReadResponse{}, status.Errorf(codes.Unimplemented,
			"the lab's double of the kubernetes plugin does not support importing or getting %s", req.Type)
	}
	ctx, cancel := p.Context(ctx)
	defer cancel()
	obj := objectOf(req.Inputs)
	live, err := p.find(ctx, obj)
	switch {
	case gone(err) || meta.IsNoMatchError(err):
		return plugin.ReadResponse{}, nil
	case errors.Is(err, errUnreachable) && p.settings.deleteUnreachable:
		p.Engine.Warn(ctx, req.URN, "%v: dropped from the state (deleteUnreachable)", err)
		return plugin.ReadResponse{}, nil
	case errors.Is(err, errUnreachable) && p.settings.skipUpdateUnreachable:
		p.Engine.Warn(ctx, req.URN, "%v: not refreshed (skipUpdateUnreachable)", err)
		return plugin.ReadResponse{ReadResult: plugin.ReadResult{ID: req.ID, Inputs: req.Inputs, Outputs: req.State}}, nil
	case err != nil:
		return plugin.ReadResponse{}, p.describe("read", obj, err)
	}
	inputs := project(req.Inputs, live)
	return plugin.ReadResponse{ReadResult: plugin.ReadResult{
		ID:      property.ID(identity(live)),
		Inputs:  inputs,
		Outputs: stateOf(inputs, managerOf(req.URN, req.Inputs, req.State)),
	}}, nil
}

// find gets an object. Where what is not reached is dropped, the first one that is not speaks for all: the official
// plugin asks once whether the cluster answers, when it is configured.
func (p *Provider) find(ctx context.Context, obj *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if !p.settings.deleteUnreachable {
		return p.cluster.get(ctx, obj, 0)
	}
	p.finding.Lock()
	defer p.finding.Unlock()
	if p.unreachable != nil {
		return nil, p.unreachable
	}
	live, err := p.cluster.get(ctx, obj, 0)
	if errors.Is(err, errUnreachable) {
		p.unreachable = err
	}
	return live, err
}

// Delete implements plugin.Provider: it waits until the object is gone.
func (p *Provider) Delete(ctx context.Context, req plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	ctx, cancel := p.Context(ctx)
	defer cancel()
	obj := objectOf(req.Outputs)
	err := p.remove(ctx, req.URN, obj, req.Timeout)
	if errors.Is(err, errUnreachable) && p.settings.deleteUnreachable {
		p.Engine.Warn(ctx, req.URN, "%v: dropped from the state (deleteUnreachable)", err)
		return plugin.DeleteResponse{}, nil
	}
	if err != nil {
		return plugin.DeleteResponse{}, p.describe("delete", obj, err)
	}
	return plugin.DeleteResponse{}, nil
}

func (p *Provider) remove(ctx context.Context, urn property.URN, obj *unstructured.Unstructured, custom float64) error {
	timeout, err := timeoutOf(obj, custom)
	if err != nil {
		return err
	}
	live, err := p.cluster.get(ctx, obj, 0)
	if gone(err) || meta.IsNoMatchError(err) {
		return nil // the object is gone, or its kind is, with all objects of it
	}
	if err != nil {
		return err
	}
	api, _, err := p.cluster.resource(ctx, obj.GroupVersionKind(), obj.GetNamespace(), 0)
	if err != nil {
		return err
	}
	policy, uid := metav1.DeletePropagationForeground, live.GetUID()
	switch wanted := obj.GetAnnotations()[propagationAnnotation]; strings.ToLower(wanted) {
	case "", "foreground":
	case "background":
		policy = metav1.DeletePropagationBackground
	case "orphan":
		policy = metav1.DeletePropagationOrphan
	default:
		return fmt.Errorf("annotation %s: %q is none of foreground, background, orphan", propagationAnnotation, wanted)
	}
	_, err = retry(ctx, func() (struct{}, error) {
		return struct{}{}, api.Delete(ctx, obj.GetName(), metav1.DeleteOptions{
			PropagationPolicy: &policy,
			// Only this very object: another one of its name is somebody else's.
			Preconditions: &metav1.Preconditions{UID: &uid},
		})
	})
	if gone(err) {
		return nil
	}
	if err != nil || strings.EqualFold(obj.GetAnnotations()[skipAwaitAnnotation], "true") {
		return err
	}
	return p.awaitGone(ctx, urn, live, timeout)
}

// describe says what failed with which object. Partial failures keep their
// form, by which the engine knows them.
func (p *Provider) describe(verb string, obj *unstructured.Unstructured, err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return fmt.Errorf("%s %s %s: %w", verb, obj.GetKind(), identity(obj), err)
}

// stateOf is an object's state: its inputs and who owns its fields. What the
// cluster adds is left out, so that a refresh is quiet unless something the
// program wants has changed.
func stateOf(inputs property.PropertyMap, manager string) property.PropertyMap {
	state := inputs.Copy()
	state[fieldManagerKey] = property.NewProperty(manager)
	return state
}

// managerOf is the name under which the object's fields are owned: the
// annotation's, else the state's, else one of the resource's own. That one
// comes from the URN, so that a run after an interrupted one has it again.
func managerOf(urn property.URN, inputs, state property.PropertyMap) string {
	if name, known := text(inputs, "metadata", "annotations", fieldManagerAnnotation); known && name != "" {
		return name
	}
	if name, known := text(state, fieldManagerKey); known && name != "" {
		return name
	}
	sum := sha256.Sum256([]byte(urn))
	return "pulumi-kubernetes-" + hex.EncodeToString(sum[:4])
}

// initFailed is the error for an object that exists but is not ready.
func initFailed(id string, inputs, state property.PropertyMap, cause error) error {
	options := plugin.MarshalOptions{KeepSecrets: true, KeepResources: true, KeepUnknowns: true}
	rpcState, err := plugin.MarshalProperties(state, options)
	if err != nil {
		return cause
	}
	rpcInputs, err := plugin.MarshalProperties(inputs, options)
	if err != nil {
		return cause
	}
	return rpcerror.WithDetails(rpcerror.New(codes.Unknown, cause.Error()), &pulumirpc.ErrorResourceInitFailed{
		Id:         id,
		Properties: rpcState,
		Inputs:     rpcInputs,
		Reasons:    []string{cause.Error()},
	})
}
