package artifacts

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/tinyrack-net/infrastructure/lab/progress"
)

// layers is how a program is packed in an image. It alone is taken out: the lab's image is made around it as around a
// built one.
const layers Archive = "image"

// registryTransport is how the client of registries reaches them: by way of the mirror, and under the rules of all
// downloads.
type registryTransport struct {
	*releases
	heard func()
}

// RoundTrip refuses what is not https, to which a redirect may lead, and hands the rest on.
func (r registryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, fmt.Errorf("redirected to %s://%s, which is not https: refused", req.URL.Scheme, req.URL.Host)
	}
	to := req
	// Whoever is redirected is where the mirror wants him.
	if r.host != "" && req.Response == nil {
		at, err := url.Parse(r.at(req.URL.String()))
		if err != nil {
			return nil, errors.New("an address that the mirror cannot have: given up")
		}
		to = req.Clone(req.Context())
		to.URL, to.Host = at, ""
	}
	resp, err := r.http.Transport.RoundTrip(to)
	if err != nil {
		return nil, err
	}
	r.heard()
	// The client knows the official address alone: a mirror's relative one would lead there, and plain http to a mirror
	// would be taken for a registry without TLS.
	if next, err := resp.Location(); err == nil {
		resp.Header.Set("Location", next.String())
	}
	resp.Request = req
	body := &counted{Reader: io.LimitReader(resp.Body, maxSize), each: func(int64) { r.heard() }}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{body, resp.Body}
	return resp, nil
}

// options are those of everything that is asked of a registry. It is asked once, as any host is.
func (r *releases) options(ctx context.Context, heard func()) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx), remote.WithTransport(registryTransport{r, heard}),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}
}

// refusal is what came of a question to a registry, in the words of a download. The client's own repeat what was
// answered.
func refusal(ctx context.Context, err error) error {
	if answer := (*transport.Error)(nil); errors.As(err, &answer) {
		return fmt.Errorf("answered with %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	if errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return because(ctx, err)
}

// fromImage writes the program of a release that is an image. The client compares everything that it reads with its
// digest: that of the index or manifest is pinned, and each names the next.
func (r *releases) fromImage(ctx context.Context, release Release, from download, to string) (err error) {
	ctx, heard, end := r.patience(ctx)
	defer end()
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", from.URL, refusal(ctx, err))
		}
	}()
	ref, err := name.NewDigest(release.fill(release.Image) + "@sha256:" + from.SHA256)
	if err != nil {
		return err
	}
	progress.Waiting(ctx, "download of %s", ref)
	image, err := remote.Image(ref, r.options(ctx, heard)...)
	if err != nil {
		return err
	}
	all, err := image.Layers()
	if err != nil {
		return err
	}
	// From the top, for a program is mostly in one of the last, and what lies below is not downloaded then.
	for i, layer := range slices.Backward(all) {
		what := fmt.Sprintf("%s, layer %d of %d", ref, i+1, len(all))
		if found, err := from.fromLayer(ctx, layer, what, to); err != nil || found {
			return err
		}
	}
	return from.absent()
}

// fromLayer downloads a layer, whole and compared, and writes the program if it is in it. A layer that hides what is
// below it is the last that could have had it.
func (d download) fromLayer(ctx context.Context, layer v1.Layer, what, to string) (found bool, err error) {
	size, err := layer.Size()
	if err != nil {
		return false, err
	}
	if size > maxSize {
		return false, fmt.Errorf("a layer of %d bytes: more than any release has: refused", size)
	}
	f, err := os.OpenFile(to+".download", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600) //nolint:gosec // our scratch folder
	if err != nil {
		return false, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	packed, err := layer.Compressed()
	if err != nil {
		return false, err
	}
	defer packed.Close()
	n, err := io.Copy(f, &counted{Reader: packed, each: func(n int64) {
		progress.Waiting(ctx, "download of %s: %s of %s MB", what, megabytes(n), megabytes(size))
	}})
	if err != nil {
		return false, fmt.Errorf("after %d bytes of a layer: %w", n, because(ctx, err))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	zr, err := gzip.NewReader(f)
	if err != nil {
		return false, fmt.Errorf("a layer that is not a tar.gz: %w", err)
	}
	hidden := false
	for r := tar.NewReader(zr); ; {
		h, err := r.Next()
		switch {
		case errors.Is(err, io.EOF) && hidden:
			return false, d.absent()
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("a layer that is not a tar.gz: %w", err)
		}
		at := path.Clean(strings.TrimLeft(h.Name, "/")) // some tools write them from the root
		for _, member := range d.places() {
			one := download{Member: member}
			if found, err := one.is(at, h.Typeflag == tar.TypeReg); err != nil {
				return false, err
			} else if found {
				return true, writeProgram(to, r)
			}
			hidden = hidden || one.hiddenBy(at, h.Typeflag == tar.TypeDir)
		}
	}
}

// places are where the program may be. In a base whose /bin is a link to /usr/bin, layers have it there.
func (d download) places() []string { return []string{d.Member, "usr/" + d.Member} }

// hiddenBy tells whether a layer with this in it takes the program of the layers below away, as the specification of
// OCI's layers has it: by a whiteout of it or of a folder above it, by a folder that begins anew, or by something else
// in such a folder's place.
func (d download) hiddenBy(at string, isFolder bool) bool {
	const whiteout, opaque = ".wh.", ".wh..wh..opq"
	folder, base := path.Split(at)
	switch gone := folder + strings.TrimPrefix(base, whiteout); {
	case base == opaque:
		return strings.HasPrefix(d.Member, folder)
	case strings.HasPrefix(base, whiteout):
		return d.Member == gone || strings.HasPrefix(d.Member, gone+"/")
	}
	return !isFolder && strings.HasPrefix(d.Member, at+"/")
}

// lookAtImage asks a registry for the digest of an image, and takes the program out of it.
func (r *releases) lookAtImage(ctx context.Context, release Release, scratch string) (sum, source string, err error) {
	bounded, heard, end := r.patience(ctx)
	defer end()
	tag, err := name.NewTag(release.fill(release.Image))
	if err != nil {
		return "", "", err
	}
	head, err := remote.Head(tag, r.options(bounded, heard)...)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", release.from(), refusal(bounded, err))
	}
	if head.Digest.Algorithm != "sha256" {
		return "", "", fmt.Errorf("%s: its digest is no sha256: not pinned: ask upstream", release.from())
	}
	return head.Digest.Hex, "downloaded, by the digest that the registry has for the tag",
		r.fromImage(ctx, release, release.download(head.Digest.Hex), scratch+".program")
}
