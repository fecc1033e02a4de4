package k3s

import (
	"fmt"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/internal/golden"
)

func TestConfig(t *testing.T) {
	plain := one()
	plain.Nodes[0].Address = ""
	plain.Spec.Snapshots, plain.Spec.Disable, plain.Spec.LooseKernelDefaults = nil, []string{}, true
	plain.Spec.TLSSANs = []string{"one.example.ts.net"}
	plain.Spec.KubeletArgs = []string{"pod-max-pids=-1"}
	plain.Spec.APIServerArgs = []string{"audit-log-maxage=90", "v=2"}
	plain.Spec.FlannelBackend = wireguard
	for name, tt := range map[string]struct {
		args *ClusterArgs
		node int
	}{"one": {one(), 0}, "first": {many(), 0}, "server": {many(), 1}, "agent": {many(), 3}, "plain": {plain, 0}} {
		node := tt.args.Nodes[tt.node]
		text, err := tt.args.Spec.Config(tt.args.Nodes, node, node.Name+".example.ts.net")
		if err != nil {
			t.Fatal(err)
		}
		golden.Check(t, testdata, "config-"+name+".yaml", text)
	}
}

func TestAdmission(t *testing.T) {
	spec := testSpec()
	spec.PrivilegedNamespaces = []string{"longhorn-system"}
	text, err := spec.Admission()
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, testdata, "admission.yaml", text)
}

func TestUnit(t *testing.T) {
	spec := testSpec()
	spec.Requires = []string{"a.service", "b.target"}
	if got := spec.unit(); got != managed+"[Unit]\nRequires=a.service b.target\nAfter=a.service b.target" {
		t.Errorf("got %q", got)
	}
	if spec.Requires = nil; spec.unit() != "" {
		t.Error("a drop-in without a reason")
	}
}

func TestKubeconfig(t *testing.T) {
	const written = "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: default\n"
	for host, want := range map[string]string{
		"one.example.ts.net": "clusters:\n- cluster:\n    server: https://one.example.ts.net:6443\n  name: default\n",
		"fd7a::1":            "clusters:\n- cluster:\n    server: https://[fd7a::1]:6443\n  name: default\n",
	} {
		if got, err := Kubeconfig(written, host); err != nil || got != want {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	_, err := Kubeconfig("server: https://127.0.0.1:7443 "+canary, "h")
	wantError(t, err, "0 times https://127.0.0.1:6443")
}

func TestSnapshotCredentials(t *testing.T) {
	s := testSpec().Snapshots
	key, secret := pulumi.String("key"), pulumi.String("secret")
	want := map[string]pulumi.StringInput{
		"etcd-s3-endpoint": pulumi.String("10.77.0.1:9000"), "etcd-s3-region": pulumi.String("us-east-1"),
		"etcd-s3-bucket": pulumi.String("etcd"), "etcd-s3-folder": pulumi.String("lab"),
		"etcd-s3-insecure":   pulumi.String("false"),
		"etcd-s3-access-key": key, "etcd-s3-secret-key": secret,
	}
	if got := SnapshotCredentials(s, key, secret); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	s.Folder, s.Insecure = "", true
	delete(want, "etcd-s3-folder")
	want["etcd-s3-insecure"] = pulumi.String("true")
	if got := SnapshotCredentials(s, key, secret); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
}
