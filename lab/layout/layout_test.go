package layout

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	checkout, cache := t.TempDir(), t.TempDir()
	inside := filepath.Join(checkout, "lab", "deep")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(checkout, "Pulumi.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("TINYRACK_LAB_STATE", "")
	t.Chdir(inside)
	got, err := Find()
	want := Layout{Checkout: checkout, State: "/var/lib/tinyrack-lab", Cache: filepath.Join(cache, "tinyrack-lab")}
	if err != nil || got != want {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	t.Setenv("TINYRACK_LAB_STATE", "/elsewhere")
	if got, err := Find(); err != nil || got.Kubeconfig() != "/elsewhere/kubeconfig" {
		t.Errorf("a moved state: %+v, %v", got, err)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "set HOME or XDG_CACHE_HOME") {
		t.Errorf("no place for a cache: %v", err)
	}
	t.Chdir(t.TempDir())
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "no Pulumi.yaml in this folder or above it") {
		t.Errorf("outside of a checkout: %v", err)
	}
}

// What a lab keeps lies below its state, so that `down` takes all of it, and no two things are in one place.
func TestPathsAreBelowTheState(t *testing.T) {
	l := Layout{Checkout: "/checkout", State: "/state", Cache: "/cache"}
	seen := map[string]string{}
	v := reflect.ValueOf(l)
	for i := range v.NumMethod() {
		method := v.Type().Method(i)
		if method.Type.NumIn() != 1 {
			continue // Path and Machine, below
		}
		path := v.Method(i).Call(nil)[0].String()
		if !strings.HasPrefix(path, "/state/") {
			t.Errorf("%s is %s", method.Name, path)
		}
		if other, taken := seen[path]; taken {
			t.Errorf("%s and %s are both %s", method.Name, other, path)
		}
		seen[path] = method.Name
	}
	if len(seen) < 10 {
		t.Fatalf("only %d paths were looked at", len(seen))
	}
	if got := l.Machine(Machine{Name: "one"}); got != "/state/machines/one" || l.Path("a", "b") != "/state/a/b" {
		t.Errorf("a machine's folder is %s, a path %s", got, l.Path("a", "b"))
	}
}

func TestPublicIPv6(t *testing.T) {
	for ipv4, want := range map[string]string{HostIP: "fd77:0:0:1::1", "10.77.0.110": "fd77:0:0:1::110"} {
		// As programs print it, so that it is found in what they print.
		if got := PublicIPv6(ipv4); got != want || netip.MustParseAddr(got).String() != got {
			t.Errorf("%s goes with %s, want %s", ipv4, got, want)
		}
	}
}

func TestMachinesDifferInEverythingThatIsTheHosts(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range Machines {
		for _, value := range []string{
			"name " + m.Name, "namespace " + m.Namespace, "address " + m.IPv4, "address " + m.IPv6, "process " + m.Process(),
		} {
			if seen[value] || strings.HasSuffix(value, " ") {
				t.Errorf("%+v: %q is empty or taken", m, value)
			}
			seen[value] = true
		}
		if len(m.Roles) == 0 {
			t.Errorf("%s has no role", m.Name)
		}
	}
	processes := Processes()
	if want := "headscale clouds tinyrack-operator s3 gitea machine-tinyrack"; strings.Join(processes, " ") != want {
		t.Errorf("processes %v, want %s", processes, want)
	}
}
