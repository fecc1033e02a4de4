package machine

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"github.com/tinyrack-net/infrastructure/components/remote"
)

// explainConnection returns the option that says what it means when the command name does not reach the host at all: no
// script runs then that could say anything, and the provider's own words name neither cause nor fix. overTailnet is the
// way the command takes.
func explainConnection(
	ctx *pulumi.Context, name string, h *remote.Host, overTailnet bool, tags []string,
) (pulumi.ResourceOption, error) {
	hook, err := ctx.RegisterErrorHook(name+"-unreachable", func(failed *pulumi.ErrorHookArgs) (bool, error) {
		if text := connectionFailure(failed.Errors, h, overTailnet, tags); text != "" {
			if err := ctx.Log.Error(text, nil); err != nil {
				return false, fmt.Errorf("explaining a failed connection: %w", err)
			}
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("error hook: %w", err)
	}
	return pulumi.ResourceHooks(&pulumi.ResourceHookBinding{OnError: []*pulumi.ErrorHook{hook}}), nil
}

// What the provider says of a connection that was not made, and of one that was and got no further.
var (
	unreached   = regexp.MustCompile(`failed attempts|\bdial\b|handshake failed`)
	notLoggedIn = regexp.MustCompile(`unable to authenticate|host key mismatch`)
)

// connectionFailure explains the newest of failures, which come first. "" when a script ran: it spoke itself.
func connectionFailure(failures []string, h *remote.Host, overTailnet bool, tags []string) string {
	if len(failures) == 0 || !unreached.MatchString(failures[0]) {
		return ""
	}
	name := h.Address
	if overTailnet {
		name = h.FQDN()
	}
	if notLoggedIn.MatchString(failures[0]) {
		return fmt.Sprintf("%s answers on port %d, but not as the machine that is meant, or it does not take the login: "+
			"nothing was changed by this command: see hosts.%s.user, its private key, and whether hosts.%s.hostKey is still "+
			"the machine's; in the tailnet the name may lead to another device", name, h.Port, h.Name, h.Name)
	}
	if !overTailnet {
		return fmt.Sprintf("%s: port %d cannot be reached from the computer pulumi runs on: nothing was changed on the "+
			"machine: see that it is up, that hosts.%s.address and port are right, and that hosts.%s.bootstrapSources and the "+
			"provider's own firewall admit this computer; a machine that has joined is managed over the tailnet once "+
			"bootstrapSources is empty", name, h.Port, h.Name, h.Name)
	}
	return fmt.Sprintf("%s: port %d cannot be reached over the tailnet from the computer pulumi runs on: nothing that "+
		"comes after the join can be done: see that this computer is in the same tailnet (tailscale status), that it "+
		"resolves and reaches the name (tailscale ping %s; MagicDNS), that sshd listens on the port, and that the policy "+
		"lets its user reach port %d of %s; then run the same command again. If the name or the port of %s is a new one, "+
		"the machine and the policy still have the former: set it back; docs/runbooks/day-2.md says how to change it",
		name, h.Port, name, h.Port, strings.Join(tags, ", "), h.Name)
}
