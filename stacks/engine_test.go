package stacks

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/plugin"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// engine plays Pulumi's engine and the providers over the real protocol. The
// SDK's own mocks cannot: they fail on a secret that is not known yet, which is
// what a first preview is full of.
type engine struct {
	pulumirpc.UnimplementedResourceMonitorServer
	pulumirpc.UnimplementedEngineServer
	preview bool

	mutex     sync.Mutex
	resources map[string]registered
	exports   resource.PropertyMap
}

type registered struct {
	kind, name string
	inputs     resource.PropertyMap
	// needs are the names of all resources this one directly waits for.
	needs []string
	// options is what was asked for besides the inputs, as plain data.
	options map[string]any
}

// run executes program as the named stack and returns what it registered, by
// name, and what it exports.
func run(t *testing.T, stack string, preview bool, program pulumi.RunFunc) (*engine, error) {
	t.Helper()
	e := &engine{preview: preview, resources: map[string]registered{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pulumirpc.RegisterResourceMonitorServer(server, e)
	pulumirpc.RegisterEngineServer(server, e)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	err = pulumi.RunErr(program, func(info *pulumi.RunInfo) {
		info.Project, info.Stack, info.DryRun, info.Parallel = project, stack, preview, 16
		info.MonitorAddr, info.EngineAddr = listener.Addr().String(), listener.Addr().String()
	})
	return e, err
}

// created are the answers of providers that the program goes on with.
func created(res registered) map[string]any {
	switch {
	case strings.HasSuffix(res.name, "-kubeconfig"):
		return map[string]any{"stdout": sealed(res, "server: https://127.0.0.1:6443\nkey: canary-kubeconfig\n")}
	case res.name == "flux-ready":
		// As the provider has it: what comes of a secret input is secret.
		return map[string]any{"stdout": resource.MakeSecret(resource.NewProperty("refs/heads/main@sha1:abc\n"))}
	case res.kind == "command:remote:Command":
		return map[string]any{"stdout": "100.64.0.10\n"}
	case strings.HasPrefix(res.kind, "random:"):
		return map[string]any{"result": generated}
	case res.kind == "tailscale:index/tailnetKey:TailnetKey":
		return map[string]any{"key": "canary-join-key"}
	}
	return nil
}

// generated is every generated password.
const generated = "canary-random-of-some-length"

// sealed is what the machine prints for text: openssl's format, with the token that the command has on standard input.
func sealed(res registered, text string) string {
	stdin := res.inputs["stdin"].SecretValue().Element.StringValue()
	lines := strings.Split(strings.TrimSuffix(stdin, "\n"), "\n")
	salt := "saltsalt"
	key, err := pbkdf2.Key(sha256.New, lines[len(lines)-1], []byte(salt), 100_000, 48)
	must(err)
	plain := fmt.Appendf(nil, "%x\n%s", sha256.Sum256([]byte(text)), text)
	padding := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, bytes.Repeat([]byte{byte(padding)}, padding)...)
	block, err := aes.NewCipher(key[:32])
	must(err)
	cipher.NewCBCEncrypter(block, key[32:]).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(append([]byte("Salted__"+salt), plain...))
}

var keepAll = plugin.MarshalOptions{KeepUnknowns: true, KeepSecrets: true}

func (e *engine) RegisterResource(
	_ context.Context, in *pulumirpc.RegisterResourceRequest,
) (*pulumirpc.RegisterResourceResponse, error) {
	inputs, err := plugin.UnmarshalProperties(in.GetObject(), keepAll)
	if err != nil {
		return nil, err
	}
	res := registered{kind: in.GetType(), name: in.GetName(), inputs: inputs}
	needs := names(append(slices.Clone(in.GetDependencies()), in.GetProvider())...)
	res.needs = slices.DeleteFunc(needs, func(name string) bool { return name == "" })
	res.options = optionsOf(in)
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if _, twice := e.resources[res.name]; twice {
		return nil, fmt.Errorf("two resources are named %q", res.name)
	}
	e.resources[res.name] = res

	state, id := inputs.Copy(), ""
	if !e.preview && in.GetCustom() {
		id = res.name + "-id"
		maps.Copy(state, resource.NewPropertyMapFromMap(created(res)))
	}
	object, err := plugin.MarshalProperties(state, keepAll)
	return &pulumirpc.RegisterResourceResponse{
		Urn: fmt.Sprintf("urn:pulumi:test::%s::%s::%s", project, res.kind, res.name), Id: id, Object: object,
	}, err
}

// names are those in URNs and provider references, sorted, "" for none.
func names(urns ...string) []string {
	out := []string{}
	for _, urn := range urns {
		name := ""
		if parts := strings.Split(urn, "::"); len(parts) > 3 {
			name = parts[3]
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// optionsOf are the options of a registration that differ from none.
func optionsOf(in *pulumirpc.RegisterResourceRequest) map[string]any {
	hooks := map[string]any{}
	for when, bound := range map[string][]string{
		"beforeCreate": in.GetHooks().GetBeforeCreate(), "afterCreate": in.GetHooks().GetAfterCreate(),
		"beforeUpdate": in.GetHooks().GetBeforeUpdate(), "afterUpdate": in.GetHooks().GetAfterUpdate(),
		"beforeDelete": in.GetHooks().GetBeforeDelete(), "afterDelete": in.GetHooks().GetAfterDelete(),
		"onError": in.GetHooks().GetOnError(),
	} {
		if len(bound) > 0 {
			hooks[when] = bound
		}
	}
	out := map[string]any{}
	for name, value := range map[string]any{
		"parent": names(in.GetParent())[0], "provider": names(in.GetProvider())[0],
		"dependsOn": names(in.GetDependencies()...),
		"protect":   in.GetProtect(), "retainOnDelete": in.GetRetainOnDelete(),
		"deleteBeforeReplace": in.GetDeleteBeforeReplace(),
		"ignoreChanges":       in.GetIgnoreChanges(), "replaceOnChanges": in.GetReplaceOnChanges(), "hooks": hooks,
		"additionalSecretOutputs": in.GetAdditionalSecretOutputs(), "deletedWith": names(in.GetDeletedWith())[0],
		"aliases": len(in.GetAliases()), "import": in.GetImportId(), "timeouts": in.GetCustomTimeouts().String(),
		"providers": slices.Sorted(maps.Keys(in.GetProviders())),
	} {
		v := reflect.ValueOf(value)
		several := v.Kind() == reflect.Slice || v.Kind() == reflect.Map
		if v.IsValid() && !v.IsZero() && (!several || v.Len() > 0) {
			out[name] = value
		}
	}
	if out["timeouts"] == "<nil>" {
		delete(out, "timeouts")
	}
	return out
}

func (e *engine) RegisterResourceOutputs(
	_ context.Context, in *pulumirpc.RegisterResourceOutputsRequest,
) (*emptypb.Empty, error) {
	outputs, err := plugin.UnmarshalProperties(in.GetOutputs(), keepAll)
	if strings.Contains(in.GetUrn(), "pulumi:pulumi:Stack") {
		e.exports = outputs
	}
	return &emptypb.Empty{}, err
}

func (*engine) SupportsFeature(
	_ context.Context, in *pulumirpc.SupportsFeatureRequest,
) (*pulumirpc.SupportsFeatureResponse, error) {
	known := []string{"secrets", "resourceHooks", "errorHooks"}
	return &pulumirpc.SupportsFeatureResponse{HasSupport: slices.Contains(known, in.GetId())}, nil
}

func (*engine) RegisterResourceHook(context.Context, *pulumirpc.RegisterResourceHookRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (*engine) RegisterErrorHook(context.Context, *pulumirpc.RegisterErrorHookRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (*engine) Invoke(
	_ context.Context, in *pulumirpc.ResourceInvokeRequest,
) (*pulumirpc.ResourceInvokeResponse, error) {
	return nil, fmt.Errorf("function %s called: previews must work without a network", in.GetTok())
}

func (*engine) SignalAndWaitForShutdown(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

func (*engine) Log(context.Context, *pulumirpc.LogRequest) (*emptypb.Empty, error) {
	return &emptypb.Empty{}, nil
}

// waitsFor reports whether name is made after other, directly or not.
func (e *engine) waitsFor(name, other string) bool {
	seen := map[string]bool{}
	var visit func(string) bool
	visit = func(name string) bool {
		if seen[name] {
			return false
		}
		seen[name] = true
		return slices.ContainsFunc(e.resources[name].needs, func(need string) bool { return need == other || visit(need) })
	}
	return visit(name)
}
