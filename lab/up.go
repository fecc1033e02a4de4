package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/progress"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// up takes this host from nothing to a running site. Every step looks first at what is there, so that a run after an
// interruption, or after none, does only what is missing.
func (s *state) up(ctx context.Context) error {
	report := newReport()
	cacheAt, err := cacheDir()
	if err != nil {
		return err
	}
	if err := checkHost(!artifacts.Complete(cacheAt), cacheAt, s.dir); err != nil {
		return err
	}
	unlock, err := s.lock(func(format string, args ...any) { fmt.Printf(format+"\n", args...) })
	if err != nil {
		return err
	}
	defer unlock()
	fmt.Printf("plugins: %s (a double speaks the official plugin's protocol; see docs/lab.md)\n", pluginKinds())

	var run lab
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"host tools", installTools},
		{"lab programs", func(ctx context.Context) error { return run.open(ctx, s) }},
	}
	for _, step := range steps {
		if err := report.Step(ctx, step.name, step.do); err != nil {
			return err
		}
	}
	if run.set, err = run.cache.Build(ctx, report, run.own); err != nil {
		return err
	}
	steps = []struct {
		name string
		do   func(context.Context) error
	}{
		{"network", machine.MakeNetwork},
		{"tailnet control server", run.controlServer},
		{"clouds and artifact server", run.serve},
		{"operator's device", run.operator},
		{"object storage", run.storage},
		{"git server", run.gitServer},
		{"machine", run.machine},
		{"site repository", func(ctx context.Context) error { return s.seed(ctx, run.set, run.secrets) }},
		{"pulumi up", func(ctx context.Context) error { return run.provision(ctx) }},
		{"kubeconfig", run.kubeconfig},
	}
	for _, step := range steps {
		if err := report.Step(ctx, step.name, step.do); err != nil {
			return err
		}
	}
	return run.summary(os.Stdout, report)
}

// lab is one run: the state, and what it was found or made to be.
type lab struct {
	*state
	own     string
	cache   *artifacts.Cache
	set     *artifacts.Set
	secrets *secrets
	runner  process.Runner
	stack   *stack
}

func (l *lab) open(ctx context.Context, s *state) error {
	l.state = s
	cacheAt, err := cacheDir()
	if err != nil {
		return err
	}
	if l.cache, err = artifacts.Open(cacheAt); err != nil {
		return err
	}
	if l.secrets, err = s.secrets(); err != nil {
		return err
	}
	l.runner = s.runner()
	l.stack = &stack{name: "lab", dir: s.path("pulumi"), checkout: s.checkout, out: os.Stdout}
	progress.Waiting(ctx, "go build of the lab's plugins and tools")
	l.own, err = s.ownPrograms(ctx)
	return err
}

// programs are the lab's long-lived processes, in the order in which they start.
var programs = []string{headscale.Name, "clouds", machine.Operator.Name, "s3", "gitea", "machine"}

func (s *state) runner() process.Runner {
	return process.Runner{Dir: s.path("run"), Logs: s.path("logs")}
}

// serve starts the emulated clouds and the artifact server.
func (l *lab) serve(ctx context.Context) error {
	for at, from := range map[string]string{
		"debs": filepath.Join(l.set.RootFS, "debs"), "charts": l.set.Charts, "k3s": l.set.K3s, "install.sh": l.set.InstallScript,
	} {
		if err := l.publish(at, from); err != nil {
			return err
		}
	}
	sum, err := artifacts.SHA256(filepath.Join(l.own, "lab"))
	if err != nil {
		return err
	}
	// Under its digest, so that a rebuilt program takes the place of the one that runs.
	program := l.path("bin", "lab-"+sum[:12])
	if err := mirror(filepath.Join(l.own, "lab"), program); err != nil {
		return err
	}
	return l.runner.Start(ctx, process.Spec{
		Name: "clouds", Args: []string{program, "serve"}, Dir: l.checkout, Env: []string{"TINYRACK_LAB_STATE=" + l.dir},
		Ready: answers("http://"+cloudflareAddr+"/", "http://"+tailscaleAddr+"/", "http://"+artifactsAddr+"/"),
	})
}

// storage starts a real S3 server with the bucket for etcd's snapshots.
func (l *lab) storage(ctx context.Context) error {
	if err := os.MkdirAll(l.path("s3", bucket), 0o700); err != nil {
		return err
	}
	return l.runner.Start(ctx, process.Spec{
		Name: "s3", Args: []string{l.set.S3Gateway, "--port", s3Addr, "posix", "--nometa", l.path("s3")},
		Env:   []string{"ROOT_ACCESS_KEY=" + l.secrets.S3AccessKey, "ROOT_SECRET_KEY=" + l.secrets.S3SecretKey},
		Ready: answers("http://" + s3Addr + "/"),
	})
}

func (l *lab) gitServer(ctx context.Context) error {
	if err := l.certificates(); err != nil {
		return err
	}
	return l.state.gitServer(ctx, l.runner, l.set, l.secrets)
}

// machine boots the bare machine.
func (l *lab) machine(ctx context.Context) error {
	for _, image := range l.set.Images {
		if err := mirror(image, l.path("images", filepath.Base(image)+".tar")); err != nil {
			return err
		}
	}
	authorized, err := publicKey(l.secrets.MachineKey)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(l.path("tls", "ca.crt"))
	if err != nil {
		return err
	}
	m := &machine.Machine{
		Dir: l.path("machine"), CA: string(ca), Runner: l.runner, Artifacts: l.set, Images: l.path("images"),
		HostKey: []byte(l.secrets.HostKey), AuthorizedKey: authorized + "\n", PackageSource: "http://" + artifactsAddr + "/debs",
	}
	if err := m.Install(ctx); err != nil {
		return err
	}
	return m.Boot(ctx)
}

// provision runs `pulumi up` on the lab stack.
func (l *lab) provision(ctx context.Context) error {
	if err := l.stack.install(l.set); err != nil {
		return err
	}
	facts, secrets, err := l.labConfig()
	if err != nil {
		return err
	}
	if err := errors.Join(l.stack.configure(l.secrets.Passphrase, facts, secrets), l.stack.init(ctx)); err != nil {
		return err
	}
	return l.stack.program(ctx, "up", "--skip-preview", "--yes")
}

// labConfig is what the committed Pulumi.lab.yaml cannot know: what this lab generated.
func (l *lab) labConfig() (facts map[string]any, secret map[string]string, err error) {
	hostKey, err := publicKey(l.secrets.HostKey)
	if err != nil {
		return nil, nil, err
	}
	k3sSum, err := artifacts.SHA256(l.set.K3s)
	if err != nil {
		return nil, nil, err
	}
	scriptSum, err := artifacts.SHA256(l.set.InstallScript)
	if err != nil {
		return nil, nil, err
	}
	ca, err := os.ReadFile(l.path("tls", "ca.crt"))
	if err != nil {
		return nil, nil, err
	}
	sealing, err := os.ReadFile(l.path("sealing.pem"))
	if err != nil {
		return nil, nil, err
	}
	facts = map[string]any{
		"machine.hostKey":           hostKey,
		"k3s.binary.sha256":         k3sSum,
		"k3s.installScript.sha256":  scriptSum,
		"sealedSecrets.certificate": l.path("site", "clusters", "lab", "sealing.crt"),
		"flux.ca":                   string(ca),
	}
	secret = map[string]string{
		"cloudflareApiToken": l.secrets.CloudflareToken, "tailscaleOauthClientId": l.secrets.TailscaleClientID,
		"tailscaleOauthClientSecret": l.secrets.TailscaleClientSecret, "machinePrivateKey": l.secrets.MachineKey,
		"sealingKey": string(sealing), "gitToken": l.secrets.GitToken,
		"s3AccessKey": l.secrets.S3AccessKey, "s3SecretKey": l.secrets.S3SecretKey,
	}
	return facts, secret, nil
}

// kubeconfig writes the cluster's administrator access for the person at this host.
func (l *lab) kubeconfig(ctx context.Context) error {
	outputs, err := l.stack.outputs(ctx)
	if err != nil {
		return err
	}
	text, ok := outputs["kubeconfig"].(string)
	if !ok {
		keys, _ := json.Marshal(outputs)
		return fmt.Errorf("the stack exports no kubeconfig, only %d bytes of other outputs", len(keys))
	}
	if err := os.MkdirAll(l.path("bin"), 0o755); err != nil {
		return err
	}
	kubectl := l.path("bin", "kubectl")
	if now, err := os.Readlink(kubectl); err != nil || now != l.set.K3s {
		_ = os.Remove(kubectl)
		if err := os.Symlink(l.set.K3s, kubectl); err != nil {
			return err
		}
	}
	return writeFile(l.path("kubeconfig"), []byte(strings.TrimSpace(text)+"\n"), 0o600)
}

const bucket = "etcd-snapshots"
