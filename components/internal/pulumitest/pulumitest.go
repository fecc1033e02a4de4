// Package pulumitest runs a component against Pulumi's mocks and records what it
// registers. Tests collect first and assert after the run: an assertion inside an
// apply can pass without ever running.
package pulumitest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Resource is one registered resource.
type Resource struct {
	Type string
	Name string
	// Parent, Provider and DependsOn hold names. Parent is "" below the stack,
	// Provider is "" for a default provider, DependsOn is sorted.
	Parent    string
	Provider  string
	DependsOn []string
	// Inputs keep their secrets marked.
	Inputs resource.PropertyMap
	RPC    *pulumirpc.RegisterResourceRequest
}

// Plain returns the inputs without secret marks.
func (r Resource) Plain() map[string]any {
	return r.Inputs.MapRepl(nil, func(v resource.PropertyValue) (any, bool) {
		if v.IsSecret() {
			return Resource{Inputs: resource.PropertyMap{"v": v.SecretValue().Element}}.Plain()["v"], true
		}
		return nil, false
	})
}

// Secrets returns the names of the inputs that are secret, sorted.
func (r Resource) Secrets() []string {
	var names []string
	for name, value := range r.Inputs {
		if value.ContainsSecrets() {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	return names
}

// Recording is what one run registered.
type Recording struct {
	// OutputsRegistered counts the calls to RegisterResourceOutputs, the stack's
	// own included.
	OutputsRegistered int
	mutex             sync.Mutex
	resources         map[string]Resource
	outputs           func(Resource) map[string]any
}

// Run executes program. Each resource answers with its inputs and, when outputs
// is not nil, with what that returns for it; its ID is "<name>-id".
func Run(program pulumi.RunFunc, outputs func(Resource) map[string]any) (*Recording, error) {
	recording := &Recording{resources: map[string]Resource{}, outputs: outputs}
	err := pulumi.RunErr(program, pulumi.WithMocks("project", "stack", recording))
	return recording, err
}

// Probe registers a resource whose inputs are values, so that a test sees what
// outputs resolve to and whether they are secret.
func Probe(ctx *pulumi.Context, name string, values pulumi.Map) error {
	var probe pulumi.CustomResourceState
	return ctx.RegisterResource("test:index:Probe", name, values, &probe)
}

// Names returns the names of all resources but components and probes, sorted.
func (r *Recording) Names() []string {
	var names []string
	for name, res := range r.resources {
		if res.RPC.GetCustom() && res.Type != "test:index:Probe" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Get returns a resource by name.
func (r *Recording) Get(t *testing.T, name string) Resource {
	t.Helper()
	res, found := r.resources[name]
	if !found {
		t.Fatalf("no resource %q was registered, only %q", name, slices.Sorted(maps.Keys(r.resources)))
	}
	return res
}

// NewResource implements the mocks.
func (r *Recording) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	res := Resource{
		Type: args.TypeToken, Name: args.Name, Inputs: args.Inputs, RPC: args.RegisterRPC,
		Parent: nameOf(args.RegisterRPC.GetParent()), Provider: nameOf(args.Provider),
	}
	for _, urn := range args.RegisterRPC.GetDependencies() {
		res.DependsOn = append(res.DependsOn, nameOf(urn))
	}
	slices.Sort(res.DependsOn)

	r.mutex.Lock()
	defer r.mutex.Unlock()
	if _, found := r.resources[args.Name]; found {
		return "", nil, fmt.Errorf("two resources are named %q", args.Name)
	}
	r.resources[args.Name] = res
	state := args.Inputs.Copy()
	if r.outputs != nil {
		maps.Copy(state, resource.NewPropertyMapFromMap(r.outputs(res)))
	}
	return args.Name + "-id", state, nil
}

// Call implements the mocks.
func (*Recording) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	return nil, fmt.Errorf("function %s called: a component must work in a preview without a network", args.Token)
}

// RegisterResourceOutputs implements the mocks.
func (r *Recording) RegisterResourceOutputs() (*emptypb.Empty, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.OutputsRegistered++
	return &emptypb.Empty{}, nil
}

// nameOf returns the name in a URN or in a provider reference, which is a URN
// and an ID; "" for the stack itself.
func nameOf(urn string) string {
	parts := strings.Split(urn, "::")
	if len(parts) < 4 || strings.HasPrefix(parts[2], "pulumi:pulumi:Stack") && !strings.Contains(parts[2], "$") {
		return ""
	}
	return parts[3]
}
