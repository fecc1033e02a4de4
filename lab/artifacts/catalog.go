package artifacts

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The versions of everything that the lab builds or downloads. They follow what production runs; a pin changes only after
// a review.
const (
	PulumiVersion        = "v3.259.0" // renovate: datasource=go depName=github.com/pulumi/pulumi/pkg/v3
	K3sVersion           = "v1.32.0+k3s1"
	FluxVersion          = "v2.9.2"   // renovate: datasource=github-releases depName=fluxcd/flux2
	FluxOperatorVersion  = "v0.58.0"  // renovate: datasource=go depName=github.com/controlplaneio-fluxcd/flux-operator
	SealedSecretsVersion = "v0.40.0"  // renovate: datasource=go depName=github.com/bitnami/sealed-secrets
	MetalLBVersion       = "v0.16.1"  // renovate: datasource=go depName=go.universe.tf/metallb
	MemosVersion         = "v0.26.2"  // renovate: datasource=go depName=github.com/usememos/memos
	GiteaVersion         = "v1.26.4"  // renovate: datasource=go depName=code.gitea.io/gitea
	TailscaleVersion     = "v1.102.5" // renovate: datasource=go depName=tailscale.com
	HeadscaleVersion     = "v0.29.2"  // renovate: datasource=go depName=github.com/juanfont/headscale
	KubeBenchVersion     = "v0.12.0"  // renovate: datasource=go depName=github.com/aquasecurity/kube-bench
	ActVersion           = "v0.2.89"  // renovate: datasource=go depName=github.com/nektos/act
	VersityGWVersion     = "v1.8.0"   // renovate: datasource=go depName=github.com/versity/versitygw
	CoreDNSVersion       = "v1.12.0"  // renovate: datasource=go depName=github.com/coredns/coredns
	CloudflaredVersion   = "2026.7.1" // renovate: datasource=docker depName=docker.io/cloudflare/cloudflared
	CloudNativePGVersion = "v1.30.0"  // renovate: datasource=go depName=github.com/cloudnative-pg/cloudnative-pg
	BarmanPluginVersion  = "v0.14.0"  // renovate: datasource=go depName=github.com/cloudnative-pg/plugin-barman-cloud
	MariaDBVersion       = "v25.10.4" // renovate: datasource=go depName=github.com/mariadb-operator/mariadb-operator/v25

	arch = "amd64"
)

var (
	pulumiModule = Module{
		"github.com/pulumi/pulumi/pkg/v3", PulumiVersion,
		"h1:Zf4wiLmgdhTAyq5dtTVnNY26BjtGrJ85ZQYut2qG6xM=",
	}
	k3sModule = Module{
		"github.com/k3s-io/k3s", "v1.32.1-0.20250107171309-cca8facaa33a",
		"h1:TU64dN3gxaaUBBVWZeMXlu5NeLFCyUZH62R1MpwwErk=",
	}
	giteaModule         = Module{"code.gitea.io/gitea", GiteaVersion, "h1:VDA00oYg16VrQf3sES0NuS/oiDLAIVng/7jKHsBMP/w="}
	sealedSecretsModule = Module{
		"github.com/bitnami/sealed-secrets", SealedSecretsVersion,
		"h1:FBK3OLCdEtZ5nlh41BKFQcUPu9kkkO0QYaGjHrpF7Tg=",
	}
	metallbModule = Module{
		"go.universe.tf/metallb", MetalLBVersion, "h1:iVtjCslcUFMOEvuNeAyW2ygZxyW+6YjnNcEuCTOZezc=",
	}
	versitygwModule = Module{
		"github.com/versity/versitygw", VersityGWVersion,
		"h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=",
	}
	memosModule = Module{
		"github.com/usememos/memos", MemosVersion,
		"h1:/tce7oXFJNrj9l/FZFpfeC23aU/3hDbWq8swmmSD7Ps=",
	}
	fluxOperatorModule = Module{
		"github.com/controlplaneio-fluxcd/flux-operator", FluxOperatorVersion,
		"h1:7fbGeGRzp7sEwfg7jjc3a3bJvMYTAgPv+hl5qf9SBxo=",
	}
	corednsModule = Module{
		"github.com/coredns/coredns", CoreDNSVersion,
		"h1:54YoUFOPewOgv4fybLISnbd5aSi7cQH4tFP2X24FVBc=",
	}
	tailscaleModule = Module{"tailscale.com", TailscaleVersion, "h1:2jK9VxQU4Vq/tyR7f2U2NqINxU0pV7R14TDBFsfguHE="}
	headscaleModule = Module{
		"github.com/juanfont/headscale", HeadscaleVersion,
		"h1:eW7zz5yiVlSP1+5zUgPM2YWOoSNkzgX0wBMt5T4zF9g=",
	}
	kubeBenchModule = Module{
		"github.com/aquasecurity/kube-bench", KubeBenchVersion, "h1:mKCGJhS3tA7jd7Q079zNaO2hY2s4ibIkEk4JBfC91GI=",
	}
	// The commit of the release: its module has no release of that name.
	cloudflaredModule = Module{
		"github.com/cloudflare/cloudflared", "v0.0.0-20260713102814-2601f87b5728",
		"h1:92pmafWQq/XZEyoquAa0+GyhPB/DOTtZML8fwHapmj0=",
	}
	cnpgModule = Module{
		"github.com/cloudnative-pg/cloudnative-pg", CloudNativePGVersion,
		"h1:fnhVq44xXx97MNiuvJsPrX1vSjYbgdyBK5MSGfdHdp0=",
	}
	barmanPluginModule = Module{
		"github.com/cloudnative-pg/plugin-barman-cloud", BarmanPluginVersion,
		"h1:kpTo7egntRIM15hvo0xtOj07wyjj23jcz/Co0KfzC7s=",
	}
	mariadbModule = Module{
		"github.com/mariadb-operator/mariadb-operator/v25", MariaDBVersion,
		"h1:/nvOTGeolwiaYhm/iItKT+SubsTzbZzQf0nFBkCpvEA=",
	}
	localPathModule = Module{
		"github.com/rancher/local-path-provisioner", "v0.0.30",
		"h1:OkiuofkCSscddl7tma/B9Ox1wu+JEVSrP7IcZI65Ggo=",
	}
)

var pulumi = Binary{
	Name: "pulumi", Module: pulumiModule, Package: "./cmd/pulumi",
	LDFlags: "-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=" + PulumiVersion,
	Sums: []string{
		"github.com/pulumi/pulumi/sdk/v3 v3.259.0 h1:mJP9tXF9oxcfwidBgteXkUUchIz2L59SbGS5byZBo1w=",
		"github.com/pulumi/pulumi/sdk/v3 v3.259.0/go.mod h1:DPK83ZiPYy55hY0MoaFAbl95Yee/dCGc6cQAqI7/ctw=",
	},
	// The language hosts beside it in the archive are left there: the lab's is its own.
	Release: &Release{
		Version: PulumiVersion, Archive: TarGz, Member: "pulumi/pulumi",
		URL:  github + "pulumi/pulumi/releases/download/{version}/pulumi-{version}-linux-x64.tar.gz",
		Sums: github + "pulumi/pulumi/releases/download/{version}/pulumi-{number}-checksums.txt",
	},
}

// github is where most of them are released.
const github = "https://github.com/"

// k3s as upstream releases it unpacks a containerd, a runc and CNI plugins of its own, and takes those before the
// machine's.
var k3s = func() Binary {
	b := k3sOf("k3s", k3sModule, K3sVersion)
	at := github + "k3s-io/k3s/releases/download/" + url.QueryEscape(K3sVersion)
	b.Release = &Release{Version: K3sVersion, URL: at + "/k3s", Sums: at + "/sha256sum-amd64.txt"}
	return b
}()

// k3sOf is k3s at the release, of which the module is the pseudo-version.
func k3sOf(name string, module Module, release string) Binary {
	commit := module.Version[strings.LastIndex(module.Version, "-")+1:][:8]
	minor := strings.Split(release, ".")[1]
	return Binary{
		Name: name, Module: module, Package: "./cmd/server", CGO: true,
		Tags: "ctrd,netcgo,osusergo,providerless,urfave_cli_no_docs",
		// k3s refuses to start with a Go other than the one it is told it was built with.
		LDFlags: "-X github.com/k3s-io/k3s/pkg/version.Version=" + release +
			" -X github.com/k3s-io/k3s/pkg/version.GitCommit=" + commit +
			" -X github.com/k3s-io/k3s/pkg/version.UpstreamGolang=" + goVersion +
			" -X k8s.io/component-base/version.gitVersion=" + release +
			" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=" + minor +
			" -X k8s.io/client-go/pkg/version.gitVersion=" + release,
	}
}

var fluxOperator = Binary{
	Name: "flux-operator", Family: kubernetes, Module: fluxOperatorModule, Package: "./cmd/operator", LDFlags: "-X main.VERSION=" + FluxOperatorVersion,
	// The web UI is not in the module: the lab's operator has none.
	Files: map[string]string{"web/dist/index.html": "<!doctype html>\n"},
	// What its archive has under that name is the command line.
	Release: &Release{
		Version: FluxOperatorVersion, Image: "ghcr.io/controlplaneio-fluxcd/flux-operator:{version}", Member: "flux-operator",
	},
	// The version that its go.mod names is not in the registry.
	Replace: []string{"github.com/google/go-containerregistry/pkg/authn/kubernetes=github.com/google/go-containerregistry/pkg/authn/kubernetes@v0.0.0-20260224031529-85f2bf5f7303"},
	Sums: []string{
		"github.com/google/go-containerregistry/pkg/authn/kubernetes v0.0.0-20260224031529-85f2bf5f7303 " +
			"h1:Rl7olh7+KpBC2Jjel+tMM6+UAnOZM4qweSIF0hhH4BQ=",
		"github.com/google/go-containerregistry/pkg/authn/kubernetes v0.0.0-20260224031529-85f2bf5f7303/go.mod " +
			"h1:tHI2pZM69kTLaqiCqf0UETRmNw5p5jpMGq0We2j1V2E=",
	},
}

// localPathRepository is the provisioner's image, of whose versions each k3s asks for one.
const localPathRepository = "docker.io/rancher/local-path-provisioner"

// Of the controllers upstream releases the program in an image. Where it lies there, their own modules say: the
// Dockerfile of each, at the top or in docker, containers, package or its own folder. All of them are linked statically.
var (
	gitea = Binary{
		Name: "gitea", Module: giteaModule, Package: ".", CGO: true,
		Tags: "sqlite sqlite_unlock_notify",
		// Flux talks to no Gitea that does not say its version.
		LDFlags: "-X main.Version=" + strings.TrimPrefix(GiteaVersion, "v"),
		// It has the templates and options in it (bindata) and does not need those that the lab lays beside it.
		Release: &Release{
			Version: GiteaVersion,
			URL:     "https://dl.gitea.com/gitea/{number}/gitea-{number}-linux-amd64",
			Sums:    "https://dl.gitea.com/gitea/{number}/gitea-{number}-linux-amd64.sha256",
		},
	}
	versitygw = Binary{
		Name: "versitygw", Family: tools, Module: versitygwModule, Package: "./cmd/versitygw",
		Release: &Release{
			Version: VersityGWVersion, Archive: TarGz, Member: "versitygw_{version}_Linux_x86_64/versitygw",
			URL:  github + "versity/versitygw/releases/download/{version}/versitygw_{version}_Linux_x86_64.tar.gz",
			Sums: github + "versity/versitygw/releases/download/{version}/checksums.txt",
		},
	}
	kubeseal = Binary{
		Name: "kubeseal", Family: operators, Module: sealedSecretsModule, Package: "./cmd/kubeseal",
		Release: &Release{
			Version: SealedSecretsVersion, Archive: TarGz, Member: "kubeseal",
			URL:  github + "bitnami/sealed-secrets/releases/download/{version}/kubeseal-{number}-linux-amd64.tar.gz",
			Sums: github + "bitnami/sealed-secrets/releases/download/{version}/sealed-secrets_{number}_checksums.txt",
		},
	}
	sealedSecrets = Binary{
		Name: "sealed-secrets", Family: operators, Module: sealedSecretsModule,
		Package: "./cmd/controller",
		Release: &Release{
			Version: SealedSecretsVersion, Image: "docker.io/bitnami/sealed-secrets-controller:{number}",
			Member: "usr/local/bin/controller",
		},
	}
	metallbController = Binary{
		Name: "metallb-controller", Family: operators, Module: metallbModule, Package: "./controller",
		Release: &Release{Version: MetalLBVersion, Image: "quay.io/metallb/controller:{version}", Member: "controller"},
	}
	metallbSpeaker = Binary{
		Name: "metallb-speaker", Family: operators, Module: metallbModule, Package: "./speaker",
		Release: &Release{Version: MetalLBVersion, Image: "quay.io/metallb/speaker:{version}", Member: "speaker"},
	}
	coredns = Binary{
		Name: "coredns", Family: tools, Module: corednsModule, Package: ".",
		Files: map[string]string{"core/plugin/zplugin.go": corednsPlugins},
		Release: &Release{
			Version: CoreDNSVersion, Archive: TarGz, Member: "coredns",
			URL:  github + "coredns/coredns/releases/download/{version}/coredns_{number}_linux_amd64.tgz",
			Sums: github + "coredns/coredns/releases/download/{version}/coredns_{number}_linux_amd64.tgz.sha256",
		},
	}
	localPath = Binary{
		Name: "local-path-provisioner", Family: operators, Module: localPathModule, Package: ".",
		Release: &Release{
			Version: localPathModule.Version, Image: localPathRepository + ":{version}", Member: "usr/bin/local-path-provisioner",
		},
	}
	memos = Binary{
		Name: "memos", Family: tools, Module: memosModule, Package: "./cmd/memos",
		// It has the web pages in it, which the module has not. The name is that of upstream's workflow at this version,
		// which publishes no checksums; later releases have such files, and whether this one has was not seen.
		Release: &Release{
			Version: MemosVersion, Archive: TarGz, Member: "memos",
			URL: github + "usememos/memos/releases/download/{version}/memos_{number}_linux_amd64.tar.gz",
		},
	}

	cnpg = Binary{
		Name: "cloudnative-pg", Family: kubernetes, Module: cnpgModule, Package: "./cmd/manager",
		// Its archives hold kubectl's plugin.
		Release: &Release{
			Version: CloudNativePGVersion, Image: "ghcr.io/cloudnative-pg/cloudnative-pg:{number}",
			Member: "operator/manager_" + arch,
		},
	}
	barmanPlugin = Binary{
		Name: "plugin-barman-cloud", Family: kubernetes, Module: barmanPluginModule, Package: "./cmd/manager",
		Release: &Release{
			Version: BarmanPluginVersion, Image: "ghcr.io/cloudnative-pg/plugin-barman-cloud:{version}", Member: "manager",
		},
	}
	mariadb = Binary{
		Name: "mariadb-operator", Family: operators, Module: mariadbModule, Package: "./cmd/controller",
		Release: &Release{
			Version: MariaDBVersion, Image: "docker-registry3.mariadb.com/mariadb-operator/mariadb-operator:{number}",
			Member: "bin/mariadb-operator",
		},
	}

	cloudflared = Binary{
		Name: "cloudflared", Family: tools, Module: cloudflaredModule, Package: "./cmd/cloudflared",
		LDFlags: "-X main.Version=" + CloudflaredVersion,
		// Upstream publishes its checksums in the text of the release alone.
		Release: &Release{
			Version: CloudflaredVersion,
			URL:     github + "cloudflare/cloudflared/releases/download/{version}/cloudflared-linux-amd64",
		},
	}
)

// corednsPlugins is the list of plugins, which upstream has everybody write who compiles it. What asks a cloud or etcd
// for names (azure, clouddns, etcd, route53) and what reports to a tracer (trace) is not in the lab's: with it, it takes
// twice the time.
var corednsPlugins = func() string {
	var imports strings.Builder
	for _, name := range strings.Fields(`acl any auto autopath bind bufsize cache cancel chaos debug dns64 dnssec dnstap
		erratic errors file forward geoip grpc header health hosts k8s_external kubernetes loadbalance local log loop
		metadata metrics minimal multisocket nsid pprof ready reload rewrite root secondary sign template timeouts tls
		transfer tsig view whoami`) {
		imports.WriteString("\t_ \"github.com/coredns/coredns/plugin/" + name + "\"\n")
	}
	return "package plugin\n\nimport (\n\t_ \"github.com/coredns/caddy/onevent\"\n" + imports.String() + ")\n"
}()

// tailscale is the daemon and the command in one program, as upstream ships it for small machines. What a server does
// not use is left out (KB 1207): it takes a third of the size. The stamps are what `tailscale version` shows.
var tailscale = Binary{
	Name: "tailscale", Family: tailnet, Module: tailscaleModule, Package: "./cmd/tailscaled",
	Tags: "ts_include_cli,ts_omit_" + strings.Join([]string{
		"ace", "acme", "appconnectors", "aws", "bird", "captiveportal", "capture", "clientupdate", "cloud", "colorable",
		"completion",
		"completion_scripts", "conn25", "dbus", "debugeventbus", "debugportmapper", "desktop_sessions", "doctor", "drive",
		"flashappliance",
		"hujsonconf", "identityfederation", "kube", "linkspeed", "logtail", "netlog", "networkmanager", "oauthkey",
		"outboundproxy", "portlist",
		"portmapper", "posture", "qrcodes", "relayserver", "remoteconfig", "resolved", "routecheck", "serve", "ssh",
		"synology", "syspolicy",
		"systray", "taildrop", "tailnetlock", "tap", "tpm", "wakeonlan", "webbrowser", "webclient",
	}, ",ts_omit_"),
	LDFlags: "-X tailscale.com/version.longStamp=" + tailscaleStamp + " -X tailscale.com/version.shortStamp=" + tailscaleStamp,
	// In upstream's is what is left out here. The lab shows it no D-Bus of the host's, and has it upload no log.
	Release: &Release{
		Version: TailscaleVersion, Archive: TarGz, Member: "tailscale_{number}_" + arch + "/tailscaled", Beside: "tailscale",
		URL:  "https://pkgs.tailscale.com/stable/tailscale_{number}_" + arch + ".tgz",
		Sums: "https://pkgs.tailscale.com/stable/tailscale_{number}_" + arch + ".tgz.sha256",
	},
}

// TailscaleProgram is the path of tailscaled or tailscale in what Set.Tailscale and Tailnet give: they are one program,
// or two in a folder if upstream released them.
func TailscaleProgram(tailscale, name string) string {
	if two := filepath.Join(tailscale, name); isFile(two) {
		return two
	}
	return tailscale
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

var tailscaleStamp = strings.TrimPrefix(TailscaleVersion, "v")

// headscale is the control server. Its database is SQLite without cgo.
var headscale = Binary{
	Name: "headscale", Family: tailnet, Module: headscaleModule, Package: "./cmd/headscale",
	Release: &Release{
		Version: HeadscaleVersion,
		URL:     github + "juanfont/headscale/releases/download/{version}/headscale_{number}_linux_amd64",
		Sums:    github + "juanfont/headscale/releases/download/{version}/checksums.txt",
	},
}

// kubeBench runs the CIS benchmark. No lab runs it, so it is not among binaries: see Benchmark. Releases up to v0.14.0
// have the same checks for k3s, and this is the newest that the checksum database knows.
var kubeBench = Binary{
	Name: "kube-bench", Module: kubeBenchModule, Package: ".",
	// The checks beside it in the archive are left there: they are taken from the module.
	Release: &Release{
		Version: KubeBenchVersion, Archive: TarGz, Member: "kube-bench",
		URL:  github + "aquasecurity/kube-bench/releases/download/{version}/kube-bench_{number}_linux_amd64.tar.gz",
		Sums: github + "aquasecurity/kube-bench/releases/download/{version}/kube-bench_{number}_checksums.txt",
	},
}

// act runs workflows of GitHub's and Gitea's kind. No lab runs it: see Act.
var act = Binary{
	Name: "act", Module: Module{"github.com/nektos/act", ActVersion, "h1:d9oFeJ6jUkaVExuG+XzAaMPDqoDrNHaGeiRb8IU+N5w="},
	Package: ".", LDFlags: "-X main.version=" + strings.TrimPrefix(ActVersion, "v"),
	Release: &Release{
		Version: ActVersion, Archive: TarGz, Member: "act",
		URL:  github + "nektos/act/releases/download/{version}/act_Linux_x86_64.tar.gz",
		Sums: github + "nektos/act/releases/download/{version}/checksums.txt",
	},
}

// tailnet is the family of headscale and the client, which share most of the client's packages.
const tailnet = "tailnet"

// tools is the family of the pure Go programs that have little else in common.
const tools = "tools"

// kubernetes is the family of what is built around one version of the Kubernetes client.
const kubernetes = "kubernetes"

// operators is the family of what is built around some other, and shares little but Go's own library.
const operators = "operators"

// fluxController is one of the controllers of the Flux version above. Its module takes its own API from a folder that
// the published module does not contain, hence the extra sums.
func fluxController(name, version, sum, apiSum, apiModSum string) Binary {
	api := "github.com/fluxcd/" + name + "/api " + version
	return Binary{
		Name: name, Family: kubernetes, Module: Module{"github.com/fluxcd/" + name, version, sum}, Package: ".",
		Sums:    []string{api + " " + apiSum, api + "/go.mod " + apiModSum},
		Release: &Release{Version: version, Image: "ghcr.io/fluxcd/" + name + ":{version}", Member: "usr/local/bin/" + name},
	}
}

var fluxControllers = []Binary{
	fluxController("source-controller", "v1.9.3", "h1:Zj1gfvK/2MFIm/K3vh5fSHoJBoggLKMuLWf5ZEmaF0w=",
		"h1:Z5Id6iPV+n1OY/14dpC18PaHRATzAyZkjAzDNYxSl4E=", "h1:qO98L20gw0MvLpSPapJKypyxHP7PejmJN5KxWXxDjCA="),
	fluxController("kustomize-controller", "v1.9.3", "h1:ICUSwJ38bpSKdt5VnIhF23QuUBm6CKzFwzi7Si1xmyc=",
		"h1:1ffTRh7QVYMDseyzA56WQZTCqa/luewpfVTglXhJ9Gw=", "h1:utxc483AZDArFeBW5XeD/wiD0+E1oQbPi3b/TZc+v10="),
	fluxController("helm-controller", "v1.6.2", "h1:cEirkQjLFF721EomwtH5fHuhpiYCW9HkAje1HTzCTsM=",
		"h1:oH3kXfiSVDKB5Mmh7tF4ywC2yK1Ui7enjt7GKWJbTxM=", "h1:CaI5bHedusLcXYj1+pkd4RkSE8TtiEHI3ReHNsUySbg="),
	fluxController("notification-controller", "v1.9.2", "h1:K/l3aovY48rtFoFKF+begn+SSn6vWZY2M3snP4dBylk=",
		"h1:Ga4kMy6Q+BS1P2CqtQr97pozNK179MKAHdN8UC1ehq0=", "h1:TpGuKZjeo2yXXKZ/X3oPIxMm/YGFQkccO31CDeXzrv4="),
}

// binaries are all programs in the order in which they are made, two at a time: the longest first, and family after
// family, so that few scratch caches are there at once. Beside one of the largest family one of another is made.
func binaries() []Binary {
	return slices.Concat(
		[]Binary{k3s, pulumi, gitea, fluxOperator}, fluxControllers,
		[]Binary{cnpg, barmanPlugin, mariadb, sealedSecrets, kubeseal, metallbController, metallbSpeaker, localPath},
		[]Binary{headscale, tailscale, coredns, versitygw, memos, cloudflared},
	)
}
