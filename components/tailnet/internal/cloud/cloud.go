// Package cloud asks the Tailscale API what the provider does not: what an interrupted deployment left, whose a name
// is, which device may be forgotten. It knows nothing of Pulumi, since what runs at a destroy is a small program.
package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	client "tailscale.com/client/tailscale/v2"
)

// API is the access to one tailnet, the same that the provider has. Its OAuth client needs the scopes policy_file, dns,
// auth_keys and devices:core.
type API struct {
	// ClientID and ClientSecret are the OAuth client's. Secret.
	ClientID, ClientSecret string
	// Tailnet is its name; "-" is the one the client belongs to.
	Tailnet string
	// BaseURL is the provider's; empty is Tailscale's own.
	BaseURL string
}

const (
	tailscaleAPI = "https://api.tailscale.com"
	// lookupTimeout bounds one request.
	lookupTimeout = 20 * time.Second
)

// connect returns a client whose every request, that for its token included, ends in time; the client's own OAuth would
// wait for the token without an end.
func (a API) connect(ctx context.Context) (*client.Client, error) {
	base, err := url.Parse(cmp.Or(a.BaseURL, tailscaleAPI))
	if err != nil {
		return nil, err
	}
	access := clientcredentials.Config{
		ClientID: a.ClientID, ClientSecret: a.ClientSecret, TokenURL: base.JoinPath("/api/v2/oauth/token").String(),
	}
	authorized := access.Client(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Timeout: lookupTimeout}))
	authorized.Timeout = lookupTimeout
	return &client.Client{Tailnet: a.Tailnet, BaseURL: base, HTTP: authorized}, nil
}

// Policy returns the text of the tailnet's policy file.
func (a API) Policy(ctx context.Context) (string, error) {
	connected, err := a.connect(ctx)
	if err != nil {
		return "", err
	}
	found, err := connected.PolicyFile().Raw(ctx)
	if err != nil {
		return "", err
	}
	return found.HuJSON, nil
}

// Key is what a host's key is known by.
type Key struct {
	Description string
	Tags        []string
}

// RevokeOrphans revokes the keys that an interrupted deployment created and could not note down. The proof is the
// description, the type, the tags and the purpose; a key that is revoked or spent already is left as it is.
func (a API) RevokeOrphans(ctx context.Context, wanted Key) error {
	connected, err := a.connect(ctx)
	if err != nil {
		return err
	}
	keys, err := connected.Keys().List(ctx, false)
	if err != nil {
		return err
	}
	for _, listed := range keys {
		key, err := connected.Keys().Get(ctx, listed.ID) // the list has the IDs alone
		switch {
		case client.IsNotFound(err): // spent or expired in the meantime
			continue
		case err != nil:
			return err
		case !wanted.is(key):
			continue
		}
		if err := connected.Keys().Delete(ctx, key.ID); err != nil && !client.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func (k Key) is(found *client.Key) bool {
	create := found.Capabilities.Devices.Create
	return found.Description == k.Description && found.KeyType == "auth" && found.Revoked.IsZero() && !found.Invalid &&
		!create.Reusable && sameSet(create.Tags, k.Tags)
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(a))), slices.Compact(slices.Sorted(slices.Values(b))))
}

// Machine is a host as the tailnet lists it.
type Machine struct {
	// Name and Domain make the name that it is dialled by.
	Name, Domain string
	// RoleTags are the tags of all roles. A device is ours when it has tags and all of them are among these: only the
	// manager's tag owns them, and the policy, which is this program's whole, says so.
	RoleTags []string
}

func (m Machine) fqdn() string { return m.Name + "." + m.Domain }

func (m Machine) isNamed(d client.Device) bool {
	return strings.EqualFold(strings.TrimSuffix(d.Name, "."), m.fqdn())
}

// isOurs tells whether the device is, or was, this machine. One that joined while its name was taken is listed as
// <name>-1, with the name as its hostname.
func (m Machine) isOurs(d client.Device) bool {
	return (m.isNamed(d) || strings.EqualFold(d.Hostname, m.Name)) && len(d.Tags) > 0 &&
		!slices.ContainsFunc(d.Tags, func(tag string) bool { return !slices.Contains(m.RoleTags, tag) })
}

// isGone tells whether the device is certain to be off the network: a connected one has no time when it was last seen.
// One that has logged out may be listed as connected for a while (headscale waits ten seconds for a device to come
// back); its key has expired with the logout, and nobody reaches it.
func isGone(d client.Device) bool {
	return !d.ConnectedToControl && d.LastSeen != nil || isLoggedOut(d)
}

// isLoggedOut goes by the key: an API that switched its expiry off may still list a date, which then means nothing.
func isLoggedOut(d client.Device) bool {
	return !d.KeyExpiryDisabled && !d.Expires.IsZero() && d.Expires.Before(time.Now())
}

// TakeName makes the machine's name free, and returns what it removed for that: dead devices of this very machine. A
// connected one that is ours is left: it may be the machine itself, whose key is made anew because the state was lost;
// whoever joins finds out. A name that belongs to any other device is refused. How long a device has been dead does
// not matter: one that was only restarting logs in again with the key that is made next.
func (a API) TakeName(ctx context.Context, m Machine) (removed []string, err error) {
	connected, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	devices, err := list(ctx, connected)
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		if m.isNamed(d) && !m.isOurs(d) {
			return nil, fmt.Errorf("hosts.%s: the name %s is taken by %s: the machine would become %s-1, and everything "+
				"that dials %s would reach the other device: remove or rename that one in the admin console, "+
				"or name the host differently", m.Name, m.fqdn(), describe(d), m.Name, m.Name)
		}
	}
	for _, d := range devices {
		if !m.isOurs(d) || !isGone(d) {
			continue
		}
		if err := connected.Devices().Delete(ctx, id(d)); err != nil && !client.IsNotFound(err) {
			return removed, fmt.Errorf("removing %s, which is this machine's former self: %w", describe(d), err)
		}
		removed = append(removed, describe(d))
	}
	return removed, nil
}

// Forget removes the devices of a machine that was undone. A connected one is alive and is left alone after some tries:
// then it is not the machine that went but its resource, by a replacement or a rename. Each try but the first is
// preceded by pause. The text says what was done.
func (a API) Forget(ctx context.Context, m Machine, tries int, pause func(context.Context) error) (string, error) {
	if m.Name == "" || m.Domain == "" {
		return "", errors.New("no machine is named: run pulumi up once, then destroy")
	}
	connected, err := a.connect(ctx)
	if err != nil {
		return "", err
	}
	var removed, alive []string
	for try := range tries {
		if try > 0 {
			if err := pause(ctx); err != nil {
				return "", err
			}
		}
		alive = nil
		var devices []client.Device
		devices, err = list(ctx, connected)
		if isRefused(err) {
			break
		} else if err != nil {
			continue
		}
		for _, d := range devices {
			switch {
			case !m.isOurs(d):
				continue
			case !isGone(d):
				alive = append(alive, describe(d))
				continue
			}
			if failure := connected.Devices().Delete(ctx, id(d)); failure != nil && !client.IsNotFound(failure) {
				err = failure
				continue
			}
			removed = append(removed, describe(d))
		}
		if err == nil && len(alive) == 0 {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("%s may still be listed in the tailnet: %w: run the destroy again; if the access is gone for "+
			"good, remove the device in the admin console and this resource with pulumi state delete", m.fqdn(), err)
	}
	switch {
	case len(alive) > 0:
		return fmt.Sprintf("left alone, for it is connected: %s: if the machine is meant to go, log it out and remove it in "+
			"the admin console", strings.Join(alive, ", ")), nil
	case len(removed) > 0:
		return "removed " + strings.Join(removed, ", "), nil
	}
	return m.fqdn() + " is not listed: nothing to remove", nil
}

func list(ctx context.Context, connected *client.Client) ([]client.Device, error) {
	devices, err := connected.Devices().List(ctx)
	var refused client.APIError
	if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
		return nil, fmt.Errorf("%w: give the OAuth client the scope devices:core (write)", err)
	}
	return devices, err
}

// isRefused tells whether trying again is of no use: the access itself is refused.
func isRefused(err error) bool {
	var answer client.APIError
	var token *oauth2.RetrieveError
	status := 0
	switch {
	case errors.As(err, &answer):
		status = answer.Status
	case errors.As(err, &token) && token.Response != nil:
		status = token.Response.StatusCode
	}
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

func id(d client.Device) string { return cmp.Or(d.NodeID, d.ID) }

func describe(d client.Device) string {
	owner := "of " + d.User
	if len(d.Tags) > 0 {
		owner = "with " + strings.Join(d.Tags, ", ")
	}
	seen := "connected"
	switch {
	case d.LastSeen != nil:
		seen = "last seen " + d.LastSeen.UTC().Format(time.RFC3339)
	case isLoggedOut(d):
		seen = "logged out"
	}
	return fmt.Sprintf("device %s (%s, %s, %s)", id(d), d.Name, owner, seen)
}

// Request is what the program that forgets a device reads. Secret.
type Request struct {
	API     API
	Machine Machine
}
