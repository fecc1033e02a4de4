package k3s

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/internal/script/scripttest"
)

func serverOutputs(r pulumitest.Resource) map[string]any {
	switch r.Name {
	case "s-token":
		return map[string]any{"result": canary}
	case "s-kubeconfig":
		return map[string]any{"stdout": "server: " + localServer + "\nkey: " + canary + "\n"}
	}
	return nil
}

func record(t *testing.T, args *Args) *pulumitest.Recording {
	t.Helper()
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		var before pulumi.CustomResourceState
		if err := ctx.RegisterResource("test:index:Before", "before", nil, &before); err != nil {
			return err
		}
		args.DependsOn = []pulumi.Resource{&before}
		s, err := New(ctx, "s", args)
		if err != nil {
			return err
		}
		return pulumitest.Probe(ctx, "probe", pulumi.Map{"kubeconfig": s.Kubeconfig, "token": s.Token})
	}, serverOutputs)
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

func TestServer(t *testing.T) {
	recording := record(t, testArgs())
	// The names are a contract: a rename replaces the server, which uninstalls it.
	if got, want := recording.Names(), []string{"before", "s-kubeconfig", "s-server", "s-token"}; !reflect.DeepEqual(got, want) {
		t.Errorf("resources %q, want %q", got, want)
	}
	for _, name := range []string{"s-kubeconfig", "s-server", "s-token"} {
		if got := recording.Get(t, name).Parent; got != "s" {
			t.Errorf("%s has parent %q", name, got)
		}
	}
	server, kubeconfig := recording.Get(t, "s-server"), recording.Get(t, "s-kubeconfig")
	if !slices.Contains(server.DependsOn, "before") || !slices.Contains(kubeconfig.DependsOn, "s-server") {
		t.Errorf("order: server after %q, kubeconfig after %q", server.DependsOn, kubeconfig.DependsOn)
	}
	if !server.Inputs["stdin"].IsSecret() || server.Plain()["stdin"] != canary {
		t.Error("the token does not come in secretly on standard input")
	}
	if strings.Contains(server.Plain()["create"].(string), canary) {
		t.Error("the token is in the command's text")
	}
	if !server.Inputs.HasValue("delete") || kubeconfig.Inputs.HasValue("delete") {
		t.Error("only the server has something to undo")
	}
	if kubeconfig.Plain()["logging"] != "none" || !slices.Contains(kubeconfig.RPC.GetAdditionalSecretOutputs(), "stdout") {
		t.Error("the kubeconfig would be logged")
	}
	for _, r := range []pulumitest.Resource{server, kubeconfig} {
		// Triggers mean replacement; an ignored connection would keep an old address for good.
		if r.Inputs.HasValue("triggers") || len(r.RPC.GetIgnoreChanges()) != 0 {
			t.Errorf("%s: triggers, or ignored changes", r.Name)
		}
		if r.Plain()["connection"].(map[string]any)["hostKey"] != testHostKey {
			t.Errorf("%s does not verify the host", r.Name)
		}
	}
	probe := recording.Get(t, "probe")
	if got := probe.Secrets(); !reflect.DeepEqual(got, []string{"kubeconfig", "token"}) {
		t.Errorf("secret outputs: %q", got)
	}
	if got := probe.Plain()["kubeconfig"].(string); !strings.Contains(got, "server: https://100.64.0.10:6443") {
		t.Errorf("kubeconfig %q", got)
	}
}

func TestServerChangeFetchesKubeconfigAgain(t *testing.T) {
	changed := testArgs()
	changed.Snapshots = nil
	first, second := record(t, testArgs()), record(t, changed)
	if first.Get(t, "s-kubeconfig").Plain()["create"] == second.Get(t, "s-kubeconfig").Plain()["create"] {
		t.Error("a changed server keeps the old kubeconfig")
	}
	if first.Get(t, "s-server").Plain()["delete"] != second.Get(t, "s-server").Plain()["delete"] {
		t.Error("delete depends on the configuration")
	}
}

func TestServerScriptsAreClean(t *testing.T) {
	recording := record(t, testArgs())
	for _, name := range []string{"s-server", "s-kubeconfig"} {
		for _, key := range []string{"create", "delete"} {
			if text, ok := recording.Get(t, name).Plain()[key].(string); ok {
				t.Run(name+"/"+key, func(t *testing.T) { scripttest.ShellCheck(t, text) })
			}
		}
	}
}

func TestServerNeedsHostKey(t *testing.T) {
	args := testArgs()
	args.Connection.HostKey = nil
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "s", args)
		return err
	}, nil)
	wantError(t, err, `k3s server "s"`, "hostKey: missing")
	if len(recording.Names()) != 0 {
		t.Errorf("registered before it was refused: %q", recording.Names())
	}
}

func TestSnapshotSecret(t *testing.T) {
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := NewSnapshotSecret(ctx, "snap", &SnapshotSecretArgs{
			Endpoint: "10.77.0.1:9000", Region: "us-east-1", Bucket: "etcd", Folder: "lab", Insecure: true,
			AccessKey: pulumi.String(canary), SecretKey: pulumi.String(canary),
		})
		return err
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := recording.Get(t, "snap-secret")
	if r.Parent != "snap" || r.Type != "kubernetes:core/v1:Secret" {
		t.Errorf("parent %q, type %q", r.Parent, r.Type)
	}
	data := r.Plain()["stringData"].(map[string]any)
	want := map[string]any{
		"etcd-s3-endpoint": "10.77.0.1:9000", "etcd-s3-region": "us-east-1", "etcd-s3-bucket": "etcd", "etcd-s3-folder": "lab",
		"etcd-s3-insecure": "true", "etcd-s3-access-key": canary, "etcd-s3-secret-key": canary,
	}
	if !reflect.DeepEqual(data, want) {
		t.Errorf("data %v", data)
	}
	if !slices.Contains(r.Secrets(), "stringData") {
		t.Error("the keys are not secret")
	}
	metadata := r.Plain()["metadata"].(map[string]any)
	if metadata["name"] != SnapshotSecretName || metadata["namespace"] != "kube-system" {
		t.Errorf("metadata %v", metadata)
	}
}
