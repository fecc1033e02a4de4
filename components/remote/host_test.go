package remote_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"golang.org/x/crypto/ssh"

	"github.com/tinyrack-net/infrastructure/components/internal/pulumitest"
	"github.com/tinyrack-net/infrastructure/components/remote"
	"github.com/tinyrack-net/infrastructure/components/remote/remotetest"
)

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBh1JDqWCz9LDTr6HMcAcH7iw+n9A8EUHBVQCzcwz1Yd"

func newHost() *remote.Host {
	return &remote.Host{
		Name: "box", Domain: "tail.example.ts.net", Owner: "tinyrack/test of example.com", Address: "192.0.2.10", Port: 2222,
		User: "root", HostKey: hostKey, PrivateKey: pulumi.String("canary-key"),
	}
}

// register runs program with one host and returns what it registered.
func register(t *testing.T, program func(*pulumi.Context, *remote.Host) error) *pulumitest.Recording {
	t.Helper()
	recording, err := pulumitest.Run(func(ctx *pulumi.Context) error { return program(ctx, newHost()) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

func run(ctx *pulumi.Context, h *remote.Host, name string, c *remote.Command) error {
	_, err := h.Run(ctx, name, c)
	return err
}

func TestCommandsAreChained(t *testing.T) {
	r := register(t, func(ctx *pulumi.Context, h *remote.Host) error {
		for _, name := range []string{"one", "two"} {
			if err := run(ctx, h, name, &remote.Command{Create: remote.Text{Body: "true"}}); err != nil {
				return err
			}
		}
		h.Joined()
		patient := &remote.Command{Create: remote.Text{Body: "true"}, Dial: remote.Dial{Tries: 3, Timeout: 4}}
		if err := run(ctx, h, "three", patient); err != nil {
			return err
		}
		return h.Hold(ctx)
	})
	for name, want := range map[string]string{"one": "[]", "two": "[one]", "three": "[two]", "hold-box": "[three]"} {
		if got := fmt.Sprint(r.Get(t, name).DependsOn); got != want {
			t.Errorf("%s depends on %s, want %s", name, got, want)
		}
	}
	if !r.Get(t, "hold-box").RPC.GetDeleteBeforeReplace() {
		t.Error("a replaced hold leaves the machine released")
	}
	for name, want := range map[string]string{"two": "192.0.2.10", "three": "box.tail.example.ts.net"} {
		connection := r.Get(t, name).Plain()["connection"].(map[string]any)
		if connection["host"] != want || connection["port"] != 2222.0 || connection["user"] != "root" ||
			connection["hostKey"] != hostKey || connection["privateKey"] != "canary-key" {
			t.Errorf("%s is reached by %v", name, connection)
		}
	}
	if c := r.Get(t, "three").Plain()["connection"].(map[string]any); c["dialErrorLimit"] != 3.0 ||
		c["perDialTimeout"] != 4.0 {
		t.Errorf("the attempts are not bounded: %v", c)
	}
	if !strings.Contains(fmt.Sprint(r.Get(t, "one").Secrets()), "connection") {
		t.Error("the private key is not secret")
	}
}

func TestAClosedHostIsReachedByItsTailnetName(t *testing.T) {
	r := register(t, func(ctx *pulumi.Context, h *remote.Host) error {
		h.Closed = true
		return run(ctx, h, "one", &remote.Command{Create: remote.Text{Body: "true"}})
	})
	if c := r.Get(t, "one").Plain()["connection"].(map[string]any); c["host"] != "box.tail.example.ts.net" {
		t.Errorf("reached by %v", c["host"])
	}
}

// The command and its standard input do what they are for in a real shell, whatever the secret is.
func TestUploadRuns(t *testing.T) {
	for _, secret := range []string{"", "one line\n", "no newline", "'\"$(id)\n\nlast", strings.Repeat("long ", 50000)} {
		for _, user := range []string{"root", "debian"} {
			t.Run(fmt.Sprintf("%s %d", user, len(secret)), func(t *testing.T) {
				h := remotetest.New(t)
				h.Fake("sudo", `[ "$1" = -n ] || exit 1; shift; exec "$@"`)
				h.Write("/etc/tinyrack/owner", "tinyrack/test of example.com, host box\nreleased\n")
				r := register(t, func(ctx *pulumi.Context, host *remote.Host) error {
					host.User = user
					c := &remote.Command{
						Create: remote.Text{Body: `printf '%s|' "$A"; cat`, Vars: []remote.Var{{Name: "A", Value: "it's\n한국어"}}},
						Delete: remote.Text{Body: `printf 'gone|'; cat`}, ReadOnly: true,
					}
					if secret != "" {
						c.Secret = pulumi.String(secret)
					}
					return run(ctx, host, "one", c)
				})
				in := r.Get(t, "one").Plain()
				for key, want := range map[string]string{"create": "it's\n한국어|" + secret, "delete": "gone|" + secret} {
					if got := receive(t, h, in[key].(string), in["stdin"].(string)); got != want {
						t.Errorf("%s: got %q", key, got)
					}
				}
				if left, err := filepath.Glob(filepath.Join(h.Root, "run/tinyrack/script.*")); err != nil || len(left) > 0 {
					t.Errorf("left behind: %q, %v", left, err)
				}
				if secrets := fmt.Sprint(r.Get(t, "one").Secrets()); strings.Contains(secrets, "stdin") != (secret != "") {
					t.Errorf("secret are %s", secrets)
				}
			})
		}
	}
}

// waiting is the number of bytes in a pipe that nobody has read.
func waiting(pipe *os.File) (count int32) {
	const unread = 0x541b // FIONREAD of ioctl_fionread(2)
	_, _, code := syscall.Syscall(syscall.SYS_IOCTL, pipe.Fd(), unread, uintptr(unsafe.Pointer(&count)))
	if code != 0 {
		return 0
	}
	return count
}

// TestUploadIsClosedToOthers looks at the folder that the first upload after a boot makes.
func TestUploadIsClosedToOthers(t *testing.T) {
	h := remotetest.New(t)
	if err := os.RemoveAll(filepath.Join(h.Root, "run")); err != nil {
		t.Fatal(err)
	}
	r := register(t, func(ctx *pulumi.Context, host *remote.Host) error {
		return run(ctx, host, "one", &remote.Command{Create: remote.Text{Body: "true"}, ReadOnly: true})
	})
	in := r.Get(t, "one").Plain()
	receive(t, h, in["create"].(string), in["stdin"].(string))
	if mode := h.Mode("/run/tinyrack"); mode != 0o700 {
		t.Errorf("others may look at the scripts: %v", mode)
	}
}

// TestSudoKeepsTheConnection has a sudo that cleans the environment, as the real one does.
func TestSudoKeepsTheConnection(t *testing.T) {
	const connection = "203.0.113.7 50000 192.0.2.1 22"
	t.Setenv("SSH_CONNECTION", connection)
	h := remotetest.New(t)
	h.Fake("sudo", `[ "$1" = -n ] || exit 1; shift; unset SSH_CONNECTION; exec "$@"`)
	r := register(t, func(ctx *pulumi.Context, host *remote.Host) error {
		host.User = "debian"
		body := `printf '%s' "$SSH_CONNECTION"`
		return run(ctx, host, "one", &remote.Command{Create: remote.Text{Body: body}, ReadOnly: true})
	})
	in := r.Get(t, "one").Plain()
	if got := receive(t, h, in["create"].(string), in["stdin"].(string)); got != connection {
		t.Errorf("the script sees the connection %q", got)
	}
}

// receive runs a command line as sshd would, below the host's root.
func receive(t *testing.T, h *remotetest.Host, line, stdin string) string {
	t.Helper()
	line = strings.ReplaceAll(line, "/run/tinyrack", h.Root+"/run/tinyrack")
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "ROOT="+h.Root, "PATH="+h.Bin()+":"+os.Getenv("PATH"))
	in, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	cmd.Stdin = in
	ended := make(chan struct{})
	defer close(ended)
	// In pieces, as a network delivers them: the next one comes when nothing is left of the one before.
	go func() {
		defer pipe.Close()
		for len(stdin) > 0 {
			n := min(len(stdin), 1000)
			if _, err := pipe.WriteString(stdin[:n]); err != nil {
				return
			}
			stdin = stdin[n:]
			for waiting(pipe) > 0 {
				select {
				case <-ended:
					return
				default:
					runtime.Gosched()
				}
			}
		}
	}()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return string(out)
}

func TestCommandLineIsShortAndTheScriptSpeaksFirst(t *testing.T) {
	r := register(t, func(ctx *pulumi.Context, h *remote.Host) error {
		return run(ctx, h, "one", &remote.Command{Create: remote.Text{Body: `die "the real reason"`}})
	})
	if line := r.Get(t, "one").Plain()["create"].(string); len(line) > 400 || strings.Contains(line, "real reason") {
		t.Errorf("%d bytes: %s", len(line), line)
	}
}

func TestNoSudo(t *testing.T) {
	h := remotetest.New(t)
	h.Fake("sudo", "echo 'sudo: a password is required' >&2; exit 1")
	r := register(t, func(ctx *pulumi.Context, host *remote.Host) error {
		host.User = "debian"
		return run(ctx, host, "one", &remote.Command{Create: remote.Text{Body: "true"}})
	})
	got := h.Run(r.Get(t, "one").Plain()["create"].(string), "")
	if got.Code != 1 || !strings.Contains(got.Stderr, "user debian has no passwordless sudo") {
		t.Errorf("got %+v", got)
	}
}

// The script texts of a command, as they run on the host.
func scripts(t *testing.T, c *remote.Command, name string) (create, remove string) {
	t.Helper()
	r := register(t, func(ctx *pulumi.Context, h *remote.Host) error {
		if name == "hold" {
			return h.Hold(ctx)
		}
		return run(ctx, h, "one", c)
	})
	if name == "hold" {
		name = "hold-box"
	} else {
		name = "one"
	}
	text := r.Get(t, name).Plain()["stdin"].(string)
	at := strings.LastIndex(text, "OWNER=")
	if at <= 0 {
		return text, ""
	}
	return text[:at], text[at:]
}

func TestOwnership(t *testing.T) {
	const ours, other = "tinyrack/test of example.com, host box", "tinyrack/other of example.org, host box"
	const renamed = "tinyrack/test of example.com, host former"
	touch := remote.Text{Body: `touch "$ROOT/touched"`}
	create, remove := scripts(t, &remote.Command{Create: touch, Delete: touch}, "one")
	asking := func(answer string) string {
		body := "main() { released_or_nothing " + answer + "\n" + touch.Body + "\n}\nmain\n"
		_, text := scripts(t, &remote.Command{Create: touch, Delete: remote.Text{Body: body}, OwnGuard: true}, "one")
		return text
	}
	hold, release := scripts(t, nil, "hold")
	look, _ := scripts(t, &remote.Command{Create: touch, ReadOnly: true}, "one")
	for name, tt := range map[string]struct {
		text, before string
		touched      bool
		code         int
		after, says  string
	}{
		"create takes a free machine":    {create, "", true, 0, ours + "\ntaken\n", ""},
		"create takes what was released": {create, ours + "\nreleased\n", true, 0, ours + "\ntaken\n", ""},
		"create keeps what is held":      {create, ours + "\nheld\n", true, 0, ours + "\nheld\n", ""},
		"create refuses another's":       {create, other + "\nheld\n", false, 1, other + "\nheld\n", "belongs to " + other},
		"create refuses another's, " +
			"released": {create, other + "\nreleased\n", false, 1, other + "\nreleased\n", "belongs to " + other},
		"create refuses its own by another name": {
			create, renamed + "\nheld\n", false, 1, renamed + "\nheld\n",
			"this machine is the host former of this stack, the settings call it box",
		},
		"delete under another name": {
			remove, renamed + "\nreleased\n", false, 0, renamed + "\nreleased\n", "nothing was undone",
		},
		"release under another name": {
			release, renamed + "\nheld\n", false, 0, renamed + "\nheld\n", "nothing on it will be undone",
		},
		"look changes nothing":    {look, "", true, 0, "", ""},
		"delete for another host": {asking("true"), ours + "\nheld\n", true, 0, ours + "\nheld\n", ""},
		"delete for none":         {asking("false"), ours + "\nheld\n", false, 0, ours + "\nheld\n", "still held"},
		"delete for another host of another's": {
			asking("true"), other + "\nheld\n", false, 0, other + "\nheld\n", "belongs to " + other,
		},
		"delete for another host with everything": {
			asking("false"), ours + "\nreleased\n", true, 0, ours + "\nreleased\n", "",
		},
		"delete of what is held":     {remove, ours + "\nheld\n", false, 0, ours + "\nheld\n", "still held"},
		"delete of what is taken":    {remove, ours + "\ntaken\n", true, 0, ours + "\ntaken\n", ""},
		"delete of what is released": {remove, ours + "\nreleased\n", true, 0, ours + "\nreleased\n", ""},
		"delete of another's": {
			remove, other + "\nreleased\n", false, 0, other + "\nreleased\n", "belongs to " + other,
		},
		"delete of nobody's": {remove, "", false, 0, "", "belongs to nobody"},
		"delete of what a hold holds": {
			remove, ours + "\nheld\nhold-box\n", false, 0, ours + "\nheld\nhold-box\n", "still held",
		},
		"create keeps what a hold holds": {
			create, ours + "\nheld\nhold-box\n", true, 0, ours + "\nheld\nhold-box\n", "",
		},
		"hold":                  {hold, ours + "\nreleased\n", false, 0, ours + "\nheld\nhold-box\n", "held by"},
		"hold again":            {hold, ours + "\nheld\nhold-box\n", false, 0, ours + "\nheld\nhold-box\n", "held by"},
		"hold what has no name": {hold, ours + "\nheld\n", false, 0, ours + "\nheld\nhold-box\n", "held by"},
		"hold by another name": {
			hold, ours + "\nheld\nhold-a\n", false, 0, ours + "\nheld\nhold-a\nhold-box\n", "held by",
		},
		"release":                  {release, ours + "\nheld\nhold-box\n", false, 0, ours + "\nreleased\n", "released"},
		"release what has no name": {release, ours + "\nheld\n", false, 0, ours + "\nreleased\n", "released"},
		"release by a former name": {
			release, ours + "\nheld\nhold-box\nhold-new\n", false, 0, ours + "\nheld\nhold-new\n", "by hold-new now",
		},
		"release when only another holds": {
			release, ours + "\nheld\nhold-new\n", false, 0, ours + "\nheld\nhold-new\n", "remove its line from",
		},
		"release of another's": {release, other + "\nheld\n", false, 0, other + "\nheld\n", "belongs to " + other},
		"release of nobody's":  {release, "", false, 0, "", "belongs to nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			h := remotetest.New(t)
			if tt.before != "" {
				h.Write("/etc/tinyrack/owner", tt.before)
			}
			r := h.Run(tt.text, "")
			if r.Code != tt.code || !strings.Contains(r.Stderr, tt.says) {
				t.Errorf("got %+v", r)
			}
			if got := h.Read("/etc/tinyrack/owner"); got != tt.after {
				t.Errorf("owner is %q, want %q", got, tt.after)
			}
			if touched := strings.Contains(h.Files(), "/touched"); touched != tt.touched {
				t.Errorf("acted: %v", touched)
			}
		})
	}
	remotetest.ShellCheck(t, create)
	remotetest.ShellCheck(t, hold)
	remotetest.ShellCheck(t, release)
}

func TestOnlyOneScriptAtATime(t *testing.T) {
	h := remotetest.New(t)
	text := render(t, `stat -c %a "$ROOT/run/tinyrack/lock" "$ROOT/run/tinyrack"`)
	h.Fake("flock", `[ "$1" = -w ]`) // taken by another, then free
	r := h.Run(text, "")
	if r.Code != 0 || !strings.Contains(r.Stderr, "waiting for the script of an earlier "+
		"run") || !r.Called("flock -w 900 9") {
		t.Errorf("got %+v", r)
	}
	h.Fake("flock", "exit 1")
	if r := h.Run(text, ""); r.Code == 0 || !strings.Contains(r.Stderr, "another script has been at work") {
		t.Errorf("got %+v", r)
	}
}

func TestLockIsClosedToOthers(t *testing.T) {
	h := remotetest.New(t)
	if err := os.RemoveAll(filepath.Join(h.Root, "run")); err != nil {
		t.Fatal(err)
	}
	if r := h.Run(render(t, "true"), ""); r.Code != 0 {
		t.Fatalf("got %+v", r)
	}
	if mode := h.Mode("/run/tinyrack"); mode != 0o700 {
		t.Errorf("anybody could hold the lock: %v", mode)
	}
}

func TestAptWaitsForItsLocks(t *testing.T) {
	h := remotetest.New(t)
	h.Fake("apt-get", `n=$(cat "$ROOT/tries" 2>/dev/null || echo 0); echo $((n + 1)) >"$ROOT/tries"
[ "$n" -ge 2 ] || { echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 99"; exit 100; }`)
	r := h.Run(render(t, "apt_get update"), "")
	if r.Code != 0 || strings.Count(r.Stderr, "waiting for another apt") != 1 {
		t.Errorf("got %+v", r)
	}
	h.Fake("apt-get", "echo 'E: Failed to fetch'; exit 100")
	if r := h.Run(render(t, "apt_get update"), ""); r.Code == 0 || !strings.Contains(r.Stderr, "Failed to fetch") ||
		len(r.Calls) != 1 {
		t.Errorf("another failure: %+v", r)
	}
	h.Fake("apt-get", "echo 'E: Unable to lock directory /var/lib/apt/lists/'; exit 100")
	h.Fake("date", `n=$(cat "$ROOT/now" 2>/dev/null || echo 0); echo $((n + 100)) >"$ROOT/now"; echo "$n"`)
	if r := h.Run(render(t, "apt_get update"), ""); r.Code == 0 || !strings.Contains(r.Stderr, "Unable to lock") ||
		len(r.Calls) < 5 {
		t.Errorf("a lock that is never free: %+v", r)
	}
}

// rsaKey returns the public line of a new RSA key.
func rsaKey(t *testing.T) string {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := ssh.NewPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

func TestHostIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*remote.Host)
		want   string
	}{
		"name":          {func(h *remote.Host) { h.Name = "Box_1" }, `name: "Box_1" is not a host name`},
		"no address":    {func(h *remote.Host) { h.Address = "" }, "address: missing"},
		"address, port": {func(h *remote.Host) { h.Address = "192.0.2.1:22" }, "address: \"192.0.2.1:22\" is neither"},
		"long address":  {func(h *remote.Host) { h.Address = strings.Repeat("a.", 126) + "aa" }, "address: \"a.a."},
		"port":          {func(h *remote.Host) { h.Port = 0 }, "port: 0 is not a port"},
		"port too high": {func(h *remote.Host) { h.Port = 65536 }, "port: 65536 is not a port"},
		"user":          {func(h *remote.Host) { h.User = "Root" }, `user: "Root" is not a login name`},
		"no host key":   {func(h *remote.Host) { h.HostKey = "" }, "hostKey: missing"},
		"fingerprint":   {func(h *remote.Host) { h.HostKey = "SHA256:canary" }, "hostKey: not a public key"},
		"two keys":      {func(h *remote.Host) { h.HostKey = hostKey + "\n" + hostKey }, "hostKey: not a public key"},
		"RSA":           {func(h *remote.Host) { h.HostKey = rsaKey(t) }, "hostKey: an RSA key"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost()
			tt.change(h)
			if err := h.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) ||
				strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v", err)
			}
		})
	}
	longest := strings.Repeat("a.", 126) + "a"
	for name, change := range map[string]func(*remote.Host){
		"as it should be":    func(*remote.Host) {},
		"the lowest port":    func(h *remote.Host) { h.Port = 1 },
		"the highest port":   func(h *remote.Host) { h.Port = 65535 },
		"the longest name":   func(h *remote.Host) { h.Address = longest },
		"an address of IPv6": func(h *remote.Host) { h.Address = "2001:db8::1" },
	} {
		h := newHost()
		change(h)
		if err := h.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&remote.Host{}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("not all problems at once: %v", err)
	}
}
