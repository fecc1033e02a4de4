package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// device is the interface that the lab has made for the tailnet.
	device = "tailscale0"
	// peer is the operator's end of it, the only other node.
	peer = "100.64.0.1"
)

// configure puts the address on the interface. Every command may be repeated.
func (c *client) configure(st *state) error {
	for _, args := range [][]string{
		{"addr", "replace", st.Address + "/32", "dev", device},
		{"link", "set", device, "up"},
		{"route", "replace", peer + "/32", "dev", device},
	} {
		if _, err := c.ip(args...); err != nil {
			return fmt.Errorf("interface %s: %w: the lab makes it when it starts the machine", device, err)
		}
	}
	return nil
}

// deconfigure takes the address away and the interface down.
func (c *client) deconfigure(st *state) error {
	if st.Address == "" || !c.configured(st) {
		return nil
	}
	_, addrErr := c.ip("addr", "del", st.Address+"/32", "dev", device)
	_, linkErr := c.ip("link", "set", device, "down")
	return errors.Join(addrErr, linkErr)
}

// configured is true when the interface is up and has the address.
func (c *client) configured(st *state) bool {
	if st.Address == "" {
		return false
	}
	out, err := c.ip("-4", "-o", "addr", "show", "dev", device, "up")
	return err == nil && strings.Contains(out, " "+st.Address+"/")
}

// daemon keeps the address on the interface: after a reboot, and when the lab has
// made the interface anew.
func (c *client) daemon(ctx context.Context, args []string) error {
	flags := newFlags("tailscaled")
	for _, name := range []string{"state", "statedir", "socket", "port", "tun"} {
		flags.String(name, "", "taken for compatibility, without effect")
	}
	if err := c.parse(flags, args); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c.stderr, "tailscaled "+version+": "+notice); err != nil {
		return err
	}
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	last := ""
	for {
		now := c.keep()
		if now != last && now != "" {
			if _, err := fmt.Fprintln(c.stderr, now); err != nil {
				return err
			}
		}
		last = now
		select {
		case <-ctx.Done():
			return nil // the address stays, as connections would through a restart
		case <-tick.C:
		}
	}
}

// keep does one round of the daemon and returns a line for the log, if any.
func (c *client) keep() string {
	st, err := c.load()
	if err != nil {
		return err.Error()
	}
	if !st.WantRunning || c.configured(st) {
		return ""
	}
	if err := c.configure(st); err != nil {
		return err.Error()
	}
	return "put " + st.Address + " on " + device
}
