package schema

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
)

// Provider is a plugin double made of resource descriptions.
type Provider struct {
	plugin.UnimplementedProvider

	// Name is the package name, such as random; Version the official plugin's.
	Name, Version string
	// Config are the properties of the provider's configuration.
	Config Properties
	// Connect takes the configuration, known and without secret marks. It must
	// not touch the network: previews configure providers too.
	Connect func(config Values) error
	// Resources by type token.
	Resources map[string]Resource
	Engine    *engine.Client

	once sync.Once
	life context.Context
	kill context.CancelFunc
}

// own is the double's name in messages.
func (p *Provider) own() string { return "the " + p.Name + " plugin" }

// Context ends with the call, or when the engine cancels everything.
func (p *Provider) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	p.init()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.life, cancel)
	return ctx, func() { stop(); cancel() }
}

func (p *Provider) init() {
	p.once.Do(func() { p.life, p.kill = context.WithCancel(context.Background()) })
}

func (p *Provider) find(token string) (Resource, error) {
	r, ok := p.Resources[token]
	if !ok {
		return Resource{}, status.Errorf(codes.InvalidArgument,
			"the lab's double of %s does not support the resource type %s", p.own(), token)
	}
	return r, nil
}

// Handshake implements plugin.Provider.
func (p *Provider) Handshake(
	_ context.Context, req plugin.ProviderHandshakeRequest,
) (*plugin.ProviderHandshakeResponse, error) {
	p.Engine.SetAddress(req.EngineAddress)
	return &plugin.ProviderHandshakeResponse{AcceptSecrets: true, AcceptResources: true, AcceptOutputs: false}, nil
}

// GetPluginInfo implements plugin.Provider.
func (p *Provider) GetPluginInfo(context.Context) (plugin.PluginInfo, error) {
	version, err := semver.Parse(p.Version)
	if err != nil {
		return plugin.PluginInfo{}, fmt.Errorf("version of %s: %w", p.own(), err)
	}
	return plugin.PluginInfo{Version: &version}, nil
}

// GetSchema implements plugin.Provider: a double has no schema to generate
// code from, only its name and version.
func (p *Provider) GetSchema(context.Context, plugin.GetSchemaRequest) (plugin.GetSchemaResponse, error) {
	return plugin.GetSchemaResponse{
		Schema: fmt.Appendf(nil, `{"name":%q,"version":%q,"resources":{}}`, p.Name, p.Version),
	}, nil
}

// Close implements plugin.Provider.
func (p *Provider) Close() error {
	p.init()
	p.kill()
	return nil
}

// SignalCancellation implements plugin.Provider: work in flight is given up.
func (p *Provider) SignalCancellation(context.Context) error { return p.Close() }

// CheckConfig implements plugin.Provider.
func (p *Provider) CheckConfig(_ context.Context, req plugin.CheckConfigRequest) (plugin.CheckConfigResponse, error) {
	checked, failures := p.Config.check(p.own(), withoutEngineKeys(req.News))
	for key, value := range req.News {
		if engineKey(key) {
			checked[key] = value
		}
	}
	return plugin.CheckConfigResponse{Properties: checked, Failures: failures}, nil
}

// DiffConfig implements plugin.Provider: another configuration never replaces
// the resources made with the old one.
func (p *Provider) DiffConfig(_ context.Context, req plugin.DiffConfigRequest) (plugin.DiffConfigResponse, error) {
	diff := Compare(withoutEngineKeys(req.OldInputs), withoutEngineKeys(req.NewInputs))
	return result(diff), nil
}

// Configure implements plugin.Provider.
func (p *Provider) Configure(_ context.Context, req plugin.ConfigureRequest) (plugin.ConfigureResponse, error) {
	checked, failures := p.Config.check(p.own(), withoutEngineKeys(req.Inputs))
	if len(failures) > 0 {
		return plugin.ConfigureResponse{}, status.Error(codes.InvalidArgument, reasons(failures))
	}
	if p.Connect != nil {
		if err := p.Connect(plain(checked)); err != nil {
			return plugin.ConfigureResponse{}, status.Errorf(codes.InvalidArgument, "configure %s: %v", p.own(), err)
		}
	}
	return plugin.ConfigureResponse{}, nil
}

// Check implements plugin.Provider.
func (p *Provider) Check(_ context.Context, req plugin.CheckRequest) (plugin.CheckResponse, error) {
	token := string(req.Type)
	r, err := p.find(token)
	if err != nil {
		return plugin.CheckResponse{}, err
	}
	checked, failures := r.Inputs.check(token, req.News)
	if len(failures) == 0 && r.Validate != nil {
		if err := r.Validate(plain(checked)); err != nil {
			failures = append(failures, plugin.CheckFailure{Reason: fmt.Sprintf("%s: %v", identify(token, req.URN.Name()), err)})
		}
	}
	return plugin.CheckResponse{Properties: checked, Failures: failures}, nil
}

// Diff implements plugin.Provider. It compares inputs with inputs: a refresh
// has put what really exists into the old ones.
func (p *Provider) Diff(_ context.Context, req plugin.DiffRequest) (plugin.DiffResponse, error) {
	r, err := p.find(string(req.Type))
	if err != nil {
		return plugin.DiffResponse{}, err
	}
	diff := Compare(req.OldInputs, req.NewInputs)
	for path, change := range diff {
		if r.replaces(topLevel(path)) {
			change.Kind = change.Kind.AsReplace()
			diff[path] = change
		}
	}
	out := result(diff)
	out.DeleteBeforeReplace = r.DeleteFirst
	return out, nil
}

// Create implements plugin.Provider.
func (p *Provider) Create(ctx context.Context, req plugin.CreateRequest) (plugin.CreateResponse, error) {
	token := string(req.Type)
	r, err := p.find(token)
	if err != nil {
		return plugin.CreateResponse{}, err
	}
	if req.Preview {
		return plugin.CreateResponse{Properties: r.planned(req.Properties, nil)}, nil
	}
	ctx, cancel := p.Context(ctx)
	defer cancel()
	id, outputs, err := r.Create(ctx, Call{URN: req.URN, Name: req.URN.Name(), Inputs: plain(req.Properties)})
	if err != nil {
		return plugin.CreateResponse{}, fmt.Errorf("create %s: %w", identify(token, req.URN.Name()), err)
	}
	return plugin.CreateResponse{
		ID:         resource.ID(id),
		Properties: r.state(req.Properties, nil, outputs),
		Status:     resource.StatusOK,
	}, nil
}

// Read implements plugin.Provider.
func (p *Provider) Read(ctx context.Context, req plugin.ReadRequest) (plugin.ReadResponse, error) {
	token := string(req.Type)
	r, err := p.find(token)
	if err != nil {
		return plugin.ReadResponse{}, err
	}
	if len(req.Inputs) == 0 && len(req.State) == 0 {
		return plugin.ReadResponse{}, status.Errorf(codes.Unimplemented,
			"the lab's double of %s does not support importing or getting %s", p.own(), token)
	}
	same := plugin.ReadResult{ID: req.ID, Inputs: req.Inputs, Outputs: req.State}
	if r.Read == nil {
		return plugin.ReadResponse{ReadResult: same}, nil
	}
	ctx, cancel := p.Context(ctx)
	defer cancel()
	live, err := r.Read(ctx, Call{
		URN: req.URN, Name: req.URN.Name(), ID: string(req.ID),
		Inputs: plain(req.Inputs), State: plain(req.State),
	})
	switch {
	case errors.Is(err, ErrGone):
		return plugin.ReadResponse{}, nil
	case err != nil:
		return plugin.ReadResponse{}, fmt.Errorf("read %s: %w", identify(token, req.URN.Name()), err)
	}
	inputs := r.refreshed(req.Inputs, live)
	// What cannot be read back (a key's secret, a command's output) stays.
	state := r.state(req.State, req.State, live)
	for key := range req.Inputs {
		if value, ok := inputs[key]; ok {
			state[key] = value
		} else {
			delete(state, key)
		}
	}
	return plugin.ReadResponse{ReadResult: plugin.ReadResult{ID: req.ID, Inputs: inputs, Outputs: state}}, nil
}

// Update implements plugin.Provider.
func (p *Provider) Update(ctx context.Context, req plugin.UpdateRequest) (plugin.UpdateResponse, error) {
	token := string(req.Type)
	r, err := p.find(token)
	if err != nil {
		return plugin.UpdateResponse{}, err
	}
	if req.Preview {
		return plugin.UpdateResponse{Properties: r.planned(req.NewInputs, req.OldOutputs)}, nil
	}
	if r.Update == nil {
		return plugin.UpdateResponse{}, status.Errorf(codes.Internal, "%s cannot be updated in place", token)
	}
	ctx, cancel := p.Context(ctx)
	defer cancel()
	outputs, err := r.Update(ctx, Call{
		URN: req.URN, Name: req.URN.Name(), ID: string(req.ID),
		Inputs: plain(req.NewInputs), State: plain(req.OldOutputs),
	})
	if err != nil {
		return plugin.UpdateResponse{}, fmt.Errorf("update %s: %w", identify(token, req.URN.Name()), err)
	}
	// Outputs that the update did not touch stay as they were.
	kept := resource.PropertyMap{}
	for name := range r.Outputs {
		key := resource.PropertyKey(name)
		if value, ok := req.OldOutputs[key]; ok {
			kept[key] = value
		}
	}
	for key, value := range r.state(req.NewInputs, req.OldOutputs, outputs) {
		kept[key] = value
	}
	return plugin.UpdateResponse{Properties: kept, Status: resource.StatusOK}, nil
}

// Delete implements plugin.Provider.
func (p *Provider) Delete(ctx context.Context, req plugin.DeleteRequest) (plugin.DeleteResponse, error) {
	token := string(req.Type)
	r, err := p.find(token)
	if err != nil {
		return plugin.DeleteResponse{}, err
	}
	if r.Delete == nil {
		return plugin.DeleteResponse{}, nil
	}
	ctx, cancel := p.Context(ctx)
	defer cancel()
	err = r.Delete(ctx, Call{
		URN: req.URN, Name: req.URN.Name(), ID: string(req.ID),
		Inputs: plain(req.Inputs), State: plain(req.Outputs),
	})
	if err != nil && !errors.Is(err, ErrGone) {
		return plugin.DeleteResponse{}, fmt.Errorf("delete %s: %w", identify(token, req.URN.Name()), err)
	}
	return plugin.DeleteResponse{}, nil
}

// Invoke implements plugin.Provider.
func (p *Provider) Invoke(_ context.Context, req plugin.InvokeRequest) (plugin.InvokeResponse, error) {
	return plugin.InvokeResponse{}, status.Errorf(codes.Unimplemented,
		"the lab's double of %s does not support the function %s", p.own(), req.Tok)
}

// engineKey says whether the engine itself put the key into a provider's
// configuration.
func engineKey(key resource.PropertyKey) bool {
	switch key {
	case "version", "pluginDownloadURL", "pluginChecksums", "__internal", "__pulumi-go-provider-infer":
		return true
	}
	return false
}

func withoutEngineKeys(m resource.PropertyMap) resource.PropertyMap {
	out := resource.PropertyMap{}
	for key, value := range m {
		if !engineKey(key) {
			out[key] = value
		}
	}
	return out
}

// result is the answer to a Diff with these detailed differences.
func result(diff map[string]plugin.PropertyDiff) plugin.DiffResult {
	if len(diff) == 0 {
		return plugin.DiffResult{Changes: plugin.DiffNone}
	}
	return plugin.DiffResult{Changes: plugin.DiffSome, DetailedDiff: diff}
}

// topLevel returns the first name of a property path.
func topLevel(path string) string {
	if i := strings.IndexAny(path, ".["); i > 0 {
		return path[:i]
	}
	return path
}

func reasons(failures []plugin.CheckFailure) string {
	lines := make([]string, len(failures))
	for i, f := range failures {
		lines[i] = f.Reason
	}
	return strings.Join(lines, "; ")
}
