package stacks

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/internal/golden"
)

// throwaway are the secrets and facts that the committed stack files leave out.
const throwaway = `{"config": {
	"tinyrack:cloudflare": {"accountId": "0123456789abcdef0123456789abcdef", "zoneId": "fedcba9876543210fedcba9876543210"},
	"tinyrack:tailnet": {"admins": ["you@example.com"]},
	"tinyrack:hosts": {"tinyrack": {
		"address": "192.0.2.10", "bootstrapSources": ["192.0.2.7/32"],
		"hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBh1JDqWCz9LDTr6HMcAcH7iw+n9A8EUHBVQCzcwz1Yd"
	}},
	"tinyrack:cluster": {
		"binaries": {"amd64": {"sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},
		"snapshots": {"endpoint": "storage.example.com:9000"}
	},
	"tinyrack:backups": {"endpoint": "storage.example.com:9000"},
	"tinyrack:cloudflareApiToken": {"secure": "cloudflare-token"},
	"tinyrack:tailscaleOauthClientId": {"secure": "tailscale-id"},
	"tinyrack:tailscaleOauthClientSecret": {"secure": "tailscale-secret"},
	"tinyrack:machinePrivateKey": {"secure": "ssh-key"},
	"tinyrack:sealingKey": {"secure": "sealing-key"},
	"tinyrack:gitToken": {"secure": "git-token"},
	"tinyrack:s3AccessKey": {"secure": "s3-access"},
	"tinyrack:s3SecretKey": {"secure": "s3-secret"},
	"tinyrack:backupsAccessKey": {"secure": "backups-access"},
	"tinyrack:backupsSecretKey": {"secure": "backups-secret"}
}}`

// sourceOf returns the source of a whole stack: one of this repository, with what its operator would add, or a valid
// fixture. It calls the clouds at an address of this test.
func sourceOf(t *testing.T, stack string) Source {
	t.Helper()
	var f stackFile
	if slices.Contains(committed, stack) {
		must(json.Unmarshal([]byte(throwaway), &f))
		f = f.over(readStackFile(t, "../Pulumi."+stack+".yaml"))
	} else {
		f = readStackFile(t, "testdata/valid/"+stack+".yaml").over(minimal(t))
	}
	environment := "test"
	if slices.Contains(committed, stack) {
		environment = stack
	}
	return f.source(stack, newRoot(t, environment))
}

// setEnvironment puts src where a program finds its settings.
func setEnvironment(t *testing.T, src Source) {
	t.Helper()
	for name, value := range map[string]any{pulumi.EnvConfig: src.Values, pulumi.EnvConfigSecretKeys: src.SecretKeys} {
		text, err := json.Marshal(value)
		must(err)
		t.Setenv(name, string(text))
	}
	t.Setenv(pulumi.EnvPulumiRootDirectory, src.Root)
}

// deploy runs the whole program for a committed stack.
func deploy(t *testing.T, stack string, preview bool) *engine {
	t.Helper()
	src := sourceOf(t, stack)
	if !preview {
		src = atTestCloud(t, src)
	}
	setEnvironment(t, src)
	e, err := run(t, stack, preview, Run)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// committed are the stacks of this repository; stackNames have the valid fixtures too, which differ in everything that
// can.
var (
	committed  = []string{"lab", "production"}
	stackNames = append(slices.Clone(committed), "full", "minimal", "several", "ssh")
)

// Every input, option, hook and dependency of every resource.
func TestWholeStacks(t *testing.T) {
	for _, stack := range stackNames {
		t.Run(stack, func(t *testing.T) {
			golden.Check(t, testdata, "stacks/"+stack+".txt", deploy(t, stack, false).describe())
		})
	}
}

// A stack's file alone must say what is missing, and nothing else must be wrong
// with it.
func TestCommittedStacksLackOnlyFactsAndSecrets(t *testing.T) {
	for _, stack := range committed {
		t.Run(stack, func(t *testing.T) {
			src := readStackFile(t, "../Pulumi."+stack+".yaml").source(stack, newRoot(t, stack))
			_, err := Load(src)
			if err == nil {
				t.Fatal("a stack without secrets was accepted")
			}
			golden.Check(t, testdata, stack+".missing.txt", err.Error())
			if strings.Contains(err.Error(), "\nwrong:\n") {
				t.Error("something is wrong besides")
			}
		})
	}
}

// The paths in the stacks' files must lead somewhere in this checkout. Only the
// sealing key is not at hand.
func TestCommittedStacksFindTheirFiles(t *testing.T) {
	for _, stack := range committed {
		src := sourceOf(t, stack)
		src.Root = ".."
		var report *Report
		if _, err := Load(src); !errors.As(err, &report) {
			t.Fatalf("%s: another key opens its certificate: %v", stack, err)
		}
		missing := len(report.Facts) + len(report.Secrets)
		if len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "do not match") || missing > 0 {
			t.Errorf("%s: %v", stack, report)
		}
	}
}

// The preflight looks before anything is changed, in the clouds too; what is
// made in this process alone need not wait for it.
func TestPreflightComesFirst(t *testing.T) {
	e := deploy(t, "lab", false)
	for name, res := range e.resources {
		local := slices.Contains([]string{"tinyrack", "random", "pulumi"}, strings.Split(res.kind, ":")[0])
		if local || strings.HasPrefix(name, "preflight-") {
			continue
		}
		if !e.waitsFor(name, "preflight-tinyrack-check") {
			t.Errorf("%s does not wait for the preflight", name)
		}
	}
}

func TestOrder(t *testing.T) {
	e := deploy(t, "lab", false)
	for _, pair := range [][2]string{
		{"edge-tunnel", "tailnet-policy"},
		{"cluster-nodes", "edge-tunnel-config"},
		{"machine-tinyrack-firewall", "tailnet-device-tinyrack"},
		{"machine-tinyrack-packages", "machine-tinyrack-firewall-confirm"},
		{"machine-tinyrack-join", "tailnet-key-tinyrack"},
		{"k3s-tinyrack-server", "machine-tinyrack-door"},
		{"kubernetes", "k3s-tinyrack-kubeconfig"},
		{"snapshots-secret", "k3s-tinyrack-server"},
		{"sealed-secrets-key", "k3s-tinyrack-server"},
		{"flux-instance", "sealed-secrets-key"},
		{"flux-instance", "snapshots-secret"},
		{"flux-ready", "flux-instance"},
		{"hold-tinyrack", "flux-ready"},
	} {
		if !e.waitsFor(pair[0], pair[1]) {
			t.Errorf("%s does not wait for %s", pair[0], pair[1])
		}
	}
	for name, res := range e.resources {
		if strings.HasPrefix(res.kind, "kubernetes:") && !slices.Contains(res.needs, "kubernetes") {
			t.Errorf("%s does not use the cluster's own provider", name)
		}
	}
}

// A host that leaves is taken out of the cluster from the first server, before k3s is taken off it and while Flux is
// gone already: the engine deletes in the reverse of this order.
func TestNodesLeaveInOrder(t *testing.T) {
	e := deploy(t, "several", false)
	for _, node := range []string{"k3s-second-server", "k3s-third-server", "k3s-worker-agent"} {
		member := strings.TrimSuffix(strings.TrimSuffix(node, "-server"), "-agent") + "-member"
		for _, pair := range [][2]string{
			{member, node}, {member, "k3s-node-server"}, {"flux-instance", member}, {"hold-node", member},
		} {
			if !e.waitsFor(pair[0], pair[1]) {
				t.Errorf("%s does not wait for %s", pair[0], pair[1])
			}
		}
		host := e.resources[member].inputs["connection"].SecretValue().Element.ObjectValue()["host"]
		if got := fmt.Sprint(host.V); !strings.HasPrefix(got, "node.") {
			t.Errorf("%s runs on %s", member, got)
		}
	}
	// While the leaving ones are members of etcd, no host that stays shuts them out.
	for name, res := range e.resources {
		if res.kind == "command:remote:Command" && strings.HasPrefix(name, "machine-") && !e.waitsFor(name, "cluster-nodes") {
			t.Errorf("%s does not wait until those have left who leave the cluster", name)
		}
	}
}

// A server that is alone has the address of its settings: with more nodes it would be another member of etcd.
func TestNodeAddress(t *testing.T) {
	c := Config{Hosts: map[string]Host{
		"one": {Address: "192.0.2.1", NodeAddress: "10.0.0.1", Roles: []string{roleServer}},
		"two": {Address: "192.0.2.2", Roles: []string{roleStorage}},
	}}
	if got := c.nodeAddress("one"); got != "10.0.0.1" {
		t.Errorf("alone: %q", got)
	}
	for roles, want := range map[string]string{roleStorage: "", roleAgent: "192.0.2.2"} {
		c.Hosts["two"] = Host{Address: "192.0.2.2", Roles: []string{roles}}
		c.Hosts["one"] = Host{NodeAddress: "10.0.0.1", Roles: []string{roleServer}}
		if got := c.nodeAddress("two"); got != want || c.nodeAddress("one") != "10.0.0.1" {
			t.Errorf("beside a host with the role %s: %q", roles, got)
		}
	}
}

func TestClusterProvider(t *testing.T) {
	inputs := deploy(t, "lab", false).resources["kubernetes"].inputs
	for key, want := range map[string]string{
		"clusterIdentifier": "tinyrack-lab", "enableServerSideApply": "true", "upsertExistingObjects": "true",
		"enableConfigMapMutable": "true", "enableSecretMutable": "true",
	} {
		if got := strings.Trim(fmt.Sprint(inputs[resource.PropertyKey(key)].V), `"`); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if _, set := inputs["deleteUnreachable"]; set {
		t.Error("a network failure would empty the state")
	}
}

func TestExports(t *testing.T) {
	for _, preview := range []bool{false, true} {
		exports := deploy(t, "lab", preview).exports
		secret, open := []string{}, []string{}
		for _, name := range slices.Sorted(maps.Keys(exports)) {
			if exports[name].ContainsSecrets() {
				secret = append(secret, string(name))
			} else {
				open = append(open, string(name))
			}
		}
		if !slices.Equal(secret, []string{"fluxRevision", "k3sToken", "kubeconfig", "tunnelToken", "webhookSecret"}) {
			t.Errorf("preview %v: secret are %q", preview, secret)
		}
		want := []string{"apiServer", "hostnames", "tailnetAddresses", "tunnelId", "webhookUrl"}
		if !slices.Equal(open, want) {
			t.Errorf("preview %v: open are %q", preview, open)
		}
	}
}

// Neither inputs nor the text of commands may carry a secret unmarked.
func TestNoSecretInClear(t *testing.T) {
	for _, stack := range stackNames {
		noSecretInClear(t, deploy(t, stack, false))
	}
}

func noSecretInClear(t *testing.T, e *engine) {
	t.Helper()
	for name, res := range e.resources {
		text := fmt.Sprint(res.inputs.MapRepl(nil, func(v resource.PropertyValue) (any, bool) {
			if v.IsSecret() || v.IsOutput() && v.OutputValue().Secret {
				return "", true
			}
			return nil, false
		}))
		if secret := leaks(text); secret != "" {
			t.Errorf("%s carries %s in clear", name, secret)
		}
		if strings.Contains(text, "canary-") {
			t.Errorf("%s carries a generated secret in clear", name)
		}
	}
}

// In a first preview nothing of what other resources will answer is known.
func TestPreviewKnowsNothing(t *testing.T) {
	for _, stack := range stackNames {
		created, previewed := deploy(t, stack, false).resources, deploy(t, stack, true).resources
		if !slices.Equal(slices.Sorted(maps.Keys(created)), slices.Sorted(maps.Keys(previewed))) {
			t.Errorf("%s: the preview shows other resources than `up` makes", stack)
		}
	}
}

func TestNothingIsRegisteredWhenTheSettingsAreWrong(t *testing.T) {
	src := sourceOf(t, "lab")
	src.Values["tinyrack:cloudfare"] = "{}"
	setEnvironment(t, src)
	e, err := run(t, "lab", false, Run)
	if err == nil || !strings.Contains(err.Error(), `did you mean "cloudflare"?`) {
		t.Errorf("got %v", err)
	}
	if len(e.resources) != 1 { // the stack itself
		t.Errorf("registered %d resources", len(e.resources))
	}
}
