package artifacts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// basePackages are what a small cloud image has, and the parts of k3s that its upstream binary bundles and a binary
// built from the module does not: runc, containerd's shim, the CNI plugins, and ipset, without which k3s enforces no
// NetworkPolicy and only logs that it does not.
var basePackages = []string{
	"systemd", "systemd-sysv", "dbus", "openssh-server", "ca-certificates", "curl", "iproute2", "iptables", "kmod",
	"procps",
	"iputils-ping", "runc", "containerd", "containernetworking-plugins", "ipset",
}

// offeredPackages are not on the machine: they and what they depend on make the package repository from which the
// program installs them over SSH, as it would from the distribution's mirrors. busybox-static becomes an image, and the
// two other firewalls are what a machine with a past has.
var offeredPackages = []string{"open-iscsi", "nfs-common", "nftables", "busybox-static", "ufw", "firewalld"}

// Distribution is the host's own, which the lab's machine takes over with its package sources.
type Distribution struct {
	Codename string
	Sources  string // an apt sources file
}

// HostDistribution reads what this machine runs.
func HostDistribution() (Distribution, error) {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return Distribution{}, err
	}
	d := Distribution{}
	for l := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(l), "VERSION_CODENAME="); ok {
			d.Codename = strings.Trim(v, `"`)
		}
	}
	for _, f := range []string{"debian.sources", "ubuntu.sources"} {
		path := "/etc/apt/sources.list.d/" + f
		if _, err := os.Stat(path); err == nil {
			d.Sources = path
		}
	}
	if d.Sources == "" {
		if _, err := os.Stat("/etc/apt/sources.list"); err == nil {
			d.Sources = "/etc/apt/sources.list"
		}
	}
	if d.Codename == "" || d.Sources == "" {
		return d, errors.New("this host is neither Debian nor Ubuntu: the lab's machine is made from the host's package " +
			"sources, " +
			"so nothing could be built: run the lab on Debian 12 or Ubuntu 24.04")
	}
	return d, nil
}

// RootFS returns a folder with rootfs.tar, the root filesystem of a bare machine, and debs/, a flat apt repository.
func (c *Cache) RootFS(ctx context.Context, d Distribution) (string, error) {
	recipe := struct {
		Distribution  Distribution
		Base, Offered []string
		Layout        int
	}{d, basePackages, offeredPackages, 2}
	return c.make("rootfs-"+d.Codename, recipe, func(scratch string) error {
		debs := filepath.Join(scratch, "debs")
		if err := os.MkdirAll(debs, 0o755); err != nil {
			return err
		}
		if err := mmdebstrap(ctx, "--quiet", "--variant=minbase",
			"--include="+strings.Join(basePackages, ","), `--aptopt=APT::Install-Recommends "false"`,
			`--customize-hook=rm -f "$1"/var/cache/apt/archives/*.deb`,
			`--customize-hook=APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get install --quiet --quiet --yes --download-only -o APT::Keep-Downloaded-Packages=true `+
				strings.Join(offeredPackages, " "),
			`--customize-hook=mv "$1"/var/cache/apt/archives/*.deb "`+debs+`"`,
			d.Codename, filepath.Join(scratch, "rootfs.tar"), d.Sources); err != nil {
			return err
		}
		return indexPackages(ctx, debs)
	})
}

// mmdebstrap makes a root filesystem out of the host's package sources.
func mmdebstrap(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...) //nolint:gosec // fixed commands
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w:\n%s", err, out)
	}
	return nil
}

// indexPackages writes the Packages file that makes a folder of .deb files an apt repository.
func indexPackages(ctx context.Context, dir string) error {
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil {
		return err
	}
	var index strings.Builder
	for _, deb := range debs {
		control, err := exec.CommandContext(ctx, "dpkg-deb", "--field", deb).Output() //nolint:gosec // our own file
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Base(deb), err)
		}
		info, err := os.Stat(deb)
		if err != nil {
			return err
		}
		sum, err := SHA256(deb)
		if err != nil {
			return err
		}
		// A colon in a file name (an epoch) would be escaped in the URL that apt asks for.
		plain := strings.ReplaceAll(filepath.Base(deb), "%3a", "-")
		if err := os.Rename(deb, filepath.Join(dir, plain)); err != nil {
			return err
		}
		fmt.Fprintf(&index, "%s\nFilename: ./%s\nSize: %d\nSHA256: "+
			"%s\n\n", strings.TrimSpace(string(control)), plain, info.Size(), sum)
	}
	return os.WriteFile(filepath.Join(dir, "Packages"), []byte(index.String()), //nolint:gosec // served to the machine
		0o644)
}

// busybox unpacks the static busybox of the package repository.
func (c *Cache) busybox(ctx context.Context, rootfs string) (string, error) {
	return c.make("busybox", filepath.Base(rootfs), func(scratch string) error {
		debs, err := filepath.Glob(filepath.Join(rootfs, "debs", "busybox-static_*.deb"))
		if err != nil || len(debs) != 1 {
			return fmt.Errorf("busybox-static is not in the package repository: %w", err)
		}
		out, err := os.OpenFile(scratch, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755) //nolint:gosec // a program
		if err != nil {
			return err
		}
		defer out.Close()
		cmd := exec.CommandContext(ctx, "sh", "-c", //nolint:gosec // our own file
			`dpkg-deb --fsys-tarfile "$1" | tar -xO --wildcards './*bin/busybox'`, "sh", debs[0])
		cmd.Stdout = out
		return cmd.Run()
	})
}
