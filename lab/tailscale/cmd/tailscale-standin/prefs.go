package main

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
)

// prefs are the settings that `up` and `set` change, in the order of the real
// command's messages.
type prefs struct {
	AcceptDNS     bool   `json:"acceptDns"`
	AcceptRoutes  bool   `json:"acceptRoutes"`
	AdvertiseTags string `json:"advertiseTags"` // comma-separated
	Hostname      string `json:"hostname"`      // empty: that of the system
	SSH           bool   `json:"ssh"`
}

var defaultPrefs = prefs{AcceptDNS: true}

// register adds the flags of all settings.
func (p *prefs) register(flags *flag.FlagSet) {
	flags.BoolVar(&p.AcceptDNS, "accept-dns", p.AcceptDNS, "accept DNS configuration from the tailnet (the stand-in never changes DNS)")
	flags.BoolVar(&p.AcceptRoutes, "accept-routes", p.AcceptRoutes, "accept routes of other nodes (the stand-in has none)")
	flags.StringVar(&p.AdvertiseTags, "advertise-tags", p.AdvertiseTags, "comma-separated tags, among those of the auth key")
	flags.StringVar(&p.Hostname, "hostname", p.Hostname, "host name in the tailnet instead of that of the system")
	flags.BoolVar(&p.SSH, "ssh", p.SSH, "run the tailnet's SSH server (the stand-in has none)")
}

// nonDefault returns the settings that differ from a fresh node, as flags by name.
func (p *prefs) nonDefault() map[string]string {
	differ := map[string]string{}
	if p.AcceptDNS != defaultPrefs.AcceptDNS {
		differ["accept-dns"] = strconv.FormatBool(p.AcceptDNS)
	}
	if p.AcceptRoutes {
		differ["accept-routes"] = "true"
	}
	if p.AdvertiseTags != "" {
		differ["advertise-tags"] = p.AdvertiseTags
	}
	if p.Hostname != "" {
		differ["hostname"] = p.Hostname
	}
	if p.SSH {
		differ["ssh"] = "true"
	}
	return differ
}

// checkMentioned refuses an `up` that leaves out a setting which is not at its
// default, as the real command does: it would silently reset it.
func checkMentioned(previous *state, flags *flag.FlagSet) error {
	mentioned := map[string]bool{}
	var words []string
	flags.Visit(func(f *flag.Flag) {
		mentioned[f.Name] = true
		if f.Name != "auth-key" { // a secret
			words = append(words, fmt.Sprintf("--%s=%s", f.Name, f.Value))
		}
	})
	differ := previous.Prefs.nonDefault()
	if previous.LoginServer != "" {
		differ["login-server"] = previous.LoginServer
	}
	missing := false
	flags.VisitAll(func(f *flag.Flag) { // in a stable order
		if value, set := differ[f.Name]; set && !mentioned[f.Name] {
			missing = true
			words = append(words, fmt.Sprintf("--%s=%s", f.Name, value))
		}
	})
	if !missing {
		return nil
	}
	//nolint:staticcheck // the wording of the real command
	return fmt.Errorf(`Error: changing settings via 'tailscale up' requires mentioning all
non-default flags. To proceed, either re-run your command with --reset or
use the command below to explicitly mention the current value of
all non-default settings:

	tailscale up %s`, strings.Join(words, " "))
}
