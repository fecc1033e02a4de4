// Package controltest is a fake of the control server behind the emulated Tailscale API: it refuses what headscale
// v0.29 refuses.
package controltest

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/tailscale"
)

// Fake is a control server in memory.
type Fake struct {
	// Now is the clock; time.Now when nil.
	Now func() time.Time
	// Down, when set, is the answer to every request.
	Down error

	mu     sync.Mutex
	policy string
	keys   []tailscale.JoinKey // with their secrets
	nodes  []tailscale.Node
	serial int
}

// Policy is the policy in force.
func (f *Fake) Policy() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy
}

// Join lets a node in as tailscale up would, and returns it.
func (f *Fake) Join(secret, hostname string) (tailscale.Node, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, k := range f.keys {
		switch {
		case k.Secret != secret:
		case !f.now().Before(k.Expires):
			return tailscale.Node{}, &tailscale.Refused{Message: "authkey expired"}
		case k.Used && !k.Reusable:
			return tailscale.Node{}, &tailscale.Refused{Message: "authkey already used"}
		default:
			f.keys[i].Used = true
			f.serial++
			n := tailscale.Node{
				ID: strconv.Itoa(f.serial), Hostname: hostname, Name: f.free(hostname), Tags: slices.Clone(k.Tags),
				Ephemeral: k.Ephemeral,
				Addresses: []string{fmt.Sprintf("100.64.0.%d", f.serial), fmt.Sprintf("fd7a:115c:a1e0::%x", f.serial)},
				Connected: true, Created: f.now(), LastSeen: f.now(),
			}
			f.nodes = append(f.nodes, n)
			return n, nil
		}
	}
	return tailscale.Node{}, &tailscale.Refused{Message: "authkey not found"}
}

// Disconnect switches a node off; it stays listed.
func (f *Fake) Disconnect(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.nodes {
		if f.nodes[i].ID == id {
			f.nodes[i].Connected, f.nodes[i].LastSeen = false, f.now()
		}
	}
}

// free is the first name that no node has: name, name-1, name-2.
func (f *Fake) free(name string) string {
	free := name
	for n := 1; slices.ContainsFunc(f.nodes, func(other tailscale.Node) bool { return other.Name == free }); n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	return free
}

func (f *Fake) now() time.Time {
	if f.Now == nil {
		return time.Now()
	}
	return f.Now()
}

// unknown are selectors of Tailscale that headscale refuses in a policy, and fields that it does not know.
var unknown = regexp.MustCompile(`"autogroup:(admin|owner|shared|auditor|billing-admin|it-admin|network-admin|members)`)

// misplaced is a group that headscale takes in dst alone.
var misplaced = regexp.MustCompile(`"src": *\[[^]]*"autogroup:self"`)

var fields = []string{
	"groups", "hosts", "tagOwners", "acls", "grants", "nodeAttrs", "autoApprovers", "ssh", "tests", "sshTests",
	"randomizeClientPort",
}

// SetPolicy implements tailscale.Control.
func (f *Fake) SetPolicy(_ context.Context, policy string) error {
	var parsed map[string]json.RawMessage
	if err := json.Unmarshal([]byte(policy), &parsed); err != nil {
		return &tailscale.Refused{Message: err.Error()}
	}
	for field := range parsed {
		if !slices.Contains(fields, field) {
			return &tailscale.Refused{Message: "unknown field: " + field}
		}
	}
	if found := unknown.FindString(policy); found != "" {
		return &tailscale.Refused{Message: "invalid autogroup: " + found}
	}
	if misplaced.MatchString(policy) {
		return &tailscale.Refused{Message: "autogroup:self not valid on the src side of a rule"}
	}
	// A test fails while one of its ends has no node; the fake looks no closer.
	if parsed["tests"] != nil || parsed["sshTests"] != nil {
		return &tailscale.Refused{Message: "test(s) failed"}
	}
	if strings.Contains(policy, "tailscale.com/cap/") {
		return &tailscale.Refused{Message: "capability name must not be in the tailscale.com domain"}
	}
	return f.do(func() error { f.policy = policy; return nil })
}

// CreateKey implements tailscale.Control.
func (f *Fake) CreateKey(_ context.Context, key tailscale.JoinKey) (tailscale.JoinKey, error) {
	err := f.do(func() error {
		if len(key.Tags) == 0 {
			return &tailscale.Refused{Message: "preauthkey must be tagged or owned"}
		}
		f.serial++
		key.ID, key.Secret = strconv.Itoa(f.serial), fmt.Sprintf("hskey-auth-%d-secret", f.serial)
		f.keys = append(f.keys, key)
		return nil
	})
	return key, err
}

// Keys implements tailscale.Control.
func (f *Fake) Keys(context.Context) (keys []tailscale.JoinKey, err error) {
	err = f.do(func() error {
		for _, k := range f.keys {
			k.Secret = ""
			keys = append(keys, k)
		}
		return nil
	})
	return keys, err
}

// DeleteKey implements tailscale.Control.
func (f *Fake) DeleteKey(_ context.Context, id string) error {
	return f.do(func() error {
		f.keys = slices.DeleteFunc(f.keys, func(k tailscale.JoinKey) bool { return k.ID == id })
		return nil
	})
}

// Nodes implements tailscale.Control.
func (f *Fake) Nodes(context.Context) (nodes []tailscale.Node, err error) {
	err = f.do(func() error { nodes = slices.Clone(f.nodes); return nil })
	return nodes, err
}

// DeleteNode implements tailscale.Control.
func (f *Fake) DeleteNode(_ context.Context, id string) error {
	return f.do(func() error {
		f.nodes = slices.DeleteFunc(f.nodes, func(n tailscale.Node) bool { return n.ID == id })
		return nil
	})
}

// RenameNode implements tailscale.Control.
func (f *Fake) RenameNode(_ context.Context, id, name string) error {
	return f.node(id, func(n *tailscale.Node) error {
		if n.Name != name && f.free(name) != name {
			return &tailscale.Refused{Message: "node name is not unique: " + name}
		}
		n.Name = name
		return nil
	})
}

// TagNode implements tailscale.Control.
func (f *Fake) TagNode(_ context.Context, id string, tags []string) error {
	return f.node(id, func(n *tailscale.Node) error {
		if len(tags) == 0 {
			return &tailscale.Refused{Message: "cannot remove all tags from a node"}
		}
		n.Tags, n.User = slices.Sorted(slices.Values(tags)), ""
		return nil
	})
}

// ExpireNode implements tailscale.Control.
func (f *Fake) ExpireNode(_ context.Context, id string, at time.Time) error {
	return f.node(id, func(n *tailscale.Node) error { n.Expires = at; return nil })
}

func (f *Fake) node(id string, change func(n *tailscale.Node) error) error {
	return f.do(func() error {
		for i := range f.nodes {
			if f.nodes[i].ID == id {
				return change(&f.nodes[i])
			}
		}
		return &tailscale.Refused{Message: "node not found"}
	})
}

func (f *Fake) do(work func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Down != nil {
		return f.Down
	}
	return work()
}
