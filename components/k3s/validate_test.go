package k3s

import (
	"strings"
	"testing"
)

func TestClusterIsRefused(t *testing.T) {
	for _, good := range []*ClusterArgs{one(), many()} {
		if err := good.Validate(); err != nil {
			t.Errorf("a cluster as it should be: %v", err)
		}
	}
	wantError(t, (&ClusterArgs{}).Validate(), `version: ""`, "binaries: missing", "installScript.url",
		"installScript.sha256", "clusterCidr", "serviceCidr", "*.roles: none is server")
	for name, tt := range map[string]struct {
		change func(*ClusterArgs)
		want   string // "" means accepted
	}{
		"latest":          {func(a *ClusterArgs) { a.Spec.Version = "latest" }, `version: "latest" is not a k3s release`},
		"below the floor": {func(a *ClusterArgs) { a.Spec.Version = "v1.32.3+k3s1" }, "CVE-2025-46599"},
		"unsupported":     {func(a *ClusterArgs) { a.Spec.Version = "v1.31.14+k3s1" }, "it gets no repairs any more"},
		"the floor":       {func(a *ClusterArgs) { a.Spec.Version = "v1.32.4+k3s1" }, ""},
		"by number":       {func(a *ClusterArgs) { a.Spec.Version = "v1.32.10+k3s1" }, ""},
		"accepted": {
			func(a *ClusterArgs) { a.Spec.Version, a.Spec.AcceptVersion = "v1.32.0+k3s1", "v1.32.0+k3s1" },
			"",
		},
		"another accepted": {
			func(a *ClusterArgs) { a.Spec.Version, a.Spec.AcceptVersion = "v1.32.1+k3s1", "v1.32.0+k3s1" },
			"version: v1.32.1+k3s1 is older",
		},
		"accepted for good": {func(a *ClusterArgs) { a.Spec.AcceptVersion = "v1.32.0+k3s1" }, "acceptVersion: "},
		"short checksum": {
			func(a *ClusterArgs) { a.Spec.Binaries["amd64"] = Artifact{"https://h/k", "abc"} },
			`binaries.amd64.sha256: "abc"`,
		},
		"no HTTP":    {func(a *ClusterArgs) { a.Spec.InstallScript.URL = "ftp://h/k" }, "installScript.url: not an http"},
		"plain HTTP": {func(a *ClusterArgs) { a.Spec.InstallScript.URL = "http://h/k" }, ""},
		"architecture": {
			func(a *ClusterArgs) { a.Spec.Binaries["x86_64"] = Artifact{} },
			"binaries.x86_64: not an architecture",
		},
		"local file": {
			func(a *ClusterArgs) { a.Spec.InstallScript.URL = "file:///install.sh" },
			"installScript.url: not an http(s) URL",
		},
		"password": {
			func(a *ClusterArgs) { a.Spec.InstallScript.URL = "https://u:" + canary + "@h/i" },
			"installScript.url: not an http(s) URL",
		},
		"overlap": {
			func(a *ClusterArgs) { a.Spec.ServiceCIDR = "10.55.1.0/24" },
			"serviceCidr: 10.55.1.0/24 overlaps clusterCidr 10.55.0.0/16",
		},
		"host bits":   {func(a *ClusterArgs) { a.Spec.ClusterCIDR = "10.55.0.1/16" }, `clusterCidr: "10.55.0.1/16"`},
		"one address": {func(a *ClusterArgs) { a.Spec.ServiceCIDR = "10.56.0.1/32" }, `serviceCidr: "10.56.0.1/32"`},
		"two IP versions": {
			func(a *ClusterArgs) { a.Spec.ServiceCIDR = "fd00::/112" },
			"serviceCidr: fd00::/112 is of another IP version",
		},
		"SAN with port":     {func(a *ClusterArgs) { a.Spec.TLSSANs = []string{"a", "a:6443"} }, `tlsSans[1]: "a:6443"`},
		"unknown component": {func(a *ClusterArgs) { a.Spec.Disable = []string{"nginx"} }, `disable[0]: "nginx"`},
		"dashes":            {func(a *ClusterArgs) { a.Spec.KubeletArgs = []string{"--v=2"} }, `kubeletArgs[0]: "--v=2"`},
		"blanks":            {func(a *ClusterArgs) { a.Spec.KubeletArgs = []string{"a=b c"} }, `kubeletArgs[0]: "a=b c"`},
		"read-only port": {
			func(a *ClusterArgs) { a.Spec.KubeletArgs = []string{"read-only-port=10255"} },
			"kubeletArgs[0]: read-only-port is set by the program",
		},
		"anonymous": {
			func(a *ClusterArgs) { a.Spec.APIServerArgs = []string{"anonymous-auth=true"} },
			"apiServerArgs[0]: anonymous-auth is set",
		},
		"backend": {func(a *ClusterArgs) { a.Spec.FlannelBackend = "ipsec" }, `flannelBackend: "ipsec"`},
		"namespace": {
			func(a *ClusterArgs) { a.Spec.PrivilegedNamespaces = []string{"A"} },
			`privilegedNamespaces[0]: "A"`,
		},
		"unit":      {func(a *ClusterArgs) { a.Spec.Requires = []string{"firewall"} }, `requires[0]: "firewall"`},
		"renewal":   {func(a *ClusterArgs) { a.Spec.Renewal = "a\nb" }, "renewal: has line breaks"},
		"in words":  {func(a *ClusterArgs) { a.Spec.Renewal = "end of 2026" }, ""},
		"schedule":  {func(a *ClusterArgs) { a.Spec.Snapshots.Schedule = "@daily" }, `snapshots.schedule: "@daily"`},
		"retention": {func(a *ClusterArgs) { a.Spec.Snapshots.Retention = 0 }, "snapshots.retention: 0 is below one"},
		"the last":  {func(a *ClusterArgs) { a.Spec.Snapshots.Retention = 1 }, ""},
		"endpoint": {
			func(a *ClusterArgs) { a.Spec.Snapshots.Endpoint = "https://s3" },
			`snapshots.endpoint: "https://s3"`,
		},
		"region": {func(a *ClusterArgs) { a.Spec.Snapshots.Region = "" }, `snapshots.region: ""`},
		"bucket": {func(a *ClusterArgs) { a.Spec.Snapshots.Bucket = "B" }, `snapshots.bucket: "B"`},
		"folder": {func(a *ClusterArgs) { a.Spec.Snapshots.Folder = "/a" }, `snapshots.folder: "/a"`},

		"two servers": {func(a *ClusterArgs) { a.Nodes = a.Nodes[:2] }, "*.roles: 2 servers, an even number: they " +
			"survive no more losses than 1 do: use 1 or 3"},
		"no server":  {func(a *ClusterArgs) { a.Nodes = a.Nodes[3:] }, "*.roles: none is server"},
		"same name":  {func(a *ClusterArgs) { a.Nodes[1].Name = "one" }, "one: named twice"},
		"no address": {func(a *ClusterArgs) { a.Nodes[1].Address = "" }, `two.address: "" is not an IP address`},
		"name as address": {
			func(a *ClusterArgs) { a.Nodes[1].Address = "somewhere" },
			`two.address: "somewhere" is not an IP address`,
		},
		"in the pods'": {
			func(a *ClusterArgs) { a.Nodes[1].Address = "10.55.0.2" },
			"two.address: 10.55.0.2 lies in clusterCidr",
		},
		"in the Services'": {
			func(a *ClusterArgs) { a.Nodes[1].Address = "10.56.0.2" },
			"two.address: 10.56.0.2 lies in serviceCidr",
		},
		"IPv6 only": {
			func(a *ClusterArgs) { a.Nodes[1].Address = "fd00::2" },
			"two.address: fd00::2 is of another IP version",
		},
		"public and clear": {
			func(a *ClusterArgs) { a.Nodes[4].Address = "192.0.2.5" },
			"five.address: 192.0.2.5 is public: with flannelBackend vxlan",
		},
		"public, sealed": {
			func(a *ClusterArgs) { a.Nodes[4].Address = "192.0.2.5"; a.Spec.FlannelBackend = wireguard },
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := many()
			tt.change(args)
			err := args.Validate()
			if tt.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			wantError(t, err, tt.want)
			if strings.Contains(err.Error(), canary) || strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("more than the one problem, or a secret: %v", err)
			}
		})
	}
	alone := one()
	alone.Nodes[0].Address = ""
	if err := alone.Validate(); err != nil {
		t.Errorf("a single node knows its address: %v", err)
	}
}

func TestCron(t *testing.T) {
	for expression, good := range map[string]bool{
		"0 */6 * * *": true, "5,10 1-3 1 12 0": true, "0-59/2 0 31 1 6": true, "* * * * *": true,
		"": false, "* * * *": false, "60 * * * *": false, "* 24 * * *": false, "* * 0 * *": false, "* * * 13 *": false,
		"* * * * 7": false, "*/0 * * * *": false, "5-1 * * * *": false, "a * * * *": false, "@daily": false,
	} {
		if err := checkCron(expression); (err == nil) != good {
			t.Errorf("%q: %v", expression, err)
		}
	}
}
