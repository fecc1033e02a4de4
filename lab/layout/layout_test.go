package layout

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const twoHosts = `config:
  tinyrack:hosts:
    one: {address: 10.77.0.11, roles: [agent, storage]}
    zero: {address: 10.77.0.9, roles: [server], port: 22}
`

func TestFind(t *testing.T) {
	checkout, cache := t.TempDir(), t.TempDir()
	inside := filepath.Join(checkout, "lab", "deep")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	settings := filepath.Join(checkout, "Pulumi.lab.yaml")
	for path, text := range map[string]string{filepath.Join(checkout, "Pulumi.yaml"): "", settings: twoHosts} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("TINYRACK_LAB_STATE", "/nowhere")
	t.Setenv("TINYRACK_LAB_SITE", "")
	t.Chdir(inside)
	got, err := Find()
	want := Layout{
		Checkout: checkout, State: "/nowhere", Cache: filepath.Join(cache, "tinyrack-lab"), Stack: "lab", Settings: settings,
		Machines: []Machine{
			{Name: "zero", IPv4: "10.77.0.9", Roles: []string{"server"}},
			{Name: "one", IPv4: "10.77.0.11", Roles: []string{"agent", "storage"}},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v (%v), want %+v", got, err, want)
	}
	other := filepath.Join(t.TempDir(), "other.yaml")
	t.Setenv("TINYRACK_LAB_SETTINGS", other)
	if _, err := Find(); err == nil || !strings.Contains(err.Error(), "the settings of the lab's stack: open "+other) {
		t.Errorf("without its settings: %v", err)
	}
	if err := os.WriteFile(other, []byte(strings.ReplaceAll(twoHosts, "zero", "other")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Find(); err != nil || got.Settings != other || got.Machines[0].Name != "other" {
		t.Errorf("other settings: %+v, %v", got, err)
	}
	t.Setenv("TINYRACK_LAB_SETTINGS", "")
	t.Setenv("TINYRACK_LAB_STATE", "/elsewhere")
	if got, err := Find(); err != nil || got.Kubeconfig() != "/elsewhere/kubeconfig" {
		t.Errorf("a moved state: %+v, %v", got, err)
	}
	t.Setenv("TINYRACK_LAB_STATE", "")
	if got, err := Find(); err != nil || got.State != "/var/lib/tinyrack-lab" {
		t.Errorf("the usual state: %+v, %v", got, err)
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

// The site is the one that is named, or the one that the lab holds.
func TestFindTheSite(t *testing.T) {
	checkout, state := t.TempDir(), t.TempDir()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("TINYRACK_LAB_STATE", state)
	t.Setenv("TINYRACK_LAB_SETTINGS", "")
	t.Chdir(checkout)
	for _, name := range []string{"Pulumi.yaml", "Pulumi.acme.yaml", "Pulumi.lab.yaml"} {
		if err := os.WriteFile(filepath.Join(checkout, name), []byte(twoHosts), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ named, held, stack, refused string }{
		"nobody says":           {stack: "lab"},
		"named":                 {named: "acme", stack: "acme"},
		"held":                  {held: "acme", stack: "acme"},
		"the same":              {named: "acme", held: "acme", stack: "acme"},
		"another":               {named: "lab", held: "acme", stack: "lab"}, // the host's mark refuses it
		"held, and gone":        {held: "gone", stack: "gone"},
		"held, gone, and named": {named: "gone", held: "gone", stack: "gone"},
		"unknown": {
			named: "none", refused: "there is no Pulumi.none.yaml: the lab has no such site to run: name one of acme, lab",
		},
		"unknown beside": {named: "none", held: "acme", refused: "there is no Pulumi.none.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TINYRACK_LAB_SITE", test.named)
			if err := os.WriteFile(Layout{State: state}.Mark(), []byte(test.held), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Find()
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("got %v", err)
				}
				return
			}
			settings := filepath.Join(checkout, "Pulumi."+test.stack+".yaml")
			if err != nil || got.Stack != test.stack || got.Settings != settings || (len(got.Machines) == 0) !=
				(test.stack == "gone") {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestStacksAreThoseOfTheCheckout(t *testing.T) {
	dir := t.TempDir()
	if _, err := Stacks(dir); err == nil {
		t.Error("a checkout without a stack is no error")
	}
	for _, name := range []string{"Pulumi.yaml", "Pulumi.acme.yaml", "Pulumi.lab.yaml", "other.yaml"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Stacks(dir); err != nil || !slices.Equal(got, []string{"acme", "lab"}) {
		t.Errorf("stacks %v, %v", got, err)
	}
}

// What a lab keeps lies below its state, so that `down` takes all of it, and no two things are in one place.
func TestPathsAreBelowTheState(t *testing.T) {
	l := Layout{Checkout: "/checkout", State: "/state", Cache: "/cache"}
	seen := map[string]string{}
	v := reflect.ValueOf(l)
	for i := range v.NumMethod() {
		method := v.Type().Method(i)
		if method.Type.NumIn() != 1 || method.Type.Out(0).Kind() != reflect.String {
			continue // those of a machine, below, and lists
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
	if got := l.Machine(Machine{Name: "one"}); got != "/state/machines/one" || l.Path("a", "b") != "/state/a/b" ||
		l.Record(Machine{Name: "one"}) != "/state/machines/one/machine.json" {
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
