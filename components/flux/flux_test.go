package flux

import (
	"crypto/ed25519"
	"crypto/rand"
	"embed"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"golang.org/x/crypto/ssh"
	"sigs.k8s.io/yaml"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/internal/golden"
)

//go:embed testdata
var testdata embed.FS

const (
	token       = "canary-token"
	certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	knownHosts  = "git.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBh1JDqWCz9LDTr6HMcAcH7iw+n9A8EUHBVQCzcwz1Yd"
)

func validArgs() *Args {
	return &Args{
		Host: &remote.Host{
			Name: "box", Domain: "example.ts.net", Owner: "us", Address: "192.0.2.1", Port: 22, User: "root",
			HostKey: "ssh-ed25519 AAAA", PrivateKey: pulumi.String("key"),
		},
		Version:   "2.9.2",
		Sync:      Sync{URL: "https://git.example.com/o/r.git", Branch: "main", Path: "./clusters/lab"},
		Git:       Credentials{Username: "git", Token: pulumi.String(token), CA: certificate},
		Variables: map[string]pulumi.StringInput{"zone": pulumi.String("example.com")},
	}
}

func newSSHKey(t *testing.T) (private, public string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}

// deploy runs the component and returns what it registered and its Revision.
func deploy(t *testing.T, args *Args) (*pulumitest.Recording, string) {
	t.Helper()
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		f, err := New(ctx, "flux", args)
		if err != nil {
			return err
		}
		return pulumitest.Probe(ctx, "probe", pulumi.Map{"revision": f.Revision})
	}, func(r pulumitest.Resource) map[string]any {
		if r.Name == "flux-ready" {
			return map[string]any{"stdout": "main@sha1:abc\n"}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return recording, fmt.Sprint(recording.Get(t, "probe").Plain()["revision"])
}

func TestChildren(t *testing.T) {
	recording, revision := deploy(t, validArgs())
	golden.Check(t, testdata, "children.txt", strings.Join(recording.Names(), "\n")+"\n")
	if revision != "main@sha1:abc" {
		t.Errorf("revision is %q", revision)
	}
	if recording.OutputsRegistered != 2 {
		t.Error("the component did not register its outputs")
	}
	for _, name := range recording.Names() {
		if parent := recording.Get(t, name).Parent; parent != "flux" {
			t.Errorf("%s is below %q", name, parent)
		}
	}
}

// Deletion is the reverse of creation: the instance must go before the operator
// that uninstalls it and before what the uninstall reads.
func TestOrder(t *testing.T) {
	args := validArgs()
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		var before pulumi.CustomResourceState
		if err := ctx.RegisterResource("test:index:Before", "before", pulumi.Map{}, &before); err != nil {
			return err
		}
		args.DependsOn = []pulumi.Resource{&before}
		_, err := New(ctx, "flux", args)
		return err
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"flux-namespace-flux-system": {"before"},
		"flux-credentials":           {"flux-namespace-flux-system"},
		"flux-variables":             {"flux-namespace-flux-system"},
		"flux-deployment-flux-operator": {
			"flux-serviceaccount-flux-operator",
			"flux-clusterrolebinding-flux-operator-cluster-admin",
			"flux-customresourcedefinition-fluxinstances.fluxcd.controlplane.io",
		},
		"flux-instance": {
			"flux-deployment-flux-operator", "flux-service-flux-operator", "flux-credentials", "flux-variables",
		},
		"flux-ready": {"flux-instance"},
	} {
		got := recording.Get(t, name).DependsOn
		for _, want := range wants {
			if !slices.Contains(got, want) {
				t.Errorf("%s depends on %q, not on %s", name, got, want)
			}
		}
	}
	// The provider waits for a Service's endpoints, which the Deployment brings.
	if slices.Contains(recording.Get(t, "flux-deployment-flux-operator").DependsOn, "flux-service-flux-operator") {
		t.Error("the operator waits for its own Service: they would wait for each other")
	}
}

func TestInstance(t *testing.T) {
	recording, _ := deploy(t, validArgs())
	text, err := yaml.Marshal(recording.Get(t, "flux-instance").Plain())
	if err != nil {
		t.Fatal(err)
	}
	golden.Check(t, testdata, "instance.yaml", string(text))
}

func TestCredentials(t *testing.T) {
	private, public := newSSHKey(t)
	overSSH := validArgs()
	overSSH.Sync.URL = "ssh://git@git.example.com/o/r.git"
	overSSH.Git = Credentials{SSHKey: pulumi.String(private), KnownHosts: knownHosts}
	for name, tt := range map[string]struct {
		args *Args
		want map[string]any
	}{
		"token": {validArgs(), map[string]any{"username": "git", "password": token, "ca.crt": certificate}},
		"key":   {overSSH, map[string]any{"identity": private, "identity.pub": public, "known_hosts": knownHosts}},
	} {
		t.Run(name, func(t *testing.T) {
			recording, _ := deploy(t, tt.args)
			secret := recording.Get(t, "flux-credentials")
			if got := fmt.Sprint(secret.Plain()["stringData"]); got != fmt.Sprint(tt.want) {
				t.Errorf("got %s", got)
			}
			if !slices.Equal(secret.Secrets(), []string{"stringData"}) {
				t.Errorf("secret are only %q", secret.Secrets())
			}
		})
	}
}

// Without a token there is no Secret, and the tree's Alert is suspended.
func TestCommitStatus(t *testing.T) {
	for url, address := range map[string]string{
		"https://git.example.com:8443/o/r.git":   "https://git.example.com:8443/o/r",
		"ssh://git@git.example.com:2222/o/r.git": "https://git.example.com/o/r",
	} {
		private, _ := newSSHKey(t)
		args := validArgs()
		args.Sync.URL, args.Git.StatusToken = url, pulumi.String("canary")
		if strings.HasPrefix(url, "ssh") {
			args.Git.Token, args.Git.SSHKey = nil, pulumi.String(private)
			args.Git.KnownHosts = strings.Replace(knownHosts, "git.example.com", "[git.example.com]:2222", 1)
		}
		recording, _ := deploy(t, args)
		secret := recording.Get(t, "flux-commit-status")
		want := fmt.Sprint(map[string]any{"address": address, "token": "canary", "ca.crt": certificate})
		if got := fmt.Sprint(secret.Plain()["stringData"]); got != want {
			t.Errorf("got %s", got)
		}
		if !slices.Equal(secret.Secrets(), []string{"stringData"}) {
			t.Errorf("secret are only %q", secret.Secrets())
		}
	}
	if recording, _ := deploy(t, validArgs()); slices.Contains(recording.Names(), "flux-commit-status") {
		t.Error("a Secret without a token")
	}
}

// The wait has to run again whenever Flux is told something else, and its text
// must not say what.
func TestFingerprint(t *testing.T) {
	stdin := func(change func(*Args)) string {
		args := validArgs()
		change(args)
		recording, _ := deploy(t, args)
		command := recording.Get(t, "flux-ready")
		if !slices.Contains(command.Secrets(), "stdin") {
			t.Error("the fingerprint is not secret")
		}
		if create := fmt.Sprint(command.Plain()["create"]); strings.Contains(create, token) {
			t.Error("the token is in the command's text")
		}
		return fmt.Sprint(command.Plain()["stdin"])
	}
	same := stdin(func(*Args) {})
	if stdin(func(*Args) {}) != same {
		t.Error("the fingerprint changes by itself: every `up` would wait again")
	}
	for name, change := range map[string]func(*Args){
		"variable": func(a *Args) { a.Variables["zone"] = pulumi.String("example.org") },
		"path":     func(a *Args) { a.Sync.Path = "./clusters/production" },
		"version":  func(a *Args) { a.Version = "2.9.1" },
		"token":    func(a *Args) { a.Git.Token = pulumi.String("another") },
	} {
		if stdin(change) == same {
			t.Errorf("a changed %s goes unnoticed", name)
		}
	}
}

func TestValidate(t *testing.T) {
	if err := validArgs().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		spoil func(*Args)
		want  string
	}{
		"version":      {func(a *Args) { a.Version = "2.x" }, `version: "2.x" is not an exact Flux 2 release`},
		"branch":       {func(a *Args) { a.Sync.Branch = "" }, `branch: ""`},
		"branch's ref": {func(a *Args) { a.Sync.Branch = "refs/heads/main" }, `branch: "refs/heads/main"`},
		"path":         {func(a *Args) { a.Sync.Path = "./a/../b" }, `path: "./a/../b" is not a path within the repository`},
		"interval":     {func(a *Args) { a.Sync.Interval = "1 minute" }, "interval"},
		"revision":     {func(a *Args) { a.Revision = "a b" }, `revision: "a b" is not a commit`},
		"variable":     {func(a *Args) { a.Variables["a-b"] = pulumi.String("") }, `variables: "a-b"`},
		"plain HTTP":   {func(a *Args) { a.Sync.URL = "http://git.example.com/o/r" }, "could be read"},
		"no URL":       {func(a *Args) { a.Sync.URL = "" }, "url: not the URL of a repository"},
		"a quote in the path": {
			func(a *Args) { a.Sync.URL = "ssh://git@git.example.com/o/r'; id #" }, "url: not the URL",
		},
		"a user that is an option": {
			func(a *Args) { a.Sync.URL = "ssh://-oProxyCommand=id@git.example.com/o/r" }, "url: not the URL",
		},
		"a host that is an option": {
			func(a *Args) { a.Sync.URL = "ssh://-oProxyCommand.example.com/o/r" }, "url: not the URL",
		},
		"a host with a space": {
			func(a *Args) { a.Sync.URL = "https://git%20.example.com/o/r" }, "url: not the URL",
		},
		"a short form": {func(a *Args) { a.Sync.URL = "git@git.example.com:o/r" }, "url: not the URL"},
		"git's protocol": {
			func(a *Args) { a.Sync.URL = "git://git.example.com/o/r" }, "is neither https:// nor ssh://",
		},
		"a query": {
			func(a *Args) { a.Sync.URL = "https://git.example.com/o/r?private_token=" + token },
			"url: not the URL",
		},
		"credentials": {
			func(a *Args) { a.Sync.URL = "https://me:" + token + "@git.example.com/o/r" },
			"url: credentials in the URL",
		},
		"no token": {func(a *Args) { a.Git.Token = nil }, "token: an https:// URL needs a token"},
		"both": {func(a *Args) { a.Git.SSHKey = pulumi.String("k") }, "token: an https:// URL needs a token and no " +
			"SSH key"},
		"no user name": {func(a *Args) { a.Git.Username = "" }, "username: missing"},
		"CA":           {func(a *Args) { a.Git.CA = "CA" }, "ca: not PEM certificates"},
		"CA and more":  {func(a *Args) { a.Git.CA = certificate + "x" }, "ca: not PEM certificates"},
		"no SSH key": {
			func(a *Args) { a.Sync.URL = "ssh://git@git.example.com/o/r"; a.Git.KnownHosts = knownHosts },
			"sshKey: an ssh:// URL needs an SSH key and no token",
		},
		"no known hosts": {func(a *Args) {
			a.Sync.URL, a.Git = "ssh://git@git.example.com/o/r", Credentials{SSHKey: pulumi.String("k")}
		}, "knownHosts: no key of git.example.com"},
		"another port": {func(a *Args) {
			a.Sync.URL = "ssh://git@git.example.com:2222/o/r"
			a.Git = Credentials{SSHKey: pulumi.String("k"), KnownHosts: knownHosts}
		}, "knownHosts: no key of [git.example.com]:2222: Flux refuses an SSH host it does not know: add the output of " +
			"ssh-keyscan -p 2222"},
		"not known hosts": {func(a *Args) {
			a.Sync.URL = "ssh://git@git.example.com/o/r"
			a.Git = Credentials{SSHKey: pulumi.String("k"), KnownHosts: "nonsense here now"}
		}, "knownHosts: not known_hosts lines"},
	} {
		args := validArgs()
		tt.spoil(args)
		if err := args.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) ||
			strings.Contains(err.Error(), token) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	all := &Args{Git: Credentials{Token: pulumi.String(token)}}
	if err := all.Validate(); strings.Count(err.Error(), "\n") < 3 {
		t.Errorf("not all problems at once: %v", err)
	}
	if err := (*Args)(nil).Validate(); err == nil {
		t.Error("nil accepted")
	}
}

func TestNewRegistersNothingWhenInvalid(t *testing.T) {
	args := validArgs()
	args.Version = "latest"
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error {
		_, err := New(ctx, "flux", args)
		return err
	}, nil)
	if err == nil || !strings.Contains(err.Error(), `flux "flux"`) || len(recording.Names()) > 0 {
		t.Errorf("got %v, %q", err, recording.Names())
	}
}
