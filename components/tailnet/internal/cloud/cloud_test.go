package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tinyrack-net/infrastructure/components/tailnet/internal/cloud"
	"github.com/tinyrack-net/infrastructure/components/tailnet/internal/cloud/cloudtest"
)

func api(s *cloudtest.Server) cloud.API {
	return cloud.API{ClientID: cloudtest.ClientID, ClientSecret: cloudtest.Secret, Tailnet: "-", BaseURL: s.URL}
}

var machine = cloud.Machine{
	Name: "site", Domain: "example.ts.net",
	RoleTags: []string{"tag:tinyrack-server", "tag:tinyrack-agent", "tag:tinyrack-storage"},
}

type object = cloudtest.Object

// passed is when the key of a device that logged out expired.
const passed = "2026-11-24T10:00:00Z"

// device returns a dead device that is the machine's, changed by the pairs of name and value.
func device(changes ...any) object {
	d := object{
		"name": "site.example.ts.net", "hostname": "site", "user": "tagged-devices", "tags": []string{"tag:tinyrack-server"},
		"connectedToControl": false, "lastSeen": "2026-11-24T10:00:00Z",
	}
	for i := 0; i < len(changes); i += 2 {
		d[changes[i].(string)] = changes[i+1]
	}
	return d
}

func alive(changes ...any) object {
	d := device(append([]any{"connectedToControl", true}, changes...)...)
	delete(d, "lastSeen")
	return d
}

func left(s *cloudtest.Server) string { return fmt.Sprint(slices.Sorted(maps.Keys(s.Devices))) }

func TestTakeName(t *testing.T) {
	for name, test := range map[string]struct {
		device  object
		removed bool
		refusal string
	}{
		"dead and ours": {device(), true, ""},
		"another role": {
			device("tags", []string{"tag:tinyrack-agent", "tag:tinyrack-storage"}),
			true,
			"",
		},
		"renamed in the console": {device("hostname", "old"), true, ""},
		"it came second":         {device("name", "site-1.example.ts.net"), true, ""},
		"in capitals":            {device("name", "Site.Example.ts.net."), true, ""},
		"alive and ours":         {alive(), false, ""},
		"alive and came second":  {alive("name", "site-1.example.ts.net"), false, ""},
		"nobody knows":           {device("lastSeen", nil), false, ""},
		"alive, and seen before": {device("connectedToControl", true), false, ""},
		"just logged out":        {alive("expires", passed), true, ""},
		"its key never expires":  {alive("expires", passed, "keyExpiryDisabled", true), false, ""},
		"its key expires later":  {alive("expires", "2999-01-01T00:00:00Z"), false, ""},
		"a person's, logged out": {
			alive("expires", passed, "tags", nil, "user", "eve@example.org"),
			false,
			"device d1 (site.example.ts.net, of eve@example.org, logged out)",
		},
		"a person's": {
			device("tags", nil, "user", "eve@example.org"),
			false,
			"device d1 (site.example.ts.net, of eve@example.org, last seen 2026-11-24T10:00:00Z)",
		},
		"a person's, alive": {
			alive("tags", nil, "user", "eve@example.org"),
			false,
			"device d1 (site.example.ts.net, of eve@example.org, connected)",
		},
		"another tag": {
			device("tags", []string{"tag:nas"}),
			false,
			"device d1 (site.example.ts.net, with tag:nas, last seen 2026-11-24T10:00:00Z)",
		},
		"one of ours and another": {
			device("tags", []string{"tag:tinyrack-server", "tag:nas"}),
			false,
			"with tag:tinyrack-server, tag:nas,",
		},
		"the manager's":            {device("tags", []string{"tag:tinyrack"}), false, "with tag:tinyrack,"},
		"another name":             {device("name", "other.example.ts.net", "hostname", "other"), false, ""},
		"another domain":           {device("name", "site.elsewhere.ts.net", "hostname", "x"), false, ""},
		"same hostname, not ours":  {device("name", "site-1.example.ts.net", "tags", nil), false, ""},
		"a name that begins alike": {device("name", "site-2.example.ts.net", "hostname", "site-2"), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := cloudtest.New(t)
			s.Devices["d1"] = test.device
			const taken = "hosts.site: the name site.example.ts.net is taken by device d1 "
			removed, err := api(s).TakeName(t.Context(), machine)
			switch {
			case test.refusal == "" && err != nil:
				t.Fatal(err)
			case test.refusal != "" && err == nil:
				t.Error("it was not refused")
			case test.refusal != "" && (!strings.HasPrefix(err.Error(), taken) ||
				!strings.Contains(err.Error(), test.refusal) || !strings.Contains(err.Error(), "would become site-1")):
				t.Errorf("refusal is %v", err)
			}
			if gone := len(s.Devices) == 0; gone != test.removed || len(removed) == 1 != test.removed {
				t.Errorf("removed: %t, said %q, want %t", gone, removed, test.removed)
			}
		})
	}
}

// A refusal comes before anything is removed.
func TestRefusedNameTouchesNothing(t *testing.T) {
	s := cloudtest.New(t)
	s.Devices = map[string]object{"d1": device("name", "site-1.example.ts.net"), "d2": device("tags", nil)}
	if _, err := api(s).TakeName(t.Context(), machine); err == nil || left(s) != "[d1 d2]" {
		t.Errorf("error %v, devices %s", err, left(s))
	}
}

func TestNameIsNotTakenBlindly(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*cloudtest.Server, *cloud.API)
		want   string
	}{
		"no list":   {func(s *cloudtest.Server, _ *cloud.API) { s.Fail["GET /devices"] = 500 }, "told to fail"},
		"no scope":  {func(s *cloudtest.Server, _ *cloud.API) { s.Fail["GET /devices"] = 403 }, "devices:core"},
		"no access": {func(_ *cloudtest.Server, a *cloud.API) { a.ClientSecret = "other" }, "401"},
		"no delete": {
			func(s *cloudtest.Server, _ *cloud.API) { s.Fail["DELETE /device/d1"] = 500 },
			"removing device d1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := cloudtest.New(t)
			s.Devices["d1"] = device()
			access := api(s)
			test.change(s, &access)
			_, err := access.TakeName(t.Context(), machine)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), cloudtest.Secret) {
				t.Errorf("error is %v", err)
			}
		})
	}
	s := cloudtest.New(t)
	s.Devices["d1"], s.Fail["DELETE /device/d1"] = device(), 404 // somebody was faster
	if _, err := api(s).TakeName(t.Context(), machine); err != nil {
		t.Error(err)
	}
}

// forget runs with pauses that call during, by the number of the pause.
func forget(t *testing.T, s *cloudtest.Server, during func(pause int)) (string, int, error) {
	t.Helper()
	pauses := 0
	said, err := api(s).Forget(t.Context(), machine, 5, func(context.Context) error {
		pauses++
		if during != nil {
			during(pauses)
		}
		return nil
	})
	return said, pauses, err
}

func TestForget(t *testing.T) {
	for name, test := range map[string]struct {
		devices map[string]object
		left    string
		pauses  int
		said    string
	}{
		"nothing listed": {nil, "[]", 0, "site.example.ts.net is not listed"},
		"logged out":     {map[string]object{"d1": device()}, "[]", 0, "removed device d1"},
		"just logged out": {
			map[string]object{"d1": alive("expires", passed)},
			"[]",
			0,
			"removed device d1 (site.example.ts.net, with tag:tinyrack-server, logged out)",
		},
		"a live one": {
			map[string]object{"d1": alive()},
			"[d1]",
			4,
			"left alone, for it is connected: device d1",
		},
		"nobody knows":           {map[string]object{"d1": device("lastSeen", nil)}, "[d1]", 4, "left alone"},
		"alive, and seen before": {map[string]object{"d1": device("connectedToControl", true)}, "[d1]", 4, "left alone"},
		"somebody else's":        {map[string]object{"d1": device("tags", nil)}, "[d1]", 0, "not listed"},
		"a stranger's too": {
			map[string]object{"d1": device(), "d2": device("tags", []string{"tag:nas"})},
			"[d2]",
			0,
			"removed device d1",
		},
		"another host of ours": {
			map[string]object{"d1": device("name", "two.example.ts.net", "hostname", "two")},
			"[d1]",
			0,
			"not listed",
		},
		"two lives": {
			map[string]object{"d1": device(), "d2": device("name", "site-1.example.ts.net")},
			"[]",
			0,
			"removed device d1 (site.example.ts.net",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := cloudtest.New(t)
			maps.Copy(s.Devices, test.devices)
			said, pauses, err := forget(t, s, nil)
			if err != nil || left(s) != test.left || pauses != test.pauses || !strings.Contains(said, test.said) {
				t.Errorf("said %q (%v) after %d pauses, left %s; want %q after %d, left %s",
					said, err, pauses, left(s), test.said, test.pauses, test.left)
			}
		})
	}
}

// The machine logs out a while after it was told to.
func TestForgetWaitsForTheLogout(t *testing.T) {
	s := cloudtest.New(t)
	s.Devices["d1"] = alive()
	said, pauses, err := forget(t, s, func(pause int) {
		if pause == 3 {
			s.Devices["d1"] = device()
		}
	})
	if err != nil || pauses != 3 || left(s) != "[]" || !strings.HasPrefix(said, "removed device d1") {
		t.Errorf("said %q (%v) after %d pauses, left %s", said, err, pauses, left(s))
	}
}

func TestForgetAgainstAFailingCloud(t *testing.T) {
	for _, request := range []string{"GET /devices", "DELETE /device/d1"} {
		t.Run(request, func(t *testing.T) {
			s := cloudtest.New(t)
			s.Devices["d1"], s.Fail[request] = device(), 500
			passing := func(pause int) { s.Fail[request] = map[bool]int{true: 500}[pause < 4] }
			said, _, err := forget(t, s, passing)
			if err != nil || left(s) != "[]" || !strings.HasPrefix(said, "removed device d1") {
				t.Errorf("a passing failure: said %q (%v), left %s", said, err, left(s))
			}
			s.Devices["d1"], s.Fail[request] = device(), 500
			said, pauses, err := forget(t, s, nil)
			if err == nil || said != "" || pauses != 4 || !strings.Contains(err.Error(), "may still be listed") {
				t.Errorf("a lasting failure: said %q (%v) after %d pauses", said, err, pauses)
			}
		})
	}
	for _, status := range []int{401, 403} {
		s := cloudtest.New(t)
		s.Fail["GET /devices"] = status
		if _, pauses, err := forget(t, s, nil); err == nil || pauses != 0 {
			t.Errorf("a refused access ends in %v after %d pauses", err, pauses)
		}
	}
	s := cloudtest.New(t)
	access := api(s)
	access.ClientSecret = "old"
	if _, err := access.Forget(t.Context(), machine, 5, nil); err == nil { // it does not pause
		t.Error("a secret that was replaced forgets a device")
	}
	if _, err := api(s).Forget(t.Context(), cloud.Machine{}, 5, nil); err == nil || len(s.Requests()) != 0 {
		t.Errorf("no machine: %v after %q", err, s.Requests())
	}
	s.Devices["d1"], s.Fail["DELETE /device/d1"] = device(), 404
	if _, pauses, err := forget(t, s, nil); err != nil || pauses != 0 {
		t.Errorf("a device that is gone already: %v after %d pauses", err, pauses)
	}
	s.Devices["d1"] = alive()
	stop := errors.New("interrupted")
	interrupt := func(context.Context) error { return stop }
	if _, err := api(s).Forget(t.Context(), machine, 5, interrupt); !errors.Is(err, stop) {
		t.Errorf("an interrupt ends in %v", err)
	}
}

func TestRevokeOrphans(t *testing.T) {
	wanted := cloud.Key{Description: "site stack project", Tags: []string{"tag:tinyrack-server", "tag:tinyrack-storage"}}
	key := func(changes ...any) object {
		k := object{"description": wanted.Description, "keyType": "auth"}
		create := object{"reusable": false, "tags": []string{"tag:tinyrack-storage", "tag:tinyrack-server"}}
		for i := 0; i < len(changes); i += 2 {
			if name := changes[i].(string); name == "tags" || name == "reusable" {
				create[name] = changes[i+1]
			} else {
				k[name] = changes[i+1]
			}
		}
		k["capabilities"] = object{"devices": object{"create": create}}
		return k
	}
	for name, test := range map[string]struct {
		key     object
		revoked bool
	}{
		"an orphan":       {key(), true},
		"of another host": {key("description", "site2 stack project"), false},
		"without a word":  {key("description", ""), false},
		"a client":        {key("keyType", "client"), false},
		"an API key":      {key("keyType", "api"), false},
		"revoked":         {key("revoked", "2026-11-24T10:00:00Z"), false},
		"spent":           {key("invalid", true), false},
		"another tag":     {key("tags", []string{"tag:nas"}), false},
		"a tag more": {
			key("tags", []string{"tag:tinyrack-server", "tag:tinyrack-storage", "tag:nas"}),
			false,
		},
		"a tag less":          {key("tags", []string{"tag:tinyrack-server"}), false},
		"made for many times": {key("reusable", true), false},
	} {
		t.Run(name, func(t *testing.T) {
			s := cloudtest.New(t)
			s.Keys["k1"] = test.key
			if err := api(s).RevokeOrphans(t.Context(), wanted); err != nil {
				t.Fatal(err)
			}
			if gone := len(s.Keys) == 0; gone != test.revoked {
				t.Errorf("revoked: %t, want %t", gone, test.revoked)
			}
		})
	}
	for request, wantError := range map[string]bool{"GET /keys": true, "GET /keys/k1": true, "DELETE /keys/k1": true} {
		for status, fails := range map[int]bool{500: wantError, 404: request == "GET /keys"} {
			s := cloudtest.New(t)
			s.Keys["k1"], s.Fail[request] = key(), status
			if err := api(s).RevokeOrphans(t.Context(), wanted); (err != nil) != fails {
				t.Errorf("%s answered with %d ends in %v", request, status, err)
			}
		}
	}
}

func TestPolicy(t *testing.T) {
	s := cloudtest.New(t)
	s.Policy = "// a comment\n{}"
	if got, err := api(s).Policy(t.Context()); err != nil || got != s.Policy {
		t.Errorf("policy is %q (%v)", got, err)
	}
	s.Fail["GET /acl"] = 500
	if _, err := api(s).Policy(t.Context()); err == nil {
		t.Error("a failure is taken for a policy")
	}
}
