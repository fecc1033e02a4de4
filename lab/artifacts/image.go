package artifacts

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is a container image made of files, for side-loading into a cluster that can reach no registry. It carries the
// name of the upstream image that it stands for.
type Image struct {
	// Ref is the image's full name with its tag, as the manifests ask for it.
	Ref string
	// Bases are the paths of root filesystems' tarballs, each laid over the one before, and everything else over all of
	// them. None means none but etc.
	Bases []string
	// Files maps a path in the image to a file or a folder on this machine.
	Files map[string]string
	// Texts maps a path in the image to its content.
	Texts map[string]string
	// Links maps a path in the image to what it points at.
	Links      map[string]string
	Entrypoint []string
	Env        []string
	User       string
	WorkDir    string
}

// etc is what a program expects of the smallest base image. The name of the system is that of the base that upstream's
// images are made on, distroless: the Flux operator refuses to work on one that it does not know.
var etc = map[string]string{
	"etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n" +
		"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
	"etc/group":      "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n",
	"etc/os-release": "PRETTY_NAME=\"Distroless\"\nNAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=12\n",
}

// Image returns the path of a tarball that containerd imports, with the images in it. It has the first one's name; what
// they have the same is in it once.
func (c *Cache) Image(images ...Image) (string, error) {
	type recipe struct {
		Image   Image
		Digests map[string]string
		Base    map[string]string
	}
	recipes := make([]recipe, len(images))
	tags := make([]name.Tag, len(images))
	for i, img := range images {
		digests, err := img.digests()
		if err != nil {
			return "", fmt.Errorf("image %s: %w", img.Ref, err)
		}
		recipes[i] = recipe{img, digests, etc}
		// Where the files lie on this machine decides nothing.
		recipes[i].Image.Files, recipes[i].Image.Bases = nil, nil
		if tags[i], err = name.NewTag(img.Ref); err != nil {
			return "", err
		}
	}
	return c.make(filepath.Base(tags[0].RepositoryStr())+".tar", recipes, func(scratch string) error {
		made := map[name.Tag]v1.Image{}
		bases := map[string]v1.Layer{} // hundreds of megabytes each, and the same for several images
		for i, img := range images {
			var err error
			if made[tags[i]], err = img.assemble(bases); err != nil {
				return err
			}
		}
		return tarball.MultiWriteToFile(scratch, made)
	})
}

// digests are those of all that the image is made of, by path in the image; those of its bases stand under their
// number.
func (img Image) digests() (map[string]string, error) {
	from := map[string]string{}
	maps.Copy(from, img.Files)
	for i, base := range img.Bases {
		from[strconv.Itoa(i)] = base
	}
	digests := map[string]string{}
	for at, path := range from {
		var err error
		if digests[at], err = treeDigest(path); err != nil {
			return nil, err
		}
	}
	return digests, nil
}

// assemble makes the image of its layers. Those of its bases are kept in bases, by path.
func (img Image) assemble(bases map[string]v1.Layer) (v1.Image, error) {
	layer, err := img.layer()
	if err != nil {
		return nil, err
	}
	// Not compressed: the tarball never crosses a network, and both ends save the work.
	var layers []v1.Layer
	for _, path := range img.Bases {
		if bases[path] == nil {
			base, err := os.ReadFile(path) //nolint:gosec // a file of the cache
			if err != nil {
				return nil, err
			}
			bases[path] = static.NewLayer(base, types.DockerUncompressedLayer)
		}
		layers = append(layers, bases[path])
	}
	layers = append(layers, static.NewLayer(layer, types.DockerUncompressedLayer))
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: arch, OS: "linux",
		RootFS: rootFS(image),
		Config: v1.Config{
			Entrypoint: img.Entrypoint, User: img.User, WorkingDir: img.WorkDir,
			Env: append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, img.Env...),
		},
	})
}

func rootFS(image v1.Image) v1.RootFS {
	config, err := image.ConfigFile()
	if err != nil {
		return v1.RootFS{}
	}
	return config.RootFS
}

func (img Image) layer() ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
		return nil, err
	}
	texts := map[string]string{}
	if len(img.Bases) == 0 {
		maps.Copy(texts, etc)
	}
	maps.Copy(texts, img.Texts)
	for _, at := range sorted(texts) {
		if err := writeFile(w, at, 0o644, int64(len(texts[at])), bytes.NewReader([]byte(texts[at]))); err != nil {
			return nil, err
		}
	}
	for _, at := range sorted(img.Files) {
		if err := addTree(w, at, img.Files[at]); err != nil {
			return nil, err
		}
	}
	for _, at := range sorted(img.Links) {
		if err := w.WriteHeader(&tar.Header{
			Name: at, Linkname: img.Links[at], Typeflag: tar.TypeSymlink,
			Mode: 0o777,
		}); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}

// addTree adds a file, or a folder with all below it, at the given path. Times are left out so that equal content makes
// equal images.
func addTree(w *tar.Writer, at, from string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		f, err := os.Open(path) //nolint:gosec // a file of the cache
		if err != nil {
			return err
		}
		defer f.Close()
		return writeFile(w, filepath.Join(at, rel), int64(info.Mode().Perm()|0o444), info.Size(), f)
	})
}

func writeFile(w *tar.Writer, at string, mode, size int64, r io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Name: at, Typeflag: tar.TypeReg, Mode: mode, Size: size}); err != nil {
		return err
	}
	_, err := io.Copy(w, r)
	return err
}

// treeDigest is a digest of a file's content, or of all files below a folder.
func treeDigest(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		if filepath.Base(filepath.Dir(path)) == "done" {
			// Artifacts lie under a name that is a digest of their recipe: no need to read hundreds of megabytes each time.
			return filepath.Base(path), nil
		}
		return SHA256(path)
	}
	sums := ""
	err = filepath.WalkDir(path, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		sum, err := SHA256(p)
		sums += p[len(path):] + sum
		return err
	})
	return sums, err
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
