package machine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// unified tells whether the host has only the second version of control groups.
func unified() bool {
	_, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers"))
	return err == nil
}

// hierarchies are the mount points of the host's control groups.
func hierarchies() []string {
	if unified() {
		return []string{cgroupRoot}
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil
	}
	var dirs []string
	for _, e := range entries {
		dir := filepath.Join(cgroupRoot, e.Name())
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); e.IsDir() && err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// makeCgroups makes a group of the machine's own in each hierarchy, so that nothing of it lands in the host's groups.
func makeCgroups(name string) error {
	for _, h := range hierarchies() {
		dir := filepath.Join(h, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			// The first version refuses processes in a set without processors and memory.
			if text, err := os.ReadFile(filepath.Join(h, f)); err == nil { //nolint:gosec // the kernel's files
				if err := os.WriteFile(filepath.Join(dir, f), text, 0o644); err != nil { //nolint:gosec // the kernel's files
					return err
				}
			}
		}
		const inherit = "cgroup.clone_children"
		text, err := os.ReadFile(filepath.Join(h, inherit)) //nolint:gosec // the kernel's files
		if err == nil && len(text) > 0 {
			_ = os.WriteFile(filepath.Join(dir, inherit), []byte("1"), 0o644) //nolint:gosec // the kernel's files
		}
	}
	return nil
}

// enterCgroups is the command prefix that moves a process into the machine's groups before it becomes what follows.
func enterCgroups(name string, hierarchies []string) []string {
	var script strings.Builder
	for _, h := range hierarchies {
		script.WriteString("echo $$ > " + filepath.Join(h, name, "cgroup.procs") + "\n")
	}
	return []string{"sh", "-euc", script.String() + `exec "$@"`, "sh"}
}

// removeCgroups removes the machine's groups, deepest first, waiting for the kernel to let go of dead processes, which
// took more than 5 s on two busy cores.
func removeCgroups(name string) error {
	var errs []error
	for _, h := range hierarchies() {
		top := filepath.Join(h, name)
		var err error
		for range 300 {
			if err = removeGroup(top); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func removeGroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeGroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}
