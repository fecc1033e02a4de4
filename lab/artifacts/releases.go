package artifacts

import (
	"archive/tar"
	"archive/zip"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/tinyrack-net/infrastructure/lab/progress"
)

// Variables of the environment.
const (
	// ReleasesSetting chooses: AutoReleases, which is the default, NoReleases or OnlyReleases.
	ReleasesSetting = "TINYRACK_LAB_RELEASES"
	// ReleaseHost is the base URL of a mirror that is asked in the place of all official hosts: the path is that host, and
	// its path.
	ReleaseHost = "TINYRACK_LAB_RELEASE_HOST"
	// ReleasePins is a file in the place of releases.txt. For proofs and mirrors only: it decides what is run.
	ReleasePins = "TINYRACK_LAB_RELEASE_PINS"
)

const (
	// AutoReleases downloads releases if their host answers, and builds whatever could not be had.
	AutoReleases = "auto"
	// NoReleases builds everything.
	NoReleases = "never"
	// OnlyReleases fails where a release could not be had, and builds what has none in the catalogue.
	OnlyReleases = "only"
)

const (
	// reachable is how long the one question may take, whether the network allows any of it.
	reachable = 3 * time.Second
	// stall is how long a download may be silent.
	stall = 15 * time.Second
	// maxSize bounds what is downloaded, and what is unpacked of it, in bytes: several times the largest.
	maxSize = 1 << 30
)

// Archive is how a release is packed.
type Archive string

// The ways in which programs are released. Plain is the program itself.
const (
	Plain Archive = ""
	TarGz Archive = "tar.gz"
	Zip   Archive = "zip"
)

// Release is a program as upstream releases it. Its checksum stands in releases.txt: what has none there is not used.
type Release struct {
	// Version is the release's name: v1.2.3.
	Version string
	// URL is where it is; {version} stands for the version, {number} for the version without its v. Sums is the file of
	// checksums that upstream publishes with it, empty for none.
	URL, Sums string
	Archive   Archive
	// Image takes the place of these where upstream releases the program in an image alone: the image's name and tag. Its
	// checksum is its digest, of all its architectures if it has several.
	Image string
	// Member is the program's path in the archive or in the image. Beside is a second program in the same folder of the
	// archive, for what is one program when it is built: both come in a folder.
	Member, Beside string
}

// from is the official URL: of an image, where its registry has the manifest.
func (r Release) from() string {
	host, rest, ok := strings.Cut(r.fill(r.Image), "/")
	if !ok {
		return r.fill(r.URL)
	}
	if host == "docker.io" {
		host = name.DefaultRegistry // that is where Docker Hub has it
	}
	repository, tag, _ := strings.Cut(rest, ":")
	return "https://" + host + "/v2/" + repository + "/manifests/" + tag
}

// download is what is downloaded of it, if this is its checksum.
func (r Release) download(sum string) download {
	archive := r.Archive
	if r.Image != "" {
		archive = layers
	}
	return download{r.from(), sum, archive, r.fill(r.Member), r.Beside}
}

// fill puts the version into a template.
func (r Release) fill(template string) string {
	return strings.NewReplacer("{version}", r.Version, "{number}", strings.TrimPrefix(r.Version, "v")).Replace(template)
}

// download is what is downloaded, and the recipe of the program that comes out of it.
type download struct {
	URL, SHA256 string
	Archive     Archive
	Member      string
	Beside      string `json:",omitempty"`
}

// Pin is a line of releases.txt: the file of a release, as somebody looked at it.
type Pin struct {
	Program, Version, SHA256, URL string
	// Source says where the checksum is from.
	Source string
}

//go:embed releases.txt
var committedPins string

// releases is how this run comes to releases. The zero value is not usable; see readReleases.
type releases struct {
	mode string
	// host is the mirror's base URL, or nothing.
	host string
	pins map[string]Pin
	http *http.Client
	// say tells a person one line.
	say              func(format string, args ...any)
	reachable, stall time.Duration

	once sync.Once
	// silent is why no release can be had in this run. Asked once.
	silent error
}

// readReleases reads the settings of this run.
func readReleases() (*releases, error) {
	r := &releases{
		mode: cmp.Or(os.Getenv(ReleasesSetting), AutoReleases), host: strings.TrimSuffix(os.Getenv(ReleaseHost), "/"),
		http: client(), reachable: reachable, stall: stall,
		// Standard output may be a path that somebody reads: see the verb pulumi.
		say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "releases: "+format+"\n", args...) },
	}
	if !slices.Contains([]string{AutoReleases, NoReleases, OnlyReleases}, r.mode) {
		return nil, fmt.Errorf("%s: %q: nothing was made: set %s, %s or %s", ReleasesSetting, r.mode,
			AutoReleases, NoReleases, OnlyReleases)
	}
	if err := checkHost(r.host); err != nil {
		return nil, err
	}
	text := []byte(committedPins)
	file := os.Getenv(ReleasePins)
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil { //nolint:gosec // the person's own file
			return nil, fmt.Errorf("%s: %w: nothing was made: name a file of pins", ReleasePins, err)
		}
	}
	pins, err := parsePins(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cmp.Or(file, "lab/artifacts/releases.txt"), err)
	}
	r.pins = pins
	return r, nil
}

// checkHost refuses a mirror's URL that cannot be one. The text is not repeated: it may hold a login.
func checkHost(base string) error {
	if base == "" {
		return nil
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%s: not the base URL of a mirror: nothing was made: give http(s)://host/path, without a login",
			ReleaseHost)
	}
	return nil
}

// client takes the proxy from the environment, verifies certificates, and follows a redirect to https alone.
func client() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case req.URL.Scheme != "https":
			return fmt.Errorf("redirected to %s://%s, which is not https: refused", req.URL.Scheme, req.URL.Host)
		case len(via) >= 10:
			return errors.New("redirected ten times: given up")
		}
		return nil
	}}
}

var pinFields = map[string]*regexp.Regexp{
	"program": regexp.MustCompile(`^[a-z0-9-]+$`), "version": regexp.MustCompile(`^v?[0-9][0-9A-Za-z.+-]*$`),
	"sha256": regexp.MustCompile(`^[0-9a-f]{64}$`), "url": regexp.MustCompile(`^https://[^\s#]+$`),
}

// parsePins reads lines of program, version, sha256, URL and, after a #, where the checksum is from.
func parsePins(text string) (map[string]Pin, error) {
	pins := map[string]Pin{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		words, source, _ := strings.Cut(line, "#")
		f := strings.Fields(words)
		if len(f) == 0 {
			continue
		}
		if len(f) != 4 {
			return nil, fmt.Errorf("line %d: %d words: nothing was made: give program, version, sha256 and URL", number, len(f))
		}
		for i, name := range []string{"program", "version", "sha256", "url"} {
			if !pinFields[name].MatchString(f[i]) {
				return nil, fmt.Errorf("line %d: %q is no %s: nothing was made: correct it, or run scripts/pin releases",
					number, f[i], name)
			}
		}
		if _, twice := pins[f[0]]; twice {
			return nil, fmt.Errorf("line %d: %s stands there twice: nothing was made: keep one", number, f[0])
		}
		pins[f[0]] = Pin{Program: f[0], Version: f[1], SHA256: f[2], URL: f[3], Source: strings.TrimSpace(source)}
	}
	return pins, nil
}

// pinned is the release of b that may be used: a pin of this very version and URL is there, and releases are wanted.
func (r *releases) pinned(b Binary) (download, bool) {
	if b.Release == nil || r.mode == NoReleases {
		return download{}, false
	}
	pin, ok := r.pins[b.Name]
	if !ok || pin.Version != b.Release.Version || pin.URL != b.Release.from() {
		return download{}, false
	}
	return b.Release.download(pin.SHA256), true
}

// at is where a file is asked for: at its official URL, or at the mirror.
func (r *releases) at(official string) string {
	if r.host == "" {
		return official
	}
	return r.host + "/" + strings.TrimPrefix(official, "https://")
}

// offered tells whether the release of b is to be tried. The network is asked at the first that is pinned, and not
// again: one host stands for all.
func (c *Cache) offered(ctx context.Context, b Binary) bool {
	from, ok := c.releases.pinned(b)
	if !ok {
		return false
	}
	c.releases.once.Do(func() { c.releases.ask(ctx, from.URL) })
	return c.releases.silent == nil
}

// ask asks the host of a URL whether it answers, and tells.
func (r *releases) ask(ctx context.Context, official string) {
	u, err := url.Parse(official)
	if err != nil {
		r.silent = err
		return
	}
	host := u.Host
	if r.host != "" {
		host += " at the mirror"
	}
	if r.silent = r.head(ctx, r.at("https://"+u.Host+"/")); r.silent != nil {
		r.silent = fmt.Errorf("%s does not answer: %w", host, r.silent)
		if r.mode == AutoReleases {
			r.say("%v: everything is built", r.silent)
		}
		return
	}
	unpinned := ""
	for _, b := range binaries() {
		if _, ok := r.pinned(b); !ok && b.Release != nil && r.mode == AutoReleases {
			unpinned += " " + b.Name
		}
	}
	if unpinned != "" {
		unpinned = "; of no known checksum and built:" + unpinned + " (scripts/pin releases)"
	}
	r.say("%s answers: programs with a pinned checksum are downloaded%s", host, unpinned)
}

func (r *releases) head(ctx context.Context, at string) error {
	ctx, cancel := context.WithTimeout(ctx, r.reachable)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, at, nil)
	if err != nil {
		return err
	}
	resp, err := r.http.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("nothing for %s", r.reachable)
	}
	if err != nil {
		return plain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return errors.New(resp.Status)
	}
	return nil
}

// plain drops the URL of an error of the HTTP client: after a redirect it may hold a signature.
func plain(err error) error {
	if in := (*url.Error)(nil); errors.As(err, &in) {
		return in.Err
	}
	return err
}

// missing is why b may not be built: its release is wanted, and could not be had.
func (r *releases) missing(b Binary) error {
	if r.mode != OnlyReleases || b.Release == nil {
		return nil
	}
	why := r.silent
	if _, ok := r.pinned(b); !ok {
		why = fmt.Errorf("no checksum of release %s at %s is pinned: run scripts/pin releases on a connected machine",
			b.Release.Version, b.Release.from())
	}
	return fmt.Errorf("%s: %w: not built, for %s is %s", b.Name, why, ReleasesSetting, OnlyReleases)
}

// download makes the program out of its pinned release.
func (c *Cache) download(ctx context.Context, b Binary) (string, error) {
	from, _ := c.releases.pinned(b)
	return c.make(b.Name, from, func(scratch string) error {
		if b.Release.Image != "" {
			return c.releases.fromImage(ctx, *b.Release, from, scratch)
		}
		archive := scratch + ".download"
		defer os.Remove(archive)
		sum, err := c.releases.get(ctx, from.URL, archive)
		if err != nil {
			return err
		}
		if sum != from.SHA256 {
			return fmt.Errorf("%s: its sha256 is %s, pinned is %s: REFUSED, for it is not what was reviewed: look at who "+
				"answers there; if upstream released it anew, review it and run scripts/pin releases", from.URL, sum, from.SHA256)
		}
		if err := from.unpack(archive, scratch); err != nil {
			return fmt.Errorf("%s: %w", from.URL, err)
		}
		return nil
	})
}

// get downloads the file of an official URL to a path of ours, whole or with an error, and returns its sha256.
func (r *releases) get(ctx context.Context, official, to string) (sum string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", official, plain(err))
		}
	}()
	ctx, heard, end := r.patience(ctx)
	defer end()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.at(official), nil)
	if err != nil {
		return "", err
	}
	// Or an archive would be unpacked on its way, and be another file.
	req.Header.Set("Accept-Encoding", "identity")
	progress.Waiting(ctx, "download of %s", official)
	resp, err := r.http.Do(req)
	if err != nil {
		return "", because(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("answered with %s", resp.Status)
	}
	if resp.ContentLength > maxSize {
		return "", fmt.Errorf("%d bytes: more than any release has: refused", resp.ContentLength)
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // our scratch folder
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	total := "unknown"
	if resp.ContentLength >= 0 {
		total = megabytes(resp.ContentLength)
	}
	body := &counted{Reader: resp.Body, each: func(n int64) {
		heard()
		progress.Waiting(ctx, "download of %s: %s of %s MB", official, megabytes(n), total)
	}}
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(body, maxSize+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("after %d bytes: %w", n, because(ctx, err))
	case n > maxSize:
		return "", errors.New("more bytes than any release has: refused")
	}
	return hex.EncodeToString(h.Sum(nil)), f.Close()
}

// patience is a context that ends when a download is silent for too long: heard is called when it is not.
func (r *releases) patience(ctx context.Context) (bounded context.Context, heard, end func()) {
	bounded, cancel := context.WithCancelCause(ctx)
	silence := time.AfterFunc(r.stall, func() { cancel(fmt.Errorf("no byte for %s: given up", r.stall)) })
	return bounded, func() { silence.Reset(r.stall) }, func() { silence.Stop(); cancel(nil) }
}

// because prefers the reason for which we ended a request to what came of it.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return plain(err)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }

// counted tells of every piece that is read how many bytes there were so far.
type counted struct {
	io.Reader
	n    int64
	each func(n int64)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if n > 0 {
		c.n += int64(n)
		c.each(c.n)
	}
	return n, err
}

// unpack takes the program, and nothing else, out of a file whose checksum was compared.
func (d download) unpack(archive, to string) error {
	if d.Beside != "" {
		first, second := d, d
		first.Beside, second.Beside = "", ""
		second.Member = path.Join(path.Dir(d.Member), d.Beside)
		return errors.Join(os.Mkdir(to, 0o755),
			first.unpack(archive, filepath.Join(to, path.Base(d.Member))), second.unpack(archive, filepath.Join(to, d.Beside)))
	}
	f, err := os.Open(archive) //nolint:gosec // our scratch folder
	if err != nil {
		return err
	}
	defer f.Close()
	switch d.Archive {
	case Plain:
		return writeProgram(to, f)
	case TarGz:
		return d.fromTar(f, to)
	case Zip:
		info, err := f.Stat()
		if err != nil {
			return err
		}
		return d.fromZip(f, info.Size(), to)
	}
	return fmt.Errorf("archive %q: not known", d.Archive)
}

func (d download) fromTar(f io.Reader, to string) error {
	zr, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("not a tar.gz: %w", err)
	}
	for r := tar.NewReader(zr); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return d.absent()
		}
		if err != nil {
			return fmt.Errorf("not a tar.gz: %w", err)
		}
		if found, err := d.is(h.Name, h.Typeflag == tar.TypeReg); err != nil {
			return err
		} else if found {
			return writeProgram(to, r)
		}
	}
}

func (d download) fromZip(f io.ReaderAt, size int64, to string) error {
	zr, err := zip.NewReader(f, size)
	if err != nil {
		return fmt.Errorf("not a zip: %w", err)
	}
	for _, member := range zr.File {
		if found, err := d.is(member.Name, member.Mode().IsRegular()); err != nil {
			return err
		} else if found {
			r, err := member.Open()
			if err != nil {
				return err
			}
			return errors.Join(writeProgram(to, r), r.Close())
		}
	}
	return d.absent()
}

func (d download) absent() error {
	return fmt.Errorf("no %s in it: the layout changed: see the catalogue", d.Member)
}

// is tells whether a member is the program. An archive with a way out of itself is refused, and so is a program that is
// a link.
func (d download) is(name string, regular bool) (bool, error) {
	if path.IsAbs(name) || slices.Contains(strings.Split(name, "/"), "..") {
		return false, fmt.Errorf("%q leads out of the archive: refused", name)
	}
	if path.Clean(name) != d.Member {
		return false, nil
	}
	if !regular {
		return false, fmt.Errorf("%s in it is no plain file: refused", d.Member)
	}
	return true, nil
}

// writeProgram writes a program with the mode that the linker gives one.
func writeProgram(to string, from io.Reader) error {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // a program
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(from, maxSize+1))
	switch {
	case err != nil:
		return err
	case n == 0:
		return errors.New("the program in it is empty: refused")
	case n > maxSize:
		return errors.New("the program in it is larger than any: refused")
	}
	return f.Close()
}
