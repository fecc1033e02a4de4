package artifacts

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tinyrack-net/infrastructure/lab/file"
)

// pinsHead is the beginning of releases.txt.
const pinsHead = `# The releases that the lab may download, for linux and amd64: program, version, sha256 of the file, its official URL
# and, after a #, where the checksum is from. Of an image it is its digest, and where its registry has it. A program
# without a line, or with one of another version or URL than lab/artifacts/catalog.go asks for, is built.
# ` + "`scripts/pin releases`" + `, on a machine that reaches the hosts, downloads all of them, compares each with the checksums
# that upstream publishes, and writes this file anew.
`

// released are the programs that upstream releases.
func released() []Binary {
	all := slices.DeleteFunc(append(binaries(), kubeBench, act), func(b Binary) bool { return b.Release == nil })
	slices.SortFunc(all, func(a, b Binary) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// PinReleases downloads every release of the catalogue, compares it with the checksums that upstream publishes, and
// writes a file like releases.txt. What fails keeps the line that it had and is an error at the end; so does a release
// whose file changed under its version.
func PinReleases(ctx context.Context, to string, say func(format string, args ...any)) error {
	text, err := os.ReadFile(to) //nolint:gosec // the person's own file
	if file.IgnoreMissing(err) != nil {
		return err
	}
	pins, err := parsePins(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	dir, err := os.MkdirTemp("", "pin-releases")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &releases{host: strings.TrimSuffix(os.Getenv(ReleaseHost), "/"), http: client(), stall: stall}
	if err := checkHost(r.host); err != nil {
		return err
	}
	var errs []error
	lines := bytes.NewBufferString(pinsHead)
	for _, b := range released() {
		pin, err := r.pin(ctx, b, pins[b.Name], filepath.Join(dir, "release"))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", b.Name, err))
			say("%s: FAILED", b.Name)
		} else {
			say("%s %s: %s, %s", b.Name, pin.Version, pin.SHA256, pin.Source)
		}
		if pin.Program != "" {
			fmt.Fprintf(lines, "%s %s %s %s # %s\n", pin.Program, pin.Version, pin.SHA256, pin.URL, pin.Source)
		}
	}
	return errors.Join(append(errs, file.Write(to, lines.Bytes(), 0o644))...)
}

// pin looks at the release of b. With an error it returns the line that was there.
func (r *releases) pin(ctx context.Context, b Binary, before Pin, scratch string) (Pin, error) {
	look := r.lookAtFile
	if b.Release.Image != "" {
		look = r.lookAtImage
	}
	sum, source, err := look(ctx, *b.Release, scratch)
	// That it can be unpacked belongs to it.
	if err := errors.Join(err, os.RemoveAll(scratch+".program")); err != nil {
		return before, err
	}
	from := b.Release.from()
	if before.Version == b.Release.Version && before.URL == from && before.SHA256 != sum {
		return before, fmt.Errorf("%s: its sha256 is %s, pinned is %s: upstream changed it under its version, or the pin "+
			"was wrong: left as it is: find out, and take the line away to pin it anew", from, sum, before.SHA256)
	}
	if r.host != "" {
		source += ", through a mirror"
	}
	return Pin{b.Name, b.Release.Version, sum, from, source}, nil
}

// lookAtFile downloads a release and returns its checksum, and what vouches for it. It leaves the program beside
// scratch.
func (r *releases) lookAtFile(ctx context.Context, release Release, scratch string) (sum, source string, err error) {
	from := release.from()
	sum, err = r.get(ctx, from, scratch)
	if err != nil {
		return "", "", err
	}
	if err := release.download(sum).unpack(scratch, scratch+".program"); err != nil {
		return "", "", fmt.Errorf("%s: %w", from, err)
	}
	if release.Sums == "" {
		return sum, "downloaded; upstream publishes no file of checksums", nil
	}
	sums := release.fill(release.Sums)
	if _, err := r.get(ctx, sums, scratch); err != nil {
		return "", "", err
	}
	text, err := os.ReadFile(scratch) //nolint:gosec // our scratch folder
	if err != nil {
		return "", "", err
	}
	if want := sumOf(string(text), path.Base(from)); want != sum {
		return "", "", fmt.Errorf("%s: its sha256 is %s, and %q in %s: not pinned: ask upstream", from, sum, want, sums)
	}
	return sum, "downloaded, and as " + path.Base(sums) + " says", nil
}

// sumOf finds a file's checksum in what sha256sum wrote, or in a file that is nothing but a checksum.
func sumOf(text, name string) string {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 1 || len(f) == 2 && path.Base(strings.TrimPrefix(f[1], "*")) == name {
			return f[0]
		}
	}
	return ""
}
