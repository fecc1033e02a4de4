package cloudflare

import (
	"net/http"
	"net/netip"
	"strings"
	"time"
)

type record struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Type     string    `json:"type"`
	Content  string    `json:"content"`
	TTL      int       `json:"ttl"`
	Proxied  bool      `json:"proxied"`
	Comment  string    `json:"comment"`
	Tags     []string  `json:"tags"`
	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"`
}

func (rec *record) order() string { return rec.Name + " " + rec.Type + " " + rec.ID }

func (rec *record) proxiable() bool { return rec.Type != "TXT" }

func (rec *record) render() map[string]any {
	var comment any
	if rec.Comment != "" {
		comment = rec.Comment
	}
	return map[string]any{
		"id": rec.ID, "name": rec.Name, "type": rec.Type, "content": rec.Content, "ttl": rec.TTL,
		"proxied": rec.Proxied, "proxiable": rec.proxiable(), "comment": comment,
		"tags": append([]string{}, rec.Tags...), "settings": map[string]any{}, "meta": map[string]any{},
		"created_on": rec.Created, "modified_on": rec.Modified,
	}
}

type recordRequest struct {
	Name    *string  `json:"name"`
	Type    *string  `json:"type"`
	Content *string  `json:"content"`
	TTL     *float64 `json:"ttl"`
	Proxied *bool    `json:"proxied"`
	Comment *string  `json:"comment"`
	Tags    []string `json:"tags"`
}

func (q recordRequest) apply(rec *record) {
	set(&rec.Name, q.Name)
	set(&rec.Type, q.Type)
	set(&rec.Content, q.Content)
	set(&rec.Proxied, q.Proxied)
	set(&rec.Comment, q.Comment)
	if q.TTL != nil {
		rec.TTL = int(*q.TTL)
	}
	if q.Tags != nil {
		rec.Tags = q.Tags
	}
	rec.Modified = now()
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// normalize completes the record as the cloud does and refuses a wrong one.
func (s *Server) normalize(rec *record) error {
	bad := func(code int, message string) error {
		return refuse(http.StatusBadRequest, code, "%s", message)
	}
	name, err := s.qualify(rec.Name)
	if err != nil {
		return err
	}
	rec.Name, rec.Type = name, strings.ToUpper(rec.Type)
	address, addressErr := netip.ParseAddr(rec.Content)
	switch rec.Type {
	case "A":
		if addressErr != nil || !address.Is4() {
			return bad(9005, "Content for A record must be a valid IPv4 address.")
		}
	case "AAAA":
		if addressErr != nil || !address.Is6() {
			return bad(9006, "Content for AAAA record must be a valid IPv6 address.")
		}
	case "CNAME":
		rec.Content = strings.TrimSuffix(strings.ToLower(rec.Content), ".")
		if addressErr == nil || !hostPattern.MatchString(rec.Content) {
			return bad(9007, "Content for CNAME record is invalid.")
		}
		if rec.Content == rec.Name {
			return bad(9039, "CNAME content cannot reference itself.")
		}
	case "TXT":
		if rec.Content == "" {
			return bad(9009, "Content for TXT record is required.")
		}
	case "":
		return bad(9004, "DNS record type is required.")
	default:
		return refuse(http.StatusNotImplemented, 10000, "DNS records of type %s are not emulated by the lab: add them to "+
			"the emulator", rec.Type)
	}
	if rec.Proxied && !rec.proxiable() {
		return bad(9004, "This record type cannot be proxied.")
	}
	if rec.Proxied && addressErr == nil && (address.IsPrivate() || address.IsLoopback() || address.IsUnspecified()) {
		return bad(9003, "Target "+rec.Content+" is not allowed for a proxied record.")
	}
	if rec.TTL == 0 || rec.Proxied {
		rec.TTL = 1 // automatic
	}
	if rec.TTL != 1 && (rec.TTL < 60 || rec.TTL > 86400) {
		return bad(9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
	}
	if len([]rune(rec.Comment)) > 100 {
		return bad(9039, "DNS record comment is longer than 100 characters.")
	}
	return nil
}

// qualify returns the full name of a record. A single label stands in the zone, @
// is the zone itself; a dotted name must end with the zone.
func (s *Server) qualify(name string) (string, error) {
	zone := strings.ToLower(s.options.Zone)
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	switch {
	case name == "@":
		name = zone
	case name != "" && !strings.Contains(name, "."):
		name += "." + zone
	}
	if name != zone && !strings.HasSuffix(name, "."+zone) {
		return "", refuse(http.StatusBadRequest, 9000, "DNS name %q is invalid: it is not in the zone %s", name, zone)
	}
	if rest := strings.TrimPrefix(name, "*."); !hostPattern.MatchString(rest) || len(name) > 253 {
		return "", refuse(http.StatusBadRequest, 9000, "DNS name %q is invalid: only the first label can be a wildcard", name)
	}
	return name, nil
}

// conflict refuses a second record where DNS allows one.
func conflict(st *state, rec *record) error {
	host := func(kind string) bool { return kind == "A" || kind == "AAAA" || kind == "CNAME" }
	for _, other := range st.Records {
		if other.ID == rec.ID || other.Name != rec.Name {
			continue
		}
		switch {
		case rec.Type == "CNAME" && host(other.Type):
			return refuse(http.StatusBadRequest, 81053, "An A, AAAA, or CNAME record with that host already exists.")
		case host(rec.Type) && other.Type == "CNAME":
			return refuse(http.StatusBadRequest, 81054, "A CNAME record with that host already exists.")
		case other.Type == rec.Type && other.Content == rec.Content:
			return refuse(http.StatusBadRequest, 81057, "The record already exists.")
		}
	}
	return nil
}

func (s *Server) createRecord(st *state, r *http.Request) (any, error) {
	rec := &record{ID: newID(), Created: now()}
	return s.writeRecord(st, r, rec)
}

func (s *Server) writeRecord(st *state, r *http.Request, rec *record) (any, error) {
	var request recordRequest
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	request.apply(rec)
	if err := s.normalize(rec); err != nil {
		return nil, err
	}
	if err := conflict(st, rec); err != nil {
		return nil, err
	}
	st.Records[rec.ID] = rec
	return rec.render(), nil
}

func findRecord(st *state, r *http.Request) (*record, error) {
	if rec := st.Records[r.PathValue("record")]; rec != nil {
		return rec, nil
	}
	return nil, refuse(http.StatusNotFound, 81044, "Record does not exist.")
}

func (s *Server) listRecords(st *state, r *http.Request) (any, error) {
	err := filters(r, "name", "name.exact", "type", "content", "content.exact", "proxied", "order", "direction", "match")
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, rec := range sorted(st.Records, func(*record) bool { return true }) {
		if keep(r, "name", rec.Name) && keep(r, "name.exact", rec.Name) && keep(r, "type", rec.Type) &&
			keep(r, "content", rec.Content) && keep(r, "content.exact", rec.Content) {
			list = append(list, rec.render())
		}
	}
	return paginate(r, list)
}

func (s *Server) getRecord(st *state, r *http.Request) (any, error) {
	rec, err := findRecord(st, r)
	if err != nil {
		return nil, err
	}
	return rec.render(), nil
}

// putRecord replaces the record: what the request leaves out is reset.
func (s *Server) putRecord(st *state, r *http.Request) (any, error) {
	old, err := findRecord(st, r)
	if err != nil {
		return nil, err
	}
	return s.writeRecord(st, r, &record{ID: old.ID, Created: old.Created})
}

func (s *Server) patchRecord(st *state, r *http.Request) (any, error) {
	rec, err := findRecord(st, r)
	if err != nil {
		return nil, err
	}
	return s.writeRecord(st, r, rec)
}

func (s *Server) deleteRecord(st *state, r *http.Request) (any, error) {
	rec, err := findRecord(st, r)
	if err != nil {
		return nil, err
	}
	delete(st.Records, rec.ID)
	return map[string]string{"id": rec.ID}, nil
}
