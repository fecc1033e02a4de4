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
)

// throwaway are the secrets and facts that the committed stack files leave out.
const throwaway = `{"config": {
	"tinyrack:cloudflare": {"accountId": "0123456789abcdef0123456789abcdef", "zoneId": "fedcba9876543210fedcba9876543210"},
	"tinyrack:tailnet": {"admins": ["you@example.com"]},
	"tinyrack:machine": {"address": "192.0.2.10", "bootstrapSources": ["192.0.2.7/32"], "hostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBh1JDqWCz9LDTr6HMcAcH7iw+n9A8EUHBVQCzcwz1Yd"},
	"tinyrack:k3s": {
		"binary": {"sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
		"snapshots": {"endpoint": "storage.example.com:9000"}
	},
	"tinyrack:cloudflareApiToken": {"secure": "cloudflare-token"},
	"tinyrack:tailscaleOauthClientId": {"secure": "tailscale-id"},
	"tinyrack:tailscaleOauthClientSecret": {"secure": "tailscale-secret"},
	"tinyrack:machinePrivateKey": {"secure": "ssh-key"},
	"tinyrack:sealingKey": {"secure": "sealing-key"},
	"tinyrack:gitToken": {"secure": "git-token"},
	"tinyrack:s3AccessKey": {"secure": "s3-access"},
	"tinyrack:s3SecretKey": {"secure": "s3-secret"}
}}`

// committed returns the source of a stack of this repository, with what its
// operator would add.
func committed(t *testing.T, stack string) Source {
	t.Helper()
	var added stackFile
	if err := json.Unmarshal([]byte(throwaway), &added); err != nil {
		t.Fatal(err)
	}
	file := readStackFile(t, "../Pulumi."+stack+".yaml")
	return added.over(file).source(stack, newRoot(t, stack))
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
	setEnvironment(t, committed(t, stack))
	e, err := run(t, stack, preview, Run)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

var stackNames = []string{"lab", "production"}

func TestCommittedStacks(t *testing.T) {
	for _, stack := range stackNames {
		t.Run(stack, func(t *testing.T) {
			var lines []string
			for _, res := range deploy(t, stack, false).resources {
				lines = append(lines, res.kind+" "+res.name)
			}
			slices.Sort(lines)
			checkGolden(t, "testdata/"+stack+".txt", strings.Join(lines, "\n")+"\n")
		})
	}
}

// A stack's file alone must say what is missing, and nothing else must be wrong
// with it.
func TestCommittedStacksLackOnlyFactsAndSecrets(t *testing.T) {
	for _, stack := range stackNames {
		t.Run(stack, func(t *testing.T) {
			src := readStackFile(t, "../Pulumi."+stack+".yaml").source(stack, newRoot(t, stack))
			_, err := Load(src)
			if err == nil {
				t.Fatal("a stack without secrets was accepted")
			}
			checkGolden(t, "testdata/"+stack+".missing.txt", err.Error())
			if strings.Contains(err.Error(), "\nwrong:\n") {
				t.Error("something is wrong besides")
			}
		})
	}
}

// The paths in the stacks' files must lead somewhere in this checkout. Only the
// sealing key is not at hand.
func TestCommittedStacksFindTheirFiles(t *testing.T) {
	for _, stack := range stackNames {
		src := committed(t, stack)
		src.Root = ".."
		var report *Report
		if _, err := Load(src); !errors.As(err, &report) {
			t.Fatalf("%s: another key opens its certificate: %v", stack, err)
		}
		if len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "do not match") || len(report.Facts)+len(report.Secrets) > 0 {
			t.Errorf("%s: %v", stack, report)
		}
	}
}

// The preflight looks before anything is changed, in the clouds too; what is
// made in this process alone need not wait for it.
func TestPreflightComesFirst(t *testing.T) {
	e := deploy(t, "lab", false)
	for name, res := range e.resources {
		local := strings.HasPrefix(res.kind, "tinyrack:") || strings.HasPrefix(res.kind, "random:") || strings.HasPrefix(res.kind, "pulumi:")
		if local || name == "preflight-check" {
			continue
		}
		if !e.waitsFor(name, "preflight-check") {
			t.Errorf("%s does not wait for the preflight", name)
		}
	}
}

func TestOrder(t *testing.T) {
	e := deploy(t, "lab", false)
	for _, pair := range [][2]string{
		{"machine-join", "tailnet-join-key"},
		{"machine-join", "tailnet-policy"},
		{"k3s-server", "machine-firewall"},
		{"kubernetes", "k3s-kubeconfig"},
		{"snapshots-secret", "k3s-server"},
		{"sealed-secrets-key", "k3s-server"},
		{"flux-instance", "sealed-secrets-key"},
		{"flux-instance", "snapshots-secret"},
		{"flux-ready", "flux-instance"},
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
		if !slices.Equal(secret, []string{"k3sToken", "kubeconfig", "tunnelToken"}) {
			t.Errorf("preview %v: secret are %q", preview, secret)
		}
		if want := []string{"apiServer", "fluxRevision", "hostnames", "nodeName", "tailnetAddress", "tunnelId"}; !slices.Equal(open, want) {
			t.Errorf("preview %v: open are %q", preview, open)
		}
	}
}

// Neither inputs nor the text of commands may carry a secret unmarked.
func TestNoSecretInClear(t *testing.T) {
	for name, res := range deploy(t, "production", false).resources {
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
	src := committed(t, "lab")
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
