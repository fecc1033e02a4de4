package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"github.com/tinyrack-net/infrastructure/ci/report"
)

// say tells a person how far it is, beside the report on standard output. It may quote a change: no line of it is a
// command to the runner of a git host.
func say(format string, args ...any) { fmt.Fprintln(os.Stderr, harmless(fmt.Sprintf(format, args...))) }

// lines is a writer of whole lines, each said by itself.
type lines func(format string, args ...any)

func (l lines) Write(line []byte) (int, error) {
	l("%s", strings.TrimSuffix(string(line), "\n"))
	return len(line), nil
}

// commands are what runners take for a command wherever it stands in a line.
var commands = strings.NewReplacer("##[", "## [", "##vso", "## vso")

// harmless leaves the lines of a text, without control characters. One that begins with "::", behind blanks too, is
// marked as report.Text does.
func harmless(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		line = commands.Replace(report.OneLine(line, len(line)))
		if strings.HasPrefix(strings.TrimLeftFunc(line, unicode.IsSpace), "::") {
			line = "| " + line
		}
		lines[i] = line
	}
	return strings.Join(lines, "\n")
}

// remove removes a folder that a change's program may have written to, and says where that fails. Such a program can
// leave folders that their owner may not look into: they are opened first, each from the one that it is in, for no path
// is too long then and no link is followed.
func remove(dir string) {
	if root, err := os.OpenRoot(dir); err == nil {
		openAll(root)
	}
	if err := os.RemoveAll(dir); err != nil {
		say("%s stays: %v: what a program left there fills the disk: remove it by hand", dir, err)
	}
}

// openAll lets the owner look into all folders below one. What fails is seen when they are removed.
func openAll(folder *os.Root) {
	defer folder.Close()
	entries, _ := fs.ReadDir(folder.FS(), ".")
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		_ = folder.Chmod(entry.Name(), 0o700)
		if below, err := folder.OpenRoot(entry.Name()); err == nil {
			openAll(below)
		}
	}
}
