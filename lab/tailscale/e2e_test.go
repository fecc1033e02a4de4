//go:build e2e

package tailscale_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
	"github.com/tinyrack-net/infrastructure/lab/layout"
	"github.com/tinyrack-net/infrastructure/lab/machine"
	"github.com/tinyrack-net/infrastructure/lab/process"
	"github.com/tinyrack-net/infrastructure/lab/tailscale"
	"github.com/tinyrack-net/infrastructure/lab/tailscale/headscale"
)

// What the test's own program does when it is started again.
const (
	inside = "TAILNET_TEST_INSIDE" // runs the tests, in namespaces that end with it
	listen = "TAILNET_TEST_LISTEN" // listens on these ports
	dial   = "TAILNET_TEST_DIAL"   // opens one connection
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(listen) != "":
		for port := range strings.SplitSeq(os.Getenv(listen), ",") {
			l, err := net.Listen("tcp", ":"+port)
			if err != nil {
				panic(err)
			}
			go func() {
				for {
					if conn, err := l.Accept(); err == nil {
						_ = conn.Close()
					}
				}
			}()
		}
		fmt.Println("listening")
		select {}
	case os.Getenv(dial) != "":
		conn, err := net.DialTimeout("tcp", os.Getenv(dial), 2*time.Second)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_ = conn.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// world is a tailnet in namespaces of the test's own.
type world struct {
	*cloud
	t         *testing.T
	headscale *headscale.Client
	devices   *machine.Devices
	keys      int
	nextKey   string // used instead of a new one
	self      string
}

// DeviceKey makes a key as the program does, through the cloud's API, and one for a person's device through headscale.
func (w *world) DeviceKey(ctx context.Context, login string, tags ...string) (string, error) {
	w.keys++
	if w.nextKey != "" {
		return w.nextKey, nil
	}
	if login != "" {
		return w.headscale.DeviceKey(ctx, login)
	}
	_, key := w.key(tags...)
	return key, nil
}

func (w *world) DeleteNode(ctx context.Context, id string) error {
	return w.headscale.DeleteNode(ctx, id)
}

func (w *world) key(tags ...string) (id, secret string) {
	w.t.Helper()
	text, _ := json.Marshal(tags)
	got := w.api(w.t, http.MethodPost, tailnet+"/keys",
		`{"capabilities":{"devices":{"create":{"preauthorized":true,"tags":`+string(text)+`}}},"expirySeconds":600}`)
	return got.json["id"].(string), got.json["key"].(string)
}

func (w *world) start(d machine.Device) {
	w.t.Helper()
	began := time.Now()
	if err := w.devices.Start(w.t.Context(), d); err != nil {
		w.t.Fatal(err)
	}
	w.t.Logf("%s joined in %s", d.Name, time.Since(began).Round(time.Millisecond))
}

func (w *world) status(d machine.Device) machine.Status {
	w.t.Helper()
	now, err := w.devices.Status(w.t.Context(), d)
	if err != nil {
		w.t.Fatal(err)
	}
	return now
}

// reaches tries once to open a connection.
func (w *world) reaches(from machine.Device, to string) error {
	cmd := machine.Exec(w.t.Context(), from.Name, w.self)
	cmd.Env = append(os.Environ(), dial+"="+to)
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// eventually waits for a change to arrive.
func (w *world) eventually(what string, check func() error) {
	w.t.Helper()
	began := time.Now()
	for {
		err := check()
		if err == nil {
			w.t.Logf("%s after %s", what, time.Since(began).Round(10*time.Millisecond))
			return
		}
		if time.Since(began) > 10*time.Second {
			w.t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (w *world) device(name string) map[string]any {
	w.t.Helper()
	var answer struct{ Devices []map[string]any }
	if err := json.Unmarshal([]byte(w.api(w.t, http.MethodGet, tailnet+"/devices", "").text), &answer); err != nil {
		w.t.Fatal(err)
	}
	for _, d := range answer.Devices {
		if d["name"] == name+"."+tailscale.DefaultDomain {
			return d
		}
	}
	return nil
}

const realPolicy = `{
	// Comments, and tests whose ends have no device yet, as the program writes them.
	"groups": {"group:admins": ["admin@lab.test"]},
	"tagOwners": {"tag:lab": ["group:admins"], "tag:lab-server": ["tag:lab"], "tag:lab-storage": ["tag:lab"]},
	"grants": [
		{"src": ["group:admins"], "dst": ["tag:lab-server"], "ip": ["tcp:2201"]},
		{"src": ["tag:lab-storage"], "dst": ["tag:lab-server"], "ip": ["tcp:2202"]},
		{"src": ["autogroup:admin"], "dst": ["*"], "ip": ["*"]},
	],
	"tests": [{"src": "admin@lab.test", "accept": ["tag:lab-server:2201"], 
		"deny": ["tag:lab-server:2202", "tag:lab-storage:2201"]}],
	"ssh": [{"action": "accept", "src": ["group:admins"], "dst": ["tag:lab-server"], "users": ["root"]}],
}
`

// TestARealTailnet runs the emulated API in front of headscale, with real clients. It needs root. Everything is in a
// network, a mount and a process namespace that end with the test, so that the names and addresses can be the lab's
// own.
func TestARealTailnet(t *testing.T) {
	if os.Getenv(inside) == "" {
		scratch := t.TempDir() // a file system of its own inside
		before := hostState(t)
		cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
			"--mount-proc", "sh", "-euc", `
			ip link set lo up
			mkdir -p /run/netns; mount -t tmpfs tailnet-test /run/netns
			mount -t tmpfs tailnet-test "$1"; mkdir "$1/upper" "$1/work"
			mount -t overlay tailnet-test -o "lowerdir=/etc,upperdir=$1/upper,workdir=$1/work" /etc
			shift; exec "$@"`, "sh", scratch, os.Args[0], "-test.run=^TestARealTailnet$", "-test.v", "-test.timeout=3m")
		cmd.Env = append(os.Environ(), inside+"="+scratch)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
		if after := hostState(t); after != before {
			t.Errorf("the host is not as it was:\n%s\nbefore:\n%s", after, before)
		}
		return
	}
	ctx := t.Context()
	dir := os.Getenv(inside)
	if err := machine.MakeNetwork(ctx, layout.Layout{State: dir}); err != nil {
		t.Fatal(err)
	}
	cacheAt, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := artifacts.Open(filepath.Join(cacheAt, "tinyrack-lab"))
	if err != nil {
		t.Fatal(err)
	}
	clientProgram, controlProgram, err := cache.Tailnet(ctx)
	if err != nil {
		t.Fatal(err)
	}
	runner := process.Runner{Dir: filepath.Join(dir, "run"), Logs: filepath.Join(dir, "logs")}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(runner.Logs, "*"))
			for _, log := range logs {
				text, _ := os.ReadFile(log)
				t.Logf("%s:\n%s", log, text[max(0, len(text)-3000):])
			}
		}
	})
	ca, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	certificate(t, ca, key)
	server := &headscale.Server{
		Dir: filepath.Join(dir, "headscale"), Program: controlProgram, Address: layout.HostIP,
		Domain:      tailscale.DefaultDomain,
		Certificate: ca, CertificateKey: key, CA: ca,
	}
	began := time.Now()
	for range 2 { // again: nothing changes
		if err := server.Start(ctx, runner); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = server.Stop(context.Background(), runner) })
	t.Logf("headscale after %s", time.Since(began).Round(time.Millisecond))
	w := &world{t: t, cloud: &cloud{}}
	if w.headscale, err = server.Client(); err != nil {
		t.Fatal(err)
	}
	if w.self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	api, err := tailscale.New(filepath.Join(dir, "cloud"), tailscale.Options{Control: w.headscale})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(api)
	t.Cleanup(listener.Close)
	w.Server, w.url = api, listener.URL
	w.token = w.newToken(t)
	w.devices = &machine.Devices{
		Dir: filepath.Join(dir, "devices"), Runner: runner, Program: clientProgram, LoginServer: server.URL(), CA: ca,
		Domain: tailscale.DefaultDomain, Tailnet: w,
	}
	w.api(t, http.MethodPost, tailnet+"/acl", realPolicy)

	site := machine.Device{Name: "site", Address: "10.77.0.21", Tags: []string{"tag:lab-server"}}
	operator := machine.Operator
	member := machine.Device{Name: "member", Address: "10.77.0.22", User: "member@lab.test"}
	storage := machine.Device{Name: "storage", Address: "10.77.0.23", Tags: []string{"tag:lab-storage"}}
	for _, d := range []machine.Device{site, operator, member, storage} {
		w.start(d)
	}
	listening := machine.Exec(ctx, site.Name, w.self)
	listening.Env = append(os.Environ(), listen+"=2201,2202")
	listening.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := listening.Start(); err != nil {
		t.Fatal(err)
	}

	t.Run("what the API says of the devices", func(t *testing.T) {
		d := w.device("site")
		tags, _ := d["tags"].([]any)
		if d == nil || d["hostname"] != "site" || len(tags) != 1 || tags[0] != "tag:lab-server" ||
			d["connectedToControl"] != true ||
			d["keyExpiryDisabled"] != true || d["addresses"].([]any)[0] != w.status(site).Self.TailscaleIPs[0] {
			t.Errorf("site: %v", d)
		}
		d = w.device(operator.Name)
		if d["user"] != operator.User || d["tags"] != nil || d["keyExpiryDisabled"] != false {
			t.Errorf("operator: %v", d)
		}
		if tailnet := w.status(site).CurrentTailnet; tailnet.MagicDNSSuffix != tailscale.DefaultDomain {
			t.Errorf("site is in %+v", tailnet)
		}
		if self := w.status(site).Self; self.DNSName != "site.tail.lab.test." || !slices.Equal(self.Tags, site.Tags) ||
			self.ID != w.device("site")["id"] {
			t.Errorf("site says it is %+v", self)
		}
	})

	t.Run("the policy is enforced", func(t *testing.T) {
		w.t = t
		w.eventually("operator to site by MagicDNS", func() error {
			return w.reaches(operator,
				"site.tail.lab.test:2201")
		})
		for _, test := range []struct {
			from  machine.Device
			to    string
			admit bool
		}{
			{operator, "site:2201", true},
			{operator, "site:2202", false},
			{member, "site:2201", false},
			{member, "site:2202", false},
			{storage, "site:2202", true},
			{storage, "site:2201", false},
		} {
			if err := w.reaches(test.from, test.to); (err == nil) != test.admit {
				t.Errorf("%s to %s: %v", test.from.Name, test.to, err)
			}
		}
		w.api(t, http.MethodPost, tailnet+"/acl", strings.Replace(realPolicy, `{"src": ["group:admins"]`,
			`{"src": ["autogroup:member"]`, 1))
		w.eventually("a changed policy holds", func() error { return w.reaches(member, "site:2201") })
		w.api(t, http.MethodPost, tailnet+"/acl", realPolicy)
		w.eventually("a policy put back holds", func() error {
			if w.reaches(member, "site:2201") == nil {
				return errors.New("still admitted")
			}
			return nil
		})
	})

	t.Run("a namesake gets a suffix", func(t *testing.T) {
		w.t = t
		second := machine.Device{Name: "second", Hostname: "site", Address: "10.77.0.24", Tags: site.Tags}
		w.start(second)
		if self := w.status(second).Self; self.DNSName != "site-1.tail.lab.test." {
			t.Errorf("the second site is %s", self.DNSName)
		}
		if w.device("site") == nil || w.device("site-1") == nil || w.device("site-1")["hostname"] != "site" {
			t.Errorf("devices: %v %v", w.device("site"), w.device("site-1"))
		}
		w.api(t, http.MethodPost, "/api/v2/device/"+w.device("site-1")["nodeId"].(string)+"/name", `{"name":"other"}`)
		w.eventually("the new name", func() error {
			if name := w.status(second).Self.DNSName; name != "other.tail.lab.test." {
				return errors.New(name)
			}
			return nil
		})
		w.api(t, http.MethodPost, "/api/v2/device/"+w.device("other")["nodeId"].(string)+"/expire", "")
		w.eventually("an expired device is logged out", func() error {
			if state := w.status(second).BackendState; state != "NeedsLogin" {
				return errors.New(state)
			}
			return nil
		})
		w.api(t, http.MethodDelete, "/api/v2/device/"+w.device("other")["nodeId"].(string), "")
		if w.device("other") != nil {
			t.Error("deleted, and still listed")
		}
		if err := w.devices.Stop(ctx, second); err != nil {
			t.Error(err)
		}
	})

	t.Run("a rebuilt machine takes its name when it is free", func(t *testing.T) {
		w.t = t
		dead := machine.Device{Name: "dead", Hostname: "rebuilt", Address: "10.77.0.26", Tags: site.Tags}
		alive := machine.Device{Name: "alive", Hostname: "rebuilt", Address: "10.77.0.27", Tags: site.Tags}
		w.start(dead)
		w.start(alive)
		w.api(t, http.MethodDelete, "/api/v2/device/"+w.device("rebuilt")["nodeId"].(string), "")
		// The server looks at a name again only when it changes.
		for _, name := range []string{"renaming", "rebuilt"} {
			if err := w.devices.Tailscale(ctx, alive.Name, "set", "--hostname="+name).Run(); err != nil {
				t.Fatal(err)
			}
			w.eventually("the name "+name, func() error {
				if is := w.status(alive).Self.DNSName; is != name+"."+tailscale.DefaultDomain+"." {
					return errors.New(is)
				}
				return nil
			})
		}
		out, err := w.devices.Tailscale(ctx, alive.Name, "debug", "prefs").Output()
		if err != nil || !strings.Contains(string(out), `"ControlURL": "`+server.URL()+`"`) {
			t.Errorf("the login server is not shown: %v %s", err, out)
		}
		for _, d := range []machine.Device{dead, alive} {
			if err := w.devices.Stop(ctx, d); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("keys", func(t *testing.T) {
		w.t = t
		defer func() { w.nextKey = "" }()
		id, revoked := w.key("tag:lab-server")
		w.api(t, http.MethodDelete, tailnet+"/keys/"+id, "")
		once, used := w.key("tag:lab-storage")
		late := machine.Device{Name: "late", Address: "10.77.0.25"}
		w.nextKey = used
		w.start(late)
		if got := w.api(t, http.MethodGet, tailnet+"/keys/"+once, ""); got.json["invalid"] != true {
			t.Errorf("a used key: %s", got.text)
		}
		if err := w.devices.Stop(ctx, late); err != nil {
			t.Error(err)
		}
		for what, key := range map[string]string{"revoked": revoked, "used": used} {
			w.nextKey = key
			began := time.Now()
			if err := w.devices.Start(ctx, late); err == nil {
				t.Errorf("a %s key let a device in", what)
			} else {
				t.Logf("%s: %v after %s", what, err, time.Since(began).Round(time.Millisecond))
			}
			if err := w.devices.Stop(ctx, late); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("a device that is in stays who it is", func(t *testing.T) {
		w.t = t
		before, keys := w.status(site).Self, w.keys
		w.start(site)
		_, other := w.key("tag:lab-storage")
		out, err := w.devices.Tailscale(ctx, site.Name, "up", "--reset", "--accept-dns=false", "--timeout=10s",
			"--hostname=site", "--login-server="+server.URL(), "--auth-key="+other).CombinedOutput()
		if err != nil {
			t.Errorf("up with a key for other tags: %v %s", err, out)
		}
		if err := errors.Join(server.Stop(ctx, runner), server.Start(ctx, runner)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(runner.PID(operator.Name), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		id := w.device(operator.Name)["id"]
		w.start(operator)
		w.eventually("operator to site after both daemons were killed", func() error {
			return w.reaches(operator, "site:2201")
		})
		after := w.status(site)
		if w.keys != keys || after.Self.ID != before.ID || !slices.Equal(after.Self.Tags, before.Tags) {
			t.Errorf("site was %+v and is %+v", before, after.Self)
		}
		if w.device(operator.Name)["id"] != id || w.keys != keys {
			t.Errorf("operator was %v, is %v, with %d keys", id, w.device(operator.Name)["id"], w.keys-keys)
		}
	})

	w.t = t
	for range 2 { // again: nothing is left to do
		if err := w.devices.Stop(ctx, site); err != nil {
			t.Error(err)
		}
	}
	if d := w.device("site"); d != nil {
		t.Errorf("the tailnet still knows %v", d)
	}
	for range 2 {
		if err := w.devices.Remove(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := machine.RemoveNetwork(ctx); err != nil {
		t.Error(err)
	}
	for what, command := range map[string]string{
		"links": "ip -o link | grep -v ' lo:'", "namespaces": "ip netns",
		"files": "find /etc/netns " + w.devices.Dir + " -mindepth 1",
	} {
		if out, _ := exec.CommandContext(ctx, "sh", "-c",
			command).Output(); len(out) > 0 {
			t.Errorf("%s are left: %s", what, out)
		}
	}
}

// hostState is what the test must not change of the host.
func hostState(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c",
		"cat /etc/resolv.conf; ls /etc/resolv*; ip rule; ip route show table 52 2>/dev/null || true").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// certificate makes a server certificate that is its own authority.
func certificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tailnet test"},
		IPAddresses: []net.IP{net.ParseIP(layout.HostIP)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile:  {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
