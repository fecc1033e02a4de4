package pulumi

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func stack() *Stack {
	return &Stack{Project: "tinyrack", Name: "lab", Dir: "/state/pulumi", Checkout: "/checkout"}
}

func TestArguments(t *testing.T) {
	s := stack()
	const program = " --stack lab --config-file /state/pulumi/Pulumi.lab.yaml --cwd /checkout --non-interactive " +
		"--color never --suppress-outputs --event-log /state/pulumi/events.json"
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"init": {s.initArgs("/scratch"), "stack init lab --cwd /scratch --non-interactive"},
		"up":   {s.upArgs(), "up --skip-preview --yes" + program},
		"replace": {s.replaceArgs([]string{"a", "b"}), "up --skip-preview --yes" + program +
			" --replace **::a --replace **::b"},
		"replace a pattern": {s.replaceArgs([]string{"**a::*b"}), "up --skip-preview --yes" + program + " --replace **a::*b"},
		"export": {
			s.exportArgs(), "stack export --show-secrets --stack lab --cwd /checkout --non-interactive",
		},
		"import": {
			s.importArgs("/f"), "stack import --file /f --stack lab --cwd /checkout --non-interactive",
		},
		"set secret": {
			s.setSecretArgs("a"), "config set --secret tinyrack:a --stack lab --config-file /state/pulumi/Pulumi.lab.yaml " +
				"--cwd /checkout --non-interactive",
		},
		"unprotect": {
			s.unprotectArgs(), "state unprotect --all --yes --stack lab --cwd /checkout --non-interactive",
		},
		"destroy":           {s.destroyArgs(), "destroy --skip-preview --yes" + program},
		"preview":           {s.previewArgs(), "preview" + program},
		"preview unchanged": {s.previewArgs("--expect-no-changes"), "preview --expect-no-changes" + program},
		"refresh": {
			s.refreshArgs(), "refresh --yes --skip-preview --expect-no-changes --clear-pending-creates" + program,
		},
		"cancel": {s.cancelArgs(), "cancel --yes --stack lab --cwd /checkout --non-interactive"},
		"outputs": {
			s.outputArgs(), "stack output --json --show-secrets --stack lab --cwd /checkout --non-interactive",
		},
	} {
		if got := strings.Join(test.args, " "); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
		cmd := s.command(t.Context(), test.args)
		if want := append([]string{"/state/pulumi/bin/pulumi"}, test.args...); !slices.Equal(cmd.Args, want) {
			t.Errorf("%s: the command is %q, want %q", name, cmd.Args, want)
		}
	}
}

func TestCommandIsTheStacksOwn(t *testing.T) {
	t.Setenv("PATH", "/usr/bin")
	t.Setenv("PULUMI_CONFIG_PASSPHRASE", "the caller's")
	t.Setenv("PULUMI_BACKEND_URL", "file:///the/callers")
	t.Setenv("PULUMI_ACCESS_TOKEN", "the caller's")
	t.Setenv("KEPT", "yes")
	cmd := stack().command(t.Context(), []string{"up"})
	var pulumis []string
	found := map[string]string{}
	for _, v := range cmd.Env {
		name, value, _ := strings.Cut(v, "=")
		if _, twice := found[name]; twice && name == "PATH" {
			t.Errorf("%s is set twice", name)
		}
		found[name] = value
		if strings.HasPrefix(name, "PULUMI_") {
			pulumis = append(pulumis, v)
		}
	}
	want := []string{
		"PULUMI_HOME=/state/pulumi/home", "PULUMI_BACKEND_URL=file:///state/pulumi/backend?metadata=skip",
		"PULUMI_CONFIG_PASSPHRASE_FILE=/state/pulumi/passphrase", "PULUMI_SKIP_UPDATE_CHECK=true",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=true", "PULUMI_DEBUG_COMMANDS=true",
	}
	if !slices.Equal(pulumis, want) {
		t.Errorf("Pulumi's settings are %q, want %q", pulumis, want)
	}
	if found["PATH"] != "/state/pulumi/bin:/usr/bin" || found["GOWORK"] != "off" || found["KEPT"] != "yes" {
		t.Errorf("PATH=%s GOWORK=%s KEPT=%s", found["PATH"], found["GOWORK"], found["KEPT"])
	}
	if cmd.Dir != "/checkout" {
		t.Errorf("it runs in %s", cmd.Dir)
	}
	if a := cmd.SysProcAttr; !a.Setpgid || a.Pdeathsig != syscall.SIGKILL {
		t.Errorf("it would outlive this process, or get the terminal's signals twice: %+v", a)
	}
	if cmd.Cancel == nil || cmd.WaitDelay == 0 {
		t.Error("it is not told politely to stop, or waited for without end")
	}
}

func TestIsolatedCommandReachesNothing(t *testing.T) {
	s := stack()
	s.Network = NoNetwork
	got := strings.Join(s.command(t.Context(), []string{"preview"}).Args, " ")
	want := `unshare --user --map-root-user --net sh -ec ip link set lo up; exec "$@" sh /state/pulumi/bin/pulumi preview`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// fake puts a program in the place of the Pulumi command line. It writes its arguments to calls and then does what body
// says.
func fake(t *testing.T, body string) (s *Stack, calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	s = &Stack{Project: "tinyrack", Name: "lab", Dir: dir, Checkout: t.TempDir()}
	for _, folder := range []string{"bin", "backend"} {
		if err := os.MkdirAll(s.path(folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\necho \"$1 $2\" >> " + dir + "/calls\n" + body + "\n"
	if err := os.WriteFile(s.Command(), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return s, func() []string {
		text, _ := os.ReadFile(dir + "/calls")
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

func TestAKilledRunsLockIsDropped(t *testing.T) {
	s, calls := fake(t, "echo planned")
	var out strings.Builder
	s.Out = &out
	if err := s.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	lock := s.path("backend", ".pulumi", "locks", "organization", "tinyrack", "lab")
	if err := os.MkdirAll(lock, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lock+"/1.json", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"up --skip-preview", "cancel --yes", "state unprotect", "cancel --yes", "destroy --skip-preview",
	}
	if got := calls(); !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
	// One of up, one of destroy; that of cancel is for nobody.
	if out.String() != "planned\nplanned\n" {
		t.Errorf("shown %q", out.String())
	}
}

func TestInitRunsOnce(t *testing.T) {
	s, calls := fake(t, "")
	if err := s.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	made := s.path("backend", ".pulumi", "stacks", "tinyrack")
	if err := os.MkdirAll(made, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(made+"/lab.json", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := calls(); !slices.Equal(got, []string{"stack init"}) {
		t.Errorf("calls %q", got)
	}
	if !s.Exists() || stack().Exists() {
		t.Error("Exists tells wrong")
	}
}

func TestAQuietCommandsFailureIsShown(t *testing.T) {
	s, _ := fake(t, "echo the reason >&2; exit 3")
	err := s.Init(t.Context())
	if err == nil || !strings.Contains(err.Error(), "pulumi stack: exit status 3:\nthe reason") {
		t.Errorf("got %v", err)
	}
}

func TestOutputs(t *testing.T) {
	s, _ := fake(t, `echo '{"kubeconfig":"text","nodes":3}'`)
	if got, err := s.Output(t.Context(), "kubeconfig"); err != nil || got != "text" {
		t.Errorf("%q, %v", got, err)
	}
	for _, name := range []string{"nodes", "none"} {
		_, err := s.Output(t.Context(), name)
		if err == nil || err.Error() != "the stack exports no "+name+", only kubeconfig, nodes" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStateGoesOutAndIn(t *testing.T) {
	s, calls := fake(t, `case $2 in
	export) echo '{"version":3}' ;;
	import) cat "$4"; stat -c %a "$4"; exit 1 ;;
	set) cat; exit 1 ;;
	esac`)
	state, err := s.Export(t.Context())
	if err != nil || state != "{\"version\":3}\n" {
		t.Errorf("%q, %v", state, err)
	}
	// What the command was given, in the words of its failure.
	if err := s.Import(t.Context(), state); err == nil || !strings.Contains(err.Error(), state+"600\n") {
		t.Errorf("import: %v", err)
	}
	if err := s.SetSecret(t.Context(), "a", "canary"); err == nil || !strings.Contains(err.Error(), "canary") {
		t.Errorf("set: %v", err)
	}
	if want := []string{"stack export", "stack import", "config set"}; !slices.Equal(calls(), want) {
		t.Errorf("calls %q", calls())
	}
	if _, err := os.Stat(s.path("import.json")); err == nil {
		t.Error("the state stays in clear")
	}
}

func TestRebuildForgetsTheCluster(t *testing.T) {
	s, _ := fake(t, `echo "$PULUMI_K8S_DELETE_UNREACHABLE $*"; exit 3`)
	var out strings.Builder
	s.Out = &out
	if err := s.Rebuild(t.Context(), "a"); err == nil {
		t.Error("a failure is none")
	}
	if got := out.String(); !strings.HasPrefix(got, "true up --skip-preview --yes ") ||
		!strings.HasSuffix(got, " --replace **::a --refresh\n") {
		t.Errorf("run is %q", got)
	}
	if err := s.Up(t.Context()); err == nil || strings.Count(out.String(), "true") != 1 {
		t.Errorf("an up forgets the cluster, too: %q", out.String())
	}
}
