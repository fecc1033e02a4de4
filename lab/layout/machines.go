package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// Public is the network of the public side.
var Public = netip.MustParsePrefix("10.77.0.0/24")

// Machine is one of the lab's bare hosts.
type Machine struct {
	// Name is the host name; the stack's settings know the machine by it.
	Name string
	// IPv4 is its public address.
	IPv4 string
	// Roles are server, agent and storage, as in the stack's settings.
	Roles []string
}

// IPv6 is its other public address.
func (m Machine) IPv6() string { return PublicIPv6(m.IPv4) }

// Namespace is the network namespace in which the machine boots, and its name for its supervisor and its control
// groups.
func (m Machine) Namespace() string { return "tinyrack-lab-" + m.Name }

// Process is the name of the machine's process for the runner.
func (m Machine) Process() string { return "machine-" + m.Name }

// FQDN is the machine's name in the tailnet.
func (m Machine) FQDN() string { return m.Name + "." + TailnetDomain }

// machinesOf are the hosts of the settings in the file, by their addresses: the stack's settings are the one list of
// machines. Whatever else is wrong with them is the program's to say.
func machinesOf(settings string) ([]Machine, error) {
	text, err := os.ReadFile(settings) //nolint:gosec // the checkout's own file, or the caller's
	if err != nil {
		return nil, fmt.Errorf("the settings of the lab's stack: %w", err)
	}
	var doc struct {
		Config struct {
			Hosts map[string]struct {
				Address string   `json:"address"`
				Roles   []string `json:"roles"`
			} `json:"tinyrack:hosts"`
		} `json:"config"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("%s: %w", settings, err)
	}
	var machines []Machine
	var problems []error
	users := map[netip.Addr]string{
		netip.MustParseAddr(HostIP): "the lab's services", netip.MustParseAddr(OperatorIP): "the operator's device",
	}
	for name, host := range doc.Config.Hosts {
		addr, err := netip.ParseAddr(host.Address)
		switch {
		case err != nil || !Public.Contains(addr):
			problems = append(problems, fmt.Errorf("%s: hosts.%s.address: %q is not in %s: no such machine can be made: the "+
				"lab's machines have addresses of that network", settings, name, host.Address, Public))
		case users[addr] != "":
			problems = append(problems, fmt.Errorf("%s: hosts.%s.address: %s is that of %s: neither could be reached: take "+
				"another one of %s", settings, name, addr, users[addr], Public))
		}
		users[addr] = "host " + name
		machines = append(machines, Machine{Name: name, IPv4: host.Address, Roles: host.Roles})
	}
	if len(machines) == 0 {
		problems = append(problems, fmt.Errorf("%s: no tinyrack:hosts: there is no machine to start: name at least one",
			settings))
	}
	slices.SortFunc(machines, byAddress)
	return machines, errors.Join(problems...)
}

func byAddress(a, b Machine) int {
	first, _ := netip.ParseAddr(a.IPv4)
	second, _ := netip.ParseAddr(b.IPv4)
	return first.Compare(second)
}

// Made are the machines of which the lab has made anything, whether the settings still name them or not.
func (l Layout) Made() []Machine {
	files, _ := filepath.Glob(l.Record(Machine{Name: "*"})) // the pattern is a good one
	var made []Machine
	for _, file := range files {
		var m Machine
		if text, err := os.ReadFile(file); err == nil && json.Unmarshal(text, &m) == nil { //nolint:gosec // our own file
			made = append(made, m)
		}
	}
	slices.SortFunc(made, byAddress)
	return made
}

// Left are the machines that were made and that the settings do not name any more.
func (l Layout) Left() []Machine {
	return slices.DeleteFunc(l.Made(), func(made Machine) bool {
		return slices.ContainsFunc(l.Machines, func(m Machine) bool { return m.Name == made.Name })
	})
}

// Processes are the lab's long-lived processes, in the order in which they start.
func (l Layout) Processes() []string {
	names := []string{HeadscaleProcess, CloudsProcess, Operator, S3Process, GitProcess}
	for _, m := range slices.Concat(l.Machines, l.Left()) {
		names = append(names, m.Process())
	}
	return names
}
