package tailscale

import (
	"context"
	"time"
)

// Control is the control server behind the API: it lets nodes in, gives them addresses and names, and enforces the
// policy. In the lab it is headscale; controltest has a fake. A refusal of the server is a *Refused, any other error
// means that the server cannot be asked.
type Control interface {
	// SetPolicy replaces the policy, JSON in the language that the server knows.
	SetPolicy(ctx context.Context, policy string) error
	// CreateKey returns the key with its ID and its Secret, which nobody is shown again.
	CreateKey(ctx context.Context, key JoinKey) (JoinKey, error)
	Keys(ctx context.Context) ([]JoinKey, error)
	DeleteKey(ctx context.Context, id string) error
	Nodes(ctx context.Context) ([]Node, error)
	// DeleteNode takes a node that is not there for deleted.
	DeleteNode(ctx context.Context, id string) error
	RenameNode(ctx context.Context, id, name string) error
	TagNode(ctx context.Context, id string, tags []string) error
	// ExpireNode sets when the node's key expires; the zero time is never.
	ExpireNode(ctx context.Context, id string, at time.Time) error
}

// JoinKey is a key with which a node joins.
type JoinKey struct {
	ID string
	// Secret is what the node is given. It is there in the answer to CreateKey alone.
	Secret              string
	Tags                []string
	Reusable, Ephemeral bool
	Used                bool
	Expires             time.Time
}

// Node is a machine that joined, connected or not.
type Node struct {
	// ID is a decimal number.
	ID string
	// Hostname is what the machine calls itself; Name is its label in the tailnet, with a suffix where a namesake was
	// there first.
	Hostname, Name      string
	User                string // the login of the owner; empty when the node has tags
	Tags                []string
	Addresses           []string // IPv4 first
	Ephemeral           bool
	Connected           bool
	Created, LastSeen   time.Time
	Expires             time.Time // zero: never
	MachineKey, NodeKey string    // public keys
}

// Refused is what the control server says no to.
type Refused struct{ Message string }

func (r *Refused) Error() string { return r.Message }
