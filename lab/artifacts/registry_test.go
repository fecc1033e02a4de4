package artifacts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const imageURL = "https://registry.example.com/v2/things/thing/manifests/v1.2.3"

func imageOfThing(member string) Binary {
	b := thing(Plain)
	b.Release = &Release{Version: "v1.2.3", Image: "registry.example.com/things/thing:{version}", Member: member}
	return b
}

func imageOf(t *testing.T, layers ...[]byte) v1.Image {
	t.Helper()
	image := empty.Image
	for _, layer := range layers {
		var err error
		if image, err = mutate.AppendLayers(image, static.NewLayer(layer, types.OCILayer)); err != nil {
			t.Fatal(err)
		}
	}
	return image
}

// ofThisAndAnother is an index in which another architecture's image comes first.
func ofThisAndAnother(t *testing.T, image v1.Image) v1.ImageIndex {
	t.Helper()
	another := imageOf(t, tarGz(member{name: "bin/thing", text: "another machine's"}))
	var index v1.ImageIndex = empty.Index
	for _, each := range []struct {
		image v1.Image
		arch  string
	}{{another, "arm64"}, {image, arch}} {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: each.image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: each.arch}},
		})
	}
	return index
}

// pushed are the pins for what stands under the tag, which is given to a registry that is a mirror's. It gives nothing
// without a token, which it sends for to another host. blobs counts the layers that it was asked for.
func pushed(t *testing.T, what remote.Taggable, fault string) (host string, pins map[string]Pin, blobs *atomic.Int32) {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	back := httptest.NewServer(handler)
	t.Cleanup(back.Close)
	tag, err := name.NewTag(strings.TrimPrefix(back.URL, "http://") + "/things/thing:v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	switch what := what.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(tag, what)
	case v1.Image:
		err = remote.Write(tag, what)
	default:
		err = remote.Put(tag, what)
	}
	if err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(tag)
	if err != nil {
		t.Fatal(err)
	}
	pins = map[string]Pin{"thing": {Program: "thing", Version: "v1.2.3", SHA256: head.Digest.Hex, URL: imageURL}}

	blobs = &atomic.Int32{}
	asked := sync.Map{}
	over := make(chan struct{})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const token = "Bearer of a token"
		switch path := r.URL.Path; {
		case path == "/registry.example.com/":
			return // the one question
		case path == "/auth.example.com/token":
			if r.URL.Query().Get("scope") != "repository:things/thing:pull" || fault == "no token" {
				http.Error(w, "confidential", http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"token": strings.TrimPrefix(token, "Bearer ")})
			return
		case !strings.HasPrefix(path, "/registry.example.com/v2/"):
			t.Errorf("asked for %s", r.URL)
			return
		case r.Header.Get("Authorization") != token:
			challenge := `Bearer realm="https://auth.example.com/token",service="things"`
			if fault == "401" {
				challenge = "Basic"
			}
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		times, _ := asked.LoadOrStore(r.URL.Path, &atomic.Int32{})
		if times.(*atomic.Int32).Add(1) > 2 { // wantBuilt has two caches
			t.Errorf("asked for %s again", r.URL)
		}
		answer := httptest.NewRecorder()
		http.StripPrefix("/registry.example.com", handler).ServeHTTP(answer, r)
		body := answer.Body.Bytes()
		kind := answer.Header().Get("Content-Type")
		where := "a blob"
		switch {
		case types.MediaType(kind).IsIndex():
			where = "an index"
		case types.MediaType(kind).IsImage():
			where = "a manifest"
		default:
			blobs.Add(1)
		}
		for k, v := range answer.Header() {
			w.Header()[k] = v
		}
		what, of, _ := strings.Cut(fault, " of ")
		if of != where {
			w.WriteHeader(answer.Code)
			_, _ = w.Write(body)
			return
		}
		w.Header().Del("Content-Length")
		switch what {
		case "503":
			http.Error(w, "confidential", http.StatusServiceUnavailable)
		case "another":
			_, _ = w.Write(bytes.Replace(body, []byte{body[len(body)/2]}, []byte{'X'}, 1))
		case "more":
			_, _ = w.Write(append(body, 'X'))
		case "half as a whole":
			_, _ = w.Write(body[:len(body)/2])
		case "half, in pieces,":
			_, _ = w.Write(body[:len(body)/2])
			w.(http.Flusher).Flush()
		default:
			if !misbehave(w, r, what, body, over) {
				t.Errorf("no such fault: %q", fault)
			}
		}
	}))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(func() { close(over); front.Close() })
	return front.URL, pins, blobs
}

// theProgram is an image of four layers with the program in the last but one.
func theProgram(t *testing.T) v1.Image {
	t.Helper()
	return imageOf(t, tarGz(member{name: "etc/passwd", text: "root"}), tarGz(member{name: "etc/group", text: "root"}),
		tarGz(member{name: "bin/thing", text: "the program"}), tarGz(member{name: "LICENSE", text: "free"}))
}

func TestAProgramOutOfAnImage(t *testing.T) {
	for how, what := range map[string]func(v1.Image) remote.Taggable{
		"an index":             func(i v1.Image) remote.Taggable { return ofThisAndAnother(t, i) },
		"an image":             func(i v1.Image) remote.Taggable { return i },
		"pieces of a manifest": func(i v1.Image) remote.Taggable { return i },
	} {
		t.Run(how, func(t *testing.T) {
			fault := ""
			if strings.HasPrefix(how, "pieces") {
				fault = how
			}
			host, pins, blobs := pushed(t, what(theProgram(t)), fault)
			c := try(t, AutoReleases, host, pins)
			path, err := c.Program(t.Context(), imageOfThing("bin/thing"))
			if err != nil || content(t, path) != "the program" || c.builds != 0 || len(c.said) != 1 {
				t.Fatalf("%s, %v, %q", path, err, c.said)
			}
			if blobs.Load() != 2 {
				t.Errorf("%d layers were downloaded, not the two from the top", blobs.Load())
			}
			if again, err := c.Program(t.Context(), imageOfThing("bin/thing")); err != nil || again != path {
				t.Errorf("%s, %v", again, err)
			}
		})
	}
}

// TestFaultsOfARegistry wants the same of a registry as TestFaults of any host.
func TestFaultsOfARegistry(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]string{
		"404 of an index":               "answered with 404 Not Found",
		"404 of a manifest":             "answered with 404 Not Found",
		"404 of a blob":                 "answered with 404 Not Found",
		"503 of a blob":                 "answered with 503 Service Unavailable",
		"no token":                      "answered with 401 Unauthorized",
		"401":                           "answered with 401 Unauthorized",
		"another of an index":           "does not match requested digest",
		"another of a manifest":         "does not match requested digest",
		"another of a blob":             "error verifying sha256 checksum",
		"more of a blob":                "does not match expected size",
		"half of an index":              "unexpected EOF",
		"half of a blob":                "bytes of a layer: unexpected EOF",
		"half as a whole of a blob":     "does not match expected size",
		"half as a whole of a manifest": "does not match requested digest",
		"half, in pieces, of a blob":    "error verifying size",
		"broken half of a blob":         "bytes of a layer: unexpected EOF",
		"slow of a blob":                "after 1 bytes of a layer: no byte for 2s: given up",
		"slow of a manifest":            "no byte for 2s: given up",
		"silence of an index":           "no byte for 2s: given up",
		"plain http of a blob":          "redirected to http://elsewhere.example.com, which is not https: refused",
		"plain http of an index":        "redirected to http://elsewhere.example.com, which is not https: refused",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			host, pins, _ := pushed(t, ofThisAndAnother(t, theProgram(t)), fault)
			wantBuilt(t, imageOfThing("bin/thing"), host, pins, want)
		})
	}
}

// TestLayers has images in which the last layer that says something of the program decides.
func TestLayers(t *testing.T) {
	at := func(name string) member { return member{name: name, text: "the program"} }
	program := tarGz(at("opt/bin/thing"))
	over := func(members ...member) [][]byte { return [][]byte{program, tarGz(members...)} }
	const none = "no opt/bin/thing in it"
	for what, test := range map[string]struct {
		layers [][]byte
		want   string
	}{
		"one":                   {[][]byte{program}, ""},
		"the last":              {[][]byte{tarGz(member{name: "opt/bin/thing", text: "a former one"}), program}, ""},
		"from the root":         {[][]byte{tarGz(at("/opt/bin/thing"))}, ""},
		"by /usr":               {[][]byte{tarGz(at("./usr/opt/bin/thing"))}, ""},
		"folders above":         {over(member{name: "opt/"}, member{name: "opt/bin/"}), ""},
		"another is gone":       {over(member{name: "opt/bin/.wh.thing2"}, member{name: "opt/.wh.sbin"}), ""},
		"the like is gone":      {over(member{name: "opt/bin/.wh.th"}, member{name: "opt/.wh.b"}), ""},
		"another folder anew":   {over(member{name: "opt/bin/thing.d/.wh..wh..opq"}), ""},
		"gone and back":         {[][]byte{tarGz(member{name: "opt/.wh.bin"}), program}, ""},
		"folder anew, with it":  {[][]byte{tarGz(member{name: "opt/bin/.wh..wh..opq"}, at("opt/bin/thing"))}, ""},
		"absent":                {[][]byte{tarGz(at("opt/bin/other"))}, none},
		"no layer":              {nil, none},
		"gone":                  {over(member{name: "opt/bin/.wh.thing"}), none},
		"gone, by a dot":        {over(member{name: "./opt/bin/.wh.thing"}), none},
		"its folder is gone":    {over(member{name: "opt/.wh.bin"}), none},
		"its top is gone":       {over(member{name: ".wh.opt"}), none},
		"a folder anew":         {over(member{name: "opt/bin/.wh..wh..opq"}), none},
		"the root anew":         {over(member{name: ".wh..wh..opq"}), none},
		"a link for its folder": {over(member{name: "opt", text: "srv", link: true}), none},
		"a link":                {over(member{name: "opt/bin/thing", text: "/bin/sh", link: true}), "no plain file"},
		"a way out":             {over(at("../opt/bin/thing")), "leads out of the archive"},
		"empty":                 {[][]byte{tarGz(member{name: "opt/bin/thing"})}, "is empty"},
		"not packed that way":   {[][]byte{program, []byte("<!doctype html>")}, "not a tar.gz"},
		"half a tar":            {[][]byte{program, tarGz()[:12]}, "not a tar.gz"},
	} {
		t.Run(what, func(t *testing.T) {
			host, pins, _ := pushed(t, imageOf(t, test.layers...), "")
			c := try(t, OnlyReleases, host, pins)
			path, err := c.Program(t.Context(), imageOfThing("opt/bin/thing"))
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), imageURL) {
					t.Errorf("%s, %v, want %q", path, err, test.want)
				}
			} else if err != nil || content(t, path) != "the program" {
				t.Errorf("%s, %v", path, err)
			}
		})
	}
}

// manifest is that of an image of which nothing else is there.
type manifest []byte

func (m manifest) RawManifest() ([]byte, error)      { return m, nil }
func (manifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

func TestALayerThatIsTooLarge(t *testing.T) {
	text, err := imageOf(t, []byte("x")).RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`"size":1,`), fmt.Appendf(nil, `"size":%d,`, maxSize+1), 1)
	host, pins, blobs := pushed(t, manifest(text), "")
	wantBuilt(t, imageOfThing("bin/thing"), host, pins, "more than any release has: refused")
	if blobs.Load() != 0 {
		t.Errorf("%d layers were downloaded", blobs.Load())
	}
}

// TestPinsOfImages wants a pin of this very image and tag, as of a URL.
func TestPinsOfImages(t *testing.T) {
	for was, want := range map[string]bool{
		imageURL: true, strings.Replace(imageURL, "1.2.3", "1.2.4", 1): false,
		strings.Replace(imageURL, "registry", "elsewhere", 1):       false,
		strings.Replace(imageURL, "things/thing", "other/thing", 1): false,
	} {
		c := try(t, AutoReleases, "", map[string]Pin{
			"thing": {Program: "thing", Version: "v1.2.3", SHA256: hexSum(nil), URL: was},
		})
		if _, ok := c.releases.pinned(imageOfThing("thing")); ok != want {
			t.Errorf("%s: %t", was, ok)
		}
	}
	hub := Release{Version: "v1.2.3", Image: "docker.io/things/thing:{number}"}
	if got := hub.from(); got != "https://index.docker.io/v2/things/thing/manifests/1.2.3" {
		t.Errorf("got %s", got)
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestTheWayToARegistry compares what the client asks for with what is asked, and where it is led with where it goes.
func TestTheWayToARegistry(t *testing.T) {
	for what, test := range map[string]struct {
		mirror, from, asked string
		redirected          bool
		to, seen            string
	}{
		"official":       {from: "https://q/v2/", asked: "https://q/v2/"},
		"a mirror":       {mirror: "http://m:1/a", from: "https://q/v2/", asked: "http://m:1/a/q/v2/"},
		"a token":        {mirror: "http://m:1", from: "https://q/t?scope=a:b", asked: "http://m:1/q/t?scope=a:b"},
		"led away":       {mirror: "http://m:1", from: "https://cdn/x?s=1", asked: "https://cdn/x?s=1", redirected: true},
		"plain http":     {from: "http://q/v2/"},
		"led to http":    {mirror: "http://m:1", from: "http://m:1/x", redirected: true},
		"leads away":     {from: "https://q/v2/", asked: "https://q/v2/", to: "https://cdn/x", seen: "https://cdn/x"},
		"leads on":       {from: "https://q/v2/", asked: "https://q/v2/", to: "/x", seen: "https://q/x"},
		"a mirror leads": {mirror: "https://m", from: "https://q/v2/", asked: "https://m/q/v2/", to: "/", seen: "https://m/"},
	} {
		t.Run(what, func(t *testing.T) {
			asked := []string{}
			official := transportFunc(func(req *http.Request) (*http.Response, error) {
				asked = append(asked, req.URL.String())
				if req.Host != "" && req.Host != req.URL.Host {
					t.Errorf("%s is told that it is %s", req.URL.Host, req.Host)
				}
				resp := &http.Response{Header: http.Header{}, Body: http.NoBody, Request: req}
				if test.to != "" {
					resp.Header.Set("Location", test.to)
				}
				return resp, nil
			})
			r := &releases{host: test.mirror, http: &http.Client{Transport: official}}
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, test.from, nil)
			if test.redirected {
				req.Response = &http.Response{}
			}
			resp, err := registryTransport{r, func() {}}.RoundTrip(req)
			if test.asked == "" {
				if err == nil || !strings.Contains(err.Error(), "not https") || len(asked) != 0 {
					t.Errorf("%v, asked for %v", err, asked)
				}
				return
			}
			if err != nil || !slices.Equal(asked, []string{test.asked}) {
				t.Fatalf("%v, asked for %v", err, asked)
			}
			defer resp.Body.Close()
			if seen := resp.Header.Get("Location"); seen != test.seen || resp.Request != req {
				t.Errorf("led to %s, in the answer to %s", seen, resp.Request.URL)
			}
		})
	}
	failed := &url.Error{Op: "Get", URL: "https://cdn/?signature=confidential", Err: errors.New("broken")}
	if err := refusal(t.Context(), fmt.Errorf("layer: %w", failed)); err.Error() != "broken" {
		t.Errorf("got %v", err)
	}
}
