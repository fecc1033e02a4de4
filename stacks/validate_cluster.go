package stacks

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/tinyrack-net/infrastructure/components/tailnet"
)

var (
	k3sVersion      = regexp.MustCompile(`^v1\.\d+\.\d+\+k3s\d+$`)
	fluxVersion     = regexp.MustCompile(`^2\.\d+\.\d+$`)
	kubeletArg      = regexp.MustCompile(`^[a-z][a-z0-9-]*=\S+$`)
	bucketPattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	endpointPattern = regexp.MustCompile(`^[A-Za-z0-9.-]+(:\d{1,5})?$`)
	folderPattern   = regexp.MustCompile(`^[A-Za-z0-9._/-]*$`)
	branchPattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]*$`)
	clusterPath     = regexp.MustCompile(`^\./clusters/[a-z0-9-]+$`)
	revisionPattern = regexp.MustCompile(`^([A-Za-z0-9._/-]+@sha(1|256):)?[0-9a-f]{7,64}$`)
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	scpForm         = regexp.MustCompile(`^[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^/]`)
)

// packaged are the components k3s brings and can leave out:
// https://docs.k3s.io/installation/packaged-components
var packaged = []string{"coredns", "local-storage", "metrics-server", "runtimes", "servicelb", "traefik"}

func validateK3s(r *Report, k K3s) {
	r.match("k3s.version", k.Version, k3sVersion, "is not a k3s release", "nothing could be installed", "write it like v1.32.0+k3s1")
	for _, a := range []struct {
		path string
		Artifact
	}{{"k3s.binary", k.Binary}, {"k3s.installScript", k.InstallScript}} {
		if u, err := url.Parse(a.URL); a.URL != "" && (err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https")) {
			r.invalid(a.path+".url", a.URL, "is not an http(s) URL", "nothing could be downloaded", "write the file's full URL")
		}
		r.match(a.path+".sha256", a.SHA256, sha256Hex, "is not a sha256", "the download could not be verified and would be refused", "write the 64 lower-case hexadecimal digits")
	}
	if k.APIServer != "" && !slices.Contains(k.TLSSANs, k.APIServer) {
		r.invalid("k3s.apiServer", k.APIServer, "is not among tlsSans", "no client would accept the API server's certificate", "add it to tinyrack:k3s.tlsSans")
	}
	for i, san := range k.TLSSANs {
		if !isHost(san) {
			r.invalid(fmt.Sprintf("k3s.tlsSans[%d]", i), san, "is neither an address nor a hostname", "k3s would not start", "write the name or address alone")
		}
	}
	for i, name := range k.Disable {
		if !slices.Contains(packaged, name) {
			r.invalid(fmt.Sprintf("k3s.disable[%d]", i), name, "is not a component of k3s", "it would have no effect", didYouMean(name, packaged, "use one of "+strings.Join(packaged, ", ")))
		}
	}
	for i, arg := range k.KubeletArgs {
		if !kubeletArg.MatchString(arg) {
			r.invalid(fmt.Sprintf("k3s.kubeletArgs[%d]", i), arg, "is not a kubelet argument", "the kubelet would not start", "write it like max-pods=200, without dashes in front")
		}
	}
	if k.Snapshots != nil {
		validateSnapshots(r, *k.Snapshots)
	}
}

func validateSnapshots(r *Report, s Snapshots) {
	const lost = "no snapshot would arrive"
	r.match("k3s.snapshots.endpoint", s.Endpoint, endpointPattern, "is not host[:port]", lost, "leave out the scheme; plain HTTP is insecure: true")
	r.match("k3s.snapshots.bucket", s.Bucket, bucketPattern, "is not a bucket name", lost, "use 3 to 63 lower-case letters, digits, dots and dashes")
	r.match("k3s.snapshots.folder", s.Folder, folderPattern, "is not a folder", lost, "use letters, digits, dots, dashes and slashes")
	if s.Schedule != "" {
		if err := checkCron(s.Schedule); err != nil {
			r.invalid("k3s.snapshots.schedule", s.Schedule, "is not a schedule ("+err.Error()+")", "k3s would not start", "write five fields, like 0 */4 * * *")
		}
	}
	if s.Retention < 1 {
		r.refuse("tinyrack:k3s.snapshots.retention", strconv.Itoa(s.Retention)+" is below one", "no snapshot would be kept", "write how many to keep")
	}
}

var cronField = regexp.MustCompile(`^(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?$`)

// checkCron returns why expression is not five cron fields.
func checkCron(expression string) error {
	names := [5]string{"minute", "hour", "day", "month", "weekday"}
	low, high := [5]int{0, 0, 1, 1, 0}, [5]int{59, 23, 31, 12, 7}
	fields := strings.Fields(expression)
	if len(fields) != len(names) {
		return fmt.Errorf("%d fields", len(fields))
	}
	for i, field := range fields {
		for item := range strings.SplitSeq(field, ",") {
			m := cronField.FindStringSubmatch(item)
			if m == nil {
				return fmt.Errorf("%s %q", names[i], field)
			}
			for _, number := range m[1:3] {
				if n, err := strconv.Atoi(number); number != "" && (err != nil || n < low[i] || n > high[i]) {
					return fmt.Errorf("%s %q", names[i], field)
				}
			}
		}
	}
	return nil
}

// parseNetwork reads a CIDR or, as a network of its own, an address.
func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return addr.Prefix(addr.BitLen())
	}
	return netip.ParsePrefix(text)
}

// validateNetworks reports address ranges that would take each other's traffic.
func validateNetworks(r *Report, c Config) {
	type network struct {
		path, text string
		prefix     netip.Prefix
	}
	networks := []network{{path: "the tailnet's range", text: tailnet.IPv4Range.String(), prefix: tailnet.IPv4Range}}
	add := func(path, text string) {
		if text == "" {
			return
		}
		prefix, err := parseNetwork(text)
		if err != nil || prefix != prefix.Masked() || !isSource(path) && prefix.IsSingleIP() {
			r.invalid(path, text, "is not a network", "no route could be made for it", "write it like 10.55.0.0/16, with zeros after the prefix")
			return
		}
		if isSource(path) && prefix.Bits() < 8 {
			r.invalid(path, text, "is most of the internet", "everyone could try to log in", "name the address you work from, like 192.0.2.7/32")
			return
		}
		for _, other := range networks {
			// Two SSH sources may overlap; anything else is a conflict.
			if prefix.Overlaps(other.prefix) && (!isSource(path) || !isSource(other.path)) {
				r.invalid(path, text, "overlaps "+other.path+" ("+other.text+")", "addresses would exist twice and packets would take the wrong way", "choose a range of its own")
			}
		}
		networks = append(networks, network{path, text, prefix})
	}
	add("k3s.clusterCidr", c.K3s.ClusterCIDR)
	add("k3s.serviceCidr", c.K3s.ServiceCIDR)
	for i, source := range c.Machine.BootstrapSources {
		add(fmt.Sprintf("machine.bootstrapSources[%d]", i), source)
	}
}

func isSource(path string) bool { return strings.HasPrefix(path, "machine.") }

func validateFlux(r *Report, f Flux, root string) {
	r.match("flux.version", f.Version, fluxVersion, "is not an exact Flux 2 release", "an upgrade could happen unseen", "write it like 2.9.2")
	r.match("flux.branch", f.Branch, branchPattern, "is not a branch name", "Flux would find nothing to fetch", "write it like main")
	r.match("flux.revision", f.Revision, revisionPattern, "is not a commit", "the wait for it would never end", "write a commit hash, or leave it out")
	for _, name := range sortedKeys(f.Variables) {
		if !variablePattern.MatchString(name) {
			r.invalid("flux.variables", name, "is not a variable name", "Flux would not substitute it", "use letters, digits and underscores")
		}
		if _, fact := facts(Config{})[name]; fact {
			r.invalid("flux.variables", name, "is set by the program", "there would be two values for it", "remove it")
		}
	}
	if f.CA != "" && !isCertificates(f.CA) {
		r.refuse("tinyrack:flux.ca", "not PEM certificates", "Flux would trust no answer of the git host", "paste the whole file, from BEGIN CERTIFICATE to END CERTIFICATE")
	}
	validateGitURL(r, f)
	if f.Path == "" {
		return
	}
	if !clusterPath.MatchString(f.Path) {
		r.invalid("flux.path", f.Path, "is not ./clusters/<environment>", "Flux would apply something else than an environment", "write it like ./clusters/production")
	} else if _, err := os.Stat(filepath.Join(root, f.Path, "infrastructure.yaml")); err != nil {
		r.invalid("flux.path", f.Path, "has no infrastructure.yaml", "Flux would find nothing to apply", "name one of the directories in clusters/")
	}
}

func validateGitURL(r *Report, f Flux) {
	if f.URL == "" {
		return
	}
	u, err := url.Parse(f.URL)
	if err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		// Not shown: a URL nobody can read may hold a token.
		r.refuse("tinyrack:flux.url", "not the URL of a repository", "Flux would have nothing to fetch", "write it like https://git.example.com/owner/repository.git or ssh://git@git.example.com/owner/repository.git")
		return
	}
	_, password := u.User.Password()
	switch {
	case password || u.User != nil && u.Scheme != "ssh":
		r.refuse("tinyrack:flux.url", "credentials in the URL", "they would be stored and printed in clear", "take them out and use tinyrack:flux.username and "+setSecret("gitToken", r.Stack))
	case u.Scheme == "https":
		if f.Username == "" {
			r.invalid("flux.username", f.Username, "is empty", "hosts refuse a token without a user name", "write git, or the token's owner")
		}
	case u.Scheme == "ssh":
		validateKnownHosts(r, f.KnownHosts, u)
	default:
		r.invalid("flux.url", f.URL, "is neither https:// nor ssh://", "the token and all manifests could be read and changed on the way", "use https:// with a token or ssh:// with a key")
	}
}

// validateKnownHosts reports known_hosts text that cannot vouch for u's host.
func validateKnownHosts(r *Report, text string, u *url.URL) {
	const key = "tinyrack:flux.knownHosts"
	const consequence = "Flux refuses an SSH host it does not know"
	fix := "add the output of ssh-keyscan " + u.Hostname() + " after comparing it with the host's published keys"
	name := u.Hostname()
	if port := u.Port(); port != "" && port != "22" {
		name = "[" + name + "]:" + port
		fix = strings.Replace(fix, "ssh-keyscan", "ssh-keyscan -p "+port, 1)
	}
	known := false
	for rest := []byte(text); ; {
		_, hosts, _, _, left, err := ssh.ParseKnownHosts(rest)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.refuse(key, "not known_hosts lines", consequence, fix)
			return
		}
		for _, host := range hosts {
			known = known || host == name || strings.HasPrefix(host, "|1|") // hashed: cannot be told
		}
		rest = left
	}
	if !known {
		r.refuse(key, "no key of "+name, consequence, fix)
	}
}

func isCertificates(text string) bool {
	rest := []byte(text)
	for found := false; ; found = true {
		block, left := pem.Decode(rest)
		if block == nil {
			return found && len(bytes.TrimSpace(left)) == 0
		}
		if block.Type != "CERTIFICATE" {
			return false
		}
		rest = left
	}
}
