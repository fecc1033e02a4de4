package edge

import (
	"strings"
	"testing"
)

// valid returns arguments that nothing is wrong with.
func valid() *Args {
	return &Args{
		AccountID:  "0123456789abcdef0123456789abcdef",
		ZoneID:     "fedcba9876543210fedcba9876543210",
		Zone:       "example.org",
		TunnelName: "site",
		Ingress: []Route{
			{Hostname: "*.example.org", Service: "http://fallback.web:80", Access: Public},
			{Hostname: "notes.example.org", Service: "http://memos.memos-system:5230", Access: Public},
			{Hostname: "example.org", Service: "https://ghost.ghost-system:443", Access: Public},
			{Hostname: "admin.example.org", Service: "http://longhorn.longhorn-system", Access: Team},
			{Hostname: "*.lab.example.org", Service: "http_status:503", Access: Public},
			{Hostname: "example.org", Path: "/ghost", Service: "https://ghost.ghost-system:443", Access: Team},
			{Hostname: "example.org", Path: "/ghost/a.p-i", Service: "https://ghost.ghost-system:444", Access: Team},
		},
		AccessEmails: []string{"alice@example.org", "bob@example.org"},
	}
}

func TestValidateAccepts(t *testing.T) {
	for name, change := range map[string]func(*Args){
		"the valid arguments": func(*Args) {},
		"a path that only begins like one behind a login": func(a *Args) {
			a.Ingress[6].Path, a.Ingress[6].Access = "/ghosts", Public
		},
		"no ingress":               func(a *Args) { a.Ingress = nil },
		"no emails without a team": func(a *Args) { a.Ingress, a.AccessEmails = a.Ingress[:3], nil },
		"tcp":                      func(a *Args) { a.Ingress[1].Service = "tcp://db.db-system:5432" },
		"ssh without port":         func(a *Args) { a.Ingress[1].Service = "ssh://git.git-system" },
		"an address":               func(a *Args) { a.Ingress[1].Service = "http://[fd00::1]:8080" },
		"the lowest port":          func(a *Args) { a.Ingress[1].Service = "http://memos.memos-system:1" },
		"the highest port":         func(a *Args) { a.Ingress[1].Service = "http://memos.memos-system:65535" },
		"the lowest status":        func(a *Args) { a.Ingress[1].Service = "http_status:100" },
		"the highest status":       func(a *Args) { a.Ingress[1].Service = "http_status:999" },
		"unix":                     func(a *Args) { a.Ingress[1].Service = "unix:/run/app.sock" },
		"the longest name":         func(a *Args) { a.Ingress[1].Hostname = longName(253) },
		"unix+tls":                 func(a *Args) { a.Ingress[1].Service = "unix+tls:/run/app.sock" },
	} {
		t.Run(name, func(t *testing.T) {
			args := valid()
			change(args)
			if err := args.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

// longName is a name of that many characters in the zone.
func longName(length int) string {
	end := "." + strings.Repeat(strings.Repeat("a", 49)+".", 4) + "example.org"
	return strings.Repeat("b", length-len(end)) + end
}

func TestValidateRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Args)
		want   string
	}{
		"account ID": {func(a *Args) { a.AccountID = "0123" }, `accountId: "0123" is not 32`},
		"zone ID in capitals": {
			func(a *Args) { a.ZoneID = strings.ToUpper(a.ZoneID) },
			`zoneId: "FEDCBA9876543210FEDCBA9876543210" is not 32 lower-case`,
		},
		"zone":   {func(a *Args) { a.Zone = "example" }, `zone: "example" is not a domain name`},
		"tunnel": {func(a *Args) { a.TunnelName = " " }, "tunnel: empty"},
		"a name too long": {
			func(a *Args) { a.Ingress[1].Hostname = longName(254) },
			`ingress[1].hostname: "` + longName(254) + `" is not a host name`,
		},
		"hostname outside zone": {
			func(a *Args) { a.Ingress[1].Hostname = "notes.example.com" },
			`ingress[1].hostname: "notes.example.com" is outside the zone "example.org"`,
		},
		"hostname ends like zone": {
			func(a *Args) { a.Ingress[1].Hostname = "notexample.org" },
			`ingress[1].hostname: "notexample.org" is outside`,
		},
		"wildcard outside zone": {
			func(a *Args) { a.Ingress[0].Hostname = "*.example.com" },
			`ingress[0].hostname: "*.example.com" is outside`,
		},
		"wildcard inside a name": {
			func(a *Args) { a.Ingress[0].Hostname = "a.*.example.org" },
			`ingress[0].hostname: "a.*.example.org" is not a host name`,
		},
		"wildcard in a label": {
			func(a *Args) { a.Ingress[0].Hostname = "a*.example.org" },
			`ingress[0].hostname: "a*.example.org" is not a host name`,
		},
		"hostname in capitals": {
			func(a *Args) { a.Ingress[1].Hostname = "Notes.example.org" },
			`ingress[1].hostname: "Notes.example.org" is not a host name in lower case`,
		},
		"hostname with underscore": {
			func(a *Args) { a.Ingress[1].Hostname = "_wildcard.example.org" },
			"ingress[1].hostname",
		},
		"hostname too long": {
			func(a *Args) { a.Ingress[1].Hostname = strings.Repeat("a.", 130) + "example.org" },
			"ingress[1].hostname",
		},
		"no hostname": {
			func(a *Args) { a.Ingress[1].Hostname = "" },
			`ingress[1].hostname: "" is not a host name`,
		},
		"duplicate hostname": {
			func(a *Args) { a.Ingress[2].Hostname = "notes.example.org" },
			`ingress[2].hostname: "notes.example.org" is already ingress[1]`,
		},
		"duplicate path": {
			func(a *Args) { a.Ingress[6].Path = "/ghost" },
			`ingress[6].hostname: "example.org/ghost" is already ingress[5]`,
		},
		"path without a slash": {func(a *Args) { a.Ingress[5].Path = "ghost" }, `ingress[5].path: "ghost" does not begin`},
		"path that ends in one": {
			func(a *Args) { a.Ingress[5].Path = "/ghost/" }, `ingress[5].path: "/ghost/" does not begin`,
		},
		"path that is a pattern": {
			func(a *Args) { a.Ingress[5].Path = "/(ghost)" }, `ingress[5].path: "/(ghost)" does not begin`,
		},
		"the whole as a path": {func(a *Args) { a.Ingress[5].Path = "/" }, `ingress[5].path: "/" does not begin`},
		"an open path behind a login": {
			func(a *Args) { a.Ingress[6].Access = Public },
			`ingress[6].access: "public", and all of example.org/ghost asks for a login`,
		},
		"an open path of a hostname behind a login": {
			func(a *Args) { a.Ingress[2].Access, a.Ingress[5].Access = Team, Public },
			`ingress[5].access: "public", and all of example.org asks for a login`,
		},
		"service without scheme": {
			func(a *Args) { a.Ingress[1].Service = "memos:5230" },
			`ingress[1].service: "memos:5230" is not the URL`,
		},
		"service without host": {
			func(a *Args) { a.Ingress[1].Service = "http://:80" },
			`ingress[1].service: "http://:80" is not the URL`,
		},
		"service with bad port": {
			func(a *Args) { a.Ingress[1].Service = "http://memos:70000" },
			`ingress[1].service: "http://memos:70000" is not the URL`,
		},
		"service unparsable": {
			func(a *Args) { a.Ingress[1].Service = "http://me mos" },
			`ingress[1].service: "http://me mos" is not the URL`,
		},
		"service of other scheme": {
			func(a *Args) { a.Ingress[1].Service = "ftp://memos" },
			`ingress[1].service: "ftp://memos" is not the URL`,
		},
		"service as open proxy": {
			func(a *Args) { a.Ingress[1].Service = "socks-proxy" },
			`ingress[1].service: "socks-proxy" is not the URL`,
		},
		"service with path": {
			func(a *Args) { a.Ingress[1].Service = "http://memos:5230/app" },
			`ingress[1].service: "http://memos:5230/app" goes on`,
		},
		"status": {
			func(a *Args) { a.Ingress[1].Service = "http_status:99" },
			`ingress[1].service: "http_status:99" has no three-digit`,
		},
		"relative socket": {
			func(a *Args) { a.Ingress[1].Service = "unix:app.sock" },
			`ingress[1].service: "unix:app.sock" has no absolute path`,
		},
		"access": {func(a *Args) { a.Ingress[1].Access = "" }, `ingress[1].access: "" is unknown`},
		"team behind a wildcard": {
			func(a *Args) { a.Ingress[0].Access = Team },
			`ingress[0].access: "*.example.org" is a wildcard`,
		},
		"team without emails": {func(a *Args) { a.AccessEmails = nil }, "accessEmails: empty"},
		"email":               {func(a *Args) { a.AccessEmails[1] = "Bob <bob@example.org>" }, "accessEmails[1]:"},
		"duplicate email": {
			func(a *Args) { a.AccessEmails[1] = a.AccessEmails[0] },
			`accessEmails[1]: "alice@example.org" is listed twice`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := valid()
			test.change(args)
			lines := problemLines(args)
			if len(lines) != 1 || !strings.HasPrefix(lines[0], test.want) {
				t.Errorf("problems are %q, want exactly one starting with %q", lines, test.want)
			}
			for _, line := range lines {
				if strings.Count(line, ": ") < 2 {
					t.Errorf("%q does not say key, consequence and fix", line)
				}
			}
		})
	}
}

func TestValidateReportsAllProblems(t *testing.T) {
	args := valid()
	args.AccountID, args.TunnelName = "", ""
	args.Ingress[1] = Route{Hostname: "notes.example.com", Service: "memos", Access: "everyone"}
	args.Ingress[2].Hostname = "*.example.org"
	args.AccessEmails = nil
	if lines := problemLines(args); len(lines) != 7 {
		t.Errorf("%d problems, want 7: %q", len(lines), lines)
	}
}

func TestValidateKeepsPasswordsToItself(t *testing.T) {
	args := valid()
	args.Ingress[1].Service = "http://admin:hunter2@memos:5230"
	err := args.Validate()
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error is %v, want a refusal without the password", err)
	}
}

func problemLines(args *Args) []string {
	err := args.Validate()
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}
