package machine

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
	"github.com/tinyrack-net/infrastructure/internal/golden"
)

//go:embed testdata
var testdata embed.FS

func commandOutputs(r pulumitest.Resource) map[string]any {
	if r.Name == "m-door" {
		return map[string]any{"stdout": "chatter\n100.64.0.10\n", "stderr": ""}
	}
	return map[string]any{"stdout": "", "stderr": ""}
}

// children are a contract: a rename replaces the resource.
var children = []string{"p-check", "m-firewall", "m-firewall-confirm", "m-packages", "m-join", "m-door"}

// registerAll registers a preflight and a machine of one host, as a stack does.
func registerAll(t *testing.T, change func(*PreflightArgs, *Args)) *pulumitest.Recording {
	t.Helper()
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		var edge pulumi.CustomResourceState
		if err := ctx.RegisterResource("test:index:Edge", "x-edge", nil, &edge); err != nil {
			return err
		}
		checks, args := testPreflight(), testArgs()
		change(checks, args)
		checks.Host = args.Host
		p, err := NewPreflight(ctx, "p", checks)
		if err != nil {
			return err
		}
		args.DependsOn = []pulumi.Resource{&edge}
		m, err := New(ctx, "m", args)
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(m.Done, args.Host.Done()) || len(m.Done) != 1 {
			return errors.New("what comes after the machine does not wait for its last command")
		}
		for name, after := range map[string][]pulumi.Resource{"x-cloud": p.Done, "x-after": m.Done} {
			var later pulumi.CustomResourceState
			if err := ctx.RegisterResource("test:index:Later", name, nil, &later, pulumi.DependsOn(after)); err != nil {
				return err
			}
		}
		return pulumitest.Probe(ctx, "probe", pulumi.Map{"address": m.TailnetAddress})
	}, commandOutputs)
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

// bodies are the texts that stand in the repository as they are.
func bodies() *strings.Replacer {
	return strings.NewReplacer(
		remote.Library, "<lib.sh>\n", remote.Cluster, "<cluster.sh>\n", identityScript, "<identity.sh>\n",
		preflightScript, "<preflight.sh>\n", firewallWatchScript, "<firewall_watch.sh>\n",
		firewallScript, "<firewall.sh>\n", firewallResetScript, "<firewall_reset.sh>\n",
		packagesScript, "<packages.sh>\n", joinScript, "<join.sh>\n", doorScript, "<door.sh>\n", resetScript, "<reset.sh>\n",
		canary, "<canary>",
	)
}

// What is the same for every command is proven with package remote, and the rules with the firewall.
var (
	receiver = regexp.MustCompile(`'sh' '-c' 'umask .*?/fd/3' 'tinyrack' '\d+' '\d+' '\d+'`)
	rules    = regexp.MustCompile(`(?m)^(RULESET|WATCH_SCRIPT|LOAD_UNIT|WATCH_UNIT)='(?:[^']|'\\'')*'\n`)
)

// describe returns everything that was asked of the engine for one resource. Secrets are marked, not left out.
func describe(t *testing.T, r pulumitest.Resource) string {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "== %s (%s)\nparent %q, provider %q, after %q\n", r.Name, r.Type, r.Parent, r.Provider, r.DependsOn)
	fmt.Fprintf(&text, "ignores %q, aliases %d, protect %v, secret outputs %q, retain %v, delete before replace %v\n",
		r.RPC.GetIgnoreChanges(), len(r.RPC.GetAliases()), r.RPC.GetProtect(), r.RPC.GetAdditionalSecretOutputs(),
		r.RPC.GetRetainOnDelete(), r.RPC.GetDeleteBeforeReplace())
	fmt.Fprintf(&text, "hooks on error %q\n", r.RPC.GetHooks().GetOnError())
	inputs := r.Inputs.MapRepl(nil, func(v resource.PropertyValue) (any, bool) {
		if !v.IsSecret() {
			return nil, false
		}
		plain := pulumitest.Resource{Inputs: resource.PropertyMap{"v": v.SecretValue().Element}}.Plain()["v"]
		return map[string]any{"secret": plain}, true
	})
	stdin := inputs["stdin"]
	delete(inputs, "stdin")
	data, err := json.MarshalIndent(inputs, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	masked, err := json.Marshal(canary)
	if err != nil {
		t.Fatal(err)
	}
	plain := receiver.ReplaceAllString(string(data), "<receive>")
	plain = strings.ReplaceAll(plain, strings.Trim(string(masked), `"`), "<canary>")
	fmt.Fprintf(&text, "%s\n", plain)
	mark := "stdin"
	if secret, ok := stdin.(map[string]any); ok {
		mark, stdin = "secret stdin", secret["secret"]
	}
	uploaded := rules.ReplaceAllString(bodies().Replace(stdin.(string)), "$1=<of the firewall>\n")
	fmt.Fprintf(&text, "-- %s\n%s\n", mark, uploaded)
	return text.String()
}

func TestEveryInput(t *testing.T) {
	variants := map[string]func(*PreflightArgs, *Args){
		"machine.golden": func(*PreflightArgs, *Args) {},
		"machine-sudo.golden": func(p *PreflightArgs, a *Args) {
			a.Host.User, a.Host.Port, a.Host.Closed = "debian", 2222, true
			a.Join.LoginServer, a.Join.Tags = "https://head.example", []string{"tag:b", "tag:a"}
			a.Packages, a.Sysctl, a.Firewall.BootstrapSources = nil, nil, nil
			p.Role, p.Artifacts, p.Join = Agent, nil, a.Join
			p.Git = Git{
				URL: "ssh://git.example/o/r", Branch: "next", SSHKey: pulumi.String(canary),
				KnownHosts: "git.example ssh-ed25519 AAAA\n",
			}
		},
	}
	for name, change := range variants {
		t.Run(name, func(t *testing.T) {
			recording := registerAll(t, change)
			var text strings.Builder
			for _, child := range children {
				text.WriteString(describe(t, recording.Get(t, child)))
			}
			golden.Check(t, testdata, name, text.String())
		})
	}
}

func TestMachine(t *testing.T) {
	recording := registerAll(t, func(*PreflightArgs, *Args) {})
	names := map[string]bool{}
	for _, name := range recording.Names() {
		names[name] = true
	}
	for _, name := range append([]string{"x-edge", "x-cloud", "x-after"}, children...) {
		if !names[name] {
			t.Errorf("%s is missing", name)
		}
		delete(names, name)
	}
	if len(names) > 0 {
		t.Errorf("more than was wanted: %v", names)
	}
	if recording.Get(t, "m").Type != "tinyrack:machine:Machine" ||
		recording.Get(t, "p").Type != "tinyrack:machine:Preflight" {
		t.Error("a component's type changed")
	}
	for name, want := range map[string]string{"x-cloud": "[p-check]", "x-after": "[m-door]"} {
		if got := fmt.Sprint(recording.Get(t, name).DependsOn); got != want {
			t.Errorf("%s waits for %s, want %s", name, got, want)
		}
	}
	if got := recording.Get(t, "probe").Plain()["address"]; got != "100.64.0.10" {
		t.Errorf("tailnet address %q", got)
	}
	if recording.OutputsRegistered < 2 {
		t.Error("a component did not register its outputs")
	}
}

// The preflight runs again whatever setting changes, and the other commands do not.
func TestAChangedSettingRunsThePreflightAgain(t *testing.T) {
	before := registerAll(t, func(*PreflightArgs, *Args) {})
	after := registerAll(t, func(p *PreflightArgs, _ *Args) { p.Settings = "another" })
	for _, name := range children {
		same := reflect.DeepEqual(before.Get(t, name).Plain(), after.Get(t, name).Plain())
		if same != (name != "p-check") {
			t.Errorf("%s: unchanged is %v", name, same)
		}
	}
}

func TestScriptsAreClean(t *testing.T) {
	args := testArgs()
	texts := map[string]remote.Text{
		"preflight": testPreflight().text(),
		"packages":  {Body: packagesScript, Vars: []remote.Var{{Name: "PACKAGES"}, {Name: "SYSCTL"}}},
		"join":      {Body: identityScript + joinScript, Vars: args.Join.vars(args.Host)},
		"door":      args.doorText(),
		"reset":     args.resetText(),
	}
	for name, text := range texts {
		t.Run(name, func(t *testing.T) { remotetest.ShellCheck(t, renderText(t, withHost(text))) })
	}
}

func TestMachineRefuses(t *testing.T) {
	if err := testArgs().Validate(); err != nil {
		t.Fatalf("the valid arguments: %v", err)
	}
	args := &Args{
		Packages: []string{"ok", "-y", "a;b"},
		Sysctl:   map[string]string{"net.ipv4.ip_forward": "1\nx", "nodots": "1"},
		Join:     Join{LoginServer: "login.example"},
		Firewall: testFirewall(),
	}
	err := args.Validate()
	wantError(t, err, "host: missing", `packages[1]: "-y" is not`, `packages[2]: "a;b" is not`,
		`sysctl.net.ipv4.ip_forward: "1\nx"`,
		`sysctl.nodots: "1"`, `join.loginServer: "login.example"`, "join.tags: missing", "join.key: missing")
	if lines := strings.Count(err.Error(), "\n") + 1; lines != 8 {
		t.Errorf("%d problems:\n%v", lines, err)
	}
	broken := testArgs()
	broken.Host.Port, broken.Firewall.PodCIDR = 0, "x"
	wantError(t, broken.Validate(), "port: 0 is not a port", "x")
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "m", args)
		_, err2 := NewPreflight(ctx, "p", &PreflightArgs{})
		return errors.Join(err, err2)
	}, nil)
	wantError(t, err, `machine "m":`, `preflight "p":`)
	if len(recording.Names()) != 0 {
		t.Errorf("registered before it was refused: %q", recording.Names())
	}
}

// No script runs when the machine is not reached: the provider's words alone name neither cause nor fix.
func TestConnectionFailure(t *testing.T) {
	tests := []struct {
		failure     string
		overTailnet bool
		want        []string
	}{
		{"after 30 failed attempts: lookup box on 127.0.0.53:53: no such host", true, []string{
			"box." + testDomain + ": port 22 cannot be reached over the tailnet from the computer", "MagicDNS",
			"port 22 of tag:x", "If the name or the port of box is a new one", "set it back; docs/runbooks/day-2.md",
		}},
		{"dial tcp 100.64.0.10:22: i/o timeout", true, []string{"tailscale ping box." + testDomain}},
		{"dial tcp 192.0.2.1:22: connection refused", false, []string{
			"192.0.2.1: port 22 cannot be reached from the computer", "hosts.box.bootstrapSources",
		}},
		{"ssh: handshake failed: EOF", false, []string{"192.0.2.1: port 22 cannot be reached"}},
		{"ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey]", false, []string{
			"192.0.2.1 answers on port 22", "hosts.box.user",
		}},
		{"ssh: handshake failed: ssh: host key mismatch", true, []string{
			"box." + testDomain + " answers on port 22", "hosts.box.hostKey", "may lead to another device",
		}},
	}
	for _, tt := range tests {
		text := connectionFailure([]string{tt.failure, "older"}, testHost(), tt.overTailnet, []string{"tag:x"})
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: does not say %q: %s", tt.failure, want, text)
			}
		}
	}
	for _, failures := range [][]string{nil, {"error: box leads elsewhere: exit status 1", "dial tcp: older"}} {
		if text := connectionFailure(failures, testHost(), true, nil); text != "" {
			t.Errorf("%q is explained by %q", failures, text)
		}
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
