// Command tailscale-standin stands in for the tailscale command and tailscaled on
// the lab's machine, where there is no tailnet to join. It logs in at the lab's
// emulated Tailscale API and puts the address it is given on an interface that
// the lab has made. It is no VPN: it encrypts nothing and reaches no peers.
//
// It takes the flags of the real command that the machine's scripts use, and
// refuses what the real one refuses. Called as tailscaled, it keeps the address
// on the interface, also after a reboot.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	statePath = "/var/lib/tailscale/standin.json"
	version   = "1.98.3-lab-standin"
	notice    = "This is the stand-in of the offline lab, not Tailscale: it logs in at the lab's emulator and encrypts nothing."
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &client{
		statePath: statePath, stdout: os.Stdout, stderr: os.Stderr, ip: runIP,
		http: &http.Client{Timeout: 15 * time.Second},
	}
	args := os.Args[1:]
	if filepath.Base(os.Args[0]) == "tailscaled" {
		args = append([]string{"tailscaled"}, args...)
	}
	err := c.run(ctx, args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%v\n", err)
		os.Exit(1)
	}
}

// client is one run of the command.
type client struct {
	statePath      string
	stdout, stderr io.Writer
	http           *http.Client
	// ip runs ip(8) and returns what it prints.
	ip func(args ...string) (string, error)
}

func runIP(args ...string) (string, error) {
	out, err := exec.Command("ip", args...).CombinedOutput() //nolint:gosec,noctx // fixed arguments but for the address given at login, which is parsed
	if err != nil {
		return "", fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

const usage = `The stand-in for the tailscale command in the offline lab.

` + notice + `

Usage: tailscale <subcommand> [flags]

  up        log in and put the tailnet address on the interface
  set       change single settings
  down      take the address away, stay logged in
  logout    leave the tailnet
  status    show the connection (--json)
  ip        show the tailnet address (-4)
  version   show the version
  tailscaled  keep the address on the interface until stopped
`

func (c *client) run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		args = []string{"--help"}
	}
	name, rest := args[0], args[1:]
	switch name {
	case "up":
		return c.up(ctx, rest)
	case "set":
		return c.set(rest)
	case "down":
		return c.down(rest)
	case "logout":
		return c.logout(ctx, rest)
	case "status":
		return c.status(rest)
	case "ip":
		return c.address(rest)
	case "tailscaled":
		return c.daemon(ctx, rest)
	case "version", "--version", "-version":
		_, err := fmt.Fprintf(c.stdout, "%s\n  %s\n", version, notice)
		return err
	case "help", "--help", "-help", "-h":
		_, err := io.WriteString(c.stdout, usage)
		return err
	}
	return fmt.Errorf("subcommand %q is not in the lab's stand-in for tailscale: see tailscale --help", name)
}

// parse reads the flags of a subcommand that takes no arguments.
func (c *client) parse(flags *flag.FlagSet, args []string) error {
	flags.SetOutput(c.stderr)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("tailscale %s: too many non-flag arguments: %q", flags.Name(), flags.Args())
	}
	return nil
}

func newFlags(name string) *flag.FlagSet { return flag.NewFlagSet(name, flag.ContinueOnError) }
