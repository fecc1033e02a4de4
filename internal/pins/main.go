// Command pins brings the checksums in this checkout up to the versions beside them, and says where they differ.
//
// usage: scripts/pin [--check] [KIND...]
//
// Every checksum is asked for where the version comes from, also one that stands already: a release may have been made
// anew. A file is rewritten when everything that it pins was answered, and left alone otherwise. With --check no file
// is touched. It fails when something could not be asked, and with --check when something differs.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// checksum is a text in a file that follows from a version: a hash, a digest, or an address with the version in it.
type checksum struct {
	// file is below the checkout.
	file string
	// what says whose it is, for a person.
	what string
	// from and to are where it stands in the file.
	from, to int
	// now is what it is, by those who publish it.
	now func(context.Context) (string, error)
}

// kind is a way in which something is pinned, by the name that asks for it alone.
type kind struct {
	name, what string
	find       func(root string, u *upstream) ([]checksum, error)
}

// kinds are all ways. Another one is a line here and a function that finds its checksums.
var kinds = []kind{
	{"k3s", "a site's k3s: addresses, binaries and install script in Pulumi.<site>.yaml", findK3s},
	{"modules", "what the lab builds: hashes of Go modules in lab/artifacts", findModules},
	{"packages", "what the lab installs: hashes of packages for Node.js in lab/artifacts", findPackages},
	{"images", "images with a digest, in apps, databases and infrastructure", findImages},
}

// upstream is who publishes what is pinned.
type upstream struct {
	client *http.Client
	// run runs a program in a folder and returns its standard output; what it says on standard error is in the error.
	run func(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error)
}

// patience is how long one answer may take, with a binary of some ten megabytes in it.
const patience = 10 * time.Minute

func main() {
	check := flag.Bool("check", false, "say what differs, change nothing")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: scripts/pin [--check] [KIND...]")
		for _, k := range kinds {
			fmt.Fprintf(os.Stderr, "  %-10s %s\n", k.name, k.what)
		}
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	u := &upstream{client: &http.Client{Timeout: patience}, run: runProgram}
	if err := pin(ctx, os.Stdout, ".", u, *check, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "pin:", err)
		os.Exit(1)
	}
}

// runProgram is upstream.run for real.
func runProgram(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // go and npm, with what the catalog names
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, err
}

// pin looks at everything of the kinds in the checkout at root, and writes what has changed unless it only checks.
func pin(ctx context.Context, out io.Writer, root string, u *upstream, check bool, names []string) error {
	byFile := map[string][]checksum{}
	for _, name := range names {
		if !slices.ContainsFunc(kinds, func(k kind) bool { return k.name == name }) {
			return fmt.Errorf("%q: no such kind: nothing was asked: see --help", name)
		}
	}
	for _, k := range kinds {
		if len(names) > 0 && !slices.Contains(names, k.name) {
			continue
		}
		found, err := k.find(root, u)
		if err != nil {
			return fmt.Errorf("%s: %w: nothing was asked", k.name, err)
		}
		for _, c := range found {
			byFile[c.file] = append(byFile[c.file], c)
		}
	}
	var problems []error
	stale := false
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		changed, err := refresh(ctx, out, root, file, byFile[file], check)
		stale = stale || changed
		problems = append(problems, err)
	}
	switch {
	case !check:
		problems = append(problems, writeTable(root)) // of what is there now
	case stale:
		problems = append(problems, errors.New("checksums differ from what their versions have: nothing was changed: "+
			"scripts/pin writes them"))
	}
	return errors.Join(problems...)
}

// refresh asks for all checksums of a file, and writes them if all were answered.
func refresh(ctx context.Context, out io.Writer, root, file string, all []checksum, check bool) (bool, error) {
	path := filepath.Join(root, file)
	text, err := os.ReadFile(path) //nolint:gosec // the checkout's own files
	if err != nil {
		return false, err
	}
	slices.SortFunc(all, func(a, b checksum) int { return b.from - a.from }) // from the end, so that places stay
	fresh := string(text)
	var problems []error
	for _, c := range all {
		was := string(text[c.from:c.to])
		now, err := c.now(ctx)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %s: %w", file, c.what, err))
			continue
		}
		if now != was {
			fmt.Fprintf(out, "%s: %s: %s, and here stands %s\n", file, c.what, now, was)
			fresh = fresh[:c.from] + now + fresh[c.to:]
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fresh != string(text), fmt.Errorf("%w\n%s: not known whether it is right, nothing was changed in it: "+
			"see above, and try again", err, file)
	}
	if check || fresh == string(text) {
		return fresh != string(text), nil
	}
	return true, replace(path, fresh)
}

// replace puts the text in the place of a file, whole or not at all.
func replace(path, text string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = next.WriteString(text)
	err = errors.Join(err, next.Chmod(info.Mode().Perm()), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	return nil
}
