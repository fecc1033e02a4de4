package artifacts

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// StandIn packs the programs of the cache that were built as upstream would release them, into dir, and returns a host
// that serves them under the official hosts and paths, and the pins for them. It proves the way of a release where no
// official host can be reached; the programs are still the built ones.
func (c *Cache) StandIn(dir string) (host http.Handler, pins string, err error) {
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
		switch b.Release.Archive {
		case Plain:
		case TarGz:
			if content, err = packed(b.Release.fill(b.Release.Member), content); err != nil {
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
		url := b.Release.fill(b.Release.URL)
		serve(url, b.Name)
		text += fmt.Sprintf("%s %s %s %s # of a stand-in, whose files are not upstream's\n",
			b.Name, b.Release.Version, sum, url)
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
		at, ok := paths[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, at)
	}), pins, os.WriteFile(pins, []byte(text), 0o600)
}

// packed is a tar.gz with one program in it, as fast as it can be made.
func packed(name string, content []byte) ([]byte, error) {
	var out bytes.Buffer
	zw, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(zw)
	if err := writeFile(w, name, 0o755, int64(len(content)), bytes.NewReader(content)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
