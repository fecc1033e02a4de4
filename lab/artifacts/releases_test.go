package artifacts

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/tinyrack-net/infrastructure/lab/progress"
)

func hexSum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func changed(content []byte) []byte { return append([]byte("changed"), content...) }

// thing is a program of the tests, released under this URL at a stand-in.
const thingURL = "https://get.example.com/v1.2.3/thing-1.2.3"

func thing(archive Archive) Binary {
	return Binary{
		Name: "thing", Module: Module{Path: "example.com/thing", Version: "v1.2.3"},
		Release: &Release{
			Version: "v1.2.3", URL: "https://get.example.com/{version}/thing-{number}",
			Sums: "https://get.example.com/{version}/checksums.txt", Archive: archive, Member: "thing-{version}/thing",
		},
	}
}

// trial is a cache whose releases come from a stand-in host, and whose builder only writes "built".
type trial struct {
	*Cache
	builds int
	said   []string
}

func try(t *testing.T, mode, host string, pins map[string]Pin) *trial {
	t.Helper()
	got := &trial{Cache: open(t)}
	// Fields and not the environment, so that what waits for a silent host waits beside others.
	got.releases.mode, got.releases.host, got.releases.pins = mode, host, pins
	got.releases.stall, got.releases.reachable = 2*time.Second, 30*time.Second
	got.releases.say = func(format string, args ...any) { got.said = append(got.said, fmt.Sprintf(format, args...)) }
	var mu sync.Mutex
	got.compile = func(_ context.Context, _ Binary, out string) error {
		mu.Lock()
		defer mu.Unlock()
		got.builds++
		return os.WriteFile(out, []byte("built"), 0o755)
	}
	return got
}

func pinOf(content []byte) map[string]Pin {
	return map[string]Pin{"thing": {Program: "thing", Version: "v1.2.3", SHA256: hexSum(content), URL: thingURL}}
}

// standIn is a host that serves content under the official path, as fault says, and counts what it was asked.
func standIn(t *testing.T, content []byte, fault string) (url string, heads, gets *atomic.Int32) {
	t.Helper()
	heads, gets = &atomic.Int32{}, &atomic.Int32{}
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			heads.Add(1)
			if r.URL.Path != "/get.example.com/" {
				t.Errorf("asked for %s", r.URL)
			}
			return
		}
		gets.Add(1)
		if r.URL.Path != "/get.example.com/v1.2.3/thing-1.2.3" {
			t.Errorf("asked for %s", r.URL)
		}
		switch fault {
		case "wrong checksum":
			_, _ = w.Write(changed(content))
		case "too large":
			w.Header().Set("Content-Length", fmt.Sprint(maxSize+1))
		default:
			if !misbehave(w, r, fault, content, over) {
				_, _ = w.Write(content)
			}
		}
	}))
	t.Cleanup(func() { close(over); server.Close() })
	return server.URL, heads, gets
}

// misbehave answers with body as any host may, and says whether there is such a fault. Silence lasts until over is
// closed.
func misbehave(w http.ResponseWriter, r *http.Request, fault string, body []byte, over <-chan struct{}) bool {
	write := func(part []byte) {
		_, _ = w.Write(part)
		w.(http.Flusher).Flush()
	}
	switch fault {
	case "404":
		http.NotFound(w, r)
	case "half":
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:len(body)/2])
	case "broken half":
		write(body[:len(body)/2])
		panic(http.ErrAbortHandler)
	case "slow":
		write(body[:1])
		<-over
	case "silence":
		<-over
	case "plain http":
		http.Redirect(w, r, "http://elsewhere.example.com/thing?signature=confidential", http.StatusTemporaryRedirect)
	case "pieces": // each within the time, all of them not
		for part := range slices.Chunk(body, max(1, len(body)/20)) {
			write(part)
			time.Sleep(2500 * time.Millisecond / 20)
		}
	default:
		return false
	}
	return true
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o111 != 0o111 {
		t.Errorf("%v, %v: not to be run by everybody", info.Mode(), err)
	}
	return string(text)
}

func TestAReleaseTakesThePlaceOfABuild(t *testing.T) {
	released := []byte("released, in some pieces")
	for _, how := range []string{"at once", "pieces"} {
		t.Run(how, func(t *testing.T) {
			host, heads, gets := standIn(t, released, how)
			c := try(t, AutoReleases, host, pinOf(released))
			for range 2 {
				path, err := c.Program(t.Context(), thing(Plain))
				if err != nil || content(t, path) != string(released) {
					t.Fatalf("%s, %v, %q", path, err, c.said)
				}
			}
			if heads.Load() != 1 || gets.Load() != 1 || c.builds != 0 {
				t.Errorf("asked %d times, downloaded %d, built %d", heads.Load(), gets.Load(), c.builds)
			}
			if left, _ := filepath.Glob(c.path("work", "*")); len(left) != 0 || len(c.said) != 1 {
				t.Errorf("left %v, said %q", left, c.said)
			}
		})
	}
}

// TestFaults wants a build that is told, and in its place an error where nothing but releases is wanted.
func TestFaults(t *testing.T) {
	t.Parallel()
	released := []byte("the released program")
	for fault, want := range map[string]string{
		"404": "answered with 404 Not Found",
		"wrong checksum": "its sha256 is " + hexSum(changed(released)) + ", pinned is " + hexSum(released) +
			": REFUSED",
		"half":        "after 10 bytes: unexpected EOF",
		"broken half": "after 10 bytes: unexpected EOF",
		"slow":        "after 1 bytes: no byte for 2s: given up",
		"silence":     "no byte for 2s: given up",
		"plain http":  "redirected to http://elsewhere.example.com, which is not https: refused",
		"too large":   "more than any release has: refused",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			host, _, _ := standIn(t, released, fault)
			wantBuilt(t, thing(Plain), host, pinOf(released), want)
		})
	}
}

// wantBuilt wants a program to be built because its release cannot be had.
func wantBuilt(t *testing.T, b Binary, host string, pins map[string]Pin, want string) {
	t.Helper()
	c := try(t, AutoReleases, host, pins)
	path, err := c.Program(t.Context(), b)
	if err != nil || content(t, path) != "built" || c.builds != 1 {
		t.Fatalf("%s, %v", path, err)
	}
	said := c.said[len(c.said)-1]
	for _, part := range []string{"built instead", "thing", b.Release.from(), want} {
		if !strings.Contains(said, part) {
			t.Errorf("said %q without %q", said, part)
		}
	}
	if strings.Contains(said, "confidential") {
		t.Errorf("said %q", said)
	}
	// What was built is there now: a host that has recovered is not asked.
	if again, err := c.Program(t.Context(), b); err != nil || again != path || c.builds != 1 {
		t.Errorf("%s, %v", again, err)
	}

	c = try(t, OnlyReleases, host, pins)
	if path, err := c.Program(t.Context(), b); err == nil || path != "" || c.builds != 0 ||
		!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), b.Release.from()) {
		t.Errorf("only: %s, %v", path, err)
	}
	if left, _ := filepath.Glob(c.path("*", "*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestAHostThatDoesNotAnswerIsAskedOnce(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	refused := httptest.NewServer(nil)
	refused.Close()
	ill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }))
	defer ill.Close()
	unproven := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	unproven.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer unproven.Close()
	for host, want := range map[string]string{
		"http://" + silent.Addr().String(): "nothing for 500ms", refused.URL: "connection refused",
		ill.URL: "502 Bad Gateway", unproven.URL: "failed to verify certificate",
	} {
		limit := 30 * time.Second // a busy machine takes its time for a handshake
		if strings.Contains(want, "nothing for") {
			limit = 500 * time.Millisecond
		}
		c := try(t, AutoReleases, host, pinOf(nil))
		c.releases.reachable = limit
		other := thing(Plain)
		other.Name = "other"
		c.releases.pins["other"] = Pin{Program: "other", Version: "v1.2.3", SHA256: hexSum(nil), URL: thingURL}
		started := time.Now()
		for _, b := range []Binary{thing(Plain), other} {
			if path, err := c.Program(t.Context(), b); err != nil || content(t, path) != "built" {
				t.Errorf("%s: %s, %v", host, path, err)
			}
		}
		if took := time.Since(started); took > time.Minute {
			t.Errorf("%s: %s", host, took)
		}
		if len(c.said) != 1 || !strings.Contains(c.said[0], want) || !strings.Contains(c.said[0], "everything is built") {
			t.Errorf("%s: said %q, want %q", host, c.said, want)
		}
		c = try(t, OnlyReleases, host, pinOf(nil))
		c.releases.reachable = limit
		if _, err := c.Program(t.Context(), thing(Plain)); err == nil || !strings.Contains(err.Error(), want) ||
			c.builds != 0 {
			t.Errorf("%s: only: %v", host, err)
		}
	}
}

// TestWhenNothingIsAsked has every way in which no release is to be tried: then no host hears of it.
func TestWhenNothingIsAsked(t *testing.T) {
	released := []byte("released")
	unreleased := thing(Plain)
	unreleased.Release = nil
	stale := pinOf(released)
	stale["thing"] = Pin{Program: "thing", Version: "v1.2.2", SHA256: hexSum(released), URL: thingURL}
	moved := pinOf(released)
	moved["thing"] = Pin{Program: "thing", Version: "v1.2.3", SHA256: hexSum(released), URL: thingURL + "-moved"}
	for name, test := range map[string]struct {
		mode   string
		pins   map[string]Pin
		binary Binary
		want   string // of the error
	}{
		"never":                       {mode: NoReleases, pins: pinOf(released), binary: thing(Plain)},
		"no checksum":                 {mode: AutoReleases, binary: thing(Plain)},
		"pin of another version":      {mode: AutoReleases, pins: stale, binary: thing(Plain)},
		"pin of another URL":          {mode: AutoReleases, pins: moved, binary: thing(Plain)},
		"no release":                  {mode: AutoReleases, pins: pinOf(released), binary: unreleased},
		"only, no release":            {mode: OnlyReleases, pins: pinOf(released), binary: unreleased},
		"only, no checksum":           {mode: OnlyReleases, binary: thing(Plain), want: "no checksum of release v1.2.3"},
		"only, pin of another":        {mode: OnlyReleases, pins: stale, binary: thing(Plain), want: "scripts/pin releases"},
		"default is auto, no release": {mode: "", pins: pinOf(released), binary: unreleased},
	} {
		t.Run(name, func(t *testing.T) {
			host, heads, gets := standIn(t, released, "")
			c := try(t, test.mode, host, test.pins)
			path, err := c.Program(t.Context(), test.binary)
			switch {
			case test.want != "":
				if err == nil || !strings.Contains(err.Error(), test.want) || c.builds != 0 {
					t.Errorf("got %v", err)
				}
			case err != nil || content(t, path) != "built":
				t.Errorf("%s, %v", path, err)
			}
			if heads.Load()+gets.Load() != 0 || len(c.said) != 0 {
				t.Errorf("%d, %d, %q", heads.Load(), gets.Load(), c.said)
			}
		})
	}
}

// TestWhatIsThereIsUsed wants one program of each kind, apart, and nothing made again for the other's sake.
func TestWhatIsThereIsUsed(t *testing.T) {
	released := []byte("released")
	host, heads, _ := standIn(t, released, "")
	b := thing(Plain)
	c := try(t, NoReleases, host, pinOf(released))
	built, err := c.Program(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	c.releases.mode = AutoReleases
	if path, err := c.Program(t.Context(), b); err != nil || path != built || heads.Load() != 0 {
		t.Errorf("auto beside a built one: %s, %v", path, err)
	}
	c.releases.mode = OnlyReleases
	if c.Has(b) {
		t.Error("a built one is taken for a release")
	}
	download, err := c.Program(t.Context(), b)
	if err != nil || download == built || content(t, download) != string(released) {
		t.Fatalf("%s, %v", download, err)
	}
	if err := os.Remove(built); err != nil {
		t.Fatal(err)
	}
	c.releases.mode = AutoReleases
	if path, err := c.Program(t.Context(), b); err != nil || path != download || c.builds != 1 {
		t.Errorf("auto beside a release: %s, %v", path, err)
	}
	c.releases.mode = NoReleases
	if path, err := c.Program(t.Context(), b); err != nil || path != built || c.builds != 2 {
		t.Errorf("never beside a release: %s, %v", path, err)
	}
}

// TestAnInterruptedDownloadIsNotBuilt has a person stop the command: it stops.
func TestAnInterruptedDownloadIsNotBuilt(t *testing.T) {
	host, _, _ := standIn(t, []byte("released"), "slow")
	c := try(t, AutoReleases, host, pinOf([]byte("released")))
	c.releases.stall = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := c.Program(ctx, thing(Plain)); !errors.Is(err, context.DeadlineExceeded) || c.builds != 0 {
		t.Errorf("got %v, %d builds", err, c.builds)
	}
}

type member struct {
	name, text string
	link       bool
}

func tarGz(members ...member) []byte {
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	w := tar.NewWriter(zw)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o600, Size: int64(len(m.text)), Typeflag: tar.TypeReg}
		if m.link {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, m.text, 0
		}
		if strings.HasSuffix(m.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		_ = w.WriteHeader(h)
		if !m.link {
			_, _ = io.WriteString(w, m.text)
		}
	}
	_, _ = w.Close(), zw.Close()
	return out.Bytes()
}

func zipped(members ...member) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, m := range members {
		h := &zip.FileHeader{Name: m.name, Method: zip.Deflate}
		h.SetMode(0o600)
		if m.link {
			h.SetMode(os.ModeSymlink | 0o777)
		}
		f, _ := w.CreateHeader(h)
		_, _ = io.WriteString(f, m.text)
	}
	_ = w.Close()
	return out.Bytes()
}

func TestArchives(t *testing.T) {
	program := member{name: "thing-v1.2.3/thing", text: "the program"}
	for kind, pack := range map[Archive]func(...member) []byte{TarGz: tarGz, Zip: zipped} {
		for name, test := range map[string]struct {
			members []member
			want    string // of the error
		}{
			"among others": {members: []member{{name: "README"}, {name: "link", text: "/etc/passwd", link: true}, program}},
			"with a dot":   {members: []member{{name: "./thing-v1.2.3/thing", text: "the program"}}},
			"elsewhere":    {[]member{{name: "bin/thing", text: "another"}}, "no thing-v1.2.3/thing in it"},
			"a link":       {[]member{{name: program.name, text: "/etc/passwd", link: true}}, "no plain file"},
			"a way out":    {[]member{{name: "../thing", text: "x"}, program}, "leads out of the archive"},
			"a way round":  {[]member{{name: "a/../thing-v1.2.3/thing", text: "x"}}, "leads out of the archive"},
			"absolute":     {[]member{{name: "/etc/cron.d/thing", text: "x"}, program}, "leads out of the archive"},
			"empty":        {[]member{{name: program.name}}, "is empty"},
			"nothing":      {nil, "no thing-v1.2.3/thing in it"},
		} {
			t.Run(string(kind)+", "+name, func(t *testing.T) {
				archive := pack(test.members...)
				host, _, _ := standIn(t, archive, "")
				c := try(t, OnlyReleases, host, pinOf(archive))
				path, err := c.Program(t.Context(), thing(kind))
				if test.want != "" {
					if err == nil || !strings.Contains(err.Error(), test.want) {
						t.Errorf("got %v", err)
					}
					if left, _ := filepath.Glob(c.path("done", "*")); len(left) != 0 {
						t.Errorf("left %v", left)
					}
				} else if err != nil || content(t, path) != "the program" {
					t.Errorf("%s, %v", path, err)
				}
			})
		}
		t.Run(string(kind)+", not one", func(t *testing.T) {
			host, _, _ := standIn(t, []byte("<!doctype html>"), "")
			c := try(t, OnlyReleases, host, pinOf([]byte("<!doctype html>")))
			if _, err := c.Program(t.Context(), thing(kind)); err == nil || !strings.Contains(err.Error(), "not a ") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSettingsOfReleases(t *testing.T) {
	pins := filepath.Join(t.TempDir(), "pins")
	line := "thing v1.2.3 " + hexSum(nil) + " " + thingURL
	for name, test := range map[string]struct{ mode, host, pins, want string }{
		"mode":          {mode: "sometimes", want: `TINYRACK_LAB_RELEASES: "sometimes": nothing was made: set auto, never or only`},
		"host":          {host: "mirror.example.com", want: "TINYRACK_LAB_RELEASE_HOST: not the base URL of a mirror"},
		"login":         {host: "https://user:confidential@mirror.example.com", want: "without a login"},
		"ftp":           {host: "ftp://mirror.example.com", want: "not the base URL"},
		"words":         {pins: "thing v1.2.3\n", want: "line 1: 2 words"},
		"digest":        {pins: "# a\n\nthing v1.2.3 abc " + thingURL, want: `line 3: "abc" is no sha256`},
		"upper case":    {pins: strings.Replace(line, hexSum(nil), strings.ToUpper(hexSum(nil)), 1), want: "is no sha256"},
		"http":          {pins: strings.Replace(line, "https", "http", 1), want: "is no url"},
		"twice":         {pins: line + "\n" + line, want: "line 2: thing stands there twice"},
		"a good file":   {pins: line + " # from somewhere\n# and a comment\n"},
		"a good mirror": {host: "http://127.0.0.1:1/releases/"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(ReleasesSetting, test.mode)
			t.Setenv(ReleaseHost, test.host)
			t.Setenv(ReleasePins, "")
			if test.pins != "" {
				t.Setenv(ReleasePins, pins)
				if err := os.WriteFile(pins, []byte(test.pins), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c, err := Open(t.TempDir())
			if test.want == "" {
				if err != nil || test.pins != "" && c.releases.pins["thing"].Source != "from somewhere" ||
					c.releases.at(thingURL) != map[bool]string{
						true: thingURL, false: "http://127.0.0.1:1/releases/get.example.com/v1.2.3/thing-1.2.3",
					}[test.host == ""] {
					t.Errorf("got %v", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "confidential") {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Setenv(ReleasePins, filepath.Join(t.TempDir(), "missing"))
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "TINYRACK_LAB_RELEASE_PINS") {
		t.Errorf("got %v", err)
	}
}

// TestEveryProgramSaysWhereItComesFrom compares the catalogue with releases.txt.
func TestEveryProgramSaysWhereItComesFrom(t *testing.T) {
	pins, err := parsePins(committedPins)
	if err != nil || !strings.HasPrefix(committedPins, pinsHead) {
		t.Fatalf("releases.txt: %v, or another head than scripts/pin writes", err)
	}
	for _, b := range append(binaries(), formerK3s, kubeBench, act) {
		if (b.Release == nil) == (b.NoRelease == "") {
			t.Errorf("%s: it has a release, or says why not", b.Name)
		}
		plain := b
		plain.Release, plain.NoRelease = nil, ""
		c := open(t)
		one, _ := c.finished(b.Name, b)
		if other, _ := c.finished(b.Name, plain); one != other {
			t.Errorf("%s: its release decides where the built one is", b.Name)
		}
		if b.Release == nil {
			continue
		}
		r := *b.Release
		// The modules of these two have no version of that name.
		if strings.TrimPrefix(r.Version, "v") != strings.TrimPrefix(b.Module.Version, "v") && b.Name != cloudflared.Name &&
			b.Name != k3s.Name {
			t.Errorf("%s: released %s, built %s", b.Name, r.Version, b.Module.Version)
		}
		packed := r.download("").Archive != Plain
		if !strings.HasPrefix(r.from(), "https://") || strings.ContainsAny(r.from()+r.fill(r.Sums+r.Member), "{}") ||
			packed != (r.Member != "") || (r.Image == "") == (r.URL == "") || r.Image != "" && r.Sums+string(r.Archive) != "" {
			t.Errorf("%s: %+v", b.Name, r)
		}
		if _, err := name.NewTag(r.fill(r.Image), name.StrictValidation); r.Image != "" && err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		if pin, ok := pins[b.Name]; ok {
			r.Version = pin.Version
			if pin.URL != r.from() || pin.Source == "" {
				t.Errorf("%s: pinned %s, not %s, or of no source", b.Name, pin.URL, r.from())
			}
			delete(pins, b.Name)
		}
	}
	if len(pins) > 0 {
		t.Errorf("releases.txt has what the catalogue has not: %v", pins)
	}
}

// TestTwoProgramsOfAnArchive has what is one program when it is built.
func TestTwoProgramsOfAnArchive(t *testing.T) {
	daemon := member{name: "thing-v1.2.3/thing", text: "the daemon"}
	command := member{name: "thing-v1.2.3/ctl", text: "the command"}
	b := thing(TarGz)
	b.Release.Beside = "ctl"
	for what, test := range map[string]struct {
		members []member
		want    string // of the error
	}{
		"both":       {members: []member{command, {name: "other"}, daemon}},
		"no daemon":  {[]member{command}, "no thing-v1.2.3/thing in it"},
		"no command": {[]member{daemon, {name: "ctl", text: "elsewhere"}}, "no thing-v1.2.3/ctl in it"},
	} {
		t.Run(what, func(t *testing.T) {
			archive := tarGz(test.members...)
			host, _, gets := standIn(t, archive, "")
			c := try(t, OnlyReleases, host, pinOf(archive))
			path, err := c.Program(t.Context(), b)
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || c.Has(b) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || gets.Load() != 1 {
				t.Fatalf("%v, %d downloads", err, gets.Load())
			}
			for name, want := range map[string]string{"thing": "the daemon", "ctl": "the command"} {
				if at := TailscaleProgram(path, name); content(t, at) != want {
					t.Errorf("%s: %s", name, at)
				}
			}
		})
	}
	if at := TailscaleProgram("/one", "ctl"); at != "/one" {
		t.Errorf("of one: %s", at)
	}
}

// TestStandInAndPins takes the way of docs/lab.md: the built programs of one cache, served as releases, are pinned and
// make up another.
func TestStandInAndPins(t *testing.T) {
	source := try(t, NoReleases, "", nil)
	for _, b := range released() {
		if _, err := source.Program(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	host, pins, err := source.StandIn(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fault := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault != "" && strings.Contains(r.URL.Path, fault) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader("another\n"))
			return
		}
		host.ServeHTTP(w, r)
	}))
	defer server.Close()
	c := try(t, OnlyReleases, server.URL, nil)
	text, err := os.ReadFile(pins)
	if err != nil {
		t.Fatal(err)
	}
	if c.releases.pins, err = parsePins(string(text)); err != nil {
		t.Fatal(err)
	}
	for _, b := range released() {
		path, err := c.Program(t.Context(), b)
		if err != nil || content(t, TailscaleProgram(path, "tailscaled")) != "built" || c.builds != 0 {
			t.Errorf("%s: %s, %v", b.Name, path, err)
		}
	}

	push, err := http.Post(server.URL+"/ghcr.io/v2/a/b/blobs/uploads/", "", nil)
	if err != nil || push.StatusCode != http.StatusNotFound {
		t.Errorf("anybody may push: %v, %v", push, err)
	}

	// All programs in one go: what is released first, and of what is left each is built.
	c = try(t, AutoReleases, server.URL, c.releases.pins)
	fault = "cloudflared"
	report := progress.New(io.Discard)
	if paths, err := c.buildAll(t.Context(), report); err != nil || len(paths) != len(binaries()) {
		t.Errorf("%d programs, %v", len(paths), err)
	}
	downloads := len(released()) - 2 // no lab has kube-bench or act
	if spans := report.Spans(); len(spans) != len(binaries()) || c.builds != len(spans)-downloads+1 ||
		!strings.HasPrefix(spans[0].Name, "download ") || len(c.said) != 2 ||
		!strings.Contains(c.said[1], "NOT downloaded, built instead: cloudflared: ") {
		t.Errorf("%d built of %+v, said %q", c.builds, spans, c.said)
	}
	fault = ""

	t.Setenv(ReleaseHost, server.URL)
	to := filepath.Join(t.TempDir(), "pins.txt")
	pin := func() (string, error) {
		err := PinReleases(t.Context(), to, func(string, ...any) {})
		text, _ := os.ReadFile(to)
		return string(text), err
	}
	first, err := pin()
	got, parseErr := parsePins(first)
	if err != nil || parseErr != nil || len(got) != len(released()) || !strings.HasPrefix(first, pinsHead) {
		t.Fatalf("%v, %v:\n%s", err, parseErr, first)
	}
	for name, want := range c.releases.pins {
		if p := got[name]; p.SHA256 != want.SHA256 || p.URL != want.URL || !strings.HasPrefix(p.Source, "downloaded") {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
	if again, err := pin(); err != nil || again != first {
		t.Errorf("the second run changed something: %v\n%s", err, again)
	}
	for at, want := range map[string]string{
		"/headscale_0.29.2": "and \"" + hexSum([]byte("built")) + "\" in", // another file than upstream's checksums say
		"checksums.txt":     "and \"another\" in",
		"cloudflared":       "upstream changed it under its version", // no checksums: the pin alone knows
		"kubeseal-":         "not a tar.gz",
		"metallb/speaker":   "metallb-speaker: https://quay.io/v2/metallb/speaker/manifests/v0.16.1: ", // no digest is said
		"/blobs/":           "does not match expected size",
	} {
		fault = at
		if again, err := pin(); err == nil || !strings.Contains(err.Error(), want) || again != first {
			t.Errorf("%s: %v\n%s", at, err, again)
		}
	}
	fault = ""
	// A tag that was moved is not followed.
	digest := got[metallbSpeaker.Name].SHA256
	moved := strings.ReplaceAll(first, digest, hexSum(nil))
	if err := os.WriteFile(to, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := pin(); err == nil || again != moved || !strings.Contains(err.Error(), "its sha256 is "+digest+
		", pinned is "+hexSum(nil)+": upstream changed it under its version") {
		t.Errorf("%v\n%s", err, again)
	}
	// One line taken away, one of a former version.
	former := strings.Replace(first, "versitygw v1.8.0", "versitygw v1.7.0", 1)
	former = strings.Replace(former, strings.Split(first, "\n")[5]+"\n", "", 1)
	if err := os.WriteFile(to, []byte(former), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := pin(); err != nil || again != first {
		t.Errorf("%v\n%s", err, again)
	}
}

// TestTheFormerK3sIsMadeOfABuiltOne has the version replaced in the program, and upstream's is packed.
func TestTheFormerK3sIsMadeOfABuiltOne(t *testing.T) {
	host, _, gets := standIn(t, []byte("packed"), "")
	c := try(t, OnlyReleases, host, map[string]Pin{
		k3s.Name: {Program: k3s.Name, Version: K3sVersion, SHA256: hexSum([]byte("packed")), URL: k3s.Release.from()},
	})
	c.compile = func(_ context.Context, _ Binary, out string) error {
		return os.WriteFile(out, []byte("version "+K3sVersion), 0o755)
	}
	path, err := c.restamped(t.Context())
	if err != nil || content(t, path) != "version "+FormerK3sVersion || gets.Load() != 0 {
		t.Errorf("%s, %v, %d downloads", path, err, gets.Load())
	}
}

func TestSumOf(t *testing.T) {
	for want, text := range map[string]string{
		"aa": "bb  other\naa  thing\n", "cc": "cc *thing\n", "dd": "dd\n", "ee": "ee  ./dist/thing\n", "": "ff  thing.sig\n",
	} {
		if got := sumOf(text, "thing"); got != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
}
