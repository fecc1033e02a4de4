// Package host is the host that the lab runs on: whether it can, what it lacks, and who has taken it.
package host

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
)

const (
	gib = 1 << 30
	// What the lab needs, measured: memory for building (two programs at a time) and for a running cluster, and disk for
	// the build's scratch cache, Go's module cache, the machine and its images.
	minMemory   = 5632 << 20 // of a machine with 6 GiB the kernel leaves less
	minDiskCold = 22 * gib
	minDiskWarm = 6 * gib

	rootRequired = "not root: the lab makes a machine, a bridge and a network namespace, which only root may: " +
		"run `sudo make up`"
)

// Facts are what decides whether the lab can run on a host.
type Facts struct {
	OS, Arch string
	Root     bool
	Memory   uint64 // bytes
	// Distribution is why the machine's root filesystem cannot be made from this host's package sources; nil when it can.
	Distribution error
	// Free is the free disk space in bytes by folder, in order.
	Free []Space
	// Cold is true when nothing is built yet.
	Cold bool
}

// Space is the free space where a folder is, or will be.
type Space struct {
	Dir  string
	Free uint64
}

// Look finds the facts of this host. The lab will write to dirs.
func Look(cold bool, dirs ...string) Facts {
	_, err := artifacts.HostDistribution()
	facts := Facts{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Root: os.Geteuid() == 0, Memory: memory(), Distribution: err, Cold: cold,
	}
	for _, dir := range dirs {
		facts.Free = append(facts.Free, Space{dir, freeDisk(dir)})
	}
	return facts
}

// Check is every reason at once why the lab cannot run on this host.
func (f Facts) Check() error {
	if f.OS != "linux" {
		return fmt.Errorf("this is %s: the lab's machine shares the host's kernel, which must be Linux: "+
			"use a Linux host or virtual machine", f.OS)
	}
	var errs []error
	if !f.Root {
		errs = append(errs, errors.New(rootRequired))
	}
	if f.Arch != "amd64" {
		errs = append(errs, fmt.Errorf("architecture %s: the lab's binaries and images are built for amd64 only: "+
			"use an amd64 host", f.Arch))
	}
	errs = append(errs, f.Distribution)
	if f.Memory < minMemory {
		errs = append(errs, fmt.Errorf("%.1f GiB of memory: the cluster and the builds need 6 GiB and would be "+
			"killed half way: use a larger host", float64(f.Memory)/gib))
	}
	need := uint64(minDiskWarm)
	if f.Cold {
		need = minDiskCold
	}
	for _, space := range f.Free {
		if space.Free < need {
			errs = append(errs, fmt.Errorf("%.1f GiB free for %s: the lab needs %d GiB there (%d GiB once everything is "+
				"built) and would evict its pods: free some, or put it elsewhere with XDG_CACHE_HOME and TINYRACK_LAB_STATE",
				float64(space.Free)/gib, space.Dir, need/gib, minDiskWarm/gib))
		}
	}
	return errors.Join(errs...)
}

// CheckRoot refuses anybody but root.
func CheckRoot() error {
	if os.Geteuid() != 0 {
		return errors.New(rootRequired)
	}
	return nil
}

func memory() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib uint64
		if _, err := fmt.Sscanf(lines.Text(), "MemTotal: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

func freeDisk(dir string) uint64 {
	for {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(dir, &fs); err == nil {
			return fs.Bavail * uint64(fs.Bsize) //nolint:gosec // a block size is positive
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return 0
	}
}
