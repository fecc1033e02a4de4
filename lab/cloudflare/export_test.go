package cloudflare

import "slices"

// Admitted tells whether visitors are sent to a connection of the connector.
func (s *Server) Admitted(client string) bool {
	s.links.mu.Lock()
	defer s.links.mu.Unlock()
	return slices.ContainsFunc(s.links.all, func(l *link) bool { return l.client == client && l.admitted && !l.leaving })
}
