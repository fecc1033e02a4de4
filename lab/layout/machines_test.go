package layout

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestHostsThatCanBeNoMachines(t *testing.T) {
	settings := filepath.Join(t.TempDir(), "settings.yaml")
	for text, want := range map[string][]string{
		"config: {}": {"no tinyrack:hosts: there is no machine to start"},
		"config: [":  {"settings.yaml: "},
		`config: {"tinyrack:hosts": {a: {address: 192.0.2.1}, b: {address: ""}}}`: {
			`hosts.a.address: "192.0.2.1" is not in 10.77.0.0/24`, `hosts.b.address: "" is not in 10.77.0.0/24`,
		},
		`config: {"tinyrack:hosts": {a: {address: 10.77.0.1}, b: {address: 10.77.0.2}}}`: {
			"hosts.a.address: 10.77.0.1 is that of the lab's services",
			"hosts.b.address: 10.77.0.2 is that of the operator's device",
		},
		`config: {"tinyrack:hosts": {a: {address: 10.77.0.9}, b: {address: 10.77.0.9}}}`: {"10.77.0.9 is that of host "},
	} {
		if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := machinesOf(settings)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: got %v, want %s", text, err, part)
			}
		}
	}
}

// A machine is found as long as anything of it is there, by the settings or without them.
func TestMachinesThatWereMade(t *testing.T) {
	one := Machine{Name: "one", IPv4: "10.77.0.11", Roles: []string{"server"}}
	two := Machine{Name: "two", IPv4: "10.77.0.9", Roles: []string{"agent"}}
	l := Layout{State: t.TempDir(), Machines: []Machine{one}}
	if made := l.Made(); len(made) != 0 {
		t.Errorf("nothing was made: %v", made)
	}
	for _, m := range []Machine{one, two} {
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(l.Machine(m), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.Record(m), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if made := l.Made(); !reflect.DeepEqual(made, []Machine{two, one}) {
		t.Errorf("made %v", made)
	}
	if left := l.Left(); !reflect.DeepEqual(left, []Machine{two}) {
		t.Errorf("left %v", left)
	}
	want := "headscale clouds tinyrack-operator s3 gitea machine-one machine-two"
	if got := strings.Join(l.Processes(), " "); got != want {
		t.Errorf("processes %s, want %s", got, want)
	}
	// Whoever knows the state alone, as the next checkout does, finds the same.
	if got := strings.Join((Layout{State: l.State}).Processes(), " "); !strings.HasSuffix(got, "machine-two machine-one") {
		t.Errorf("processes %s", got)
	}
}
