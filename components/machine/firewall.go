package machine

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

// FirewallUnit is the systemd unit that loads the rules. What must not listen without them requires it and comes after
// it.
const FirewallUnit = "tinyrack-firewall.service"

// The scripts are parts of one text: the watchdog's functions are also those of the trial.
var (
	//go:embed firewall.sh
	firewallScript string
	//go:embed firewall_watch.sh
	firewallWatchScript string
	//go:embed firewall_reset.sh
	firewallResetScript string
	//go:embed firewall.service
	firewallUnit string
	//go:embed firewall_watch.service
	firewallWatchUnit string
)

const (
	// firewallWindow is how long rules are on trial before the machine takes them back.
	firewallWindow = 120 * time.Second
	// firewallMargin is what is left of the window when the last attempt to connect has failed: for the handshake, the
	// script, and clocks.
	firewallMargin = 40 * time.Second
	// dialTimeout is that of one attempt: a lost SYN is sent again after one and three seconds.
	dialTimeout = 5 * time.Second
	// The provider's pauses between two attempts: sdk/go/common/util/retry of Pulumi.
	firstPause, pauseFactor, lastPause = 100 * time.Millisecond, 1.5, 5 * time.Second
)

// Firewall is what a host admits besides its own connections: everything on the tailnet's interface, what pods and the
// other hosts of the cluster need, and SSH from the bootstrap sources.
type Firewall struct {
	// BootstrapSources are the CIDRs or addresses that may reach SSH on the public side. Empty once the host is managed
	// over the tailnet.
	BootstrapSources []string
	// SSHPort is the port BootstrapSources may reach: the host's, which remote.Host validates. Zero means 22.
	SSHPort int
	// PodCIDR is the network of the cluster's pods, and ServiceCIDR that of its Services, which no packet comes from.
	// Whether they overlap is for the owner of both to say.
	PodCIDR, ServiceCIDR string
	// Nodes are the addresses of the cluster's other hosts, as their packets come in here.
	Nodes []netip.Addr
}

// Validate returns every problem with the firewall, joined. Each line reads "key: value: consequence: fix".
func (f Firewall) Validate() error {
	var problems []error
	refuse := func(format string, values ...any) { problems = append(problems, fmt.Errorf(format, values...)) }
	for i, s := range f.BootstrapSources {
		p, err := parseSource(s)
		switch {
		case err != nil:
			refuse("bootstrapSources[%d]: %q is not an address or CIDR: the firewall would not load: use a form like "+
				"203.0.113.7/32", i, s)
		case p.Addr().Is4In6():
			refuse("bootstrapSources[%d]: %q is an IPv4 address in IPv6 form: no packet has such a source: write the IPv4 "+
				"address", i, s)
		case p.Bits() == 0:
			refuse("bootstrapSources[%d]: %q is the whole Internet: SSH would be open to everybody: name the addresses you "+
				"work from", i, s)
		case p.Addr().Is4() && p.Bits() < 8, p.Addr().Is6() && p.Bits() < 32:
			refuse("bootstrapSources[%d]: %q is wider than a provider: SSH would be open to strangers: name the addresses "+
				"you work from; IPv4 takes /8 or longer, IPv6 /32 or longer", i, s)
		}
	}
	if p, err := netip.ParsePrefix(f.PodCIDR); err != nil || p.Addr().Is4In6() {
		refuse("podCIDR: %q is not a CIDR: pods could not reach the API server: use a form like 10.55.0.0/16", f.PodCIDR)
	}
	if p, err := netip.ParsePrefix(f.ServiceCIDR); err != nil || p.Addr().Is4In6() {
		refuse("serviceCIDR: %q is not a CIDR: the firewall would not load: use a form like 10.56.0.0/16", f.ServiceCIDR)
	}
	for i, a := range f.Nodes {
		if !a.IsValid() || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
			refuse("nodes[%d]: %q is not the address of a host: the hosts of the cluster could not reach each other: use a "+
				"form like 192.0.2.10", i, a)
		}
	}
	return errors.Join(problems...)
}

// Ruleset returns the text of the nftables table inet tinyrack. Loading it replaces that table in one transaction and
// touches no other: kube-proxy and flannel have theirs. Its last line is the checksum of the ones before, for nft takes
// an empty file without a word.
//
// The input chain guards the machine's own sockets, those of pods in the host's network too. Ports of Services
// (NodePort, LoadBalancer, hostPort) are rewritten before any input chain sees them (k3s-io/k3s#8348); the forward
// chain stops those. Both run shortly before the usual filter priority, and a packet accepted here is still subject to
// the other tables.
func (f Firewall) Ruleset() (string, error) {
	if err := f.Validate(); err != nil {
		return "", err
	}
	four, six := splitSources(f.BootstrapSources)
	pods, services := netip.MustParsePrefix(f.PodCIDR).Masked(), netip.MustParsePrefix(f.ServiceCIDR).Masked()
	text := strings.NewReplacer(
		"@SSH_PORT@", strconv.Itoa(f.sshPort()),
		"@BOOTSTRAP4@", setElements(four),
		"@BOOTSTRAP6@", setElements(six),
		"@PODS@", family(pods.Addr())+" saddr "+pods.String(),
		"@SERVICES@", family(services.Addr())+" daddr "+services.String(),
		"@PING@", map[string]string{"ip": "icmp", "ip6": "icmpv6"}[family(pods.Addr())]+" type echo-request",
		"@NODES@", f.nodeRules(),
	).Replace(rulesetText)
	return fmt.Sprintf("%s# sha256 %x", text, sha256.Sum256([]byte(text))), nil
}

const rulesetText = `# Managed by the tinyrack stack; changes by hand are lost.
table inet tinyrack
delete table inet tinyrack
table inet tinyrack {
	# Who may reach SSH from the public side.
	set bootstrap4 {
		type ipv4_addr
		flags interval
		@BOOTSTRAP4@
	}
	set bootstrap6 {
		type ipv6_addr
		flags interval
		@BOOTSTRAP6@
	}

	chain input {
		type filter hook input priority filter - 10; policy drop;
		ct state established,related accept
		# No stranger can send on these. Who may do what on the tailnet is its policy's to say.
		iifname { "lo", "tailscale0" } accept
		# Neighbour discovery and router advertisements never leave the link.
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, nd-redirect } ip6 hoplimit 255 accept
		icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } \
			ip6 saddr fe80::/10 accept
		ct state invalid drop
		# Interfaces alone tell pods from strangers: anybody can write a pod's address as the source.
		iifname "cni0" goto from_pods
		iifname "flannel*" goto from_pods
		# Answers to what a DHCP client sent to everybody match no tracked flow. Only these cannot come from behind a router.
		# DHCP clients read a unicast answer from a packet socket, before any rule; a renewal is tracked.
		ip daddr 255.255.255.255 udp sport 67 udp dport 68 accept
		ip6 saddr fe80::/10 ip6 daddr fe80::/10 udp sport 547 udp dport 546 accept
		ip saddr @bootstrap4 tcp dport @SSH_PORT@ accept
		ip6 saddr @bootstrap6 tcp dport @SSH_PORT@ accept
		@NODES@
	}

	# Of the machine's own sockets pods need the API server (the Service kubernetes leads there) and the kubelet (metrics).
	# The cluster's DNS is a pod.
	chain from_pods {
		@PODS@ tcp dport { 6443, 10250 } accept
		@PODS@ @PING@ accept
		drop
	}

	chain forward {
		type filter hook forward priority filter - 10; policy drop;
		ct state established,related accept
		iifname "tailscale0" accept
		# From pod to pod on this machine; with bridged packets filtered neighbour discovery passes here, too.
		iifname "cni0" oifname "cni0" accept
		iifname "cni0" goto pods_out
		iifname "flannel*" goto pods_out
	}

	# Pods reach each other and the Internet, but neither the tailnet's peers nor what a cloud tells about the machine.
	chain pods_out {
		# Still addressed to a Service: kube-proxy has not come so far. Let out, it would be tracked as it is, and a pod that
		# starts with the machine would try that connection in vain for half a minute. Refused, it tries another.
		@SERVICES@ reject
		oifname "tailscale0" drop
		ip daddr 169.254.0.0/16 drop
		ip6 daddr fd00:ec2::254 drop
		@PODS@ accept
		drop
	}
}
`

func (f Firewall) sshPort() int { return cmp.Or(f.SSHPort, 22) }

// nodeRules admits from each other host of the cluster the API server and etcd, the kubelet, and flannel over VXLAN or
// WireGuard (https://docs.k3s.io/installation/requirements#networking).
func (f Firewall) nodeRules() string {
	if len(f.Nodes) == 0 {
		return "# no other host"
	}
	nodes := slices.Clone(f.Nodes)
	slices.SortFunc(nodes, netip.Addr.Compare)
	var rules []string
	for _, a := range slices.Compact(nodes) {
		from := family(a) + " saddr " + a.String()
		rules = append(rules,
			from+" tcp dport { 2379, 2380, 6443, 10250 } accept",
			from+" udp dport { 8472, 51820, 51821 } accept")
	}
	return strings.Join(rules, "\n\t\t")
}

func family(a netip.Addr) string {
	if a.Is6() {
		return "ip6"
	}
	return "ip"
}

// setElements returns the elements line of a set. An empty set has none.
func setElements(prefixes []netip.Prefix) string {
	if len(prefixes) == 0 {
		return "# none"
	}
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return "elements = { " + strings.Join(words, ", ") + " }"
}

// splitSources returns the sources of each family, sorted, without those that another one contains: nft refuses
// overlapping intervals.
func splitSources(sources []string) (four, six []netip.Prefix) {
	var all []netip.Prefix
	for _, s := range sources {
		if p, err := parseSource(s); err == nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var last netip.Prefix
	for _, p := range all {
		if last.IsValid() && last.Overlaps(p) {
			continue // sorted: the wider one comes first
		}
		last = p
		if p.Addr().Is4() {
			four = append(four, p)
		} else {
			six = append(six, p)
		}
	}
	return four, six
}

// parseSource reads a CIDR, or an address as the CIDR of just itself. A zone is refused: no rule can name it.
func parseSource(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	return p.Masked(), nil
}

// load registers the two commands that load the rules and keep them. The first, <name>-firewall, loads them on trial
// and carries the machine's delete script; the second, <name>-firewall-confirm, is the new connection that proves them.
//
// When the proof fails the machine takes the rules back, and the next run begins with the second command, for the first
// one is done. Coming in without the rules it proves nothing: it loads them on trial once more and fails; the hook
// makes the engine run it again at once, over a new connection.
func (f Firewall) load(
	ctx *pulumi.Context, host *remote.Host, name string, reset remote.Text, opts ...pulumi.ResourceOption,
) error {
	ruleset, err := f.Ruleset()
	if err != nil {
		return err
	}
	trial := &remote.Command{Create: f.step("trial", ruleset), Delete: reset}
	if _, err := host.Run(ctx, name+"-firewall", trial, opts...); err != nil {
		return err
	}
	explain := func(text string) { _ = ctx.Log.Error(name+"-firewall-confirm: "+text, nil) }
	hook, err := ctx.RegisterErrorHook(name+"-firewall-again", confirmAgain(explain))
	if err != nil {
		return err
	}
	confirm := &remote.Command{Create: f.step("confirm", ruleset), Dial: firewallDial(firewallWindow)}
	binding := &pulumi.ResourceHookBinding{OnError: []*pulumi.ErrorHook{hook}}
	_, err = host.Run(ctx, name+"-firewall-confirm", confirm, slices.Concat(opts, []pulumi.ResourceOption{
		pulumi.ResourceHooks(binding),
	})...)
	return err
}

// step is one of the two scripts.
func (f Firewall) step(step, ruleset string) remote.Text {
	return remote.Text{
		Vars: []remote.Var{
			{Name: "STEP", Value: step},
			{Name: "RULESET", Value: ruleset},
			{Name: "SSH_PORT", Value: strconv.Itoa(f.sshPort())},
			{Name: "WINDOW", Value: strconv.Itoa(int(firewallWindow.Seconds()))},
			{Name: "WATCH_SCRIPT", Value: strings.TrimSuffix(firewallWatchScript, "\n")},
			{Name: "LOAD_UNIT", Value: strings.TrimSuffix(firewallUnit, "\n")},
			{Name: "WATCH_UNIT", Value: strings.TrimSuffix(firewallWatchUnit, "\n")},
		},
		Body: firewallWatchScript + firewallScript,
	}
}

// confirmAgain tells the engine to run the confirmation once more when it asked for it by its exit status, and only the
// first time. Errors are the failures so far, the newest first, as the provider words them. What no script could say,
// for nothing came in, is explained here.
func confirmAgain(explain func(string)) pulumi.ErrorHookFunction {
	return func(args *pulumi.ErrorHookArgs) (bool, error) {
		if strings.Contains(args.Errors[0], "failed attempts") {
			explain(fmt.Sprintf("no new connection came in once the firewall was loaded: it is not kept, the former rules "+
				"return within %s: see whether port and bootstrapSources of the host are those of your connection, then run "+
				"pulumi up again", firewallWindow))
		}
		return len(args.Errors) == 1 && strings.Contains(args.Errors[0], "exited with status 75"), nil
	}
}

// firewallDial is how the confirmation connects: as often as fits, so that the last attempt ends well before the
// machine takes the rules back. A later one would come in without the rules.
func firewallDial(window time.Duration) remote.Dial {
	tries := 0
	for dialBudget(tries+1) <= window-firewallMargin {
		tries++
	}
	return remote.Dial{Tries: tries, Timeout: int(dialTimeout.Seconds())}
}

// dialBudget is the longest time that the provider dials with a limit of tries failures. It gives up at the first
// failure beyond the limit.
func dialBudget(tries int) time.Duration {
	spent, pause := dialTimeout, firstPause
	for range tries {
		spent += pause + dialTimeout
		pause = min(time.Duration(float64(pause)*pauseFactor), lastPause)
	}
	return spent
}
