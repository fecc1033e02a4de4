package edge

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// LookAtZone returns an error when the ID is another zone's than the name says. What the token may not see, or what
// cannot be asked, is no error: what is created there meets it too, and says so.
func (a API) LookAtZone(ctx context.Context, id, name string) error {
	var zone struct {
		Name string `json:"name"`
	}
	if a.Token != "" {
		_ = a.call(ctx, http.MethodGet, "/zones/"+url.PathEscape(id), nil, &zone)
	}
	if zone.Name == "" || zone.Name == name {
		return nil
	}
	return fmt.Errorf("cloudflare.zoneId: %s is the ID of %s, and cloudflare.zone is %s: the records would be made in "+
		"that zone, where nobody looks for them: copy the ID of %s, or correct cloudflare.zone", id, zone.Name, name, name)
}
