package repository

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
)

// The most that a commit may hold: a push of a few bytes can name one large file a thousand times.
const (
	mostFiles = 20_000
	mostBytes = 512 << 20
)

// link is the mode of a symbolic link.
const link = "120000"

// entry is a file or a link of a commit.
type entry struct{ mode, object, name string }

// Worktree puts a commit's files, without a .git, into a new folder below dir: byte for byte, as Flux reads them. What
// the change says of that in attributes (another encoding, files that are left out) does not count. Links that lead out
// of the folder are left out: who reads it would read files of this machine.
func (r *Repository) Worktree(ctx context.Context, commit, dir string) (string, error) {
	entries, err := r.files(ctx, commit)
	if err != nil {
		return "", err
	}
	top, err := os.MkdirTemp(dir, "tree")
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return "", err
	}
	defer root.Close()
	blobs, err := r.blobs(ctx)
	if err != nil {
		return "", err
	}
	defer blobs.close()
	// Links come last: nothing is written where one is.
	for _, links := range []bool{false, true} {
		for _, e := range entries {
			if (e.mode == link) != links {
				continue
			}
			content, err := blobs.read(e.object)
			if err == nil {
				err = place(root, e, content)
			}
			if err != nil {
				return "", fmt.Errorf("%q of %s: %w", e.name, commit, err)
			}
		}
	}
	return top, removeLinksOut(ctx, root, entries)
}

// files lists a commit. It reads no more than the limits, and refuses what git itself would not check out: who makes a
// tree by hand can give a link and a folder one name.
func (r *Repository) files(ctx context.Context, commit string) ([]entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Folders are listed, too: a tree can be large without a single file.
	cmd, failed := r.command(ctx, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	entries, listErr := list(out)
	if listErr != nil {
		cancel() // the rest may have no end
	}
	if err := cmd.Wait(); err != nil && listErr == nil {
		return nil, failed(err)
	}
	if listErr != nil {
		return nil, fmt.Errorf("%s: %w", commit, listErr)
	}
	return entries, nil
}

// list reads what git ls-tree prints: mode, type, object, size, a tab and the name, up to a NUL.
func list(printed io.Reader) ([]entry, error) {
	lines := bufio.NewScanner(printed) // which has a limit for a line
	lines.Split(func(data []byte, _ bool) (int, []byte, error) {
		if end := bytes.IndexByte(data, 0); end >= 0 {
			return end + 1, data[:end], nil
		}
		return 0, nil, nil
	})
	var entries []entry
	var size int64
	seen := map[string]bool{}
	for lines.Scan() {
		about, name, _ := strings.Cut(lines.Text(), "\t")
		fields := strings.Fields(about)
		if len(fields) != 4 {
			return nil, fmt.Errorf("git ls-tree prints %q", about)
		}
		switch {
		case forbidden(name):
			return nil, fmt.Errorf("holds %q, a name that git forbids: nothing of it is read: rename it", name)
		case seen[name]:
			return nil, fmt.Errorf("holds %q twice: nothing of it is read: one would be written through the other: make the "+
				"commit with git", name)
		case len(seen) == mostFiles:
			return nil, fmt.Errorf("holds more than %d files and folders: nothing of it is read: make it smaller", mostFiles)
		}
		seen[name] = true
		if fields[1] != "blob" {
			continue // a folder, or a commit of a submodule
		}
		length, err := strconv.ParseInt(fields[3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the object of %q is missing: fetch it whole", name)
		}
		if size += length; size > mostBytes {
			return nil, fmt.Errorf("holds %d bytes and more, and at most %d are read: make it smaller", size, mostBytes)
		}
		entries = append(entries, entry{fields[0], fields[2], name})
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil, fmt.Errorf("holds a name of more than %d bytes: nothing of it is read: make it shorter",
			bufio.MaxScanTokenSize)
	}
	return entries, lines.Err()
}

// forbidden tells of a path that git checks out nowhere: it leads out of the folder, or into git's own.
func forbidden(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.EqualFold(part, ".git") {
			return true
		}
	}
	return false
}

// removeLinksOut removes the links that lead out of a folder, or nowhere. Where one leads is asked of the file system:
// a path that stays inside by its letters can leave through other links. A root follows none that leaves it, and gives
// up where links make a way that is too long; many of them take their time all the same.
func removeLinksOut(ctx context.Context, root *os.Root, entries []entry) error {
	for _, e := range entries {
		if e.mode != link {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := root.Stat(e.name); err == nil {
			continue
		}
		if err := root.Remove(e.name); err != nil {
			return err
		}
	}
	return nil
}

// place writes one file of a commit, where there is none. A root lets nothing be written outside it, by no link.
func place(root *os.Root, e entry, content []byte) error {
	if err := root.MkdirAll(path.Dir(e.name), 0o755); err != nil {
		return err
	}
	if e.mode == link {
		return root.Symlink(string(content), e.name)
	}
	mode := os.FileMode(0o644)
	if e.mode == "100755" {
		mode = 0o755
	}
	file, err := root.OpenFile(e.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}

// blobs is a git that reads files out of the repository.
type blobs struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func (r *Repository) blobs(ctx context.Context) (*blobs, error) {
	cmd := exec.CommandContext(ctx, "git", "cat-file", "--batch")
	cmd.Dir, cmd.Env = r.Dir, r.Env()
	in, inErr := cmd.StdinPipe()
	out, outErr := cmd.StdoutPipe()
	if err := errors.Join(inErr, outErr); err != nil {
		return nil, err
	}
	return &blobs{cmd, in, bufio.NewReader(out)}, cmd.Start()
}

func (b *blobs) read(object string) ([]byte, error) {
	if _, err := fmt.Fprintln(b.in, object); err != nil {
		return nil, err
	}
	var name, kind string
	var size int
	if _, err := fmt.Fscanf(b.out, "%s %s %d\n", &name, &kind, &size); err != nil || size < 0 {
		return nil, fmt.Errorf("git cat-file: object %s cannot be read: %w", object, err)
	}
	content := make([]byte, size+1) // a line break follows
	_, err := io.ReadFull(b.out, content)
	return content[:size], err
}

func (b *blobs) close() {
	_ = b.in.Close()
	_ = b.cmd.Wait() // it has said all that was asked
}
