// Package headscale runs headscale, the free control server of Tailscale's clients, and talks to it: it is the real
// thing behind the emulated API of the cloud.
package headscale

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/tinyrack-net/infrastructure/lab/tailscale"
)

// Client is headscale's REST API. It implements tailscale.Control.
type Client struct {
	// URL is the server's, https://10.77.0.1:8443.
	URL string
	// Key is an API key. Secret.
	Key string
	// HTTP trusts the server's certificate.
	HTTP *http.Client
}

var _ tailscale.Control = (*Client)(nil)

// SetPolicy implements tailscale.Control.
func (c *Client) SetPolicy(ctx context.Context, policy string) error {
	return c.call(ctx, http.MethodPut, "/policy", map[string]string{"policy": policy}, nil)
}

// preAuthKey is a key in headscale's words. Its numbers are texts in JSON.
type preAuthKey struct {
	ID         string    `json:"id"`
	Key        string    `json:"key"`
	Reusable   bool      `json:"reusable"`
	Ephemeral  bool      `json:"ephemeral"`
	Used       bool      `json:"used"`
	Expiration time.Time `json:"expiration"`
	Tags       []string  `json:"aclTags"`
}

func (k preAuthKey) joinKey() tailscale.JoinKey {
	return tailscale.JoinKey{
		ID: k.ID, Tags: k.Tags, Reusable: k.Reusable, Ephemeral: k.Ephemeral, Used: k.Used,
		Expires: k.Expiration,
	}
}

// CreateKey implements tailscale.Control.
func (c *Client) CreateKey(ctx context.Context, key tailscale.JoinKey) (tailscale.JoinKey, error) {
	return c.createKey(ctx, "", key)
}

// createKey makes a key for a user's nodes, or for tagged ones when user is empty.
func (c *Client) createKey(ctx context.Context, user string, key tailscale.JoinKey) (tailscale.JoinKey, error) {
	var answer struct {
		PreAuthKey preAuthKey `json:"preAuthKey"`
	}
	request := map[string]any{
		"reusable": key.Reusable, "ephemeral": key.Ephemeral, "expiration": key.Expires.UTC(),
		"aclTags": slices.Concat([]string{}, key.Tags),
	}
	if user != "" {
		request["user"] = user
	}
	err := c.call(ctx, http.MethodPost, "/preauthkey", request, &answer)
	made := answer.PreAuthKey.joinKey()
	made.Secret = answer.PreAuthKey.Key
	return made, err
}

// keyLife is how long the key of a device of the lab's own is valid; it joins at once.
const keyLife = time.Hour

// DeviceKey returns a single-use key for a device of the person with this login, who is made known to the server, or
// for one with tags when login is empty. Secret.
func (c *Client) DeviceKey(ctx context.Context, login string, tags ...string) (string, error) {
	user := ""
	if login != "" {
		var err error
		if user, err = c.user(ctx, login); err != nil {
			return "", err
		}
	}
	key, err := c.createKey(ctx, user, tailscale.JoinKey{Tags: tags, Expires: time.Now().Add(keyLife)})
	return key.Secret, err
}

// user returns the id of the person with this login, who is made when missing.
func (c *Client) user(ctx context.Context, login string) (string, error) {
	type user struct {
		ID string `json:"id"`
	}
	var found struct {
		Users []user `json:"users"`
	}
	if err := c.call(ctx, http.MethodGet, "/user?name="+url.QueryEscape(login), nil, &found); err != nil ||
		len(found.Users) > 0 {
		return cmp.Or(append(found.Users, user{})[0].ID, ""), err
	}
	var made struct {
		User user `json:"user"`
	}
	err := c.call(ctx, http.MethodPost, "/user", map[string]string{"name": login, "email": login}, &made)
	return made.User.ID, err
}

// Keys implements tailscale.Control.
func (c *Client) Keys(ctx context.Context) ([]tailscale.JoinKey, error) {
	var answer struct {
		PreAuthKeys []preAuthKey `json:"preAuthKeys"`
	}
	err := c.call(ctx, http.MethodGet, "/preauthkey", nil, &answer)
	var keys []tailscale.JoinKey
	for _, k := range answer.PreAuthKeys {
		keys = append(keys, k.joinKey())
	}
	return keys, err
}

// DeleteKey implements tailscale.Control.
func (c *Client) DeleteKey(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/preauthkey?id="+url.QueryEscape(id), nil, nil)
}

// Nodes implements tailscale.Control.
func (c *Client) Nodes(ctx context.Context) ([]tailscale.Node, error) {
	var answer struct {
		Nodes []struct {
			ID          string     `json:"id"`
			MachineKey  string     `json:"machineKey"`
			NodeKey     string     `json:"nodeKey"`
			IPAddresses []string   `json:"ipAddresses"`
			Name        string     `json:"name"`
			GivenName   string     `json:"givenName"`
			LastSeen    time.Time  `json:"lastSeen"`
			Expiry      time.Time  `json:"expiry"` // null or the zero time: never
			CreatedAt   time.Time  `json:"createdAt"`
			Online      bool       `json:"online"`
			Tags        []string   `json:"tags"`
			PreAuthKey  preAuthKey `json:"preAuthKey"`
			User        struct {
				Name string `json:"name"`
			} `json:"user"`
		} `json:"nodes"`
	}
	err := c.call(ctx, http.MethodGet, "/node", nil, &answer)
	var nodes []tailscale.Node
	for _, n := range answer.Nodes {
		node := tailscale.Node{
			ID: n.ID, Hostname: n.Name, Name: n.GivenName, Tags: n.Tags, Addresses: n.IPAddresses,
			Ephemeral: n.PreAuthKey.Ephemeral,
			Connected: n.Online, Created: n.CreatedAt, LastSeen: n.LastSeen, Expires: n.Expiry,
			MachineKey: n.MachineKey, NodeKey: n.NodeKey,
		}
		if len(n.Tags) == 0 {
			node.User = n.User.Name
		}
		nodes = append(nodes, node)
	}
	return nodes, err
}

// DeleteNode implements tailscale.Control.
func (c *Client) DeleteNode(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/node/"+url.PathEscape(id), nil, nil)
}

// RenameNode implements tailscale.Control.
func (c *Client) RenameNode(ctx context.Context, id, name string) error {
	return c.call(ctx, http.MethodPost, "/node/"+url.PathEscape(id)+"/rename/"+url.PathEscape(name), nil, nil)
}

// TagNode implements tailscale.Control.
func (c *Client) TagNode(ctx context.Context, id string, tags []string) error {
	return c.call(ctx, http.MethodPost, "/node/"+url.PathEscape(id)+"/tags", map[string]any{"tags": tags}, nil)
}

// ExpireNode implements tailscale.Control.
func (c *Client) ExpireNode(ctx context.Context, id string, at time.Time) error {
	query := url.Values{"disableExpiry": {"true"}}
	if !at.IsZero() {
		query = url.Values{"expiry": {at.UTC().Format(time.RFC3339Nano)}}
	}
	return c.call(ctx, http.MethodPost, "/node/"+url.PathEscape(id)+"/expire?"+query.Encode(), nil, nil)
}

// call asks for one thing. Its errors hold no secret: headscale's messages have none.
func (c *Client) call(ctx context.Context, method, path string, request, answer any) error {
	var body io.Reader = http.NoBody
	if request != nil {
		text, err := json.Marshal(request)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.URL+"/api/v1"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+c.Key)
	r.Header.Set("Content-Type", "application/json")
	response, err := c.HTTP.Do(r)
	if err != nil {
		return fmt.Errorf("headscale: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return fmt.Errorf("headscale: %w", err)
	case response.StatusCode == http.StatusUnauthorized:
		return errUnauthorized
	case response.StatusCode == http.StatusNotFound && method == http.MethodDelete:
		return nil
	case response.StatusCode != http.StatusOK:
		var refusal struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(text, &refusal) // whatever else it is, it has no message
		return &tailscale.Refused{Message: cmp.Or(refusal.Message, response.Status)}
	case answer == nil:
		return nil
	}
	return json.Unmarshal(text, answer)
}

var errUnauthorized = errors.New("headscale: the API key is not known to the server")
