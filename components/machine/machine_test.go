package machine

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/internal/script/scripttest"
)

func commandOutputs(r pulumitest.Resource) map[string]any {
	if r.Name == "m-join" {
		return map[string]any{"stdout": "chatter\n100.64.0.10\n", "stderr": ""}
	}
	return map[string]any{"stdout": "", "stderr": ""}
}

func TestMachine(t *testing.T) {
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		p, err := NewPreflight(ctx, "p", testPreflight())
		if err != nil {
			return err
		}
		args := testArgs()
		args.User = "debian"
		args.DependsOn = p.Done
		m, err := New(ctx, "m", args)
		if err != nil {
			return err
		}
		var after pulumi.CustomResourceState
		if err := ctx.RegisterResource("test:index:After", "x-after", nil, &after, pulumi.DependsOn(m.Done)); err != nil {
			return err
		}
		return pulumitest.Probe(ctx, "probe", pulumi.Map{"address": m.TailnetAddress})
	}, commandOutputs)
	if err != nil {
		t.Fatal(err)
	}
	// The names are a contract: a rename replaces the resource and runs its delete.
	want := []string{"m-firewall", "m-firewall-confirm", "m-join", "m-packages", "p-check", "x-after"}
	if got := recording.Names(); !reflect.DeepEqual(got, want) {
		t.Errorf("resources %q, want %q", got, want)
	}
	if recording.Get(t, "m").Type != "tinyrack:machine:Machine" || recording.Get(t, "p").Type != "tinyrack:machine:Preflight" {
		t.Error("a component's type changed")
	}
	after := map[string]string{"m-packages": "p-check", "m-join": "m-packages", "m-firewall": "m-join", "m-firewall-confirm": "m-firewall"}
	for name, dependency := range after {
		r := recording.Get(t, name)
		if r.Parent != "m" || !slices.Contains(r.DependsOn, dependency) {
			t.Errorf("%s: parent %q, after %q, want after %q", name, r.Parent, r.DependsOn, dependency)
		}
		if create := r.Plain()["create"].(string); !strings.Contains(create, "exec sudo -n ") {
			t.Errorf("%s does not run through sudo", name)
		}
	}
	if got := recording.Get(t, "x-after").DependsOn; !slices.Contains(got, "m-firewall-confirm") {
		t.Errorf("a later step waits for %q", got)
	}
	for _, name := range want[:len(want)-1] {
		r := recording.Get(t, name)
		if r.Inputs["addPreviousOutputInEnv"].BoolValue() || r.Inputs.HasValue("triggers") {
			t.Errorf("%s: previous output or triggers are on", name)
		}
		if got := r.RPC.GetIgnoreChanges(); len(got) != 0 {
			t.Errorf("%s ignores %q", name, got)
		}
		connection := r.Plain()["connection"].(map[string]any)
		if connection["hostKey"] != testHostKey {
			t.Errorf("%s does not verify the host", name)
		}
		if generous := connection["dialErrorLimit"] == float64(dialErrorLimit); generous != (name == "p-check") {
			t.Errorf("%s: dial limit %v", name, connection["dialErrorLimit"])
		}
		if strings.Contains(r.Plain()["create"].(string), canary) {
			t.Errorf("%s has a secret in its text", name)
		}
	}
	for _, name := range []string{"m-join", "p-check"} {
		r := recording.Get(t, name)
		if !r.Inputs["stdin"].IsSecret() || r.Plain()["stdin"] != canary {
			t.Errorf("%s: stdin is %v", name, r.Inputs["stdin"])
		}
	}
	for name, has := range map[string]bool{"m-packages": true, "m-join": true, "m-firewall": true, "m-firewall-confirm": false, "p-check": false} {
		if got := recording.Get(t, name).Inputs.HasValue("delete"); got != has {
			t.Errorf("%s: delete is %v, want %v", name, got, has)
		}
	}
	if got := recording.Get(t, "probe").Plain()["address"]; got != "100.64.0.10" {
		t.Errorf("tailnet address %q", got)
	}
	if recording.OutputsRegistered < 2 {
		t.Error("a component did not register its outputs")
	}
}

func TestMachineScriptsAreClean(t *testing.T) {
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := NewPreflight(ctx, "p", testPreflight())
		_, err2 := New(ctx, "m", testArgs())
		return errors.Join(err, err2)
	}, commandOutputs)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range recording.Names() {
		for _, key := range []string{"create", "delete"} {
			if text, ok := recording.Get(t, name).Plain()[key].(string); ok {
				t.Run(name+"/"+key, func(t *testing.T) { scripttest.ShellCheck(t, text) })
			}
		}
	}
}

func TestMachineRefuses(t *testing.T) {
	if err := testArgs().Validate(); err != nil {
		t.Fatalf("the valid arguments: %v", err)
	}
	args := &Args{
		Packages: []string{"ok", "-y", "a;b"},
		Sysctl:   map[string]string{"net.ipv4.ip_forward": "1\nx", "nodots": "1"},
		Tailnet:  Join{Hostname: "Bad_Name", LoginServer: "login.example"},
	}
	wantError(t, args.Validate(), "host: missing", "hostKey: missing", "user: missing", `packages: "-y"`, `packages: "a;b"`,
		"sysctl: net.ipv4.ip_forward", "sysctl: nodots", "tailnet.hostname", "tailnet.loginServer", "tailnet.key: missing", "firewall.podCIDR")
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "m", args)
		return err
	}, nil)
	wantError(t, err, `machine "m":`)
	if len(recording.Names()) != 0 {
		t.Errorf("registered before it was refused: %q", recording.Names())
	}
}

func TestLastLine(t *testing.T) {
	for output, want := range map[string]string{"100.64.0.1": "100.64.0.1", "a\nb \n100.64.0.1\n\n": "100.64.0.1"} {
		if got, err := lastLine(output); err != nil || got != want {
			t.Errorf("%q gives %q, %v", output, got, err)
		}
	}
	if got, err := lastLine(" \n"); err == nil {
		t.Errorf("empty output gives %q", got)
	}
}
