package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/tinyrack-net/infrastructure/lab/artifacts"
)

const (
	gib = 1 << 30
	// What the lab needs, measured: memory for building (two programs at a time) and for a running cluster, and disk for the build's
	// scratch cache, Go's module cache, the machine and its images.
	minMemory    = 5632 << 20 // of a machine with 6 GiB the kernel leaves less
	minDiskCold  = 20 * gib
	minDiskWarm  = 6 * gib
	rootRequired = "the lab makes a machine, a bridge and a network namespace, which only root may: run `sudo make up`"
)

// tools are the programs the lab calls, and the package that brings each.
var tools = map[string]string{
	"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "ip": "iproute2", "dpkg-deb": "dpkg", "tar": "tar",
	"openssl": "openssl", "git": "git", "gcc": "gcc", "ssh": "openssh-client",
}

// headers are files that building needs, and the package that brings each.
var headers = map[string]string{"/usr/include/stdlib.h": "libc6-dev"}

// checkHost refuses, all reasons at once and before anything is changed, what cannot work on this machine.
func checkHost(cold bool, dirs ...string) error {
	var errs []error
	if runtime.GOOS != "linux" {
		return fmt.Errorf("this is %s: the lab's machine shares the host's kernel, which must be Linux: use a Linux host or virtual machine", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("not root: "+rootRequired))
	}
	if runtime.GOARCH != "amd64" {
		errs = append(errs, fmt.Errorf("architecture %s: the lab's binaries and images are built for amd64 only: use an amd64 host", runtime.GOARCH))
	}
	if _, err := artifacts.HostDistribution(); err != nil {
		errs = append(errs, err)
	}
	if total := memory(); total < minMemory {
		errs = append(errs, fmt.Errorf("%.1f GiB of memory: the cluster and the builds need 6 GiB and would be killed half way: use a larger host", float64(total)/gib))
	}
	need := uint64(minDiskWarm)
	if cold {
		need = minDiskCold
	}
	for _, dir := range dirs {
		if free := freeDisk(dir); free < need {
			errs = append(errs, fmt.Errorf("%.1f GiB free for %s: the lab needs %d GiB there (%d GiB once everything is built) and would evict its pods: free some, "+
				"or put it elsewhere with XDG_CACHE_HOME and TINYRACK_LAB_STATE", float64(free)/gib, dir, need/gib, minDiskWarm/gib))
		}
	}
	return errors.Join(errs...)
}

// installTools installs what checkTools finds missing from the distribution's packages.
func installTools(ctx context.Context) error {
	var packages []string
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			packages = append(packages, pkg)
		}
	}
	for file, pkg := range headers {
		if _, err := os.Stat(file); err != nil {
			packages = append(packages, pkg)
		}
	}
	if len(packages) == 0 {
		return nil
	}
	for _, args := range [][]string{{"update", "--quiet"}, append([]string{"install", "--quiet", "--yes", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...) //nolint:gosec // a fixed table
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("missing tools %s, and apt-get %s failed: %w: install them by hand:\n%s", strings.Join(packages, ", "), args[0], err, out)
		}
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

// freeDisk is the free space where dir is, or will be.
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
