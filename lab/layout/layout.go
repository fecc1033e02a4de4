// Package layout is where everything of the lab is: its paths, its addresses, its names and its machines. It knows no
// other package of the lab and changes nothing.
package layout

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names. The emulated accounts are those of Pulumi.lab.yaml.
const (
	Project = "tinyrack" // the Pulumi project, and the program's name
	// DefaultStack is the stack of a lab that nobody has told another.
	DefaultStack = "lab"
	Zone         = "lab.test"
	Tailnet      = "lab.test"
	// TailnetDomain is the suffix of the devices' names in the tailnet.
	TailnetDomain = "tail.lab.test"

	GitUser = "tinyrack"
	GitRepo = "infrastructure"

	// Bucket holds etcd's snapshots.
	Bucket = "etcd-snapshots"
	// BackupBucket holds the databases' copies.
	BackupBucket = "database-backups"
)

// The addresses at which the lab's services listen, all of them at the host's end of the public side.
const (
	HostIP = "10.77.0.1"

	CloudflareAddr = HostIP + ":7701"
	TailscaleAddr  = HostIP + ":7702"
	ArtifactsAddr  = HostIP + ":7703"
	GitAddr        = HostIP + ":3000"
	S3Addr         = HostIP + ":9000"

	// ConnectorAddr is where the emulated edge takes the tunnel's connectors, VisitorAddr where it takes visitors.
	ConnectorAddr = HostIP + ":7844"
	VisitorAddr   = HostIP + ":443"
	// ProxyAddr is a proxy for who cannot be told that names of the zone are at VisitorAddr.
	ProxyAddr = HostIP + ":7705"

	GitURL = "https://" + GitAddr + "/" + GitUser + "/" + GitRepo + ".git"
)

// HostDir is where a lab marks this host as taken. It is not below the state, which a person may move: the names of the
// bridge and the namespaces are the host's.
const HostDir = "/run/tinyrack-lab"

// Names of the long-lived processes, for the runner. A machine's own is its Process.
const (
	HeadscaleProcess = "headscale"
	CloudsProcess    = "clouds"
	S3Process        = "s3"
	GitProcess       = "gitea"
)

// Operator is the network namespace, and the process for the runner, of the device on which a person works who runs the
// program. Machine and cluster are reached from there alone.
const Operator = "tinyrack-operator"

// OperatorIP is the operator's address on the public side, the one that the bootstrap rules admit.
const OperatorIP = "10.77.0.2"

// PublicIPv6 is the IPv6 address on the public side of whatever has this IPv4 address there: 10.77.0.10 goes with
// fd77:0:0:1::10.
func PublicIPv6(ipv4 string) string {
	return "fd77:0:0:1::" + ipv4[strings.LastIndex(ipv4, ".")+1:]
}

// OnOperator is the command line with which args run on the operator's device: in its network, with its name
// resolution.
func OnOperator(args ...string) []string {
	return append([]string{"ip", "netns", "exec", Operator}, args...)
}

// Layout is where a lab's files are.
type Layout struct {
	// Checkout is the project's folder.
	Checkout string
	// State is where the running lab keeps what it made. It goes with `down`.
	State string
	// Cache is where finished artifacts are kept, outside any checkout. It goes with `clean`.
	Cache string
	// Stack is the name of the site: its stack, and the end of its folders' names.
	Stack string
	// Settings is the file with the settings of the lab's stack, Machines are the hosts in it.
	Settings string
	Machines []Machine
}

// Find returns the layout of the checkout in or above the working directory. XDG_CACHE_HOME and TINYRACK_LAB_STATE move
// cache and state. TINYRACK_LAB_SITE is the site's name; without it the site is the one that the lab holds, or
// DefaultStack. TINYRACK_LAB_SETTINGS is a file in the place of the checkout's Pulumi.<name>.yaml. A site that the lab
// holds may have lost its settings, and then has no machines here: it can still be taken down.
func Find() (Layout, error) {
	dir, err := os.Getwd()
	if err != nil {
		return Layout{}, err
	}
	checkout, err := checkoutAbove(dir)
	if err != nil {
		return Layout{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Layout{}, fmt.Errorf("no place for the lab's cache: %w: set HOME or XDG_CACHE_HOME", err)
	}
	state := os.Getenv("TINYRACK_LAB_STATE")
	if state == "" {
		state = "/var/lib/tinyrack-lab"
	}
	l := Layout{
		Checkout: checkout, State: state, Cache: filepath.Join(cache, "tinyrack-lab"),
		Settings: os.Getenv("TINYRACK_LAB_SETTINGS"),
	}
	held := Held(state)
	l.Stack = cmp.Or(os.Getenv("TINYRACK_LAB_SITE"), held, DefaultStack)
	if l.Settings == "" {
		l.Settings = filepath.Join(checkout, "Pulumi."+l.Stack+".yaml")
		stacks, err := Stacks(checkout)
		switch {
		case err != nil:
			return Layout{}, err
		case slices.Contains(stacks, l.Stack):
		case l.Stack == held:
			return l, nil
		default:
			return Layout{}, fmt.Errorf("there is no Pulumi.%s.yaml: the lab has no such site to run: name one of %s", l.Stack,
				strings.Join(stacks, ", "))
		}
	}
	l.Machines, err = machinesOf(l.Settings)
	return l, err
}

// Held is the name of the site that the lab with this state holds, or "".
func Held(state string) string {
	name, _ := os.ReadFile(Layout{State: state}.Mark()) // no lab, no mark
	return string(name)
}

// Stacks are the names of the stacks whose settings are in the checkout.
func Stacks(checkout string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(checkout, "Pulumi.*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no Pulumi.STACK.yaml: there is no stack to preview or to run", checkout)
	}
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "Pulumi."), ".yaml"))
	}
	return names, nil
}

// checkoutAbove is the folder of the project: the first from dir upwards with a Pulumi.yaml.
func checkoutAbove(dir string) (string, error) {
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "Pulumi.yaml")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("not inside the project: no Pulumi.yaml in this folder or above it: " +
				"run it by `make` in the checkout")
		}
	}
}

// Path is a path below the state.
func (l Layout) Path(elem ...string) string {
	return filepath.Join(append([]string{l.State}, elem...)...)
}

// Mark is the file with the name of the site that the lab holds.
func (l Layout) Mark() string { return l.Path("holds") }

// Secrets is the file with the lab's secrets.
func (l Layout) Secrets() string { return l.Path("secrets.json") }

// Run holds a file per long-lived process, Logs their output.
func (l Layout) Run() string { return l.Path("run") }

// Logs holds the output of the long-lived processes.
func (l Layout) Logs() string { return l.Path("logs") }

// TLS holds the lab's certificate authority and the certificate of its servers.
func (l Layout) TLS() string { return l.Path("tls") }

// CA is the certificate of the lab's authority.
func (l Layout) CA() string { return l.Path("tls", "ca.crt") }

// Served is what the artifact server shows.
func (l Layout) Served() string { return l.Path("served") }

// Repositories is the folder of the git repositories that the artifact server serves.
func (l Layout) Repositories() string { return l.Path("repositories") }

// Images holds the tarballs that the machines' k3s imports.
func (l Layout) Images() string { return l.Path("images") }

// Buckets is the folder of the object storage.
func (l Layout) Buckets() string { return l.Path("s3") }

// Site is the lab's clone of what its git server holds.
func (l Layout) Site() string { return l.Path("site") }

// SealingKey is the private sealing key of the lab's site.
func (l Layout) SealingKey() string { return l.Path("sealing.pem") }

// GitCredentials is the credential store for the lab's git server.
func (l Layout) GitCredentials() string { return l.Path("git-credentials") }

// Headscale is the folder of the tailnet's control server.
func (l Layout) Headscale() string { return l.Path("headscale") }

// Devices is the folder of the devices of the tailnet that are no machines.
func (l Layout) Devices() string { return l.Path("devices") }

// Pulumi holds the stack: backend, plugins, configuration.
func (l Layout) Pulumi() string { return l.Path("pulumi") }

// Machine is the folder of a machine: its disk, and its record.
func (l Layout) Machine(m Machine) string { return l.Path("machines", m.Name) }

// Record is the file that says what machine was made, once anything of it was.
func (l Layout) Record(m Machine) string { return filepath.Join(l.Machine(m), "machine.json") }

// MachineKey is the private key that logs in to the machines.
func (l Layout) MachineKey() string { return l.Path("machine.key") }

// Kubectl is the kubectl of the cluster's version.
func (l Layout) Kubectl() string { return l.Path("bin", "kubectl") }

// Kubeconfig is the cluster's administrator access.
func (l Layout) Kubeconfig() string { return l.Path("kubeconfig") }
