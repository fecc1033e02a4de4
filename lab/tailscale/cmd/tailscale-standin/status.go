package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// statusJSON has the names of the real command's output, as far as scripts read it.
type statusJSON struct {
	Version        string
	BackendState   string // NeedsLogin, Stopped or Running
	TailscaleIPs   []string
	Self           *selfJSON
	MagicDNSSuffix string
	Health         []string
}

type selfJSON struct {
	ID           string
	HostName     string
	DNSName      string // with a dot at its end
	TailscaleIPs []string
	Tags         []string
	Online       bool // the address is on the interface
}

func (st *state) backend() string {
	switch {
	case st.Address == "":
		return "NeedsLogin"
	case !st.WantRunning:
		return "Stopped"
	}
	return "Running"
}

func (c *client) status(args []string) error {
	flags := newFlags("status")
	asJSON := flags.Bool("json", false, "output in JSON format")
	if err := c.parse(flags, args); err != nil {
		return err
	}
	st, err := c.load()
	if err != nil {
		return err
	}
	if *asJSON {
		return c.printJSON(st)
	}
	switch st.backend() {
	case "NeedsLogin":
		return errors.New("Logged out.") //nolint:staticcheck,revive // the wording of the real command
	case "Stopped":
		return errors.New("Tailscale is stopped.") //nolint:staticcheck,revive // the wording of the real command
	}
	hostname, _, _ := strings.Cut(st.DNSName, ".")
	_, err = fmt.Fprintf(c.stdout, "%-15s %-20s tagged-devices  linux  -\n\n# %s\n", st.Address, hostname, notice)
	return err
}

func (c *client) printJSON(st *state) error {
	status := statusJSON{Version: version, BackendState: st.backend(), Health: []string{notice}}
	if st.Address != "" {
		hostname, suffix, _ := strings.Cut(st.DNSName, ".")
		status.MagicDNSSuffix = suffix
		status.Self = &selfJSON{
			ID: st.NodeID, HostName: hostname, DNSName: st.DNSName + ".", Tags: st.Tags,
			TailscaleIPs: []string{st.Address}, Online: st.WantRunning && c.configured(st),
		}
		status.TailscaleIPs = status.Self.TailscaleIPs
	}
	encoder := json.NewEncoder(c.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(status)
}

// address prints the tailnet address.
func (c *client) address(args []string) error {
	flags := newFlags("ip")
	flags.Bool("4", false, "only the IPv4 address (the stand-in has no other)")
	flags.Bool("1", false, "only one address")
	if err := c.parse(flags, args); err != nil {
		return err
	}
	st, err := c.load()
	if err != nil {
		return err
	}
	if st.backend() != "Running" {
		return fmt.Errorf("no current Tailscale IPs; state: %s", st.backend())
	}
	_, err = fmt.Fprintln(c.stdout, st.Address)
	return err
}
