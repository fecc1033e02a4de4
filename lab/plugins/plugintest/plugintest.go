// Package plugintest drives plugin doubles in tests the way the engine does:
// over gRPC, with property maps in and out.
package plugintest

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tinyrack-net/infrastructure/lab/plugins/engine"
)

// version is what every plugin under test stands for.
const version = "1.2.3"

// Plugin is a running plugin and the engine it talks to.
type Plugin struct {
	t      *testing.T
	rpc    pulumirpc.ResourceProviderClient
	engine *log
}

// Start serves the plugin and configures it.
func Start(t *testing.T, start func(*engine.Client, string) engine.Service, config resource.PropertyMap) *Plugin {
	t.Helper()
	events := &log{}
	address := serve(t, func(s *grpc.Server) { pulumirpc.RegisterEngineServer(s, events) })
	service := start(engine.NewClient(address), version)
	t.Cleanup(func() { _ = service.Close() })
	p := &Plugin{t: t, engine: events, rpc: pulumirpc.NewResourceProviderClient(dial(t, serve(t, service.Register)))}
	if _, err := p.Configure(config); err != nil {
		t.Fatalf("configure: %v", err)
	}
	return p
}

// Unconfigured serves the plugin and leaves the configuration to the test.
func Unconfigured(t *testing.T, start func(*engine.Client, string) engine.Service) *Plugin {
	t.Helper()
	service := start(engine.NewClient(""), version)
	t.Cleanup(func() { _ = service.Close() })
	return &Plugin{t: t, engine: &log{}, rpc: pulumirpc.NewResourceProviderClient(dial(t, serve(t, service.Register)))}
}

// Logs returns all messages so far, a line each.
func (p *Plugin) Logs() string {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return strings.Join(p.engine.lines, "\n")
}

// Cancel tells the plugin to give up what it does.
func (p *Plugin) Cancel() {
	p.t.Helper()
	if _, err := p.rpc.Cancel(p.t.Context(), &emptypb.Empty{}); err != nil {
		p.t.Fatalf("cancel: %v", err)
	}
}

// URN is the URN of a resource in these tests.
func URN(token, name string) string { return "urn:pulumi:test::test::" + token + "::" + name }

// Configure configures the plugin.
func (p *Plugin) Configure(config resource.PropertyMap) (*pulumirpc.ConfigureResponse, error) {
	return p.rpc.Configure(p.t.Context(), &pulumirpc.ConfigureRequest{
		Args: p.marshal(config), AcceptSecrets: true, AcceptResources: true,
	})
}

// CheckConfig checks a configuration and returns what is wrong with it.
func (p *Plugin) CheckConfig(name string, config resource.PropertyMap) (resource.PropertyMap, []string) {
	p.t.Helper()
	res, err := p.rpc.CheckConfig(p.t.Context(), &pulumirpc.CheckRequest{
		Urn: URN("pulumi:providers:"+name, "p"), News: p.marshal(config),
	})
	if err != nil {
		p.t.Fatalf("check config: %v", err)
	}
	return p.unmarshal(res.GetInputs()), reasons(res.GetFailures())
}

// DiffConfig compares two configurations.
func (p *Plugin) DiffConfig(name string, olds, news resource.PropertyMap) *pulumirpc.DiffResponse {
	p.t.Helper()
	res, err := p.rpc.DiffConfig(p.t.Context(), &pulumirpc.DiffRequest{
		Urn: URN("pulumi:providers:"+name, "p"), OldInputs: p.marshal(olds), News: p.marshal(news),
	})
	if err != nil {
		p.t.Fatalf("diff config: %v", err)
	}
	return res
}

// Check checks inputs; it fails the test when something is wrong with them.
func (p *Plugin) Check(token string, inputs resource.PropertyMap) resource.PropertyMap {
	p.t.Helper()
	checked, failures, err := p.TryCheck(token, inputs)
	if err != nil || len(failures) > 0 {
		p.t.Fatalf("check %s: %v %v", token, err, failures)
	}
	return checked
}

// TryCheck checks inputs and returns what is wrong with them.
func (p *Plugin) TryCheck(token string, inputs resource.PropertyMap) (resource.PropertyMap, []string, error) {
	res, err := p.rpc.Check(p.t.Context(), &pulumirpc.CheckRequest{Urn: URN(token, "r"), News: p.marshal(inputs)})
	if err != nil {
		return nil, nil, err
	}
	return p.unmarshal(res.GetInputs()), reasons(res.GetFailures()), nil
}

// Diff compares two sets of inputs.
func (p *Plugin) Diff(token string, olds, news resource.PropertyMap) *pulumirpc.DiffResponse {
	p.t.Helper()
	res, err := p.rpc.Diff(p.t.Context(), &pulumirpc.DiffRequest{
		Id: "id", Urn: URN(token, "r"), OldInputs: p.marshal(olds), Olds: p.marshal(olds), News: p.marshal(news),
	})
	if err != nil {
		p.t.Fatalf("diff %s: %v", token, err)
	}
	return res
}

// Create makes a resource; it fails the test when that fails.
func (p *Plugin) Create(token string, inputs resource.PropertyMap) (id string, state resource.PropertyMap) {
	p.t.Helper()
	id, state, err := p.TryCreate(token, inputs)
	if err != nil {
		p.t.Fatalf("create %s: %v", token, err)
	}
	return id, state
}

// TryCreate makes a resource.
func (p *Plugin) TryCreate(
	token string, inputs resource.PropertyMap,
) (id string, state resource.PropertyMap, err error) {
	res, err := p.rpc.Create(p.t.Context(), &pulumirpc.CreateRequest{Urn: URN(token, "r"), Properties: p.marshal(inputs)})
	if err != nil {
		return "", nil, err
	}
	return res.GetId(), p.unmarshal(res.GetProperties()), nil
}

// PreviewCreate plans a resource.
func (p *Plugin) PreviewCreate(token string, inputs resource.PropertyMap) resource.PropertyMap {
	p.t.Helper()
	res, err := p.rpc.Create(p.t.Context(), &pulumirpc.CreateRequest{
		Urn: URN(token, "r"), Properties: p.marshal(inputs), Preview: true,
	})
	if err != nil {
		p.t.Fatalf("preview %s: %v", token, err)
	}
	return p.unmarshal(res.GetProperties())
}

// Read refreshes a resource; an empty id says that it is gone.
func (p *Plugin) Read(
	token, id string, inputs, state resource.PropertyMap,
) (readID string, newInputs, newState resource.PropertyMap) {
	p.t.Helper()
	res, err := p.rpc.Read(p.t.Context(), &pulumirpc.ReadRequest{
		Id: id, Urn: URN(token, "r"), Inputs: p.marshal(inputs), Properties: p.marshal(state),
	})
	if err != nil {
		p.t.Fatalf("read %s: %v", token, err)
	}
	return res.GetId(), p.unmarshal(res.GetInputs()), p.unmarshal(res.GetProperties())
}

// Update changes a resource in place.
func (p *Plugin) Update(
	token, id string, state, olds, news resource.PropertyMap, preview bool,
) (resource.PropertyMap, error) {
	res, err := p.rpc.Update(p.t.Context(), &pulumirpc.UpdateRequest{
		Id: id, Urn: URN(token, "r"), Olds: p.marshal(state), OldInputs: p.marshal(olds), News: p.marshal(news),
		Preview: preview,
	})
	if err != nil {
		return nil, err
	}
	return p.unmarshal(res.GetProperties()), nil
}

// Delete removes a resource.
func (p *Plugin) Delete(token, id string, inputs, state resource.PropertyMap) error {
	_, err := p.rpc.Delete(p.t.Context(), &pulumirpc.DeleteRequest{
		Id: id, Urn: URN(token, "r"), OldInputs: p.marshal(inputs), Properties: p.marshal(state),
	})
	return err
}

// Map makes a property map of plain values.
func Map(values map[string]any) resource.PropertyMap {
	return resource.NewPropertyMapFromMap(values)
}

// Unknown is a value that is not known before an update.
func Unknown() resource.PropertyValue { return resource.MakeComputed(resource.NewProperty("")) }

func options() plugin.MarshalOptions {
	return plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true, KeepResources: true}
}

func (p *Plugin) marshal(m resource.PropertyMap) *structpb.Struct {
	p.t.Helper()
	s, err := plugin.MarshalProperties(m, options())
	if err != nil {
		p.t.Fatalf("marshal: %v", err)
	}
	return s
}

func (p *Plugin) unmarshal(s *structpb.Struct) resource.PropertyMap {
	p.t.Helper()
	m, err := plugin.UnmarshalProperties(s, options())
	if err != nil {
		p.t.Fatalf("unmarshal: %v", err)
	}
	return m
}

func reasons(failures []*pulumirpc.CheckFailure) []string {
	var out []string
	for _, f := range failures {
		out = append(out, f.GetReason())
	}
	return out
}

func serve(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// log is an engine that remembers what it is told.
type log struct {
	pulumirpc.UnimplementedEngineServer
	mu    sync.Mutex
	lines []string
}

func (l *log) Log(_ context.Context, req *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, req.GetMessage())
	return &emptypb.Empty{}, nil
}
