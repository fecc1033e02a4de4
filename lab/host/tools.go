package host

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// tools are the programs the lab calls, and the package that brings each.
var tools = map[string]string{
	"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "ip": "iproute2", "dpkg-deb": "dpkg", "tar": "tar",
	"openssl": "openssl", "git": "git", "gcc": "gcc", "ssh": "openssh-client", "nmap": "nmap",
	"npm": "npm",
}

// headers are files that building needs, and the package that brings each.
var headers = map[string]string{"/usr/include/stdlib.h": "libc6-dev"}

// InstallTools installs what is missing from the distribution's packages.
func InstallTools(ctx context.Context) error {
	packages := missing(func(tool string) bool {
		_, err := exec.LookPath(tool)
		return err == nil
	}, func(file string) bool {
		_, err := os.Stat(file)
		return err == nil
	})
	if len(packages) == 0 {
		return nil
	}
	for _, args := range aptGet(packages) {
		cmd := exec.CommandContext(ctx, "apt-get", args...) //nolint:gosec // a fixed table
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("missing tools %s, and apt-get %s failed: %w: install them by hand:\n%s",
				strings.Join(packages, ", "), args[0], err, out)
		}
	}
	return nil
}

// missing are the packages of the tools and headers that are not there.
func missing(program, file func(string) bool) []string {
	found := map[string]bool{}
	for tool, name := range tools {
		if !program(tool) {
			found[name] = true
		}
	}
	for header, name := range headers {
		if !file(header) {
			found[name] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// aptGet are the arguments of the calls that install packages.
func aptGet(packages []string) [][]string {
	return [][]string{
		{"update", "--quiet"},
		append([]string{"install", "--quiet", "--yes", "--no-install-recommends"}, packages...),
	}
}
