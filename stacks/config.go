package stacks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// project is the namespace of the stack's settings, the name in Pulumi.yaml.
const project = "tinyrack"

// Source is what Pulumi hands over about one stack.
type Source struct {
	// Stack is the stack's name; messages repeat it in the commands they give.
	Stack string
	// Root is the project's directory; relative paths start there.
	Root string
	// Values are all settings, keyed <namespace>:<key>, structured ones in JSON,
	// secret ones decrypted.
	Values map[string]string
	// SecretKeys are the keys of Values that are encrypted in the stack's file.
	// Nil when the language host did not say.
	SecretKeys []string
}

// Config is one environment. Every field is a plain value: the whole of it is checked before the first resource is
// registered.
//
// Its fields, and those of what is in it, are the reference of docs/settings.md: what the comment says after the name,
// example, a value in YAML, and unset, what holds without one where the program does not fill one in.
type Config struct {
	Stack string `json:"-"`
	// Protect has the engine refuse to delete or replace the cluster's token, its first server, the tunnel, and the
	// namespaces of Flux and of the sealing key. `false`, then `up`, comes before a destroy
	// (docs/adr/0016-what-is-protected.md).
	Protect    bool       `json:"protect" example:"false"`
	Cloudflare Cloudflare `json:"cloudflare"`
	Tailnet    Tailnet    `json:"tailnet"`
	// Hosts are the machines. The name never changes: node name, name in the tailnet, suffix of the resources. Another
	// name is another host.
	Hosts         map[string]Host `json:"hosts"`
	Cluster       Cluster         `json:"cluster"`
	SealedSecrets SealedSecrets   `json:"sealedSecrets"`
	Flux          Flux            `json:"flux"`
	// Backups sends the databases' copies to S3, and the volumes'. Without it no database of the tree can start.
	Backups *Backups `json:"backups"`
	// Restore is a site coming back, layer by layer (docs/runbooks/restore-databases.md).
	Restore *Restore `json:"restore"`
	Secrets Secrets  `json:"-"`
}

// Cloudflare is the public side of the site.
type Cloudflare struct {
	// AccountID is 32 hexadecimal digits, from the account's overview.
	AccountID string `json:"accountId" example:"0123456789abcdef0123456789abcdef"`
	// ZoneID is 32 hexadecimal digits, from the zone's overview.
	ZoneID string `json:"zoneId" example:"fedcba9876543210fedcba9876543210"`
	// Zone is the domain every hostname is in. It is a part of the owner's mark on the machines.
	Zone string `json:"zone" example:"example.com"`
	// Tunnel is the tunnel's name, unique in the account.
	Tunnel string `json:"tunnel" example:"acme"`
	// BaseURL is another API address, for tests: plain HTTP is taken toward private addresses only.
	BaseURL string `json:"baseUrl" example:"http://10.0.0.1:7701/client/v4" unset:"Cloudflare's own"`
	// AccessEmails are who may open hostnames with access `team`.
	AccessEmails []string `json:"accessEmails" example:"[you@example.com]"`
	// Ingress are the hostnames; one list makes tunnel rules, DNS records and logins.
	Ingress []Route `json:"ingress"`
}

// Route publishes one hostname, or a part of it.
type Route struct {
	// Hostname is the zone, a name in it, or `*.<name>`.
	Hostname string `json:"hostname" example:"notes.example.com" unset:"none; has to be set"`
	// Path is a part of the hostname: it and all below it. Several routes may share a hostname; the longest path that
	// fits is taken, and what none fits gets 404.
	Path string `json:"path" example:"/ghost"`
	// Service is the URL of what answers, as seen inside the cluster.
	Service string `json:"service" example:"http://memos.memos-system.svc.cluster.local:5230" unset:"none; has to be set"`
	// Access is `public`, or `team`: a login for `accessEmails` comes first.
	Access string `json:"access" example:"public" unset:"none; has to be set"`
}

// Tailnet is the private side of the site.
type Tailnet struct {
	// Name is what the API takes: the organisation, the tailnet's ID, or `-` for the one of the OAuth client. Not
	// `*.ts.net`.
	Name string `json:"name" example:"example.com"`
	// Domain is the MagicDNS suffix: a host is `<name>.<domain>`.
	Domain string `json:"domain" example:"time-inconnu.ts.net"`
	// Admins are the logins that may reach SSH and the Kubernetes API.
	Admins []string `json:"admins" example:"[you@example.com]"`
	// ManagerTag owns the tags of the roles, `<managerTag>-server`, `-agent`, `-storage`; the OAuth client holds it.
	ManagerTag string `json:"managerTag" example:"tag:acme"`
	// PolicyFile is HuJSON with the rest of your tailnet's policy, from the project's directory or absolute
	// (docs/adr/0019-tailnet-policy-from-roles.md).
	PolicyFile string `json:"policyFile" example:"tailnet.hujson"`
	// Rest is the text of that file.
	Rest []byte `json:"-"`
	// OverwritePolicy lets the first `up` replace a policy that is neither the default nor the wanted one. Set it for one
	// run.
	OverwritePolicy bool `json:"overwritePolicy" example:"true"`
	// ResetPolicyOnDestroy has a destroy put Tailscale's default policy back, in which every device reaches every other.
	ResetPolicyOnDestroy bool `json:"resetPolicyOnDestroy" example:"true"`
	// MagicDNS switches MagicDNS on. It is never switched off; `false` leaves the setting alone, and then it has to be on
	// already.
	MagicDNS bool `json:"magicDns" example:"false"`
	// BaseURL is another API address, as `cloudflare.baseUrl`.
	BaseURL string `json:"baseUrl" example:"https://tailscale.example.com" unset:"Tailscale's own"`
	// LoginServer is the control server that machines join. Changed for a machine that has joined, it is refused.
	LoginServer string `json:"loginServer" example:"https://headscale.example.com" unset:"Tailscale's own"`
}

// The roles of a host.
const (
	roleServer  = "server"
	roleAgent   = "agent"
	roleStorage = "storage"
)

// Host is one machine, as it is reached and as it is set up.
type Host struct {
	// Address is the public IP address or name; the connections until the host has joined use it.
	Address string `json:"address" example:"192.0.2.10"`
	// NodeAddress is the IP address by which the cluster's other nodes reach this one, in a private network for example.
	// One node alone leaves it to k3s unless it is set. etcd knows a server by it for good.
	NodeAddress string `json:"nodeAddress" example:"10.0.0.2" unset:"the address"`
	// Port is where sshd listens, on the address and in the tailnet.
	Port int `json:"port" example:"2222"`
	// User is root, or a user with passwordless sudo.
	User string `json:"user" example:"debian"`
	// HostKey is the first two words of the machine's `/etc/ssh/ssh_host_ed25519_key.pub`. RSA is refused.
	HostKey string `json:"hostKey" example:"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBh1JDqWCz9LDTr6HMcAcH7iw+n9A8EUHBVQCzcwz1Yd"`
	// Roles are `server` (Kubernetes API, etcd, pods), `agent` (pods), `storage` (keeps backups, over S3). Not server and
	// agent at once.
	Roles []string `json:"roles" example:"[server]"`
	// BootstrapSources are addresses or CIDRs that may use SSH on the public address. Empty: closed, and every connection
	// takes the tailnet.
	BootstrapSources []string `json:"bootstrapSources" example:"[192.0.2.7/32]"`
	// Packages are Debian packages; installed when missing, never removed. `rpcbind`, which nfs-common brings, is masked
	// unless it is named.
	Packages []string `json:"packages" example:"[open-iscsi, nfs-common]"`
	// Sysctl are kernel settings.
	Sysctl map[string]string `json:"sysctl" example:"{net.ipv4.ip_forward: \"1\"}"`
}

// setDefaults is what a host is when the stack's file does not say.
func (h *Host) setDefaults() { h.Port, h.User = 22, "root" }

// Cluster is Kubernetes on the hosts that are servers and agents.
type Cluster struct {
	// Version is the k3s release that the binaries are. Older than v1.32.4+k3s1 is refused.
	Version string `json:"version" example:"v1.36.4+k3s1"`
	// AcceptVersion is the same version, word for word, to install one below that all the same.
	AcceptVersion string `json:"acceptVersion" example:"v1.32.0+k3s1"`
	// Binaries are the release's executables by architecture, `amd64` or `arm64`; a machine takes its own.
	Binaries map[string]Artifact `json:"binaries"`
	// InstallScript is the release's `install.sh`.
	InstallScript Script `json:"installScript"`
	// FirstServer is the host that makes the cluster and that the others join. To be set with several servers, and then
	// kept.
	FirstServer string `json:"firstServer" example:"node" unset:"the only server"`
	// ClusterCIDR is the pods' network. A cluster keeps it for good.
	ClusterCIDR string `json:"clusterCidr" example:"10.55.0.0/16"`
	// ServiceCIDR is the Services' network. A cluster keeps it for good.
	ServiceCIDR string `json:"serviceCidr" example:"10.56.0.0/16"`
	// TLSSANs are more names and addresses in the API's certificate; the hosts' tailnet names are in it.
	TLSSANs []string `json:"tlsSans" example:"[api.example.com, 198.51.100.7]"`
	// Disable are packaged components to leave out: coredns, local-storage, metrics-server, runtimes, servicelb, traefik.
	Disable []string `json:"disable" example:"[traefik, servicelb, local-storage]" unset:"traefik, servicelb"`
	// KubeletArgs are `name=value` for the kubelet, without hyphens in front. One of the hardening's is replaced; those
	// that would open the kubelet are refused.
	KubeletArgs []string `json:"kubeletArgs" example:"[max-pods=200]"`
	// APIServerArgs are `name=value` for the Kubernetes API server. One of the hardening's is replaced.
	APIServerArgs []string `json:"apiServerArgs" example:"[audit-log-maxage=90]"`
	// PrivilegedNamespaces are namespaces exempt from the pod security standard "baseline", as kube-system is. One with a
	// label of its own needs no place here, as MetalLB's and Longhorn's.
	PrivilegedNamespaces []string `json:"privilegedNamespaces" example:"[monitoring-system]"`
	// FlannelBackend carries the pods' traffic between nodes: `vxlan`, or `wireguard-native`, which encrypts; with several
	// nodes vxlan is taken on private addresses only.
	FlannelBackend string `json:"flannelBackend" example:"wireguard-native" unset:"vxlan"`
	// ProtectKernelDefaults has the kubelet insist on its kernel settings, which are set for it. `false` for a machine that
	// cannot set them, such as a container.
	ProtectKernelDefaults bool `json:"protectKernelDefaults" example:"false"`
	// Renewal is any text: changing it renews certificates that end within 90 days and fetches the kubeconfig again.
	Renewal string `json:"renewal" example:"2026-Q4"`
	// Snapshots sends etcd snapshots to S3. Without it they stay on the server.
	Snapshots *Snapshots `json:"snapshots"`
}

// Artifact is a download and what it must be.
type Artifact struct {
	// URL is where the release has it: `k3s` or `k3s-arm64`.
	URL string `json:"url" example:"https://github.com/k3s-io/k3s/releases/download/v1.36.4%2Bk3s1/k3s"`
	// SHA256 is its checksum: its line in `sha256sum-<architecture>.txt` of the release.
	SHA256 string `json:"sha256" example:"835873f37245fc615f547a2fe2af9402a347875f13fa64a1f136de644955ea3f"`
}

// Script is the installer and what it must be.
type Script struct {
	// URL is where the release's source has it.
	URL string `json:"url" example:"https://raw.githubusercontent.com/k3s-io/k3s/v1.36.4%2Bk3s1/install.sh"`
	// SHA256 is its checksum, which the release does not list: `scripts/pin k3s` takes it of the file.
	SHA256 string `json:"sha256" example:"46177d4c99440b4c0311b67233823a8e8a2fc09693f6c89af1a7161e152fbfad"`
}

// Snapshots is where and when etcd snapshots go.
type Snapshots struct {
	// Schedule is five cron fields, in the machine's time.
	Schedule string `json:"schedule" example:"0 */4 * * *"`
	// Retention is how many are kept, at least one.
	Retention int `json:"retention" example:"42"`
	// Endpoint is `host[:port]`, without a scheme.
	Endpoint string `json:"endpoint" example:"storage.example.com:9000"`
	// Region is `us-east-1`, `auto`, or what the server expects.
	Region string `json:"region" example:"us-east-1"`
	// Bucket is the bucket, which exists.
	Bucket string `json:"bucket" example:"etcd-snapshots"`
	// Folder is a prefix in it.
	Folder string `json:"folder" example:"acme"`
	// Insecure means plain HTTP.
	Insecure bool `json:"insecure" example:"true"`
}

// Backups is where databases and volumes send their copies, and which.
type Backups struct {
	// Endpoint is `host[:port]`, without a scheme. Pods have to reach it: no address of the tailnet, from which the
	// firewall keeps them.
	Endpoint string `json:"endpoint" example:"storage.example.com:9000"`
	// Region is `us-east-1`, `auto`, or what the server expects.
	Region string `json:"region" example:"us-east-1"`
	// Bucket is the bucket, which exists. Not that of the etcd snapshots: who reads those has every secret of the cluster.
	Bucket string `json:"bucket" example:"database-backups"`
	// Insecure means plain HTTP.
	Insecure bool `json:"insecure" example:"true"`
	// Namespaces are the databases' namespaces. The program makes each, with the credentials in it.
	Namespaces []string `json:"namespaces" example:"[memos-system]"`
	// Volumes is for a tree with Longhorn: the program makes `longhorn-system`, with the credentials under the names that
	// Longhorn reads.
	Volumes bool `json:"volumes" example:"true"`
	// Incarnation is how often the databases were made anew from their copies, this time included: each has a folder of
	// its own.
	Incarnation int `json:"incarnation" example:"2" unset:"1"`
}

// The phases of a restore, in their order: how far Flux goes.
const (
	phaseNone           = "none"
	phaseInfrastructure = "infrastructure"
	phaseVolumes        = "volumes"
	phaseDatabases      = "databases"
	phaseApps           = "apps"
)

// Restore is a site coming back, layer by layer.
type Restore struct {
	// Phase is how far Flux goes: `infrastructure`, `volumes`, `databases`, `apps`, or `none` once it is over. Until then
	// each database that is not there comes out of its copies.
	Phase string `json:"phase" example:"databases"`
	// From is the incarnation whose copies are read: the number at the end of its folders in the bucket.
	From int `json:"from" example:"1" unset:"none; needed for a restore"`
	// Until is the time whose state is wanted, with its zone (RFC 3339); left out, the last one. PostgreSQL comes back to
	// that second, MariaDB from the last copy before it.
	Until string `json:"until" example:"2026-11-29T14:50:00Z"`
	// Volumes is the copy of Longhorn's own objects whose volumes come back, as it is called in the bucket; with
	// `backups.volumes`. Left out, no volume comes back.
	Volumes string `json:"volumes" example:"system-backup-c-1b2d3"`
}

// SealedSecrets is the public half of the sealing key.
type SealedSecrets struct {
	// Certificate is the file of the sealing certificate, from the project's directory or absolute.
	Certificate string `json:"certificate" example:"clusters/production/sealing.crt"`
	// PEM is the text of that file.
	PEM string `json:"-"`
}

// Flux is what keeps the cluster equal to git.
type Flux struct {
	// Version is an exact Flux 2 release.
	Version string `json:"version" example:"2.9.2"`
	// URL is this repository: `https://…`, or `ssh://git@…`; `git@host:path` is read as the latter.
	URL string `json:"url" example:"https://git.example.com/owner/repository.git"`
	// Branch is the branch Flux follows.
	Branch string `json:"branch" example:"release/1.x"`
	// Path is `./clusters/<environment>`.
	Path string `json:"path" example:"./clusters/production"`
	// Host is what kind of git host that is: `github`, `gitea` (Forgejo as well) or `gitlab`.
	Host string `json:"host" example:"gitea"`
	// Username is the name that goes with `gitToken`.
	Username string `json:"username" example:"robot"`
	// KnownHosts are the keys of the git host, as `ssh-keyscan` prints them, once compared with the published ones.
	KnownHosts string `json:"knownHosts" example:"git.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBh1JDqWCz9LDTr6HMcAcH7iw+n9A8EUHBVQCzcwz1Yd" unset:"none; needed for ssh://"`
	// CA is PEM certificates, for an HTTPS host with an authority of its own.
	CA string `json:"ca"`
	// Revision is the commit `up` waits for.
	Revision string `json:"revision" example:"main@sha1:0123456789abcdef0123456789abcdef01234567" unset:"the branch's newest"`
	// Variables are more variables for the manifests, beside environment, zone, cluster_cidr, service_cidr,
	// tunnel_fingerprint, git_host, webhook_type, commit_status_suspended, incarnation, restore_from, those that begin
	// with backups_, and hostname_<Service>, the first hostname of `ingress` that leads to that Service. The tree takes
	// addresses of charts and versions of databases.
	Variables map[string]string `json:"variables" example:"{load_balancer_pool: 10.57.0.0/24}"`
}

// defaults returns what a setting is when the stack's file does not say.
func defaults() Config {
	return Config{
		Protect: true,
		Tailnet: Tailnet{Name: "-", ManagerTag: "tag:tinyrack", MagicDNS: true},
		Cluster: Cluster{ProtectKernelDefaults: true},
		Flux:    Flux{Branch: "main", Host: "github", Username: "git"},
	}
}

// withRole returns the names of the hosts with a role, sorted.
func (c Config) withRole(role string) []string {
	return slices.DeleteFunc(sortedKeys(c.Hosts), func(name string) bool {
		return !slices.Contains(c.Hosts[name].Roles, role)
	})
}

// firstServer is the host that makes the cluster, or "" when the settings do not say which.
func (c Config) firstServer() string {
	if servers := c.withRole(roleServer); c.Cluster.FirstServer == "" && len(servers) == 1 {
		return servers[0]
	}
	return c.Cluster.FirstServer
}

// servers are the hosts that serve the Kubernetes API, the first one in front.
func (c Config) servers() []string {
	servers := c.withRole(roleServer)
	if at := slices.Index(servers, c.firstServer()); at > 0 {
		first := servers[at]
		servers = slices.Insert(slices.Delete(servers, at, at+1), 0, first)
	}
	return servers
}

// Load returns the configuration in src, or a *Report of everything that is
// wrong with it. Apart from the files it names it reads nothing.
func Load(src Source) (Config, error) {
	cfg := defaults()
	cfg.Stack = src.Stack
	report := &Report{Stack: src.Stack}

	sections := fieldsOf(&cfg)
	secrets := fieldsOf(&cfg.Secrets)
	for _, key := range sortedKeys(src.Values) {
		name, ours := strings.CutPrefix(key, project+":")
		if !ours {
			// Another namespace is another program's.
			if _, last, _ := strings.Cut(key, ":"); sections[last].IsValid() || secrets[last].IsValid() {
				report.refuse(key, "a setting of "+project+" under another name", "it would have no effect",
					"write "+project+":"+last)
			}
			continue
		}
		if section, ok := sections[name]; ok {
			decodeJSON(report, key, src.Values[key], section)
			continue
		}
		if secret, ok := secrets[name]; ok {
			secret.SetString(trimSecret(src.Values[key]))
			if src.SecretKeys != nil && !slices.Contains(src.SecretKeys, key) {
				report.refuse(key, "stored in clear", "anyone who reads the stack's file has it", "revoke it, then set a new "+
					"one: "+setSecret(name, src.Stack))
			}
			continue
		}
		known := slices.Concat(sortedKeys(sections), sortedKeys(secrets))
		remove := "remove it: pulumi config rm " + key + " --stack " + src.Stack
		report.refuse(key, "unknown setting", "it would have no effect", didYouMean(name, known, remove))
	}

	cfg.Flux.URL = sshURL(cfg.Flux.URL)
	cfg.SealedSecrets.PEM = string(readFile(report, src.Root, "sealedSecrets.certificate", cfg.SealedSecrets.Certificate,
		"there is nothing to compare the sealing key with", "commit the certificate that kubeseal uses, or correct the path"))
	cfg.Tailnet.Rest = readFile(report, src.Root, "tailnet.policyFile", cfg.Tailnet.PolicyFile,
		"what it allows would be taken away", "correct the path, or leave it out when nothing else is in the tailnet")
	require(report, cfg)
	validate(report, cfg, src.Root)
	if report.empty() {
		return cfg, nil
	}
	return Config{}, report
}

// fromEnvironment returns the source of the running program. The SDK only looks
// up single keys; seeing unknown ones takes the whole map, which it reads from
// the same variable.
func fromEnvironment(ctx *pulumi.Context) (Source, error) {
	src := Source{Stack: ctx.Stack(), Root: ctx.RootDirectory()}
	if src.Root == "" {
		src.Root = "." // an older language host: programs start in the project
	}
	if err := unmarshalEnv(pulumi.EnvConfig, &src.Values); err != nil {
		return Source{}, err
	}
	if err := unmarshalEnv(pulumi.EnvConfigSecretKeys, &src.SecretKeys); err != nil {
		return Source{}, err
	}
	return src, nil
}

// trimSecret takes away what pasting and piping add, and gives PEM text the final
// newline its readers insist on.
func trimSecret(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "-----BEGIN ") {
		text += "\n"
	}
	return text
}

var scpForm = regexp.MustCompile(`^[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^/]`)

// sshURL turns the short form git@host:path into the URL Flux wants.
func sshURL(url string) string {
	if scpForm.MatchString(url) {
		return "ssh://" + strings.Replace(url, ":", "/", 1)
	}
	return url
}

// readFile returns what is in a file that a setting names, or nothing.
func readFile(report *Report, root, setting, path, consequence, fix string) []byte {
	if path == "" {
		return nil
	}
	file := path
	if !filepath.IsAbs(file) {
		file = filepath.Join(root, file)
	}
	data, err := os.ReadFile(file) //nolint:gosec // the operator's own choice of file
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		report.refuse(project+":"+setting, fmt.Sprintf("%q cannot be read (%v)", path, err), consequence, fix)
	}
	return data
}
