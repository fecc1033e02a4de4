package artifacts

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// StandIn packs the programs of the cache that were built as upstream would release them, into dir, and returns a host
// that serves them under the official hosts and paths, and the pins for them. It proves the way of a release where no
// official host can be reached; the programs are still the built ones.
func (c *Cache) StandIn(dir string) (host http.Handler, pins string, err error) {
	images, err := newStandInRegistry(dir)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, images.close()) }()
	paths := map[string]string{}
	serve := func(url, name string) { paths["/"+strings.TrimPrefix(url, "https://")] = filepath.Join(dir, name) }
	text := ""
	for _, b := range released() {
		program, err := c.finished(b.Name, b)
		if err != nil {
			return nil, "", err
		}
		content, err := os.ReadFile(program) //nolint:gosec // a file of the cache
		if err != nil {
			continue // what is not there cannot be served
		}
		if b.Release.Image != "" {
			sum, err := images.push(*b.Release, content)
			if err != nil {
				return nil, "", fmt.Errorf("%s: %w", b.Name, err)
			}
			text += b.standInPin(sum)
			continue
		}
		switch b.Release.Archive {
		case Plain:
		case TarGz:
			names := []string{b.Release.fill(b.Release.Member)}
			if b.Release.Beside != "" {
				names = append(names, path.Join(path.Dir(names[0]), b.Release.Beside))
			}
			if content, err = packed(content, names...); err != nil {
				return nil, "", err
			}
		default:
			return nil, "", fmt.Errorf("%s: no stand-in of a %s", b.Name, b.Release.Archive)
		}
		if err := os.WriteFile(filepath.Join(dir, b.Name), content, 0o600); err != nil {
			return nil, "", err
		}
		sum, err := SHA256(filepath.Join(dir, b.Name))
		if err != nil {
			return nil, "", err
		}
		url := b.Release.from()
		serve(url, b.Name)
		text += b.standInPin(sum)
		if b.Release.Sums != "" {
			line := sum + "  " + path.Base(url) + "\n"
			if err := os.WriteFile(filepath.Join(dir, b.Name+".sums"), []byte(line), 0o600); err != nil {
				return nil, "", err
			}
			serve(b.Release.fill(b.Release.Sums), b.Name+".sums")
		}
	}
	pins = filepath.Join(dir, "releases.txt")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, ok := paths[r.URL.EscapedPath()]
		host, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case ok:
			http.ServeFile(w, r, at)
		case strings.HasPrefix(path, "v2/") && (r.Method == http.MethodGet || r.Method == http.MethodHead):
			// One stands for all registries: no two have an image of the same name.
			http.StripPrefix("/"+host, images).ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	}), pins, os.WriteFile(pins, []byte(text), 0o600)
}

func (b Binary) standInPin(sum string) string {
	return fmt.Sprintf("%s %s %s %s # of a stand-in, whose files are not upstream's\n", b.Name, b.Release.Version, sum,
		b.Release.from())
}

// standInRegistry has the images of all registries. What is put into it goes to an address of its own.
type standInRegistry struct {
	http.Handler
	at    string
	close func() error
}

func newStandInRegistry(dir string) (*standInRegistry, error) {
	dir = filepath.Join(dir, "images")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)),
		registry.WithBlobHandler(registry.NewDiskBlobHandler(dir)))
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // this machine's own
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	return &standInRegistry{handler, listener.Addr().String(), server.Close}, nil
}

// push puts an image with one program in it, and returns the digest of its index.
func (r *standInRegistry) push(release Release, program []byte) (string, error) {
	content, err := packed(program, release.fill(release.Member))
	if err != nil {
		return "", err
	}
	image, err := mutate.AppendLayers(empty.Image, static.NewLayer(content, types.DockerLayer))
	if err != nil {
		return "", err
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{
		Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
	})
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(release.fill(release.Image), "/")
	tag, err := name.NewTag(r.at + "/" + rest)
	if err != nil {
		return "", err
	}
	return digest.Hex, remote.WriteIndex(tag, index)
}

// packed is a tar.gz with one program in it, under these names, as fast as it can be made.
func packed(content []byte, names ...string) ([]byte, error) {
	var out bytes.Buffer
	zw, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(zw)
	for _, name := range names {
		if err := writeFile(w, name, 0o755, int64(len(content)), bytes.NewReader(content)); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
