package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// publisher is all hosts of the internet at once: a release host, and a registry that gives nothing without a token.
// Its zero value publishes nothing.
type publisher struct {
	// files by host and path, as asked for.
	files map[string]string
	// images are the manifests of images by host, repository and tag.
	images map[string]string
	// kind of every manifest; an index by default. says is the digest it names instead of the true one.
	kind, says string
	// realm is where tokens are to be had; the registry's own by default.
	realm string
	// status answers everything that has the text in it.
	status map[string]int
	asked  []string
}

const pullToken = "a-token-of-everybody"

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := r.Host + r.URL.EscapedPath()
	p.asked = append(p.asked, at)
	for part, status := range p.status {
		if strings.Contains(at, part) {
			w.Header().Set("Retry-After", "37")
			w.WriteHeader(status)
			return
		}
	}
	repository, tag, isManifest := strings.Cut(at, "/manifests/")
	switch {
	case r.URL.Path == "/token":
		if r.FormValue("service") != "registry" || r.FormValue("scope") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"token": %q}`, pullToken)
	case isManifest && r.Header.Get("Authorization") != "Bearer "+pullToken:
		realm := p.realm
		if realm == "" {
			realm = "https://" + r.Host + "/token"
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`",service="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
	case isManifest:
		manifest, ok := p.images[strings.Replace(repository, "/v2/", "/", 1)+":"+tag]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		// What does not ask for an index gets that of one architecture.
		kind, digest := p.kind, p.says
		if kind == "" {
			kind = indexTypes[0]
		}
		if !strings.Contains(r.Header.Get("Accept"), kind) {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		if digest == "" {
			digest = "sha256:" + sha(manifest)
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Docker-Content-Digest", digest)
		fmt.Fprint(w, manifest)
	default:
		text, ok := p.files[at]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		fmt.Fprint(w, text)
	}
}

func sha(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// roundTripper brings every request to one server, whatever host it is for.
type roundTripper struct {
	server *url.URL
	by     http.RoundTripper
}

func (t roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s: asked without TLS", r.URL)
	}
	there := r.Clone(r.Context())
	there.Host, there.URL.Host, there.URL.Scheme = r.URL.Host, t.server.Host, t.server.Scheme
	response, err := t.by.RoundTrip(there)
	if response != nil {
		response.Request = r
	}
	return response, err
}

// published is the upstream that p is, with programs that answer like programs.
func published(t *testing.T, p *publisher, programs programs) *upstream {
	t.Helper()
	server := httptest.NewTLSServer(p)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &upstream{client: &http.Client{Transport: roundTripper{at, server.Client().Transport}}, run: programs.run}
}

// programs are stand-ins for go and npm.
type programs struct {
	// modules are hashes by path and version; go.mod's has "/go.mod" behind it. unknown are those that the checksum
	// database has not.
	modules map[string]string
	unknown []string
	// packages are their content by name and version; says is the hash that the registry names instead.
	packages map[string]string
	says     string
	// silent is a machine without a network, unvouched one whose go asks no checksum database.
	silent, unvouched bool
}

func (p programs) run(_ context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	if strings.Join(args, " ") == "env GOSUMDB" {
		if p.unvouched {
			return []byte("off\n"), nil
		}
		return []byte("sum.example.com\n"), nil
	}
	if p.silent {
		return []byte(`{"Error": "dial tcp: no such host"}`), errors.New("exit status 1")
	}
	at := args[len(args)-1]
	switch name + " " + strings.Join(args[:2], " ") {
	case "go mod download":
		path, _, _ := strings.Cut(at, "@")
		unchecked := strings.Contains(strings.Join(env, " "), "GONOSUMDB="+path)
		for _, unknown := range p.unknown {
			if unknown == at && !unchecked {
				return []byte(`{"Error": "verifying module: not found"}`), errors.New("exit status 1")
			}
		}
		if p.modules[at] == "" {
			return []byte(`{"Error": "not found: unknown revision"}`), errors.New("exit status 1")
		}
		return fmt.Appendf(nil, `{"Sum": %q, "GoModSum": %q}`, p.modules[at], p.modules[at+"/go.mod"]), nil
	case "npm pack --silent":
		if err := os.WriteFile(filepath.Join(dir, "it.tgz"), []byte(p.packages[at]), 0o600); err != nil {
			return nil, err
		}
		return nil, nil
	case "npm view " + args[1]:
		content, ok := p.packages[args[1]]
		if !ok {
			return nil, errors.New("E404")
		}
		if p.says != "" {
			return []byte(p.says + "\n"), nil
		}
		return []byte(integrity(content) + "\n"), nil
	}
	return nil, fmt.Errorf("%s %q: no such program", name, args)
}

func integrity(content string) string {
	sum := sha512.Sum512([]byte(content))
	return "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
}

func h1(letter string) string { return "h1:" + strings.Repeat(letter, 43) + "=" }

const (
	oldRelease = "https://github.com/k3s-io/k3s/releases/download/v1.36.4%2Bk3s1/"
	oldScript  = "https://raw.githubusercontent.com/k3s-io/k3s/v1.36.4%2Bk3s1/install.sh"
	newRelease = "github.com/k3s-io/k3s/releases/download/v1.36.5%2Bk3s1/"
)

// site is a checkout whose versions were changed and whose checksums were not.
func site() map[string]string {
	stale := strings.Repeat("0", 64)
	return map[string]string{
		"renovate.json5": `{ // as in the real one
  "customManagers": [{
    "customType": "regex",
    "managerFilePatterns": ["/^apps/.+\\.yaml$/"],
    "matchStrings": ["image: (?<depName>[^:]+):(?<currentValue>[^@]+)@(?<currentDigest>sha256:[0-9a-f]+)\\n"],
    "datasourceTemplate": "docker",
  }],
}`,
		"docs/versions.md": tableStart + tableEnd,
		"Pulumi.site.yaml": `  tinyrack:cluster:
    version: v1.36.5+k3s1
    binaries:
      amd64:
        url: ` + oldRelease + `k3s
        sha256: ` + stale + `
      arm64:
        url: ` + oldRelease + `k3s-arm64
        sha256: ""
    installScript:
      url: ` + oldScript + `
      sha256: ` + stale + `
`,
		"Pulumi.own.yaml": `  tinyrack:cluster:
    version: v1.36.5+k3s1
    binaries:
      amd64:
        url: https://mirror.example.com/k3s
        sha256: ` + stale + "\n",
		"apps/one.yaml": "image: docker.io/library/redis:7.4.10@sha256:" + stale + "\n",
		"lab/artifacts/catalog.go": `package artifacts

const Version = "v1.1.0"

var (
	one = Module{"example.com/one", Version, "` + h1("0") + `"}
	sums = []string{
		"example.com/two v2.0.0 ` + h1("0") + `",
		"example.com/two v2.0.0/go.mod " +
			"` + h1("0") + `",
	}
	three = fluxController("three", "v1.0.0", "` + h1("0") + `",
		"` + h1("0") + `", "` + h1("0") + `")
)

func fluxController(name, version, sum, api, mod string) Binary {
	return Binary{Module: Module{"github.com/fluxcd/" + name, version, sum}}
}
`,
		"lab/artifacts/ghost.go": `package artifacts

var four = Package{"@scope/four", "4.0.0", "` + integrity("old") + `"}
`,
	}
}

// newer publishes what the site's versions are.
func newer() (*publisher, programs) {
	p := &publisher{
		files: map[string]string{
			newRelease + "k3s": "for amd64", newRelease + "k3s-arm64": "for arm64",
			newRelease + "sha256sum-amd64.txt": sha("images") + "  k3s-airgap-images-amd64.tar\n" +
				sha("for amd64") + "  k3s\n",
			newRelease + "sha256sum-arm64.txt":                               sha("for arm64") + "  k3s-arm64\n",
			"raw.githubusercontent.com/k3s-io/k3s/v1.36.5%2Bk3s1/install.sh": "a script",
		},
		images: map[string]string{"registry-1.docker.io/library/redis:7.4.10": `{"manifests": []}`},
	}
	return p, programs{
		modules: map[string]string{
			"example.com/one@v1.1.0": h1("1"), "example.com/two@v2.0.0": h1("2"), "example.com/two@v2.0.0/go.mod": h1("3"),
			"github.com/fluxcd/three@v1.0.0": h1("4"), "github.com/fluxcd/three/api@v1.0.0": h1("5"),
			"github.com/fluxcd/three/api@v1.0.0/go.mod": h1("6"),
		},
		packages: map[string]string{"@scope/four@4.0.0": "new"},
	}
}

func checkout(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestPinsFollowTheirVersions refreshes everything, and finds nothing to do the second time.
func TestPinsFollowTheirVersions(t *testing.T) {
	root := checkout(t, site())
	p, programs := newer()
	u := published(t, p, programs)
	var said bytes.Buffer
	if err := pin(t.Context(), &said, root, u, false, nil); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string][]string{
		"Pulumi.site.yaml": {
			"url: https://" + newRelease + "k3s\n        sha256: " + sha("for amd64") + "\n",
			"url: https://" + newRelease + "k3s-arm64\n        sha256: \"" + sha("for arm64") + "\"\n",
			"v1.36.5%2Bk3s1/install.sh\n      sha256: " + sha("a script") + "\n",
		},
		"Pulumi.own.yaml": {site()["Pulumi.own.yaml"]},
		"apps/one.yaml":   {"redis:7.4.10@sha256:" + sha(`{"manifests": []}`) + "\n"},
		"lab/artifacts/catalog.go": {
			`Version, "` + h1("1") + `"}`, `two v2.0.0 ` + h1("2") + `"`, "\t\t\t\"" + h1("3") + `"`,
			`"v1.0.0", "` + h1("4") + "\",\n\t\t\"" + h1("5") + `", "` + h1("6") + `")`,
		},
		"lab/artifacts/ghost.go": {`"4.0.0", "` + integrity("new") + `"}`},
		"docs/versions.md":       {"| docker.io/library/redis |"},
	} {
		for _, part := range want {
			if got := read(t, filepath.Join(root, file)); !strings.Contains(got, part) {
				t.Errorf("%s: has not %q:\n%s", file, part, got)
			}
		}
	}
	if strings.Contains(said.String(), pullToken) {
		t.Error("the token is shown")
	}
	said.Reset()
	if err := pin(t.Context(), &said, root, u, true, nil); err != nil || said.Len() > 0 {
		t.Errorf("the second time: %v, said:\n%s", err, &said)
	}
}

// TestOneKindAlone asks for nothing else, and refuses one that there is not.
func TestOneKindAlone(t *testing.T) {
	root := checkout(t, site())
	p, programs := newer()
	u := published(t, p, programs)
	if err := pin(t.Context(), &bytes.Buffer{}, root, u, false, []string{"packages"}); err != nil {
		t.Fatal(err)
	}
	if len(p.asked) > 0 {
		t.Errorf("asked for %q", p.asked)
	}
	err := pin(t.Context(), &bytes.Buffer{}, root, u, false, []string{"pakages"})
	if err == nil || !strings.Contains(err.Error(), `"pakages": no such kind`) {
		t.Errorf("says %v", err)
	}
}

// TestNothingIsHalfWritten: a file of which something could not be asked, or about which its publishers disagree, stays
// as it is; the others are written. A check writes nothing at all.
func TestNothingIsHalfWritten(t *testing.T) {
	for name, test := range map[string]struct {
		check bool
		spoil func(*publisher, *programs)
		// want is in what it says, kept are the files that stay.
		want string
		kept []string
	}{
		"a check": {
			check: true, want: "checksums differ", spoil: func(*publisher, *programs) {},
			kept: []string{
				"Pulumi.site.yaml", "apps/one.yaml", "lab/artifacts/catalog.go", "lab/artifacts/ghost.go", "docs/versions.md",
			},
		},
		"no such binary": {
			spoil: func(p *publisher, _ *programs) { delete(p.files, newRelease+"k3s-arm64") },
			want:  "k3s-arm64: is not there", kept: []string{"Pulumi.site.yaml"},
		},
		"no list of checksums": {
			spoil: func(p *publisher, _ *programs) { delete(p.files, newRelease+"sha256sum-amd64.txt") },
			want:  "sha256sum-amd64.txt: is not there", kept: []string{"Pulumi.site.yaml"},
		},
		"a list without the binary": {
			spoil: func(p *publisher, _ *programs) {
				p.files[newRelease+"sha256sum-amd64.txt"] = sha("for amd64") + "  k3s-other\n"
			},
			want: "does not name k3s", kept: []string{"Pulumi.site.yaml"},
		},
		"a list that says something else": {
			spoil: func(p *publisher, _ *programs) {
				p.files[newRelease+"sha256sum-amd64.txt"] = sha("another") + "  k3s\n"
			},
			want: "neither is taken", kept: []string{"Pulumi.site.yaml"},
		},
		"no install script": {
			spoil: func(p *publisher, _ *programs) { p.status = map[string]int{"install.sh": 500} },
			want:  "answers 500", kept: []string{"Pulumi.site.yaml"},
		},
		"a registry that was asked too often": {
			spoil: func(p *publisher, _ *programs) { p.status = map[string]int{"/manifests/": 429} },
			want:  "asked too often: try again after 37", kept: []string{"apps/one.yaml"},
		},
		"a token that is not given": {
			spoil: func(p *publisher, _ *programs) { p.status = map[string]int{"/token": 503} },
			want:  "no token to pull with", kept: []string{"apps/one.yaml"},
		},
		"a token to be fetched in clear": {
			spoil: func(p *publisher, _ *programs) { p.realm = "http://registry-1.docker.io/token" },
			want:  "no address of https", kept: []string{"apps/one.yaml"},
		},
		"no such tag": {
			spoil: func(p *publisher, _ *programs) { p.images = nil },
			want:  "is not there", kept: []string{"apps/one.yaml"},
		},
		"a digest of something else": {
			spoil: func(p *publisher, _ *programs) { p.says = "sha256:" + sha("another") },
			want:  "neither is taken", kept: []string{"apps/one.yaml"},
		},
		"an image of one architecture": {
			spoil: func(p *publisher, _ *programs) { p.kind = "application/vnd.oci.image.manifest.v1+json" },
			want:  "of one architecture", kept: []string{"apps/one.yaml"},
		},
		"no such module": {
			spoil: func(_ *publisher, q *programs) { delete(q.modules, "example.com/two@v2.0.0") },
			want:  "module example.com/two@v2.0.0: go mod download: not found", kept: []string{"lab/artifacts/catalog.go"},
		},
		"a new hash that the checksum database does not know": {
			spoil: func(_ *publisher, q *programs) { q.unknown = []string{"example.com/one@v1.1.0"} },
			want:  "verifying module: not found", kept: []string{"lab/artifacts/catalog.go"},
		},
		"no checksum database": {
			spoil: func(_ *publisher, q *programs) { q.unvouched = true },
			want:  "nobody would vouch for the hash", kept: []string{"lab/artifacts/catalog.go"},
		},
		"a go.mod without a hash": {
			spoil: func(_ *publisher, q *programs) { delete(q.modules, "example.com/two@v2.0.0/go.mod") },
			want:  "which is none", kept: []string{"lab/artifacts/catalog.go"},
		},
		"a package of another content": {
			spoil: func(_ *publisher, q *programs) { q.says = integrity("another") },
			want:  "neither is taken", kept: []string{"lab/artifacts/ghost.go"},
		},
		"no such package": {
			spoil: func(_ *publisher, q *programs) { q.packages = nil },
			want:  "E404", kept: []string{"lab/artifacts/ghost.go"},
		},
		"no network": {
			spoil: func(p *publisher, q *programs) { p.status, q.silent = map[string]int{"": 502}, true },
			want:  "nothing was changed in it",
			kept:  []string{"Pulumi.site.yaml", "apps/one.yaml", "lab/artifacts/catalog.go", "lab/artifacts/ghost.go"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := site()
			root := checkout(t, files)
			p, programs := newer()
			test.spoil(p, &programs)
			var said bytes.Buffer
			err := pin(t.Context(), &said, root, published(t, p, programs), test.check, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("says %v, not %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error()+said.String(), pullToken) {
				t.Error("the token is shown")
			}
			for file, text := range files {
				kept := file == "Pulumi.own.yaml" || file == "renovate.json5"
				for _, name := range test.kept {
					kept = kept || name == file
				}
				if file == "docs/versions.md" && !test.check {
					continue // of what is there
				}
				if same := read(t, filepath.Join(root, file)) == text; same != kept {
					t.Errorf("%s: as it was: %v, wanted %v", file, same, kept)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(root, "*", ".*")); len(left) > 0 {
				t.Errorf("leaves %q", left)
			}
		})
	}
}

// TestAModuleThatOnlyTheRegistryKnows stays when its hash is the pinned one.
func TestAModuleThatOnlyTheRegistryKnows(t *testing.T) {
	files := site()
	p, programs := newer()
	files["lab/artifacts/catalog.go"] = strings.Replace(files["lab/artifacts/catalog.go"], h1("0"), h1("1"), 1)
	programs.unknown = []string{"example.com/one@v1.1.0"}
	root := checkout(t, files)
	if err := pin(t.Context(), &bytes.Buffer{}, root, published(t, p, programs), false, []string{"modules"}); err != nil {
		t.Error(err)
	}
}

// TestWithoutNetwork: nobody answers at all.
func TestWithoutNetwork(t *testing.T) {
	root := checkout(t, site())
	p, programs := newer()
	u := published(t, p, programs)
	u.client = &http.Client{Transport: nobody{}}
	err := pin(t.Context(), &bytes.Buffer{}, root, u, true, []string{"k3s", "images"})
	for _, want := range []string{
		"Pulumi.site.yaml: not known whether", "apps/one.yaml: not known whether", "no such host",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("says %v, not %q", err, want)
		}
	}
}

type nobody struct{}

func (nobody) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("dial tcp: no such host")
}
