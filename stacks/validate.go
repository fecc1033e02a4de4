package stacks

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	yamlnode "go.yaml.in/yaml/v3"
	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/components/credentials"
	"github.com/tinyrack-net/infrastructure/components/databases"
	"github.com/tinyrack-net/infrastructure/components/sealedsecrets"
	"github.com/tinyrack-net/infrastructure/components/tailnet"
)

// validate reports every setting that is there and cannot work. Missing ones are require's business. What one component
// can tell of its own settings it tells itself; here is what only the whole of them shows.
func validate(report *Report, c Config, root string) {
	s := &stack{cfg: c}
	report.component("cloudflare", s.edgeArgs().Validate())
	report.component("tailnet", s.tailnetArgs().Validate())
	for _, name := range sortedKeys(c.Hosts) {
		report.component("hosts."+name, s.machineArgs(name).Validate(), "join.", "podCIDR", "serviceCIDR")
		report.component("hosts."+name, s.tailnetArgs().ValidateHost(s.tailnetHost(name)))
	}
	cluster := s.clusterArgs()
	report.component("cluster", cluster.Spec.Validate())
	report.component("hosts", cluster.ValidateNodes())
	report.component("flux", s.fluxArgs().Validate())
	if backups := s.backups(); backups != nil {
		report.component("backups", backups.Validate())
		for i, namespace := range backups.Namespaces {
			report.component(fmt.Sprintf("backups.namespaces[%d]", i), s.backupCredentials(namespace).Validate())
		}
	}

	validateURLs(report, c)
	validateHosts(report, c)
	validateNetworks(report, c)
	validateFlux(report, c, root)
	validateBackups(report, c)
	validateRestore(report, c)
	validateSecrets(report, c)
	validateNeighbours(report, c, root)
	validateText(report, c, root)
}

// topKeys are those that Pulumi knows in a stack's file: ProjectStack in sdk/go/common/workspace.
var topKeys = []string{"config", "encryptedkey", "encryptionsalt", "environment", "secretsprovider"}

// validateText reports what only the text of the stack's file shows: by the time Pulumi hands it over, a key beside
// config is gone, and 022 is 18.
func validateText(r *Report, c Config, root string) {
	name := "Pulumi." + c.Stack + ".yaml"
	text, err := os.ReadFile(filepath.Join(root, name)) //nolint:gosec // the checkout's own file
	var document yamlnode.Node
	if err != nil || yamlnode.Unmarshal(text, &document) != nil || len(document.Content) == 0 {
		return // another file was named to Pulumi
	}
	pairs := func(n *yamlnode.Node, visit func(key string, value *yamlnode.Node)) {
		for i := 0; n.Kind == yamlnode.MappingNode && i+1 < len(n.Content); i += 2 {
			visit(n.Content[i].Value, n.Content[i+1])
		}
	}
	var walk func(path string, n *yamlnode.Node)
	walk = func(path string, n *yamlnode.Node) {
		pairs(n, func(key string, value *yamlnode.Node) { walk(path+"."+key, value) })
		for i, item := range n.Content {
			if n.Kind == yamlnode.SequenceNode {
				walk(fmt.Sprintf("%s[%d]", path, i), item)
			}
		}
		number := n.Tag == "!!int" || n.Tag == "!!float" && strings.ContainsAny(n.Value, "eE")
		if n.Kind == yamlnode.ScalarNode && number && !digits.MatchString(n.Value) {
			r.refuse(path, "a number with a leading zero, a base or an exponent", "YAML reads another one than stands there",
				"write it in digits alone, or in quotes where a text is wanted")
		}
	}
	pairs(document.Content[0], func(key string, value *yamlnode.Node) {
		switch {
		case !slices.Contains(topKeys, key):
			r.refuse(key, "unknown at the top of "+name, "Pulumi passes over it in silence",
				didYouMean(key, topKeys, "move it below config, or remove it"))
		case key == "config":
			pairs(value, func(key string, value *yamlnode.Node) {
				if strings.HasPrefix(key, project+":") {
					walk(key, value)
				}
			})
		}
	})
}

var digits = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// validateNeighbours reports what belongs to another stack of the checkout: a file that began as a copy of another's.
func validateNeighbours(r *Report, c Config, root string) {
	files, _ := filepath.Glob(filepath.Join(root, "Pulumi.*.yaml")) // the pattern is one
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "Pulumi."), ".yaml")
		var other struct {
			Config struct {
				Cloudflare Cloudflare      `json:"tinyrack:cloudflare"`
				Hosts      map[string]Host `json:"tinyrack:hosts"`
				Flux       Flux            `json:"tinyrack:flux"`
			} `json:"config"`
		}
		text, err := os.ReadFile(file) //nolint:gosec // the checkout's own files
		if name == c.Stack || err != nil || yaml.Unmarshal(text, &other) != nil {
			continue // what cannot be read its own stack says
		}
		const fix = "write this stack's own"
		if t := c.Cloudflare; t.AccountID != "" && t.AccountID == other.Config.Cloudflare.AccountID &&
			t.Tunnel == other.Config.Cloudflare.Tunnel {
			r.invalid("cloudflare.tunnel", t.Tunnel, "is the tunnel of stack "+name,
				"the two would take each other's visitors", fix)
		}
		if c.Flux.Path != "" && c.Flux.Path == other.Config.Flux.Path {
			r.invalid("flux.path", c.Flux.Path, "is what stack "+name+" applies", "the two would be one site", fix)
		}
		for _, host := range sortedKeys(c.Hosts) {
			for _, its := range sortedKeys(other.Config.Hosts) {
				if address := c.Hosts[host].Address; address != "" && address == other.Config.Hosts[its].Address {
					r.invalid("hosts."+host+".address", address, "is that of "+its+" in stack "+name,
						"the machine would be held by whichever came first", fix)
				}
			}
		}
	}
}

// invalid reports a value that is not secret.
func (r *Report) invalid(path, value, why, consequence, fix string) {
	r.refuse(project+":"+path, fmt.Sprintf("%q %s", value, why), consequence, fix)
}

// component adds what a component refuses of its part of the settings, except for what is missing: require says how to
// set that.
//
// elsewhere are the beginnings of keys that are another group's settings, which says the same of them.
func (r *Report) component(group string, refusals error, elsewhere ...string) {
	if refusals == nil {
		return
	}
	for line := range strings.SplitSeq(refusals.Error(), "\n") {
		key, _, _ := strings.Cut(line, ": ")
		if slices.ContainsFunc(elsewhere, func(prefix string) bool { return strings.HasPrefix(key, prefix) }) {
			continue
		}
		path := project + ":" + group + "." + key
		if !r.isUnread(path) && !slices.Contains(r.missing, path) {
			r.Problems = append(r.Problems, project+":"+group+"."+line)
		}
	}
}

// validateURLs accepts plain HTTP only toward private addresses: the calls carry credentials.
func validateURLs(r *Report, c Config) {
	for _, setting := range []struct{ path, url string }{
		{"cloudflare.baseUrl", c.Cloudflare.BaseURL},
		{"tailnet.baseUrl", c.Tailnet.BaseURL},
		{"tailnet.loginServer", c.Tailnet.LoginServer},
	} {
		if setting.url == "" {
			continue
		}
		u, err := url.Parse(setting.url)
		switch {
		case err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https"):
			r.refuse(project+":"+setting.path, "not an http(s) URL without credentials", "no call would arrive",
				"write it like https://api.example.com, or leave it out")
		case u.Scheme == "http" && !isPrivate(u.Hostname()):
			r.invalid(setting.path, setting.url, "is plain HTTP to a public host",
				"the API credentials could be read on the way", "use https://")
		}
	}
}

func isPrivate(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && (addr.IsPrivate() || addr.IsLoopback() || inTailnet(addr))
}

func inTailnet(addr netip.Addr) bool {
	return tailnet.IPv4Range.Contains(addr) || tailnet.IPv6Range.Contains(addr)
}

// validateHosts reports what only all hosts together show.
func validateHosts(r *Report, c Config) {
	addresses := map[string]string{}
	for _, name := range sortedKeys(c.Hosts) {
		address := c.Hosts[name].Address
		if other, taken := addresses[address]; taken && address != "" {
			r.invalid("hosts."+name+".address", address, "is the address of "+other+" too",
				"two hosts would undo each other's work", "write the address of each")
		}
		addresses[address] = name
	}
	servers := c.withRole(roleServer)
	switch first := c.Cluster.FirstServer; {
	case first == "" && len(servers) > 1:
		r.refuse(project+":cluster.firstServer", "missing with "+fmt.Sprint(len(servers))+" servers",
			"each could make a cluster of its own", "name the one that made the cluster, or is to make it")
	case first != "" && len(servers) > 0 && !slices.Contains(servers, first):
		r.invalid("cluster.firstServer", first, "is not a server", "there would be nothing to join",
			"name one of "+strings.Join(servers, ", "))
	}
}

// validateNetworks reports address ranges that would take each other's traffic.
func validateNetworks(r *Report, c Config) {
	type network struct {
		path, text string
		prefix     netip.Prefix
	}
	networks := []network{{path: "the tailnet's range", text: tailnet.IPv4Range.String(), prefix: tailnet.IPv4Range}}
	add := func(path, text string, source bool) {
		prefix, err := netip.ParsePrefix(text)
		if addr, isAddr := netip.ParseAddr(text); isAddr == nil {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return // refused by the component
		}
		for _, other := range networks {
			// Whether the cluster's own networks overlap its component says.
			both := path == "cluster.serviceCidr" && other.path == "cluster.clusterCidr"
			if prefix.Overlaps(other.prefix) && !both {
				r.invalid(path, text, "overlaps "+other.path+" ("+other.text+")",
					"addresses would exist twice and packets would take the wrong way", "choose a range of its own")
			}
		}
		if !source { // two SSH sources may overlap
			networks = append(networks, network{path, text, prefix})
		}
	}
	add("cluster.clusterCidr", c.Cluster.ClusterCIDR, false)
	add("cluster.serviceCidr", c.Cluster.ServiceCIDR, false)
	for _, name := range sortedKeys(c.Hosts) {
		add("hosts."+name+".address", c.Hosts[name].Address, true)
		for i, source := range c.Hosts[name].BootstrapSources {
			add(fmt.Sprintf("hosts.%s.bootstrapSources[%d]", name, i), source, true)
		}
	}
}

var clusterPath = regexp.MustCompile(`^\./clusters/[a-z0-9-]+$`)

// validateFlux reports what Flux' own component cannot know: the variables of the program and the checkout's folders.
func validateFlux(r *Report, c Config, root string) {
	known, origins := facts(Config{Backups: &Backups{}, Cloudflare: c.Cloudflare}), databases.Origins{}.Variables()
	for _, name := range sortedKeys(c.Flux.Variables) {
		_, fact := known[name]
		_, restored := origins[name]
		if fact || restored || name == tunnelVariable {
			r.invalid("flux.variables", name, "is set by the program", "there would be two values for it", "remove it")
		}
	}
	if webhookTypes[c.Flux.Host] == "" {
		r.invalid("flux.host", c.Flux.Host, "is no kind of git host that Flux hears from and answers to",
			"a push would be seen a minute later, and no commit would get a status", "write github, gitea or gitlab")
	}
	path := c.Flux.Path
	if path == "" {
		return
	}
	if !clusterPath.MatchString(path) {
		r.invalid("flux.path", path, "is not ./clusters/<environment>", "Flux would apply something else than an environment",
			"write it like ./clusters/production")
	} else if _, err := os.Stat(filepath.Join(root, path, "infrastructure.yaml")); err != nil {
		r.invalid("flux.path", path, "has no infrastructure.yaml", "Flux would find nothing to apply",
			"name one of the directories in clusters/")
	}
}

// validateBackups reports namespaces that are somebody else's.
func validateBackups(r *Report, c Config) {
	if c.Backups == nil {
		return
	}
	for i, namespace := range c.Backups.Namespaces {
		if slices.Contains(ownNamespaces, namespace) {
			r.invalid(fmt.Sprintf("backups.namespaces[%d]", i), namespace, "is there for something else",
				"two resources would own one namespace", "name the database's own")
		}
	}
}

// validateRestore reports what would restore nothing, or something else.
func validateRestore(r *Report, c Config) {
	if c.Restore == nil || c.Restore.Phase == "" {
		return
	}
	phase, from := c.Restore.Phase, c.Restore.From
	if _, known := suspended[phase]; !known {
		r.invalid("restore.phase", phase, "is no phase", "it is unclear how far Flux is to go",
			"write one of "+strings.Join(sortedKeys(suspended), ", "))
		return
	}
	if !c.restoring() {
		return
	}
	if c.Backups == nil {
		r.refuse(project+":restore", "set without backups", "there would be nothing to restore from",
			"set "+project+":backups as it was when the copies were made")
		return
	}
	if _, err := c.Restore.until(); err != nil {
		r.invalid("restore.until", c.Restore.Until, "is no time", "it is unclear which state is wanted",
			"write it with its zone, as in 2026-11-29T14:50:00Z, or leave it out for the last state")
	}
	if name := c.Restore.Volumes; name != "" && !c.Backups.Volumes {
		r.refuse(project+":restore.volumes", "set without backups.volumes", "nothing would bring volumes back",
			"set "+project+":backups.volumes, or leave it out")
	} else if name != "" && !credentials.IsName(name) {
		r.invalid("restore.volumes", name, "is no name of a copy", "Longhorn would find nothing under it",
			"write it as the bucket has it, below longhorn/backupstore/system-backups")
	}
	now := (*databases.Backups)(c.Backups).Current()
	switch {
	case from < 1:
		r.refuse(project+":restore.from", "missing or below one", "the databases would find no copies",
			"name the incarnation that made them: the number at the end of its folders in the bucket")
	case from == now:
		r.refuse(project+":restore.from", fmt.Sprintf("%d is the incarnation that is to be made", from),
			"a database refuses to write into the folder that it is read from",
			fmt.Sprintf("raise backups.incarnation to %d, and leave it there", now+1))
	}
}

// keyFiles are the secrets that are files; the others are one line.
var keyFiles = []string{"machinePrivateKey", "sealingKey", "gitSshKey"}

// validateTokens reports secrets of one line that were pasted with something around them, without showing them.
func validateTokens(r *Report, c Config) {
	secrets := fieldsOf(&c.Secrets)
	for _, name := range sortedKeys(secrets) {
		if slices.Contains(keyFiles, name) {
			continue
		}
		text, problem := secrets[name].String(), ""
		switch first, last := text[:min(1, len(text))], text[max(0, len(text)-1):]; {
		case len(text) > 1 && first == last && strings.Contains("\"'`", first):
			problem = "has quotes around it"
		case first == "<" && last == ">":
			problem = "is a placeholder"
		case strings.HasPrefix(strings.ToLower(text), "bearer "):
			problem = "begins with Bearer, which goes before it in a request"
		case strings.ContainsFunc(text, unicode.IsSpace):
			problem = "has a space or a line break in it"
		}
		if problem != "" {
			r.refuse(project+":"+name, problem, "whoever it is for would refuse it", setSecret(name, c.Stack)+", it alone")
		}
	}
}

// validateSecrets reports secrets of the wrong form, without showing them.
func validateSecrets(r *Report, c Config) {
	sshKey := func(name string, key Secret) {
		if key == "" {
			return
		}
		_, err := ssh.ParsePrivateKey([]byte(key))
		var locked *ssh.PassphraseMissingError
		switch {
		case errors.As(err, &locked):
			r.refuse(project+":"+name, "the key has a passphrase", "nobody is there to type it",
				"make a key without one: ssh-keygen -t ed25519 -N '' -f FILE; "+setSecret(name, c.Stack)+" <FILE")
		case err != nil:
			r.refuse(project+":"+name, "not an SSH private key", "SSH could not log in", setSecret(name, c.Stack)+" <FILE")
		}
	}
	validateTokens(r, c)
	sshKey("machinePrivateKey", c.Secrets.MachinePrivateKey)
	sshKey("gitSshKey", c.Secrets.GitSSHKey)
	unclear := func(name, beside, instead string) {
		r.refuse(project+":"+name, "set beside an "+beside+" URL", "it is unclear how Flux should log in",
			"pulumi config rm "+project+":"+name+" --stack "+c.Stack+", or use an "+instead+" URL")
	}
	if c.Secrets.GitSSHKey != "" && strings.HasPrefix(c.Flux.URL, "https://") {
		unclear("gitSshKey", "https://", "ssh://")
	}
	if c.Secrets.GitToken != "" && strings.HasPrefix(c.Flux.URL, "ssh://") {
		unclear("gitToken", "ssh://", "https://")
	}
	if c.SealedSecrets.PEM != "" && c.Secrets.SealingKey != "" {
		if err := sealedsecrets.CheckPair(c.SealedSecrets.PEM, string(c.Secrets.SealingKey)); err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("tinyrack:sealingKey (%s): %v", c.SealedSecrets.Certificate, err))
		}
	}
}
