package cloudflare

import (
	"fmt"
	"maps"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"time"
)

// accessObject is an Access policy or application: what the client sent, and the
// fields that the cloud adds. Access has many optional fields; the ones that the
// emulator does not check are kept and returned as they are.
type accessObject struct {
	ID      string         `json:"id"`
	AUD     string         `json:"aud,omitempty"`
	Fields  map[string]any `json:"fields"`
	Created time.Time      `json:"created"`
	Updated time.Time      `json:"updated"`
}

func (o *accessObject) order() string { return o.Created.Format(time.RFC3339Nano) + o.ID }

func (o *accessObject) text(field string) string {
	value, _ := o.Fields[field].(string)
	return value
}

// render adds what the cloud adds to the fields of the client.
func (o *accessObject) render(defaults map[string]any) map[string]any {
	answer := maps.Clone(defaults)
	for name, value := range o.Fields {
		if value != nil {
			answer[name] = value
		}
	}
	answer["id"], answer["uid"] = o.ID, o.ID
	answer["created_at"], answer["updated_at"] = o.Created, o.Updated
	return answer
}

func sortedAccess(all map[string]*accessObject) []*accessObject {
	return sorted(all, func(*accessObject) bool { return true })
}

// badAccess is how Access refuses a request; the code covers every kind of
// invalid field.
func badAccess(format string, args ...any) error {
	return refuse(http.StatusBadRequest, 12130, "access.api.error.invalid_request: "+format, args...)
}

func findAccess(all map[string]*accessObject, kind, id string) (*accessObject, error) {
	if o := all[id]; o != nil {
		return o, nil
	}
	return nil, refuse(http.StatusNotFound, 11021, "access.api.error.not_found: %s %s not found", kind, id)
}

var policyDefaults = map[string]any{
	"decision": "allow", "exclude": []any{}, "require": []any{}, "session_duration": "24h", "reusable": true,
	"approval_groups": []any{}, "approval_required": false, "isolation_required": false,
	"purpose_justification_required": false,
}

func (s *Server) renderPolicy(st *state, o *accessObject) map[string]any {
	answer := o.render(policyDefaults)
	answer["app_count"] = len(appsWith(st, o.ID))
	return answer
}

// appsWith names the applications that use a policy.
func appsWith(st *state, policy string) []string {
	var names []string
	for _, app := range sortedAccess(st.Apps) {
		if slices.Contains(app.policies(), policy) {
			names = append(names, app.text("name"))
		}
	}
	return names
}

func validatePolicy(o *accessObject) error {
	if strings.TrimSpace(o.text("name")) == "" {
		return badAccess("name is required")
	}
	if decisions := []string{"allow", "deny", "non_identity", "bypass"}; !slices.Contains(decisions, o.text("decision")) {
		return badAccess("decision must be one of %v, not %q", decisions, o.text("decision"))
	}
	if include, _ := o.Fields["include"].([]any); len(include) == 0 {
		return badAccess("include must have at least one rule: nobody could match the policy")
	}
	for _, list := range []string{"include", "exclude", "require"} {
		rules, _ := o.Fields[list].([]any)
		for i, rule := range rules {
			if err := validateRule(fmt.Sprintf("%s[%d]", list, i), rule); err != nil {
				return err
			}
		}
	}
	return nil
}

// selectors are the rule kinds of Access policies.
var selectors = []string{
	"any_valid_service_token", "auth_context", "auth_method", "azureAD", "certificate", "common_name", "device_posture",
	"email", "email_domain", "email_list", "everyone", "external_evaluation", "geo", "github-organization", "group",
	"gsuite", "ip", "ip_list", "linked_app_token", "login_method", "okta", "saml", "service_token",
}

func validateRule(where string, value any) error {
	rule, _ := value.(map[string]any)
	if len(rule) != 1 {
		return badAccess("%s must have exactly one selector", where)
	}
	for selector, body := range rule {
		if !slices.Contains(selectors, selector) {
			return badAccess("%s: unknown selector %q", where, selector)
		}
		fields, ok := body.(map[string]any)
		if !ok {
			return badAccess("%s.%s must be an object", where, selector)
		}
		if selector == "email" {
			email, _ := fields["email"].(string)
			if parsed, err := mail.ParseAddress(email); err != nil || parsed.Address != email {
				return badAccess("%s: %q is not an email address", where, email)
			}
		}
	}
	return nil
}

// readAccess replaces the fields of the object by those of the request.
func readAccess(r *http.Request, o *accessObject) error {
	o.Fields, o.Updated = map[string]any{}, now()
	return decode(r, &o.Fields)
}

func (s *Server) writePolicy(st *state, r *http.Request, o *accessObject) (any, error) {
	if err := readAccess(r, o); err != nil {
		return nil, err
	}
	if err := validatePolicy(o); err != nil {
		return nil, err
	}
	st.Policies[o.ID] = o
	return s.renderPolicy(st, o), nil
}

func (s *Server) createPolicy(st *state, r *http.Request) (any, error) {
	return s.writePolicy(st, r, &accessObject{ID: newUUID(), Created: now()})
}

func (s *Server) listPolicies(st *state, r *http.Request) (any, error) {
	if err := filters(r); err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, o := range sortedAccess(st.Policies) {
		list = append(list, s.renderPolicy(st, o))
	}
	return paginate(r, list)
}

func (s *Server) getPolicy(st *state, r *http.Request) (any, error) {
	o, err := findAccess(st.Policies, "policy", r.PathValue("policy"))
	if err != nil {
		return nil, err
	}
	return s.renderPolicy(st, o), nil
}

func (s *Server) putPolicy(st *state, r *http.Request) (any, error) {
	o, err := findAccess(st.Policies, "policy", r.PathValue("policy"))
	if err != nil {
		return nil, err
	}
	return s.writePolicy(st, r, o)
}

func (s *Server) deletePolicy(st *state, r *http.Request) (any, error) {
	o, err := findAccess(st.Policies, "policy", r.PathValue("policy"))
	if err != nil {
		return nil, err
	}
	if names := appsWith(st, o.ID); len(names) > 0 {
		return nil, badAccess("policy %q is in use by %s", o.text("name"), strings.Join(names, ", "))
	}
	delete(st.Policies, o.ID)
	return map[string]string{"id": o.ID}, nil
}
