package k3s

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

func upgraded(version string) *ClusterArgs {
	args := one()
	args.Spec.Version = version
	args.Spec.Binaries["amd64"] = Artifact{URL: "https://host/k3s?" + version, SHA256: sum(fakeBinary(version))}
	return args
}

func render(t *testing.T, text remote.Text) string {
	t.Helper()
	out, err := remote.Render(text.Vars, text.Body)
	if err != nil {
		t.Fatal(err)
	}
	return "echo $$ >\"$ROOT/../pid\"\n" + out
}

// scripts returns the texts of a node.
func scripts(t *testing.T, args *ClusterArgs, node int) (create, remove string) {
	t.Helper()
	c, r, err := args.texts(args.Nodes[node], args.Nodes[node].Name+".example.ts.net")
	if err != nil {
		t.Fatal(err)
	}
	return render(t, c), render(t, r)
}

var secrets = canary + "\n" + agentToken(canary) + "\n"

// install runs the create script of a node, which must work.
func install(t *testing.T, h *remotetest.Host, args *ClusterArgs, node int) remotetest.Result {
	t.Helper()
	create, _ := scripts(t, args, node)
	stdin := secrets
	if args.Nodes[node].Agent {
		stdin = agentToken(canary) + "\n"
	}
	r := h.Run(create, stdin)
	if r.Code != 0 || r.Stdout != "" {
		t.Fatalf("got %+v", r)
	}
	r.NoSecret(t, canary)
	r.NoSecret(t, agentToken(canary))
	return r
}

const (
	dropIn   = "/etc/rancher/k3s/config.yaml.d/10-tinyrack.yaml"
	joinFile = "/etc/rancher/k3s/config.yaml.d/20-tinyrack-join.yaml"
)

func TestServerTwice(t *testing.T) {
	h := machine(t)
	args := one()
	install(t, h, args, 0)
	config, _ := args.Spec.Config(args.Nodes, args.Nodes[0], "one.example.ts.net")
	admission, _ := args.Spec.Admission()
	for path, want := range map[string]struct {
		mode os.FileMode
		text string
	}{
		"/usr/local/bin/k3s":                     {0o755, fakeBinary(testVersion)},
		"/etc/rancher/k3s/token":                 {0o600, canary + "\n"},
		"/etc/rancher/k3s/agent-token":           {0o600, agentToken(canary) + "\n"},
		dropIn:                                   {0o600, config + "\n"},
		joinFile:                                 {0o600, "cluster-init: true\n"},
		"/etc/rancher/k3s/audit.yaml":            {0o600, auditPolicy},
		"/etc/rancher/k3s/admission.yaml":        {0o600, admission + "\n"},
		"/etc/sysctl.d/80-tinyrack-kubelet.conf": {0o644, kernelDefaults},
		"/etc/systemd/system/k3s.service.d/10-tinyrack.conf":           {0o644, args.Spec.unit() + "\n"},
		"/proc/sys/vm/overcommit_memory":                               {0o644, "1\n"},
		"/proc/sys/kernel/panic":                                       {0o644, "10\n"},
		"/var/lib/rancher/k3s/server/tls/client-admin.crt":             {0o600, "x\n"},
		"/var/lib/rancher/k3s/agent/client-kubelet.crt":                {0o600, "x\n"},
		"/var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist": {0o600, "{}\n"},
	} {
		if h.Read(path) != want.text || h.Mode(path) != want.mode {
			t.Errorf("%s: %v %q", path, h.Mode(path), h.Read(path))
		}
	}
	if h.Mode("/var/lib/rancher/k3s/server/logs") != 0o700 {
		t.Error("the API server has no folder for its audit log")
	}
	before := h.Files()
	r := install(t, h, args, 0)
	if h.Files() != before || r.Called("systemctl restart") || r.Called("systemctl daemon-reload") || r.Called("curl") {
		t.Errorf("the second run changed something: %+v", r)
	}
}

func TestAgentTwice(t *testing.T) {
	h := machine(t)
	args := many()
	install(t, h, args, 3)
	const token = "/etc/rancher/k3s/token"
	if h.Read(token) != agentToken(canary)+"\n" || h.Mode(token) != 0o600 || h.Read("/etc/rancher/k3s/agent-token") != "" {
		t.Error("an agent holds another token than its own, or shows it")
	}
	for _, path := range []string{
		"/etc/rancher/k3s/audit.yaml", "/etc/rancher/k3s/admission.yaml", joinFile, "/etc/systemd/system/k3s.service",
	} {
		if h.Read(path) != "" {
			t.Errorf("an agent has %s", path)
		}
	}
	if h.Read("/etc/systemd/system/k3s-agent.service.d/10-tinyrack.conf") == "" || h.Read("/state/snapshots") != "" {
		t.Error("no drop-in, or a snapshot")
	}
	before := h.Files()
	if r := install(t, h, args, 3); h.Files() != before || r.Called("systemctl restart") || r.Called("curl") {
		t.Errorf("the second run changed something: %+v", r)
	}
}

func TestJoin(t *testing.T) {
	h := machine(t)
	h.Write("/state/peer-10.77.0.2", "404 page not found") // something else than k3s
	h.Write("/state/peer-10.77.0.3", "")
	install(t, h, many(), 0)
	if got := h.Read(joinFile); got != "server: https://10.77.0.3:6443\n" {
		t.Errorf("a rebuilt first server makes a second cluster: %q", got)
	}
	before := h.Files()
	if install(t, h, many(), 0); h.Files() != before {
		t.Error("the second run changed something")
	}
	// Another server never initialises one, and the first is not asked for its peers when it has data.
	other := machine(t)
	install(t, other, many(), 1)
	if other.Read(joinFile) != "" || !strings.Contains(other.Read(dropIn), "server: https://10.77.0.1:6443\n") {
		t.Error("the second server does not join the first")
	}
	h.Run(`rm "$ROOT`+joinFile+`"`, "")
	if r := install(t, h, many(), 0); r.Called("curl -sk") || h.Read(joinFile) != "cluster-init: true\n" {
		t.Errorf("got %q", h.Read(joinFile))
	}
}

func TestRestartsOnlyOnChange(t *testing.T) {
	h := machine(t)
	install(t, h, one(), 0)
	starts := func() string { return strings.TrimSpace(h.Read("/state/starts")) }
	for i, change := range []func(*ClusterArgs){
		func(a *ClusterArgs) { a.Spec.KubeletArgs = nil },
		func(a *ClusterArgs) { a.Spec.PrivilegedNamespaces = []string{"longhorn-system"} },
		func(a *ClusterArgs) { a.Spec.Requires = nil },
	} {
		args := one()
		change(args)
		if install(t, h, args, 0); starts() != fmt.Sprint(i+2) {
			t.Errorf("change %d: started %s times", i, starts())
		}
	}
	if h.Read("/etc/systemd/system/k3s.service.d/10-tinyrack.conf") != "" {
		t.Error("the drop-in stays")
	}
	args := one()
	args.Spec.Requires = nil
	// A run that was killed between writing and restarting; k3s that somebody stopped.
	for i, file := range []string{"/var/lib/tinyrack/k3s-started", "/state/active"} {
		h.Run(`rm "$ROOT`+file+`"`, "")
		if install(t, h, args, 0); starts() != fmt.Sprint(i+5) {
			t.Errorf("%s: started %s times", file, starts())
		}
	}
	// The running k3s is the one that somebody put in the place of ours, and goes on until it is started anew.
	h.Write("/usr/local/bin/k3s", fakeBinary(testVersion)+"\n# another")
	h.Run(`chmod 755 "$ROOT/usr/local/bin/k3s"`, "")
	if install(t, h, args, 0); starts() != "7" {
		t.Errorf("a binary of somebody else's: started %s times", starts())
	}
	// Another install script makes the unit anew.
	h.Write("/state/install", fakeInstall+"\n# next")
	args.Spec.InstallScript.SHA256 = sum(fakeInstall + "\n# next")
	if install(t, h, args, 0); h.Read("/state/installs") != "run\nrun\n" || starts() != "8" {
		t.Errorf("installed %q, started %s times", h.Read("/state/installs"), starts())
	}
	// Another period of renewal changes nothing where no certificate is near its end.
	args.Spec.Renewal = "2027-Q1"
	if install(t, h, args, 0); starts() != "8" {
		t.Errorf("started %s times", starts())
	}
	h.Write("/state/expiring", "")
	if r := install(t, h, args, 0); starts() != "9" || !strings.Contains(r.Stderr, "renewing certificates") {
		t.Errorf("certificates are not renewed: %+v", r)
	}
	// A start that did not end well is not one to rely on, whatever the next run wants.
	h.Write("/state/never-starts", "")
	create, _ := scripts(t, one(), 0)
	if r := h.Run(create, secrets); r.Code == 0 || h.Read("/var/lib/tinyrack/k3s-started") != "" {
		t.Errorf("got %+v", r)
	}
	h.Run(`rm "$ROOT/state/never-starts"`, "")
	// A run that was killed between writing a file and restarting.
	install(t, h, one(), 0)
	args = one()
	args.Spec.PrivilegedNamespaces = []string{"longhorn-system"}
	admission, _ := args.Spec.Admission()
	h.Write("/etc/rancher/k3s/admission.yaml", admission+"\n")
	h.Run(`chmod 600 "$ROOT/etc/rancher/k3s/admission.yaml"`, "")
	if r := install(t, h, args, 0); !r.Called("systemctl restart") {
		t.Error("the API server goes on with the former admission configuration")
	}
	args.Spec.Requires = []string{"other.service"}
	h.Write("/etc/systemd/system/k3s.service.d/10-tinyrack.conf", args.Spec.unit()+"\n")
	if r := install(t, h, args, 0); !r.Called("systemctl restart") {
		t.Error("the unit goes on without its drop-in")
	}
	loose := one()
	loose.Spec.LooseKernelDefaults = true
	if install(t, h, loose, 0); h.Read("/etc/sysctl.d/80-tinyrack-kubelet.conf") != "" {
		t.Error("the kernel's settings stay")
	}
}

func TestUpgrade(t *testing.T) {
	h := machine(t)
	install(t, h, one(), 0)
	const next = "v1.34.0+k3s2"
	release(h, next)
	install(t, h, upgraded(next), 0)
	for path, want := range map[string]string{
		"/state/snapshots": "pre-upgrade-v1.34.0-k3s2\n", "/state/nodes/one": "True " + next + "\n", "/state/starts": "2\n",
	} {
		if got := h.Read(path); got != want {
			t.Errorf("%s is %q", path, got)
		}
	}
	before := h.Files()
	if install(t, h, upgraded(next), 0); h.Files() != before {
		t.Error("the second run changed something")
	}
	// Another server leaves the snapshot to the first.
	other := machine(t)
	install(t, other, many(), 1)
	release(other, next)
	args := many()
	args.Spec.Version, args.Spec.Binaries = next, upgraded(next).Spec.Binaries
	install(t, other, args, 1)
	if other.Read("/state/snapshots") != "" || other.Read("/state/nodes/two") != "True "+next+"\n" {
		t.Error("a snapshot of another server, or no upgrade")
	}
}

func TestARM(t *testing.T) {
	h := machine(t)
	h.Write("/state/machine", "aarch64\n")
	args := one()
	args.Spec.Binaries["arm64"] = args.Spec.Binaries["amd64"]
	args.Spec.Binaries["amd64"] = Artifact{URL: "https://host/other", SHA256: sum("other")}
	install(t, h, args, 0)
}

func TestNodeIsRefused(t *testing.T) {
	with := func(change func(*ClusterArgs)) *ClusterArgs { a := one(); change(a); return a }
	write := func(path string) func(*remotetest.Host) { return func(h *remotetest.Host) { h.Write(path, "") } }
	fake := func(name, body string) func(*remotetest.Host) {
		return func(h *remotetest.Host) { h.Fake(name, body) }
	}
	checksum := func(text string) func(*ClusterArgs) {
		return func(a *ClusterArgs) {
			a.Spec.Binaries["amd64"] = Artifact{URL: "https://host/k3s?x", SHA256: sum(text)}
		}
	}
	binary := func(text string) func(*remotetest.Host) {
		return func(h *remotetest.Host) { h.Write("/state/k3s-x", text) }
	}
	installed := machine(t)
	install(t, installed, one(), 0)
	for name, tt := range map[string]struct {
		installed, changes bool
		prepare            func(*remotetest.Host)
		args               *ClusterArgs
		stdin              string
		want               string
	}{
		"no token":           {stdin: "\n", want: "no token on standard input"},
		"no token of agents": {stdin: canary + "\n", want: "no token on standard input"},
		"no openssl":         {prepare: func(h *remotetest.Host) { h.Remove("openssl") }, want: "openssl is missing"},
		"an agent": {
			prepare: write("/etc/systemd/system/k3s-agent.service"),
			want:    "runs k3s in another role (k3s-agent)",
		},
		"other pods": {
			installed: true,
			args:      with(func(a *ClusterArgs) { a.Spec.ClusterCIDR = "10.99.0.0/16" }),
			want:      "runs with cluster-cidr 10.55.0.0/16, the configuration wants 10.99.0.0/16",
		},
		"other Services": {
			installed: true,
			args:      with(func(a *ClusterArgs) { a.Spec.ServiceCIDR = "10.99.0.0/16" }),
			want:      "runs with service-cidr 10.56.0.0/16, the configuration wants 10.99.0.0/16",
		},
		"other token": {
			installed: true,
			stdin:     "another\n" + agentToken(canary),
			want: "set k3sToken (pulumi config set --secret k3sToken) to the former token: it is in the escrow, and on this " +
				"machine in /var/lib/rancher/k3s/server/token",
		},
		"no such machine": {
			prepare: func(h *remotetest.Host) { h.Write("/state/machine", "riscv64\n") },
			want:    "this machine is riscv64: there is no k3s for it",
		},
		"no such binary": {
			args: with(func(a *ClusterArgs) { delete(a.Spec.Binaries, "amd64") }),
			want: "binaries.amd64 is not set",
		},
		"wrong checksum": {args: with(checksum("y")), prepare: binary("x"), want: "k3s: https://host/k3s?x has sha256"},
		"other architecture": {
			args:    with(checksum("\x7fELF")),
			prepare: binary("\x7fELF"),
			want:    "does not run on this machine (x86_64)",
		},
		"other version": {
			args:    with(checksum(fakeBinary("v1.33.2+k3s1"))),
			prepare: binary(fakeBinary("v1.33.2+k3s1")),
			want:    "is k3s v1.33.2+k3s1, version says v1.33.1+k3s1",
		},
		"version alone": {
			installed: true,
			args:      with(func(a *ClusterArgs) { a.Spec.Version = "v1.33.2+k3s1" }),
			want:      "is k3s v1.33.1+k3s1, version says v1.33.2+k3s1",
		},
		"downgrade": {
			installed: true,
			args:      upgraded("v1.32.10+k3s1"),
			prepare:   func(h *remotetest.Host) { release(h, "v1.32.10+k3s1") },
			want:      "version v1.32.10+k3s1 is older than the v1.33.1+k3s1 of this machine",
		},
		"a patch less": {
			installed: true,
			args:      upgraded("v1.33.0+k3s2"),
			prepare:   func(h *remotetest.Host) { release(h, "v1.33.0+k3s2") },
			want:      "is older than",
		},
		"a revision less": {
			installed: true,
			args:      upgraded("v1.33.1+k3s0"),
			prepare:   func(h *remotetest.Host) { release(h, "v1.33.1+k3s0") },
			want:      "version v1.33.1+k3s0 is older than the v1.33.1+k3s1",
		},
		"a minor left out": {
			installed: true,
			args:      upgraded("v1.35.0+k3s1"),
			prepare:   func(h *remotetest.Host) { release(h, "v1.35.0+k3s1") },
			want:      "more than one minor release after the v1.33.1+k3s1",
		},
		"no snapshot": {
			installed: true,
			args:      upgraded("v1.33.9+k3s1"),
			prepare:   func(h *remotetest.Host) { release(h, "v1.33.9+k3s1"); h.Write("/state/no-snapshot", "") },
			want:      "no snapshot could be taken before the upgrade",
		},
		"kernel": {changes: true, prepare: func(h *remotetest.Host) {
			h.Run(`rm -r "$ROOT/proc/sys/kernel/panic" && mkdir "$ROOT/proc/sys/kernel/panic"`, "")
		}, want: "kernel.panic is missing, wanted 10; k3s would not start"},
		"wrong install script": {
			changes: true,
			args:    with(func(a *ClusterArgs) { a.Spec.InstallScript.SHA256 = sum("x") }),
			want:    "k3s-install: https://host/install.sh has sha256",
		},
		"install fails": {changes: true, prepare: write("/state/install-fails"), want: "install script failed"},
		"full disk, binary": {
			changes: true,
			prepare: fake("mv", `case "$*" in *k3s.tinyrack-new) echo "No space left" >&2; exit 1 ;; esac; exec /bin/mv "$@"`),
			want:    "/usr/local/bin/k3s.tinyrack-new cannot be written",
		},
		"full disk, token": {
			changes: true,
			prepare: fake("mv", `case "$*" in */rancher/k3s/token) echo "No space left" >&2; exit 1 ;; esac; exec /bin/mv "$@"`),
			want:    "/etc/rancher/k3s/token cannot be written",
		},
		"full disk, config": {
			changes: true,
			prepare: fake("chmod", `case "$*" in *10-tinyrack.yaml*) echo "No space left" >&2; exit 1 ;; esac
exec /bin/chmod "$@"`),
			want: dropIn + " cannot be written",
		},
		"full disk, kernel": {
			changes: true,
			prepare: fake("mv", `case "$*" in *80-tinyrack*) exit 1 ;; esac; exec /bin/mv "$@"`),
			want:    "80-tinyrack-kubelet.conf cannot be written",
		},
		"never starts": {changes: true, prepare: write("/state/never-starts"), want: "its unit does not start"},
		"no API":       {changes: true, prepare: write("/state/broken"), want: "its API is not ready"},
		"never Ready": {
			changes: true,
			prepare: write("/state/never-ready"),
			want:    "node one is not Ready with v1.33.1+k3s1",
		},
		"the old kubelet": {changes: true, prepare: func(h *remotetest.Host) {
			h.Write("/state/never-ready", "")
			h.Write("/state/nodes/one", "True v1.33.0+k3s1")
		}, want: "node one is not Ready with v1.33.1+k3s1"},
		"another address": {
			installed: true,
			args:      with(func(a *ClusterArgs) { a.Nodes[0].Address = "10.77.0.1" }),
			want: "etcd knows this server by 192.0.2.1, and k3s would use 10.77.0.1: it would find no such member and never " +
				"be ready: k3s was not changed: set the nodeAddress of this host to 192.0.2.1",
		},
		"another address, by k3s": {
			prepare: func(h *remotetest.Host) {
				a := one()
				a.Nodes[0].Address = "10.77.0.1"
				install(t, h, a, 0)
			},
			args: with(func(a *ClusterArgs) { a.Nodes[0].Address = "" }),
			want: "etcd knows this server by 10.77.0.1, and k3s would use 192.0.2.1",
		},
		"full disk, list of nodes": {
			changes: true,
			prepare: fake("mv", `case "$*" in */k3s-nodes) exit 1 ;; esac; exec /bin/mv "$@"`),
			want:    "a host that leaves would stay in the cluster",
		},
		"known already": {changes: true, prepare: func(h *remotetest.Host) {
			h.Write("/state/never-ready", "")
			h.Write("/state/log", "Node password rejected, duplicate hostname")
		}, want: "kubectl delete node one on a server"},
		"stubborn certificate": {
			changes: true,
			prepare: func(h *remotetest.Host) { h.Write("/state/expiring", ""); h.Write("/state/stubborn", "") },
			want:    "/var/lib/rancher/k3s/server/tls/client-admin.crt still ends within 90 days",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := machine(t)
			if tt.installed {
				become(t, h, installed)
			}
			if tt.prepare != nil {
				tt.prepare(h)
			}
			if tt.args == nil {
				tt.args = one()
			}
			if tt.stdin == "" {
				tt.stdin = secrets
			}
			before := h.Files()
			create, _ := scripts(t, tt.args, 0)
			r := h.Run(create, tt.stdin)
			if r.Code != 1 || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("got %+v", r)
			}
			r.NoSecret(t, canary)
			for _, failed := range []string{"its unit", "its API", "is not Ready"} {
				if strings.Contains(tt.want, failed) && !strings.Contains(r.Stderr, "fatal: the reason") {
					t.Error("the log's last lines are missing")
				}
			}
			if after := h.Files(); !tt.changes && after != before {
				t.Error("something was changed before the refusal")
			}
			if strings.Contains(tt.want, "cannot be written") && r.Called("systemctl restart") {
				t.Error("restarted with half of its files")
			}
		})
	}
}

// A run that was killed anywhere is gone on with by the next, and the one after changes nothing.
func TestKilledAnywhere(t *testing.T) {
	const next = "v1.33.2+k3s1"
	mv, err := exec.LookPath("mv")
	if err != nil {
		t.Fatal(err)
	}
	former := machine(t)
	install(t, former, one(), 0)
	release(former, next)
	prepare := func(t *testing.T, upgrade bool) (*remotetest.Host, *ClusterArgs) {
		t.Helper()
		h := machine(t)
		h.Fake("mv", kill+`exec `+mv+` "$@"`)
		h.Fake("kubectl", fakeKubectl)
		if !upgrade {
			return h, one()
		}
		become(t, h, former)
		return h, upgraded(next)
	}
	for name, upgrade := range map[string]bool{"installation": false, "upgrade": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killed, done, points := states{}, states{}, 0
			for at := 1; ; at++ {
				h, args := prepare(t, upgrade)
				create, _ := scripts(t, args, 0)
				if !killedAt(t, h, at, create) {
					break
				}
				points++
				if killed.has(h) {
					continue
				}
				install(t, h, args, 0)
				config, _ := args.Spec.Config(args.Nodes, args.Nodes[0], "one.example.ts.net")
				if h.Read("/state/nodes/one") != "True "+args.Spec.Version+"\n" || h.Read(dropIn) != config+"\n" ||
					upgrade && !strings.Contains(h.Read("/state/snapshots"), "pre-upgrade") {
					t.Errorf("killed before command %d: not what was wanted", at)
				}
				if done.has(h) {
					continue
				}
				before := h.Files()
				if r := install(t, h, args, 0); h.Files() != before || r.Called("systemctl restart") {
					t.Errorf("killed before command %d: the run after the next changed something", at)
				}
			}
			if points < 8 {
				t.Errorf("killed at %d points only", points)
			}
		})
	}
}

// states are those of machines that were looked at: what follows on an equal one is known.
type states map[string]bool

// has tells whether a machine is in one of the states, which its own is from now on.
func (s states) has(h *remotetest.Host) bool {
	state := h.State()
	known := s[state]
	s[state] = true
	return known
}

// become makes the files of a machine those of another.
func become(t *testing.T, h, other *remotetest.Host) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", other.Root+"/.", h.Root).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
}

// killedAt runs a script that is killed before one of its commands. It reports whether it came so far.
func killedAt(t *testing.T, h *remotetest.Host, at int, text string) bool {
	t.Helper()
	file := filepath.Join(h.Root, "../kill-at")
	if err := os.WriteFile(file, fmt.Append(nil, at), 0o600); err != nil {
		t.Fatal(err)
	}
	r := h.Run(text, secrets)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	return r.Code != 0
}

// The addresses that k3s takes by itself and that the settings give are one: nothing stands in the way.
func TestAddressThatEtcdKnows(t *testing.T) {
	alone, told := one(), one()
	alone.Nodes[0].Address = ""
	for _, order := range [][]*ClusterArgs{{alone, told}, {told, alone}} {
		h := machine(t)
		install(t, h, order[0], 0)
		install(t, h, order[1], 0)
		// Nobody can be asked, and an upgrade may be what mends it.
		h.Run(`rm "$ROOT/state/active"`, "")
		install(t, h, order[0], 0)
	}
	// An agent is no member of etcd.
	h := machine(t)
	args := many()
	install(t, h, args, 3)
	h.Write("/state/nodes/four.address", "10.99.0.4\n")
	args.Nodes[3].Address = "10.77.0.44"
	install(t, h, args, 3)
}

func TestListOfNodes(t *testing.T) {
	h := machine(t)
	install(t, h, many(), 0)
	const list = "/var/lib/tinyrack/k3s-nodes"
	if got := h.Read(list); got != "one\ntwo\nthree\nfour\nfive\n" {
		t.Errorf("got %q", got)
	}
	fewer := many()
	fewer.Nodes = fewer.Nodes[:3]
	if install(t, h, fewer, 0); h.Read(list) != "one\ntwo\nthree\n" || h.Read("/state/starts") != "1\n" {
		t.Errorf("%q, started %s times", h.Read(list), h.Read("/state/starts"))
	}
	// The list is the first server's: of one that was the first it would say what was.
	fewer.Nodes[0], fewer.Nodes[1] = fewer.Nodes[1], fewer.Nodes[0]
	if install(t, h, fewer, 1); strings.Contains(h.Files(), list) {
		t.Error("a former first server keeps the list")
	}
}
