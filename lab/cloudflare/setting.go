package cloudflare

import (
	"maps"
	"net/http"
	"slices"
	"time"
)

// zoneSetting is a setting that a client has changed.
type zoneSetting struct {
	Value    any       `json:"value"`
	Modified time.Time `json:"modified"`
}

var onOff = []any{"off", "on"}

// knownSettings lists the emulated zone settings with the values they take, the
// default first.
var knownSettings = map[string][]any{
	"0rtt":                     onOff,
	"always_online":            {"on", "off"},
	"always_use_https":         onOff,
	"automatic_https_rewrites": {"on", "off"},
	"brotli":                   {"on", "off"},
	"http3":                    {"on", "off"},
	"ipv6":                     {"on", "off"},
	"min_tls_version":          {"1.0", "1.1", "1.2", "1.3"},
	"opportunistic_encryption": {"on", "off"},
	"security_level":           {"medium", "off", "essentially_off", "low", "high", "under_attack"},
	"ssl":                      {"full", "off", "flexible", "strict"},
	"tls_1_3":                  {"on", "off", "zrt"},
	"websockets":               {"on", "off"},
}

func renderSetting(st *state, id string) map[string]any {
	answer := map[string]any{"id": id, "value": knownSettings[id][0], "editable": true, "modified_on": nil}
	if changed := st.Settings[id]; changed != nil {
		answer["value"], answer["modified_on"] = changed.Value, changed.Modified
	}
	return answer
}

func findSetting(r *http.Request) (string, error) {
	id := r.PathValue("setting")
	if _, known := knownSettings[id]; !known {
		return "", refuse(http.StatusBadRequest, 1006, "Undefined zone setting: %s", id)
	}
	return id, nil
}

func (s *Server) listSettings(st *state, _ *http.Request) (any, error) {
	list := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(knownSettings)) {
		list = append(list, renderSetting(st, id))
	}
	return list, nil
}

func (s *Server) getSetting(st *state, r *http.Request) (any, error) {
	id, err := findSetting(r)
	if err != nil {
		return nil, err
	}
	return renderSetting(st, id), nil
}

func (s *Server) patchSetting(st *state, r *http.Request) (any, error) {
	id, err := findSetting(r)
	if err != nil {
		return nil, err
	}
	var request struct {
		Value any `json:"value"`
	}
	if err := decode(r, &request); err != nil {
		return nil, err
	}
	text, ok := request.Value.(string) // every emulated setting is a word
	if !ok || !slices.Contains(knownSettings[id], any(text)) {
		return nil, refuse(http.StatusBadRequest, 1007, "Invalid value for zone setting %s", id)
	}
	st.Settings[id] = &zoneSetting{Value: text, Modified: now()}
	return renderSetting(st, id), nil
}

// changedSettings returns the values that differ from an untouched zone.
func changedSettings(st *state) map[string]any {
	changed := map[string]any{}
	for id, setting := range st.Settings {
		changed[id] = setting.Value
	}
	return changed
}
