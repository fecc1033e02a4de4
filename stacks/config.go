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
type Config struct {
	Stack string `json:"-"`
	// Protect keeps the engine from deleting or replacing what holds data or what that hangs on: the cluster, the tunnel,
	// the namespaces of Flux and of the sealing key. A destroy needs an `up` with false before it.
	Protect    bool       `json:"protect"`
	Cloudflare Cloudflare `json:"cloudflare"`
	Tailnet    Tailnet    `json:"tailnet"`
	// Hosts are the machines by their immutable name: node name, tailnet name and suffix of their resources.
	Hosts         map[string]Host `json:"hosts"`
	Cluster       Cluster         `json:"cluster"`
	SealedSecrets SealedSecrets   `json:"sealedSecrets"`
	Flux          Flux            `json:"flux"`
	// Backups is where the databases' copies go. Optional: without it no database of the tree can start.
	Backups *Backups `json:"backups"`
	// Restore makes databases anew from their copies. Optional.
	Restore *Restore `json:"restore"`
	Secrets Secrets  `json:"-"`
}

// Cloudflare is the public side of the site.
type Cloudflare struct {
	AccountID string `json:"accountId"`
	ZoneID    string `json:"zoneId"`
	// Zone is the domain every hostname is in.
	Zone   string `json:"zone"`
	Tunnel string `json:"tunnel"`
	// BaseURL replaces the Cloudflare API. Optional.
	BaseURL string `json:"baseUrl"`
	// AccessEmails may open hostnames with access "team".
	AccessEmails []string `json:"accessEmails"`
	Ingress      []Route  `json:"ingress"`
}

// Route publishes one hostname, or a part of it.
type Route struct {
	Hostname string `json:"hostname"`
	// Path is the part: it and all below it. Optional.
	Path string `json:"path"`
	// Service is the URL of what answers, as seen from inside the cluster.
	Service string `json:"service"`
	// Access is "public" or "team".
	Access string `json:"access"`
}

// Tailnet is the private side of the site.
type Tailnet struct {
	// Name is what the API knows the tailnet by: its organisation, its ID, or "-" for the one that owns the credentials.
	Name string `json:"name"`
	// Domain is the MagicDNS suffix; a host is <name>.<domain>.
	Domain string `json:"domain"`
	// BaseURL replaces the Tailscale API. Optional.
	BaseURL string `json:"baseUrl"`
	// LoginServer replaces the control server machines join. Optional.
	LoginServer string `json:"loginServer"`
	// Admins are the people who may reach SSH and the Kubernetes API.
	Admins []string `json:"admins"`
	// ManagerTag owns the tags of the roles, <managerTag>-<role>. The OAuth client holds it.
	ManagerTag string `json:"managerTag"`
	// PolicyFile is HuJSON with the rest of the tailnet's policy: absolute, or from the project's directory. Optional.
	PolicyFile string `json:"policyFile"`
	// Rest is the text of that file.
	Rest []byte `json:"-"`
	// OverwritePolicy lets the first `up` replace a policy it did not write.
	OverwritePolicy bool `json:"overwritePolicy"`
	// ResetPolicyOnDestroy puts the default policy back on destroy.
	ResetPolicyOnDestroy bool `json:"resetPolicyOnDestroy"`
	MagicDNS             bool `json:"magicDns"`
}

// The roles of a host.
const (
	roleServer  = "server"
	roleAgent   = "agent"
	roleStorage = "storage"
)

// Host is one machine, as it is reached and as it is set up.
type Host struct {
	// Address is public: the first connection uses it.
	Address string `json:"address"`
	// NodeAddress is the IP address by which the cluster's other nodes reach this one. Optional: Address.
	NodeAddress string `json:"nodeAddress"`
	Port        int    `json:"port"`
	// User is root or a user with passwordless sudo.
	User string `json:"user"`
	// HostKey is the host's public key, "ssh-ed25519 AAAA…".
	HostKey string `json:"hostKey"`
	// Roles are server, agent or storage.
	Roles []string `json:"roles"`
	// BootstrapSources are the CIDRs that may use SSH on the public address. Empty once the host is in the tailnet: every
	// connection takes its name there.
	BootstrapSources []string          `json:"bootstrapSources"`
	Packages         []string          `json:"packages"`
	Sysctl           map[string]string `json:"sysctl"`
}

// setDefaults is what a host is when the stack's file does not say.
func (h *Host) setDefaults() { h.Port, h.User = 22, "root" }

// Cluster is Kubernetes on the hosts that are servers and agents.
type Cluster struct {
	Version string `json:"version"`
	// AcceptVersion names a version below the supported ones that is to be installed all the same. Optional.
	AcceptVersion string `json:"acceptVersion"`
	// Binaries are the release's executables by Go's name of the architecture: amd64, arm64.
	Binaries      map[string]Artifact `json:"binaries"`
	InstallScript Artifact            `json:"installScript"`
	// FirstServer is the host that makes the cluster and that the others join. It may be left out while there is one.
	FirstServer string   `json:"firstServer"`
	ClusterCIDR string   `json:"clusterCidr"`
	ServiceCIDR string   `json:"serviceCidr"`
	TLSSANs     []string `json:"tlsSans"`
	Disable     []string `json:"disable"`
	KubeletArgs []string `json:"kubeletArgs"`
	// APIServerArgs are flags of the Kubernetes API server, name=value. They replace the program's own of the same name.
	APIServerArgs []string `json:"apiServerArgs"`
	// PrivilegedNamespaces are exempt from the pod security standard "baseline", as kube-system is.
	PrivilegedNamespaces []string `json:"privilegedNamespaces"`
	// FlannelBackend carries the pods' traffic between nodes. Optional.
	FlannelBackend string `json:"flannelBackend"`
	// ProtectKernelDefaults makes the kubelet insist on kernel settings instead of changing them.
	ProtectKernelDefaults bool `json:"protectKernelDefaults"`
	// Renewal is any text; changing it renews certificates that end soon and fetches the kubeconfig again. Optional.
	Renewal string `json:"renewal"`
	// Snapshots sends etcd snapshots to S3. Optional.
	Snapshots *Snapshots `json:"snapshots"`
}

// Artifact is a download and what it must be.
type Artifact struct {
	URL    string `json:"url"`
	SHA256 string `json:"sha256"`
}

// Snapshots is where and when etcd snapshots go.
type Snapshots struct {
	// Schedule is a cron expression, in the machine's time.
	Schedule string `json:"schedule"`
	// Retention is how many snapshots are kept.
	Retention int `json:"retention"`
	// Endpoint is host[:port] without a scheme.
	Endpoint string `json:"endpoint"`
	Region   string `json:"region"`
	Bucket   string `json:"bucket"`
	Folder   string `json:"folder"`
	// Insecure means plain HTTP.
	Insecure bool `json:"insecure"`
}

// Backups is where databases and volumes send their copies, and which.
type Backups struct {
	// Endpoint is host[:port] without a scheme.
	Endpoint string `json:"endpoint"`
	Region   string `json:"region"`
	Bucket   string `json:"bucket"`
	// Insecure means plain HTTP.
	Insecure bool `json:"insecure"`
	// Namespaces are those of the databases. The program makes them, with the credentials in each.
	Namespaces []string `json:"namespaces"`
	// Volumes says that Longhorn copies its volumes too. The program makes its namespace, with the credentials in it.
	Volumes bool `json:"volumes"`
	// Incarnation counts how often the databases were made anew from their copies.
	Incarnation int `json:"incarnation"`
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
	// Phase is the last layer that Flux applies.
	Phase string `json:"phase"`
	// From is the incarnation whose copies are read.
	From int `json:"from"`
	// Until is the time whose state is wanted, RFC 3339; empty is the last one. MariaDB takes the last copy before it.
	Until string `json:"until"`
	// Volumes is the copy of Longhorn's own objects whose volumes come back. Optional: none comes back.
	Volumes string `json:"volumes"`
}

// SealedSecrets is the public half of the sealing key.
type SealedSecrets struct {
	// Certificate is a path: absolute, or from the project's directory.
	Certificate string `json:"certificate"`
	// PEM is the text of that file.
	PEM string `json:"-"`
}

// Flux is what keeps the cluster equal to git.
type Flux struct {
	Version string `json:"version"`
	URL     string `json:"url"`
	Branch  string `json:"branch"`
	// Path is ./clusters/<environment>.
	Path string `json:"path"`
	// Host is what kind of git host URL is of: github, gitea or gitlab.
	Host     string `json:"host"`
	Username string `json:"username"`
	// KnownHosts are the SSH host's keys.
	KnownHosts string `json:"knownHosts"`
	// CA is a PEM bundle for an HTTPS host with a certificate of its own.
	CA string `json:"ca"`
	// Revision is the commit `up` waits for. Optional: the branch's newest.
	Revision  string            `json:"revision"`
	Variables map[string]string `json:"variables"`
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
