package k3s

import (
	"testing"

	"github.com/tinyrack-net/infrastructure/internal/golden"
)

func TestConfig(t *testing.T) {
	text, err := testArgs().Config()
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "config.yaml", text)

	// Local snapshots only, nothing disabled, and the API's host given twice.
	plain := testArgs()
	plain.Snapshots, plain.KubeletArgs, plain.Disable = nil, nil, []string{}
	plain.TLSSANs = []string{plain.APIServer}
	if text, err = plain.Config(); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "config-plain.yaml", text)
}

func TestKubeconfig(t *testing.T) {
	const written = "clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n  name: default\n"
	for host, want := range map[string]string{
		"100.64.0.10": "clusters:\n- cluster:\n    server: https://100.64.0.10:6443\n  name: default\n",
		"fd7a::1":     "clusters:\n- cluster:\n    server: https://[fd7a::1]:6443\n  name: default\n",
	} {
		if got, err := Kubeconfig(written, host); err != nil || got != want {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
	_, err := Kubeconfig("server: https://127.0.0.1:7443", "h")
	wantError(t, err, "0 times https://127.0.0.1:6443")
}

func TestServerRefuses(t *testing.T) {
	if err := testArgs().Validate(); err != nil {
		t.Fatalf("the valid arguments: %v", err)
	}
	wantError(t, (&Args{}).Validate(), "hostKey: missing", "user: missing", "version", "binary.url", "binary.sha256", "installScript.url",
		"nodeName", "apiServer", "clusterCIDR", "serviceCIDR")
	tests := map[string]struct {
		change func(*Args)
		want   string
	}{
		"latest":          {func(a *Args) { a.Version = "latest" }, `version: "latest"`},
		"short checksum":  {func(a *Args) { a.Binary.SHA256 = "abc" }, "binary.sha256"},
		"local file":      {func(a *Args) { a.InstallScript.URL = "file:///install.sh" }, "installScript.url"},
		"overlap":         {func(a *Args) { a.ServiceCIDR = "10.55.1.0/24" }, "overlap"},
		"URL as API":      {func(a *Args) { a.APIServer = "https://100.64.0.10:6443" }, "apiServer"},
		"SAN with port":   {func(a *Args) { a.TLSSANs = []string{"a:6443"} }, "tlsSans"},
		"unknown disable": {func(a *Args) { a.Disable = []string{"nginx"} }, `disable: "nginx"`},
		"kubelet arg":     {func(a *Args) { a.KubeletArgs = []string{"--v=2"} }, "kubeletArgs"},
		"schedule":        {func(a *Args) { a.Snapshots.Schedule = "daily" }, "snapshots.schedule"},
		"retention":       {func(a *Args) { a.Snapshots.Retention = 0 }, "snapshots.retention"},
		"node name":       {func(a *Args) { a.NodeName = "Tiny Rack" }, "nodeName"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := testArgs()
			tt.change(args)
			wantError(t, args.Validate(), tt.want)
		})
	}
}

func TestSnapshotSecretRefuses(t *testing.T) {
	wantError(t, (&SnapshotSecretArgs{Endpoint: "https://s3", Bucket: "B", Folder: "/x"}).Validate(),
		"endpoint", "region", "bucket", "folder", "accessKey, secretKey")
}
