package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/ci/bounded"
)

// The test binary is what Self runs, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "self" {
		self(os.Args[2:])
		return
	}
	os.Exit(m.Run())
}

const canary = "canary-0123456789"

// machine has programs in PATH, plugins, and a secret in the environment.
func machine(t *testing.T) (bin, home string) {
	t.Helper()
	bin, home = t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	t.Setenv("PULUMI_HOME", home)
	t.Setenv("GIT_HOST_TOKEN", canary)
	t.Setenv("PULUMI_CONFIG_PASSPHRASE", canary)
	write(t, filepath.Join(home, "credentials.json"), canary)
	// One of its own: some write over it.
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(bwrap)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bin, "bwrap"), string(text))
	// The program runs whatever is asked of the engine.
	write(t, filepath.Join(bin, "pulumi"), "#!/bin/sh\nexec ./.program \"$@\"\n")
	write(t, filepath.Join(bin, "pulumi-language-go"), "the language host")
	// Plugins are links in the lab.
	write(t, filepath.Join(home, "double"), "the plugin")
	plugin := filepath.Join(home, "plugins", "resource-random-v4.21.0", "pulumi-resource-random")
	if err := os.MkdirAll(filepath.Dir(plugin), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(home, "double"), plugin); err != nil {
		t.Fatal(err)
	}
	return bin, home
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// change is a folder with the program of a change, and other files in the place of its own.
func change(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.CopyFS(dir, os.DirFS("testdata/program")); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func open(t *testing.T) *Box {
	t.Helper()
	b, err := New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b.checkout = "testdata/program"
	return b
}

// A program that tries everything has nothing, under both of the engine's ways to be started.
func TestNothingGetsOut(t *testing.T) {
	bin, home := machine(t)
	bwrap, err := os.ReadFile(filepath.Join(bin, "bwrap"))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	abstract := fmt.Sprintf("@canary-%d", os.Getpid())
	unix, err := net.Listen("unix", abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, canary)
	self, err := os.Executable() // as any file of this machine
	if err != nil {
		t.Fatal(err)
	}
	b := open(t)
	// As if it were not below /usr.
	elsewhere := filepath.Join(t.TempDir(), "go")
	if err := os.Symlink(b.goroot, elsewhere); err != nil {
		t.Fatal(err)
	}
	b.goroot = elsewhere
	const plugin = "/box/home/plugins/resource-random-v4.21.0/pulumi-resource-random"
	bound := []string{"/", "/dev", "/dev/shm", "/usr", "/box/go", "/box/bin", "/box/home/plugins"}
	wanted, err := json.Marshal(map[string]any{
		"Read": []string{
			"/etc/shadow", "/etc/passwd", self, secret, filepath.Join(home, "credentials.json"),
			"/box/home/credentials.json", "/proc/1/root" + secret, plugin,
		},
		"List":  []string{"/", "/etc", "/root", "/home", "/tmp", "/sys", "/box", "/box/bin", "/box/home", "/box/state"},
		"Write": bound,
		// The kernel would run what the first one names, as root and outside of every box.
		"Open": []string{"/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger"},
		"Dial": []string{tcp.Addr().String(), abstract},
		"Pid":  os.Getpid(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, dir := range []string{"/usr", b.goroot} {
			if os.Remove(filepath.Join(dir, "escaped")) == nil {
				t.Errorf("it wrote to %s of this machine", dir)
			}
		}
	})
	folder := change(t, map[string]string{"wanted.json": string(wanted)})
	e, err := b.Engine(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]func() error{
		"preview": func() error { _, err := e.Preview(t.Context(), "lab"); return err },
		"init":    func() error { return e.Init(t.Context(), "lab") },
	} {
		if err := run(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := os.ReadFile(filepath.Join(folder, "got.json"))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Read, List                map[string]string
			Written, Opened, Dialed   []string
			Signalled                 bool
			Processes, Env, Arguments []string
			Executables               map[string]string
			Limits                    map[string]uint64
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), canary) {
			t.Errorf("%s: a secret is in what it got: %s", name, text)
		}
		for path, text := range got.Read {
			if text == "" || strings.HasPrefix(path, "/proc/") && strings.HasSuffix(path, "/environ") {
				continue
			}
			if !strings.HasSuffix(path, "pulumi-resource-random") || text != "the plugin" {
				t.Errorf("%s: %s holds %q", name, path, text)
			}
		}
		if got.Read[plugin] == "" {
			t.Errorf("%s: the plugin is not there", name)
		}
		for path, want := range map[string]string{
			"/": "bin box dev lib lib64 proc tmp usr", "/etc": "", "/root": "", "/home": "", "/tmp": "", "/sys": "",
			"/box": "bin go home state tree", "/box/bin": "pulumi pulumi-language-go", "/box/home": "logs plugins",
			"/box/state": "",
		} {
			if got.List[path] != want {
				t.Errorf("%s: in %s is %q, want %q", name, path, got.List[path], want)
			}
		}
		// bwrap and the program.
		if len(got.Processes) > 2 || got.Signalled {
			t.Errorf("%s: it sees the processes %q, and reaches another: %v", name, got.Processes, got.Signalled)
		}
		for _, path := range got.Written {
			if path != "/box/home/plugins" { // a folder of the box alone
				t.Errorf("%s: it wrote to %s", name, path)
			}
		}
		if len(got.Executables) < 2 {
			t.Errorf("%s: it saw no programs: %v", name, got.Executables)
		}
		for path, said := range got.Executables {
			var host syscall.Stat_t
			if err := syscall.Stat(filepath.Join(bin, "bwrap"), &host); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(said, fmt.Sprintf("%d:%d ", host.Dev, host.Ino)) || strings.HasSuffix(said, " <nil>") {
				t.Errorf("%s: %s is a file of this machine, or can be written to: %s", name, path, said)
			}
		}
		if want := map[string]uint64{
			"core": 0, "data": 8 << 30, "file": 1 << 30, "open files": 4096, "processes": 8192, "/tmp": 256 << 20,
		}; !maps.Equal(got.Limits, want) {
			t.Errorf("%s: its limits are %v, want %v", name, got.Limits, want)
		}
		if len(got.Opened) > 0 {
			t.Errorf("%s: it can write to %q", name, got.Opened)
		}
		if len(got.Dialed) > 0 {
			t.Errorf("%s: it reached %q", name, got.Dialed)
		}
		if env := strings.Join(got.Env, "\n"); !strings.Contains(env, "PULUMI_BACKEND_URL=file:///box/state") ||
			!strings.Contains(env, "GOTOOLCHAIN=local") || !strings.Contains(env, "GOPROXY=off") {
			t.Errorf("%s: its environment is\n%s", name, env)
		}
		if !slices.Contains(got.Arguments, "/box/tree") {
			t.Errorf("%s: arguments are %q", name, got.Arguments)
		}
	}
	write(t, filepath.Join(folder, "wanted.json"), `{"Overwrite": true}`)
	for range 10 {
		// What holds it open keeps it from being run for as long as that.
		if err := e.Init(t.Context(), "lab"); err != nil && !errors.Is(err, syscall.ETXTBSY) {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(bin, "bwrap")); err != nil || !bytes.Equal(text, bwrap) {
		t.Errorf("it wrote over bwrap: %.20q, %v", text, err)
	}
	if entries, err := os.ReadDir(filepath.Join(home, "plugins")); err != nil || len(entries) != 1 {
		t.Errorf("the machine's plugins are %v, %v", entries, err)
	}
}

// What a change names in Pulumi.yaml is not what is run.
func TestTheProgramIsTheCompiledOne(t *testing.T) {
	machine(t)
	folder := change(t, nil)
	if _, err := open(t).Engine(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "Pulumi.yaml"))
	want := "name: probe\nruntime:\n    name: go\n    options:\n        binary: .program\n"
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
	if info, err := os.Stat(filepath.Join(folder, ".program")); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("there is no program: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	bin, _ := machine(t)
	const mod = "module example.org/program\n\ngo 1.26.0\n"
	for name, test := range map[string]struct{ file, text, want string }{
		"a folder outside": {
			"go.mod", mod + "require example.org/x v0.0.0\nreplace example.org/x => ../x\n",
			"go.mod: replaces a module with ../x: a change may not take files from outside itself: name a version",
		},
		"a folder of this machine": {
			"go.mod", mod + "require example.org/x v0.0.0\nreplace example.org/x v0.0.0 => /root\n",
			"replaces a module with /root",
		},
		"a folder outside by a way around": {
			"go.mod", mod + "require example.org/x v0.0.0\nreplace example.org/x => ./a/../../x\n",
			"replaces a module with ./a/../../x",
		},
		"a newer Go":           {"go.mod", strings.Replace(mod, "1.26.0", "1.99.0", 1), "requires go >= 1.99.0"},
		"no module":            {"go.mod", "no module", "read go.mod"},
		"no program":           {"main.go", "package main\n\nfunc main() { undefined() }\n", "undefined: undefined"},
		"cgo":                  {"main.go", "package main\n\nimport \"C\"\n\nfunc main() {}\n", "build the program"},
		"a module of no sums":  {"go.mod", mod + "require golang.org/x/sys v0.0.1\n", "build the program"},
		"a project of no name": {"Pulumi.yaml", "runtime: go\n", "Pulumi.yaml: names no project: there is nothing"},
		"no YAML":              {"Pulumi.yaml", "name: [", "Pulumi.yaml: names no project"},
	} {
		files := map[string]string{test.file: test.text}
		if name == "a module of no sums" {
			files["main.go"] = "package main\n\nimport _ \"golang.org/x/sys/unix\"\n\nfunc main() {}\n"
		}
		_, err := open(t).Engine(t.Context(), change(t, files))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	without := change(t, nil)
	for _, file := range []string{filepath.Join(without, "Pulumi.yaml"), filepath.Join(bin, "pulumi-language-go")} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t).Engine(t.Context(), without); err == nil || !strings.Contains(err.Error(), filepath.Base(file)) {
			t.Errorf("without %s: %v", filepath.Base(file), err)
		}
		without = change(t, nil)
	}
}

// A folder of the change's own is no other's; and another toolchain is not fetched.
func TestWhatIsTaken(t *testing.T) {
	machine(t)
	folder := change(t, map[string]string{
		"go.mod": "module example.org/program\n\ngo 1.26.0\n\ntoolchain go1.99.0\n\nrequire example.org/x v0.0.0\n\n" +
			"replace example.org/x => ./x\n",
		"x/go.mod": "module example.org/x\n", "x/x.go": "package x\n",
		"main.go": "package main\n\nimport _ \"example.org/x\"\n\nfunc main() {}\n",
	})
	if err := open(t).build(t.Context(), folder); err != nil {
		t.Error(err)
	}
}

// What is run in the place of bwrap is like it, and nobody's to change.
func TestSealed(t *testing.T) {
	bin, _ := machine(t)
	bwrap := filepath.Join(bin, "bwrap")
	path, err := sealed(bwrap)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(bwrap)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || path == bwrap || !bytes.Equal(text, want) {
		t.Errorf("%s: %v, %d bytes", path, err, len(text))
	}
	if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		_, err := file.WriteString("overwritten")
		if !errors.Is(err, syscall.EPERM) || !errors.Is(file.Truncate(0), syscall.EPERM) {
			t.Errorf("it can be changed: %v", err)
		}
		_ = file.Close()
	}
	if _, err := sealed(filepath.Join(bin, "none")); err == nil {
		t.Error("there is none")
	}
	// Another user's stays where it is: root alone can try.
	if os.Geteuid() != 0 {
		if path, err := sealed("/bin/sh"); path != "/bin/sh" || err != nil {
			t.Errorf("%s, %v", path, err)
		}
	}
}

// What compiles a change opens files that its source names, and shows them in its errors: there is none to see.
func TestCompilingShowsNothingOfTheMachine(t *testing.T) {
	machine(t)
	secret := filepath.Join(t.TempDir(), "hosts.yml")
	const token = "gho_Canary123" // as the assembler would show it
	write(t, secret, "github.com:\n    oauth_token: "+token+"\n")
	t.Setenv("GIT_HOST_TOKEN", token)
	b := open(t)
	const calls = "package main\n\nfunc f()\n\nfunc main() { f() }\n"
	for _, path := range []string{secret, "/proc/self/environ", "/proc/1/environ", "/etc/passwd"} {
		for _, suffix := range []string{"amd64", "arm64"} {
			err := b.build(t.Context(), change(t, map[string]string{
				"main.go": calls, "a_" + suffix + ".s": "#include \"" + path + "\"\nTEXT ·f(SB), 4, $0\n\tRET\n",
			}))
			if suffix == runtime.GOARCH && err == nil && path != "/proc/1/environ" { // which is empty
				t.Errorf("%s: it was compiled", path)
			}
			if err != nil && (strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "root")) {
				t.Errorf("%s: it shows %v", path, err)
			}
		}
	}
}

// Outside of a box Go is given no secret, and sees nothing of a change but what its modules are.
func TestWhatIsRunOutside(t *testing.T) {
	bin, _ := machine(t)
	t.Setenv("GOPROXY", "https://proxy.test,direct")
	t.Setenv("GOPRIVATE", "example.org/private")
	t.Setenv("HTTPS_PROXY", "http://proxy.test:3128")
	t.Setenv("GOAUTH", "command")
	log := filepath.Join(t.TempDir(), "log")
	b := open(t)
	write(t, filepath.Join(bin, "go"), "#!/bin/sh\n{ echo \"called $*\"; pwd; find . -type f; env; } >>"+log+"\n"+
		"[ \"$2\" = download ] || exec "+b.command+" \"$@\"\n")
	b.command = filepath.Join(bin, "go")
	folder := change(t, map[string]string{
		"x/go.mod": "module example.org/x\n", "x/x.go": "package x\n", "go.sum": "",
		"go.mod": "module example.org/program\n\ngo 1.26.0\n\nreplace example.org/x => ./x\n",
	})
	if err := b.build(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	calls := strings.Split(string(text), "called ")[1:]
	var commands []string
	for _, call := range calls {
		command, rest, _ := strings.Cut(call, "\n")
		commands = append(commands, command)
		if strings.Contains(rest, canary) || strings.Contains(rest, "GOAUTH") || strings.Contains(rest, folder) {
			t.Errorf("%s: is told %s", command, rest)
		}
		for _, want := range []string{
			"GOPROXY=https://proxy.test", "GONOPROXY=none", "GOVCS=*:off", "GOENV=off", "GOWORK=off", "GOTOOLCHAIN=local",
			"GONOSUMDB=example.org/private", "HTTPS_PROXY=http://proxy.test:3128", "HOME=" + os.Getenv("HOME"),
		} {
			if !strings.Contains(rest, want+"\n") {
				t.Errorf("%s: is not told %s:\n%s", command, want, rest)
			}
		}
		if strings.HasPrefix(command, "mod ") {
			for file := range strings.Lines(rest) {
				if name, isFile := strings.CutPrefix(file, "./"); isFile && !slices.Contains([]string{"go.mod", "go.sum"},
					filepath.Base(strings.TrimSpace(name))) {
					t.Errorf("%s: sees %s", command, name)
				}
			}
		}
	}
	want := []string{"mod edit -json", "mod download", "list -export -f {{.ImportPath}} ."}
	if !slices.Equal(commands, want) {
		t.Errorf("it ran %q, want %q", commands, want)
	}
}

func TestProxies(t *testing.T) {
	for list, want := range map[string]string{
		"https://proxy.example.org,direct":   "https://proxy.example.org",
		"https://one.test|https://two.test":  "https://one.test,https://two.test",
		"direct":                             "off",
		"":                                   "off",
		"off":                                "off",
		"file:///modules, direct":            "file:///modules",
		"https://direct.test/direct |direct": "https://direct.test/direct",
	} {
		if got := proxies(list); got != want {
			t.Errorf("%q: %s, want %s", list, got, want)
		}
	}
}

// A change leaves nothing where the next one is compiled from.
func TestACacheThatNoChangeWritesTo(t *testing.T) {
	machine(t)
	b := open(t)
	if err := b.compileCheckout(t.Context()); err != nil {
		t.Fatal(err)
	}
	files := func() (found []string) {
		err := filepath.WalkDir(b.cache, func(path string, _ fs.DirEntry, err error) error {
			found = append(found, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	before := files()
	if len(before) < 300 {
		t.Errorf("%d files in the cache: the checkout's program is not compiled", len(before))
	}
	folder := change(t, map[string]string{
		"own/own.go": "package own\n\nconst Own = \"" + time.Now().String() + "\"\n",
		"main.go":    "package main\n\nimport \"example.org/program/own\"\n\nfunc main() { println(own.Own) }\n",
	})
	if err := b.build(t.Context(), folder); err != nil {
		t.Fatal(err)
	}
	if after := files(); !slices.Equal(before, after) {
		t.Errorf("%d files in the cache, %d before", len(after), len(before))
	}
}

// A checkout that cannot be compiled does not keep a change from being previewed that repairs it.
func TestACheckoutThatCannotBeCompiled(t *testing.T) {
	machine(t)
	b := open(t)
	b.checkout = change(t, map[string]string{"go.mod": "no module"})
	b.cache = filepath.Join(t.TempDir(), "cache")
	b.fetching = append(b.fetching, "GOCACHE="+b.cache)
	folder := change(t, map[string]string{"main.go": "package main\n\nfunc main() {}\n"})
	if err := b.build(t.Context(), folder); err != nil {
		t.Error(err)
	}
}

// A program that prints or lasts without end is ended, and so is all that it started.
func TestWhatHasNoEndIsEnded(t *testing.T) {
	machine(t)
	b := open(t)
	marker := filepath.Base(t.TempDir()) + "-endless"
	const begin = "package main\n\nimport (\n\t\"os\"\n\t\"time\"\n\t\"bytes\"\n)\n\nfunc main() {\n\t" +
		"go time.Sleep(1)\n\ttext := bytes.Repeat([]byte(\"a\"), 1<<20)\n\t"
	for want, body := range map[string]string{
		"it printed more than 64 MiB": "for {\n\t\t_, _ = os.Stdout.Write(text)\n\t}\n}\n",
		"it lasted longer than 5s":    "for {\n\t\ttime.Sleep(time.Second)\n\t\t_, _ = os.Stderr.Write(text)\n\t}\n}\n",
	} {
		e, err := b.Engine(t.Context(), change(t, map[string]string{"main.go": begin + body}))
		if err != nil {
			t.Fatal(err)
		}
		e.Patience = 5 * time.Second
		_, err = e.Preview(t.Context(), marker)
		var ended bounded.Ended
		if !errors.As(err, &ended) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.500v, want %s", err, want)
		}
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), marker) {
			t.Errorf("still there: %q", text)
		}
	}
	endless := t.TempDir()
	write(t, filepath.Join(endless, "endless"), "")
	_, err = b.Self(t.Context(), "self", endless)
	if err == nil || !strings.Contains(err.Error(), "it printed more than 64 MiB") {
		t.Errorf("Self: %.500v", err)
	}
}

func TestNew(t *testing.T) {
	_, home := machine(t)
	if err := os.RemoveAll(filepath.Join(home, "plugins")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no plugin") {
		t.Errorf("no plugins: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err := New(t.Context(), t.TempDir())
	for _, want := range []string{"bwrap is not in PATH", "install bubblewrap", "pulumi is not in PATH"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no programs: %v, want %s", err, want)
		}
	}
}

// seen is what this program is in a box.
type seen struct {
	Files   map[string]string
	Written []string
	Env     []string
	Root    []string
}

func self(folders []string) {
	for folders[0] == "/box/0" {
		if _, err := os.Stat("/box/0/endless"); err != nil {
			break
		}
		fmt.Println(strings.Repeat("a", 1<<20))
	}
	s := seen{Files: map[string]string{}, Env: os.Environ()}
	for _, folder := range folders {
		text, err := os.ReadFile(filepath.Join(folder, "file"))
		if err != nil {
			fmt.Fprintln(os.Stderr, "the reason:", err)
			os.Exit(1)
		}
		s.Files[folder] = string(text)
		if os.WriteFile(filepath.Join(folder, "written"), nil, 0o600) == nil {
			s.Written = append(s.Written, folder)
		}
	}
	entries, _ := os.ReadDir("/")
	for _, entry := range entries {
		s.Root = append(s.Root, entry.Name())
	}
	environ, _ := os.ReadFile("/proc/1/environ")
	s.Env = append(s.Env, strings.Split(string(environ), "\x00")...)
	_ = json.NewEncoder(os.Stdout).Encode(s)
}

func TestSelf(t *testing.T) {
	machine(t)
	one, two := t.TempDir(), t.TempDir()
	write(t, filepath.Join(one, "file"), "first")
	write(t, filepath.Join(two, "file"), "second")
	b := open(t)
	text, err := b.Self(t.Context(), "self", one, two)
	if err != nil {
		t.Fatal(err)
	}
	var got seen
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"/box/0": "first", "/box/1": "second"}
	if !reflect.DeepEqual(got.Files, want) || len(got.Written) > 0 || strings.Contains(string(text), canary) {
		t.Errorf("got %s", text)
	}
	if !slices.Equal(got.Root, []string{"bin", "box", "dev", "lib", "lib64", "proc", "tmp", "usr"}) {
		t.Errorf("it sees %q", got.Root)
	}
	if _, err := b.Self(t.Context(), "self", t.TempDir()); err == nil || !strings.Contains(err.Error(), "the reason: ") {
		t.Errorf("a failure: %v", err)
	}
}
