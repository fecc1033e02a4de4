package cloudflare

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// colo is the one location of the emulated edge.
const colo = "lab01"

// link is a connection of a connector with the edge. It is never stored: a connector connects again.
type link struct {
	conn net.Conn
	http *http2.ClientConn //nolint:staticcheck // see Edge.transport
	gone chan struct{}     // closed at its end

	id, tunnel, client string // UUIDs
	index              byte
	version, arch      string
	features           []string
	origin             string
	opened             time.Time

	// These are guarded by the links' lock. Visitors are sent to an admitted one that has not taken its leave.
	admitted, leaving bool
	busy              int
	idle              chan struct{} // closed once it has taken its leave and is at nothing any more
}

// links are the connections of all tunnels.
type links struct {
	mu  sync.Mutex
	all []*link
	// By tunnel: how many requests were sent there, and whether there was a connection at any time.
	turns map[string]int
	seen  map[string]bool
}

// add notes a registered connection. It takes the place of the one that the same connector had under its index.
func (c *links) add(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.idle = make(chan struct{})
	for _, other := range c.all {
		if other.client == l.client && other.index == l.index {
			_ = other.conn.Close()
		}
	}
	c.all, c.seen[l.tunnel] = append(c.all, l), true
}

func (c *links) remove(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, func(other *link) bool { return other == l })
}

func (c *links) admit(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l.admitted = true
}

func (c *links) leave(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !l.leaving && l.busy == 0 {
		close(l.idle)
	}
	l.leaving = true
}

// drained waits until a connection that has taken its leave is at nothing any more.
func (c *links) drained(l *link, longest time.Duration) {
	c.mu.Lock()
	leaving, idle := l.leaving, l.idle
	c.mu.Unlock()
	if !leaving {
		return
	}
	select {
	case <-idle:
	case <-time.After(longest):
	}
}

// of are the connections of a tunnel, connector by connector.
func (c *links) of(tunnel string) []*link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sorted(tunnel)
}

// sorted is of, for who holds the lock.
func (c *links) sorted(tunnel string) []*link {
	found := slices.DeleteFunc(slices.Clone(c.all), func(l *link) bool { return l.tunnel != tunnel })
	slices.SortFunc(found, func(a, b *link) int {
		return cmp.Or(cmp.Compare(a.client, b.client), cmp.Compare(a.index, b.index), a.opened.Compare(b.opened))
	})
	return found
}

// take chooses a connection for a request: the connectors take turns, and so do the connections of each. Nil means that
// there is none but those that were tried. What is taken has to be released.
func (c *links) take(tunnel string, tried []*link) *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	byClient := map[string][]*link{}
	for _, l := range c.sorted(tunnel) {
		if l.admitted && !l.leaving && !slices.Contains(tried, l) {
			byClient[l.client] = append(byClient[l.client], l)
		}
	}
	if len(byClient) == 0 {
		return nil
	}
	turn := c.turns[tunnel]
	c.turns[tunnel]++
	clients := slices.Sorted(maps.Keys(byClient))
	own := byClient[clients[turn%len(clients)]]
	l := own[turn/len(clients)%len(own)]
	l.busy++
	return l
}

func (c *links) release(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.busy--; l.busy == 0 && l.leaving {
		close(l.idle)
	}
}

// drop cuts the connections of a tunnel, of one connector or of all. The connectors come back unless they may not.
func (c *links) drop(tunnel, client string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = slices.DeleteFunc(c.all, func(l *link) bool {
		dropped := l.tunnel == tunnel && (client == "" || l.client == client)
		if dropped {
			_ = l.conn.Close()
		}
		return dropped
	})
}

// status is a tunnel's, in the words of
// https://developers.cloudflare.com/cloudflare-one/connections/connect-networks/troubleshoot-tunnels/common-errors/:
// healthy with four connections of each connector, degraded with fewer, down without any where there were some.
func (s *Server) status(t *tunnel) string {
	const each = 4
	byClient := map[string]int{}
	for _, l := range s.links.of(t.ID) {
		byClient[l.client]++
	}
	switch {
	case len(byClient) == 0 && s.links.known(t.ID):
		return "down"
	case len(byClient) == 0:
		return "inactive"
	case slices.ContainsFunc(slices.Collect(maps.Values(byClient)), func(n int) bool { return n < each }):
		return "degraded"
	}
	return "healthy"
}

// known tells whether the tunnel had a connection at any time.
func (c *links) known(tunnel string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[tunnel]
}

// render is a connection as a tunnel lists it.
func (l *link) render() map[string]any {
	return map[string]any{
		"id": l.id, "uuid": l.id, "client_id": l.client, "client_version": l.version, "colo_name": colo,
		"is_pending_reconnect": false, "opened_at": l.opened, "origin_ip": l.origin,
	}
}

// renderConnectors are a tunnel's connectors, each with its connections.
func (s *Server) renderConnectors(t *tunnel) []map[string]any {
	list := []map[string]any{}
	for _, l := range s.links.of(t.ID) {
		if n := len(list); n == 0 || list[n-1]["id"] != l.client {
			list = append(list, map[string]any{
				"id": l.client, "version": l.version, "arch": l.arch, "features": l.features, "run_at": l.opened,
				"config_version": t.ConfigVersion, "conns": []map[string]any{},
			})
		}
		own := list[len(list)-1]
		own["conns"] = append(own["conns"].([]map[string]any), l.render())
	}
	return list
}
