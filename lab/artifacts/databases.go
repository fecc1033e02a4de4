package artifacts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// databasePackages are what the images of the databases are made of, one root filesystem for all: PostgreSQL with the
// programs that copy it to S3 and back, MariaDB, and Redis. libstdc++6 is for Node.js, which stands on it too.
var databasePackages = []string{
	"postgresql", "barman-cli-cloud", "python3-boto3", "mariadb-server", "mariadb-backup", "redis-server",
	"libstdc++6",
}

// notNeeded goes out of that root filesystem. Without llvmjit.so PostgreSQL compiles no queries, and does not ask for
// LLVM. Of the clouds' many services S3 alone is called.
const notNeeded = `cd "$1" && rm -rf var/cache/apt var/lib/apt/lists var/lib/postgresql/*/main var/lib/mysql ` +
	`usr/lib/postgresql/*/lib/llvmjit.so usr/lib/postgresql/*/lib/bitcode usr/lib/*/libLLVM-* usr/lib/*/libz3.so.* ` +
	`usr/share/i18n && ` +
	`find usr/lib/python3/dist-packages/botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 -exec rm -r {} +`

// Databases is a root filesystem with the databases of a distribution.
type Databases struct {
	// RootFS is the path of its tarball.
	RootFS string
	// PostgreSQL, MariaDB and Redis are the versions in it, such as 15.14, 10.11.14 and 7.0.15.
	PostgreSQL, MariaDB, Redis string
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
		rootfs, versions := filepath.Join(scratch, "rootfs.tar"), filepath.Join(scratch, "versions")
		args := []string{
			"--quiet", "--variant=essential", "--include=" + strings.Join(databasePackages, ","),
			`--aptopt=APT::Install-Recommends "false"`, "--dpkgopt=force-unsafe-io",
		}
		for _, of := range []string{"doc", "info", "locale", "man"} {
			args = append(args, "--dpkgopt=path-exclude=/usr/share/"+of+"/*")
		}
		args = append(args, "--customize-hook="+notNeeded,
			`--customize-hook=dpkg-query --root="$1" --show --showformat='${Package} ${Version}\n' > `+versions,
			d.Codename, rootfs, d.Sources)
		return mmdebstrap(ctx, args...)
	})
	if err != nil {
		return Databases{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "versions")) //nolint:gosec // a file of the cache
	if err != nil {
		return Databases{}, err
	}
	postgresql, postgresqlErr := version(string(text), postgresqlPackage)
	mariadb, mariadbErr := version(string(text), mariadbPackage)
	redis, redisErr := version(string(text), redisPackage)
	return Databases{
		RootFS: filepath.Join(dir, "rootfs.tar"), PostgreSQL: postgresql, MariaDB: mariadb, Redis: redis,
	}, errors.Join(postgresqlErr, mariadbErr, redisErr)
}

// The servers in a list of packages, and upstream's version in that of the package.
var (
	postgresqlPackage = regexp.MustCompile(`(?m)^postgresql-[0-9]+ ([0-9]+\.[0-9]+)`)
	mariadbPackage    = regexp.MustCompile(`(?m)^mariadb-server (?:[0-9]+:)?([0-9]+\.[0-9]+\.[0-9]+)`)
	redisPackage      = regexp.MustCompile(`(?m)^redis-server (?:[0-9]+:)?([0-9]+\.[0-9]+\.[0-9]+)`)
)

// version reads a server's version from a list of packages, one to a line with its version.
func version(packages string, server *regexp.Regexp) (string, error) {
	match := server.FindStringSubmatch(packages)
	if match == nil {
		return "", fmt.Errorf("no package of the distribution is %s", server)
	}
	return match[1], nil
}

// images are the containers' images of the databases, and of what stands on the same root filesystem. The operator of
// PostgreSQL runs it as user 26, and expects its programs on the path; the plugin's sidecar runs beside it as the same
// user. MariaDB's operator, and the manifests of Redis, run theirs as 999. entrypoint is the script by which MariaDB's
// image starts it.
func (d Databases) images(plugin, entrypoint, ghost string) []Image {
	major, _, _ := strings.Cut(d.PostgreSQL, ".")
	user := func(name string, id int, home string) map[string]string {
		return map[string]string{
			"etc/passwd": etc["etc/passwd"] + fmt.Sprintf("%s:x:%d:%d:%s:%s:/bin/sh\n", name, id, id, name, home),
			"etc/group":  etc["etc/group"] + fmt.Sprintf("%s:x:%d:\n", name, id),
		}
	}
	mysql := user("mysql", 999, "/var/lib/mysql")
	// The distribution's own has it listen to its own machine alone.
	mysql["etc/mysql/mariadb.conf.d/50-server.cnf"] = "[mariadbd]\nskip-name-resolve\n"
	// The script looks into it for what else is to be done at the first start.
	mysql["docker-entrypoint-initdb.d/README"] = "nothing\n"
	postgres := user("postgres", 26, "/var/lib/postgresql")
	node := user("node", 1000, "/home/node")
	node["usr/local/bin/docker-entrypoint.sh"] = ghostEntrypoint
	node["var/lib/ghost/config.production.json"] = ghostConfig
	return []Image{
		{
			Ref:   "ghcr.io/cloudnative-pg/postgresql:" + d.PostgreSQL,
			Bases: []string{d.RootFS}, Texts: postgres, User: "26",
			Env: []string{"PATH=/usr/lib/postgresql/" + major + "/bin:/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"},
		},
		{
			Ref:   "ghcr.io/cloudnative-pg/plugin-barman-cloud-sidecar:" + BarmanPluginVersion,
			Bases: []string{d.RootFS}, Texts: postgres, User: "26:26",
			Files: map[string]string{"manager": plugin}, Entrypoint: []string{"/manager"},
		},
		{
			Ref:   "docker.io/library/mariadb:" + d.MariaDB,
			Bases: []string{d.RootFS}, Texts: mysql, User: "999:999",
			Files:      map[string]string{"usr/local/bin/docker-entrypoint.sh": entrypoint},
			Entrypoint: []string{"bash", "/usr/local/bin/docker-entrypoint.sh", "mariadbd"},
			Env:        []string{"MARIADB_VERSION=1:" + d.MariaDB},
		},
		{
			Ref:   "docker.io/library/redis:" + d.Redis,
			Bases: []string{d.RootFS}, Texts: user("redis", 999, "/data"), User: "999:999", WorkDir: "/data",
			Entrypoint: []string{"redis-server"},
		},
		{
			Ref:   "docker.io/library/ghost:" + GhostVersion,
			Bases: []string{d.RootFS, ghost}, Texts: node, User: "1000:1000", WorkDir: "/var/lib/ghost",
			Entrypoint: []string{"sh", "/usr/local/bin/docker-entrypoint.sh", "node", "current/index.js"},
			Env: []string{
				"NODE_ENV=production", "GHOST_INSTALL=/var/lib/ghost", "GHOST_CONTENT=/var/lib/ghost/content",
			},
		},
	}
}
