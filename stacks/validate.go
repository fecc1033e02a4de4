package stacks

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/tinyrack-net/infrastructure/components/sealedsecrets"
	"github.com/tinyrack-net/infrastructure/components/tailnet"
)

var (
	sha256Hex       = regexp.MustCompile(`^[0-9a-f]{64}$`)
	hostnamePattern = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
	labelPattern    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	userPattern     = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	packagePattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	sysctlPattern   = regexp.MustCompile(`^[a-z0-9_]+([./][A-Za-z0-9_-]+)+$`)
	sysctlValue     = regexp.MustCompile(`^[A-Za-z0-9_./,:-]+( [A-Za-z0-9_./,:-]+)*$`)
)

// validate reports every setting that is there and cannot work. Missing ones are
// require's business.
func validate(report *Report, c Config, root string) {
	validateCloudflare(report, c.Cloudflare)
	validateTailnet(report, c.Tailnet)
	validateMachine(report, c.Machine)
	validateK3s(report, c.K3s)
	validateFlux(report, c.Flux, root)
	validateNetworks(report, c)
	validateSecrets(report, c)
}

// invalid reports a value that is not secret.
func (r *Report) invalid(path, value, why, consequence, fix string) {
	r.refuse(project+":"+path, fmt.Sprintf("%q %s", value, why), consequence, fix)
}

// component adds what a component refuses of its part of the settings, except
// for what is missing: require says how to set that.
func (r *Report) component(group string, refusals error) {
	if refusals == nil {
		return
	}
	for _, line := range strings.Split(refusals.Error(), "\n") {
		key, _, _ := strings.Cut(line, ": ")
		path := project + ":" + group + "." + key
		if !r.isUnread(path) && !slices.Contains(r.missing, path) {
			r.Problems = append(r.Problems, project+":"+group+"."+line)
		}
	}
}

// match reports a value that is there and has another form.
func (r *Report) match(path, value string, form *regexp.Regexp, why, consequence, fix string) {
	if value != "" && !form.MatchString(value) {
		r.invalid(path, value, why, consequence, fix)
	}
}

func validateCloudflare(r *Report, c Cloudflare) {
	r.component("cloudflare", c.edge().Validate())
	validateBaseURL(r, "cloudflare.baseUrl", c.BaseURL)
}

func validateTailnet(r *Report, t Tailnet) {
	if t.Name == "" || strings.ContainsAny(t.Name, " /") {
		r.invalid("tailnet.name", t.Name, "is not a tailnet", "the Tailscale API would not find it", "write its name from the admin console, or - for the credentials' own")
	}
	validateBaseURL(r, "tailnet.baseUrl", t.BaseURL)
	validateBaseURL(r, "tailnet.loginServer", t.LoginServer)
	r.component("tailnet", t.policy().Validate())
}

func validateMachine(r *Report, m Machine) {
	if m.Address != "" && !isHost(m.Address) {
		r.invalid("machine.address", m.Address, "is neither an address nor a hostname", "SSH could not connect", "write the address alone; the port goes into tinyrack:machine.port")
	}
	if addr, err := netip.ParseAddr(m.Address); err == nil && !inTailnet(addr) && len(m.BootstrapSources) == 0 {
		r.refuse(project+":machine.bootstrapSources", "empty, and "+m.Address+" is not an address in the tailnet",
			"the firewall would shut out the very login that loads it, with the clouds changed already",
			"name the address you come from, like 192.0.2.7/32; once the machine is in the tailnet, set machine.address to its name there")
	}
	if m.Port < 1 || m.Port > 65535 {
		r.refuse("tinyrack:machine.port", fmt.Sprintf("%d is not a port", m.Port), "SSH could not connect", "write a number from 1 to 65535")
	}
	if !userPattern.MatchString(m.User) {
		r.invalid("machine.user", m.User, "is not a login name", "SSH could not log in", "write root, or a user with passwordless sudo")
	}
	if m.HostKey != "" {
		if _, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(m.HostKey)); err != nil || len(options) > 0 || len(rest) > 0 {
			// Not shown: it may be the private one.
			r.refuse(project+":machine.hostKey", "not a public key", "the machine could not be told from an impostor", "copy the first two words of its /etc/ssh/ssh_host_ed25519_key.pub")
		}
	}
	r.match("machine.hostname", m.Hostname, labelPattern, "is not a host name", "neither the tailnet nor Kubernetes would take it", "use lower-case letters, digits and dashes")
	for i, name := range m.Packages {
		if !packagePattern.MatchString(name) {
			r.invalid(fmt.Sprintf("machine.packages[%d]", i), name, "is not a package name", "nothing could be installed", "write the distribution's name of the package")
		}
	}
	for _, key := range sortedKeys(m.Sysctl) {
		if !sysctlPattern.MatchString(key) || !sysctlValue.MatchString(m.Sysctl[key]) {
			r.invalid("machine.sysctl."+key, m.Sysctl[key], "is not a kernel setting", "the machine would refuse the whole file", "write it like net.ipv4.ip_forward: \"1\"")
		}
	}
}

// validateBaseURL accepts plain HTTP only toward private addresses: the calls
// carry credentials.
func validateBaseURL(r *Report, path, text string) {
	if text == "" {
		return
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "http" && u.Scheme != "https") {
		r.refuse(project+":"+path, "not an http(s) URL without credentials", "no call would arrive", "write it like https://api.example.com, or leave it out")
		return
	}
	if u.Scheme == "http" && !isPrivate(u.Hostname()) {
		r.invalid(path, text, "is plain HTTP to a public host", "the API credentials could be read on the way", "use https://")
	}
}

func isPrivate(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && (addr.IsPrivate() || addr.IsLoopback() || inTailnet(addr))
}

func inTailnet(addr netip.Addr) bool {
	return tailnet.IPv4Range.Contains(addr) || tailnet.IPv6Range.Contains(addr)
}

func isHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || hostnamePattern.MatchString(text) || labelPattern.MatchString(text)
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
			r.refuse(project+":"+name, "the key has a passphrase", "nobody is there to type it", "make a key without one: ssh-keygen -t ed25519 -N '' -f FILE; "+setSecret(name, c.Stack)+" <FILE")
		case err != nil:
			r.refuse(project+":"+name, "not an SSH private key", "SSH could not log in", setSecret(name, c.Stack)+" <FILE")
		}
	}
	sshKey("machinePrivateKey", c.Secrets.MachinePrivateKey)
	sshKey("gitSshKey", c.Secrets.GitSSHKey)
	if c.Secrets.GitSSHKey != "" && strings.HasPrefix(c.Flux.URL, "https://") {
		r.refuse("tinyrack:gitSshKey", "set beside an https:// URL", "it is unclear how Flux should log in", "pulumi config rm tinyrack:gitSshKey --stack "+c.Stack+", or use an ssh:// URL")
	}
	if c.Secrets.GitToken != "" && strings.HasPrefix(c.Flux.URL, "ssh://") {
		r.refuse("tinyrack:gitToken", "set beside an ssh:// URL", "it is unclear how Flux should log in", "pulumi config rm tinyrack:gitToken --stack "+c.Stack+", or use an https:// URL")
	}
	if c.SealedSecrets.PEM != "" && c.Secrets.SealingKey != "" {
		if err := sealedsecrets.CheckPair(c.SealedSecrets.PEM, string(c.Secrets.SealingKey)); err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("tinyrack:sealingKey (%s): %v", c.SealedSecrets.Certificate, err))
		}
	}
}
