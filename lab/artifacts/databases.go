package artifacts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// databasePackages are what the images of the databases are made of, one root filesystem for all: PostgreSQL, and the
// programs that copy it to S3 and back.
var databasePackages = []string{"postgresql", "barman-cli-cloud", "python3-boto3"}

// notNeeded goes out of that root filesystem. Without llvmjit.so PostgreSQL compiles no queries, and does not ask for
// LLVM. Of the clouds' many services S3 alone is called.
const notNeeded = `cd "$1" && rm -rf var/cache/apt var/lib/apt/lists var/lib/postgresql/*/main ` +
	`usr/lib/postgresql/*/lib/llvmjit.so usr/lib/postgresql/*/lib/bitcode usr/lib/*/libLLVM-* usr/lib/*/libz3.so.* ` +
	`usr/share/i18n && ` +
	`find usr/lib/python3/dist-packages/botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 -exec rm -r {} +`

// Databases is a root filesystem with the databases of a distribution.
type Databases struct {
	// RootFS is the path of its tarball.
	RootFS string
	// PostgreSQL is the version in it, such as 15.14.
	PostgreSQL string
}

// Databases returns the databases of the distribution, making them if they are missing.
func (c *Cache) Databases(ctx context.Context, d Distribution) (Databases, error) {
	recipe := struct {
		Distribution Distribution
		Packages     []string
		NotNeeded    string
		Layout       int
	}{d, databasePackages, notNeeded, 1}
	dir, err := c.make("databases-"+d.Codename, recipe, func(scratch string) error {
		if err := os.MkdirAll(scratch, 0o755); err != nil {
			return err
		}
		rootfs, version := filepath.Join(scratch, "rootfs.tar"), filepath.Join(scratch, "postgresql")
		args := []string{
			"--quiet", "--variant=essential", "--include=" + strings.Join(databasePackages, ","),
			`--aptopt=APT::Install-Recommends "false"`, "--dpkgopt=force-unsafe-io",
		}
		for _, of := range []string{"doc", "info", "locale", "man"} {
			args = append(args, "--dpkgopt=path-exclude=/usr/share/"+of+"/*")
		}
		args = append(args, "--customize-hook="+notNeeded,
			`--customize-hook=dpkg-query --root="$1" --show --showformat='${Package} ${Version}\n' 'postgresql-[0-9]*' > `+version,
			d.Codename, rootfs, d.Sources)
		return mmdebstrap(ctx, args...)
	})
	if err != nil {
		return Databases{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "postgresql")) //nolint:gosec // a file of the cache
	if err != nil {
		return Databases{}, err
	}
	version, err := postgresqlVersion(string(text))
	return Databases{RootFS: filepath.Join(dir, "rootfs.tar"), PostgreSQL: version}, err
}

var postgresqlPackage = regexp.MustCompile(`(?m)^postgresql-[0-9]+ ([0-9]+\.[0-9]+)`)

// postgresqlVersion reads the version from a list of packages, one to a line with its version.
func postgresqlVersion(packages string) (string, error) {
	match := postgresqlPackage.FindStringSubmatch(packages)
	if match == nil {
		return "", fmt.Errorf("no server of PostgreSQL is among the packages: %q", packages)
	}
	return match[1], nil
}

// images are the containers' images of the databases. The operator runs PostgreSQL as user 26, and expects its
// programs on the path; the plugin's sidecar runs beside it as the same user.
func (d Databases) images(plugin string) []Image {
	major, _, _ := strings.Cut(d.PostgreSQL, ".")
	users := map[string]string{
		"etc/passwd": etc["etc/passwd"] + "postgres:x:26:26:postgres:/var/lib/postgresql:/bin/sh\n",
		"etc/group":  etc["etc/group"] + "postgres:x:26:\n",
	}
	return []Image{
		{
			Ref:  "ghcr.io/cloudnative-pg/postgresql:" + d.PostgreSQL,
			Base: d.RootFS, Texts: users, User: "26",
			Env: []string{"PATH=/usr/lib/postgresql/" + major + "/bin:/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"},
		},
		{
			Ref:  "ghcr.io/cloudnative-pg/plugin-barman-cloud-sidecar:" + BarmanPluginVersion,
			Base: d.RootFS, Texts: users, User: "26:26",
			Files: map[string]string{"manager": plugin}, Entrypoint: []string{"/manager"},
		},
	}
}
