package cloudflare_test

import (
	"net/http"
	"strings"
	"testing"
)

// Every kind of object can be changed in place, and keeps its id.
func TestUpdates(t *testing.T) {
	s := startSite(t)
	for _, test := range []struct {
		name, method, path, body string
		wants                    []string
	}{
		{
			"tunnel",
			"PATCH",
			accounts + "/cfd_tunnel/" + s.tunnel,
			`{"name":"renamed"}`,
			[]string{s.tunnel, `"name":"renamed"`, `"config_src":"cloudflare"`},
		},
		{
			"record",
			"PATCH",
			zones + "/dns_records/" + s.record,
			`{"comment":"by hand"}`,
			[]string{s.record, `"comment":"by hand"`, `"proxied":true`, s.tunnel},
		},
		{
			"record replaced",
			"PUT",
			zones + "/dns_records/" + s.record,
			`{"name":"app.lab.test","type":"CNAME","content":"x.test","ttl":300}`,
			[]string{s.record, `"comment":null`, `"proxied":false`, `"content":"x.test"`, `"ttl":300`},
		},
		{
			"policy",
			"PUT",
			accounts + "/access/policies/" + s.policy,
			`{"name":"team","decision":"allow","include":[{"email":{"email":"b@lab.test"}}]}`,
			[]string{s.policy, "b@lab.test", `"app_count":1`},
		},
		{
			"application",
			"PUT",
			accounts + "/access/apps/" + s.app,
			`{"name":"app","type":"self_hosted","domain":"app.lab.test","session_duration":"1h"}`,
			[]string{s.app, `"session_duration":"1h"`, `"policies":[]`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := s.total(t)
			written := s.api(t, test.method, test.path, test.body)
			read := s.api(t, http.MethodGet, test.path, "")
			for _, want := range test.wants {
				if !strings.Contains(written.text, want) || !strings.Contains(read.text, want) {
					t.Errorf("want %s in\n%s\n%s", want, written.text, read.text)
				}
			}
			if after := s.total(t); after != before {
				t.Errorf("%v objects instead of %v", after, before)
			}
		})
	}
}
