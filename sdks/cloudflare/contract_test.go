package cloudflare

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// binding is one resource of this package, with every argument set, and the
// name the SDK has for it.
type binding struct {
	sdk      string
	args     pulumi.Input
	resource any
	register func(ctx *pulumi.Context) error
}

func bind[A pulumi.Input, R any](
	sdk string, construct func(*pulumi.Context, string, *A, ...pulumi.ResourceOption) (*R, error), args A,
) binding {
	return binding{sdk: sdk, args: args, resource: *new(R), register: func(ctx *pulumi.Context) error {
		_, err := construct(ctx, sdk, &args)
		return err
	}}
}

func bindings() []binding {
	text, yes := pulumi.String("text"), pulumi.Bool(true)
	return []binding{
		bind("Provider", NewProvider, ProviderArgs{APIToken: text, BaseURL: text}),
		bind("ZeroTrustTunnelCloudflared", NewTunnel, TunnelArgs{
			AccountID: text, ConfigSrc: text, Name: text, TunnelSecret: text,
		}),
		bind("ZeroTrustTunnelCloudflaredConfig", NewTunnelConfig, TunnelConfigArgs{
			AccountID: text, TunnelID: text, Config: &TunnelConfigConfigArgs{
				Ingresses: []TunnelIngressArgs{{Hostname: text, Service: text}},
			},
		}),
		bind("DnsRecord", NewDNSRecord, DNSRecordArgs{
			Comment: text, Content: text, Name: text, Proxied: yes, TTL: pulumi.Float64(1), Type: text, ZoneID: text,
		}),
		bind("ZeroTrustAccessPolicy", NewAccessPolicy, AccessPolicyArgs{
			AccountID: text, Decision: text, Name: text, SessionDuration: text,
			Includes: []AccessIncludeArgs{{Email: &AccessEmailArgs{Email: text}}},
		}),
		bind("ZeroTrustAccessApplication", NewAccessApplication, AccessApplicationArgs{
			AccountID: text, AppLauncherVisible: yes, Domain: text, HTTPOnlyCookieAttribute: yes, Name: text,
			SessionDuration: text, Type: text,
			Policies: []AccessApplicationPolicyArgs{{ID: text, Precedence: pulumi.Int(1)}},
		}),
	}
}

// TestContract compares the bindings with the SDK's own source: what they are
// declared to be, and what they really send.
func TestContract(t *testing.T) {
	sdk := loadSDK(t)
	// Reading go.mod here also makes a change of it run this test again.
	goMod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if want := sdkModule + " v" + Version + "\n"; sdk.version != Version || !strings.Contains(string(goMod), want) {
		t.Errorf("Version is %s, go.mod requires the SDK at %s: the engine would load another plugin than the one compared "+
			"with", Version, sdk.version)
	}
	sent := registerAll(t)
	for _, b := range bindings() {
		t.Run(b.sdk, func(t *testing.T) {
			for _, difference := range sdk.compare(b) {
				t.Error(difference)
			}
			for _, difference := range sdk.compareSent(b, sent[b.sdk]) {
				t.Error(difference)
			}
		})
	}
}

// registerAll registers every binding and returns what reached the engine.
func registerAll(t *testing.T) recorder {
	t.Helper()
	sent := recorder{}
	err := pulumi.RunErr(func(ctx *pulumi.Context) error {
		var errs []error
		for _, b := range bindings() {
			errs = append(errs, b.register(ctx))
		}
		return errors.Join(errs...)
	}, pulumi.WithMocks("project", "stack", &mocks{sent: sent}))
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

type recorder map[string]pulumi.MockResourceArgs

type mocks struct {
	mutex sync.Mutex
	sent  recorder
}

func (m *mocks) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.sent[args.Name] = args
	return "id", args.Inputs, nil
}

func (*mocks) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) {
	return nil, errors.New("the bindings call no functions")
}

// compareSent compares what a binding sent with what the SDK's constructor sends.
func (s *sdkSource) compareSent(b binding, sent pulumi.MockResourceArgs) []string {
	theirs, err := s.constructor(b.sdk)
	if err != nil {
		return []string{err.Error()}
	}
	var differences []string
	if sent.TypeToken != theirs.token {
		differences = append(differences, fmt.Sprintf("token is %s, the SDK's %s", sent.TypeToken, theirs.token))
	}
	if sent.RegisterRPC.GetVersion() != Version {
		differences = append(differences, fmt.Sprintf("plugin version sent is %q, "+
			"want %q", sent.RegisterRPC.GetVersion(), Version))
	}

	var wantSecret, gotSecret, declared []string
	values, plain := reflect.TypeOf(b.args), b.args.ElementType()
	inputs, err := s.byProperty(lowerFirst(b.sdk) + "Args")
	if err != nil {
		return append(differences, err.Error())
	}
	for i := range plain.NumField() {
		property := plain.Field(i).Tag.Get("pulumi")
		declared = append(declared, property)
		if theirs.secretInputs[inputs[property].name] {
			wantSecret = append(wantSecret, property)
		}
		if theirs.secretOutputs[property] && !slices.Contains(sent.RegisterRPC.GetAdditionalSecretOutputs(), property) {
			differences = append(differences, fmt.Sprintf("%s: the SDK keeps this output secret", property))
		}
		if theirs.required[inputs[property].name] == optional(plain.Field(i).Type) {
			differences = append(differences, fmt.Sprintf("%s: required by one side only", property))
		}
		delete(theirs.required, inputs[property].name)
	}
	for _, name := range slices.Sorted(maps.Keys(theirs.required)) {
		differences = append(differences, fmt.Sprintf("%s: the SDK requires it, %v has no such field", name, values))
	}

	var keys []string
	for key, value := range sent.Inputs {
		keys = append(keys, string(key))
		if value.IsSecret() {
			gotSecret = append(gotSecret, string(key))
		}
	}
	for _, lists := range []struct {
		what      string
		got, want []string
	}{{"properties sent", keys, declared}, {"secret properties sent", gotSecret, wantSecret}} {
		slices.Sort(lists.got)
		slices.Sort(lists.want)
		if !slices.Equal(lists.got, lists.want) {
			differences = append(differences, fmt.Sprintf("%s are %v, want %v", lists.what, lists.got, lists.want))
		}
	}
	return differences
}

// compare returns every difference between the declarations of a binding and of
// the SDK's resource.
func (s *sdkSource) compare(b binding) []string {
	differences := s.compareArgs(b.sdk, b.args, b.sdk+"Args", lowerFirst(b.sdk)+"Args")
	theirs, err := s.byProperty(b.sdk)
	if err != nil {
		return append(differences, err.Error())
	}
	ours := reflect.TypeOf(b.resource)
	for i := range ours.NumField() {
		f := ours.Field(i)
		if f.Anonymous {
			continue
		}
		if property := f.Tag.Get("pulumi"); theirs[property].typ != f.Type.String() {
			differences = append(differences, fmt.Sprintf("output %s (%s) is a %s, the "+
				"SDK's %q", f.Name, property, f.Type, theirs[property].typ))
		}
	}
	return differences
}

// compareArgs compares our args with the SDK's twins: inputName declares what a
// program may pass, plainName the properties and the types they resolve to.
func (s *sdkSource) compareArgs(path string, args pulumi.Input, inputName, plainName string) []string {
	inputs, err := s.fields(inputName)
	if err != nil {
		return []string{err.Error()}
	}
	inputType := map[string]string{}
	for _, f := range inputs {
		inputType[f.name] = f.typ
	}
	properties, err := s.byProperty(plainName)
	if err != nil {
		return []string{err.Error()}
	}

	var differences []string
	ours, plain := reflect.TypeOf(args), args.ElementType()
	have := map[string]bool{}
	for i := range plain.NumField() {
		f := plain.Field(i)
		property := f.Tag.Get("pulumi")
		at := path + "." + property
		have[property] = true
		theirs, known := properties[property]
		if !known {
			differences = append(differences, fmt.Sprintf("%s: the SDK has no such property", at))
			continue
		}
		input, found := ours.FieldByName(f.Name)
		if !found {
			differences = append(differences, fmt.Sprintf("%s: %v has no field %s", at, ours, f.Name))
			continue
		}
		differences = append(differences, s.compareType(at, input.Type, f.Type, inputType[theirs.name], theirs.typ)...)
	}
	for i := range ours.NumField() {
		if _, found := plain.FieldByName(ours.Field(i).Name); !found {
			differences = append(differences, fmt.Sprintf("%s: %v has the field %s, %v has "+
				"not", path, ours, ours.Field(i).Name, plain))
		}
	}
	for _, property := range slices.Sorted(maps.Keys(properties)) {
		if !properties[property].optional() && !have[property] {
			differences = append(differences, fmt.Sprintf("%s.%s: required by the SDK, missing here", path, property))
		}
	}
	return differences
}

// compareType compares one field: scalars by the text of both types, objects by
// their shape (one, maybe one, a list) and then property by property.
func (s *sdkSource) compareType(at string, ourInput, ourPlain reflect.Type, theirInput, theirPlain string) []string {
	shape, element := "", ourPlain
	switch ourPlain.Kind() {
	case reflect.Pointer:
		shape, element = "*", ourPlain.Elem()
	case reflect.Slice:
		shape, element = "[]", ourPlain.Elem()
	}
	if element.Kind() != reflect.Struct {
		var differences []string
		if ourPlain.String() != theirPlain {
			differences = append(differences, fmt.Sprintf("%s: is a %s, the SDK's %s", at, ourPlain, theirPlain))
		}
		if ourInput.String() != theirInput {
			differences = append(differences, fmt.Sprintf("%s: takes a %s, the SDK's %s", at, ourInput, theirInput))
		}
		return differences
	}
	name, matches := strings.CutPrefix(theirPlain, shape)
	wantInput := name + map[string]string{"*": "PtrInput", "[]": "ArrayInput", "": "Input"}[shape]
	if !matches || wantInput != theirInput {
		return []string{fmt.Sprintf("%s: is a %s, the SDK's %s (%s)", at, ourPlain, theirPlain, theirInput)}
	}
	if shape != "" {
		ourInput = ourInput.Elem()
	}
	nested, isInput := reflect.Zero(ourInput).Interface().(pulumi.Input)
	if !isInput || nested.ElementType() != element {
		return []string{fmt.Sprintf("%s: %v does not resolve to %v", at, ourInput, element)}
	}
	return s.compareArgs(at, nested, name+"Args", name)
}

func (s *sdkSource) byProperty(structName string) (map[string]field, error) {
	fields, err := s.fields(structName)
	properties := map[string]field{}
	for _, f := range fields {
		properties[f.property] = f
	}
	delete(properties, "")
	return properties, err
}

func lowerFirst(name string) string { return strings.ToLower(name[:1]) + name[1:] }
