// Package file writes, copies and links the lab's files so that an interrupted run leaves no half of one.
package file

import (
	"errors"
	"os"
	"path/filepath"
)

// Write writes a file whole or not at all, with the folders above it.
func Write(path string, text []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Copy writes to with what from holds.
func Copy(from, to string, mode os.FileMode) error {
	text, err := os.ReadFile(from) //nolint:gosec // the lab's own files
	if err != nil {
		return err
	}
	return Write(to, text, mode)
}

// Link makes at a symbolic link that leads to to. A link that does so already is left as it is.
func Link(at, to string) error {
	if now, err := os.Readlink(at); err == nil && now == to {
		return nil
	}
	return errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), IgnoreMissing(os.Remove(at)), os.Symlink(to, at))
}

// Mirror makes to the same as from, a file or a folder, by hard links where it can. What is there already is kept:
// artifacts never change under their name, so a link of another file is replaced.
func Mirror(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(at, 0o755)
		}
		source, err := os.Stat(path)
		if err != nil {
			return err
		}
		if there, err := os.Stat(at); err == nil && unchanged(source, there) {
			return nil
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), IgnoreMissing(os.Remove(at))); err != nil {
			return err
		}
		if os.Link(path, at) == nil {
			return nil
		}
		return Copy(path, at, source.Mode().Perm())
	})
}

func unchanged(source, there os.FileInfo) bool {
	return os.SameFile(source, there) || there.Size() == source.Size() && !there.ModTime().Before(source.ModTime())
}

// Chown gives a folder and everything in it to a user.
func Chown(dir string, uid int) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, uid)
	})
}

// IgnoreMissing drops the error that a file is not there.
func IgnoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
